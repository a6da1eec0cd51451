//! TLS in the front itself: who is shown which certificate, streams by it, and certificates that are replaced.

mod clients;
mod memory;
mod renewal;
mod streams;
mod unix;

use std::path::Path;
use std::process::Command;

use tempest_tests::{Certificate, Trust, World, WorldBuilder, scratch};

/// Two names and their certificates.
struct Names {
    shop: Certificate,
    blog: Certificate,
    /// Where the files are.
    dir: std::path::PathBuf,
}

impl Names {
    fn new() -> Self {
        let shop = Certificate::of(&["shop.test", "*.shop.test", "127.0.0.1", "localhost"]);
        let blog = Certificate::of(&["blog.test"]);
        let names = Self { shop, blog, dir: scratch().0 };
        names.shop.write(&names.dir, "shop");
        names.blog.write(&names.dir, "blog");
        names
    }

    fn trust(&self) -> Trust {
        Trust::of(&[&self.shop, &self.blog])
    }

    /// A world with a listener that shows them.
    fn world(&self) -> WorldBuilder {
        let pair =
            |name: &str| format!("{{ cert = \"{0}/{name}.pem\", key = \"{0}/{name}.key\" }}", self.dir.display());
        let (shop, blog) = (pair("shop"), pair("blog"));
        World::builder()
            .set("front.redirect = \"127.0.0.1:0\"")
            .set("channels.publish = [\"*\"]")
            .table(&format!("[[front.tls]]\nlisten = \"127.0.0.1:0\"\ncertificates = [{shop}, {blog}]"))
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Runs curl in a folder and gives what it printed; it must have succeeded.
#[track_caller]
fn curl(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "20"]).args(args).current_dir(dir).output();
    let output = output.expect("curl is installed");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "curl {args:?}: {err}\n{out}");
    out.into_owned()
}
