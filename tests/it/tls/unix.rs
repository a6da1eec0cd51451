//! Unix sockets: with TLS and without, with their permissions, and gone when the front is.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::json;
use tempest_tests::{Front, Process, Signal, Up, World, tempest, tempest_binary};

use super::{Names, curl};

#[test]
fn curl_asks_by_unix_sockets_and_the_file_goes_with_the_front() {
    let names = Names::new();
    let (plain, secure) = (names.dir.join("plain.sock"), names.dir.join("secure.sock"));
    let pair = format!("{{ cert = \"{0}/shop.pem\", key = \"{0}/shop.key\" }}", names.dir.display());
    let mut world = World::builder()
        .set(&format!("front.listen = [\"127.0.0.1:0\", \"unix:{}\"]", plain.display()))
        .set("front.unix_mode = \"0600\"")
        .set("channels.streams_per_address = 1")
        .table(&format!("[[front.tls]]\nlisten = \"unix:{}\"\ncertificates = [{pair}]", secure.display()))
        .start();
    world.worker(|job| {
        let words = ["scheme", "http", "peer", "server"].map(|name| job.text(name).to_owned());
        vec![job.answer(json!({"status": 200}), words.join(" ").as_bytes())]
    });
    let (at, at_secure) = (plain.display().to_string(), secure.display().to_string());
    let cert = names.dir.join("shop.pem").display().to_string();
    let by = |args: &[&str]| curl(&names.dir, args);
    assert_eq!(by(&["--unix-socket", &at, "http://x/"]), format!("http 1.1 unix: unix:{at}"));
    assert_eq!(by(&["--unix-socket", &at, "--http2-prior-knowledge", "http://x/"]), format!("http 2 unix: unix:{at}"));
    for (protocol, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let seen = by(&["--unix-socket", &at_secure, "--cacert", &cert, protocol, "https://shop.test/"]);
        assert_eq!(seen, format!("https {version} unix: unix:{at_secure}"));
    }
    let bits = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((bits(&plain), bits(&secure)), (0o600, 0o600));
    // Who comes so has no address whose streams could be counted.
    let reader = |name: &str| {
        let mut command = Command::new("curl");
        command.args(["-sN", "--unix-socket", &at, "http://x/sub/news"]);
        Process::start(name, world.mark(), command)
    };
    let mut readers = [reader("first"), reader("second")];
    readers.iter().for_each(|reader| drop(reader.log.wait_for("retry: ")));
    world.redis.cmd(&["PUBLISH", "news", "by socket"]);
    readers.iter().for_each(|reader| drop(reader.log.wait_for("data: by socket")));
    readers.iter_mut().for_each(Process::kill);
    // A second front is refused what the first one serves.
    let listen = format!("unix:{at}");
    let second = tempest(world.dir(), &["front", "--listen", &listen, "--admin", "off"], &[], "");
    assert_eq!(second.code, 1);
    assert!(second.err.contains("another process listens there"), "{}", second.err);
    world.finish();
    assert!(!plain.exists() && !secure.exists());
}

#[test]
fn a_front_takes_a_unix_socket_that_was_passed_and_leaves_its_file() {
    let names = Names::new();
    let mut world = World::start();
    world.worker(|job| vec![job.answer(json!({"status": 200}), job.text("server").as_bytes())]);
    let path = names.dir.join("passed.sock");
    let listener = UnixListener::bind(&path).expect("a path of its own");
    let pair = format!("{{ cert = \"{0}/shop.pem\", key = \"{0}/shop.key\" }}", names.dir.display());
    let config = format!(
        "redis.url = \"{}\"\nfront.listen = \"127.0.0.1:0\"\nfront.admin = \"127.0.0.1:0\"\nlog.format = \"json\"\n\
         [[front.tls]]\nlisten = \"127.0.0.1:1\"\ncertificates = [{pair}]",
        world.redis.url()
    );
    let file = Front::write_config(&world.dir().join("activated"), &config);
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=https exec \"$@\"";
    let at = path.display().to_string();
    let cert = names.dir.join("shop.pem").display().to_string();
    for _ in 0..2 {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(tempest_binary()).arg("front").arg("--config").arg(&file);
        let socket = OwnedFd::from(listener.try_clone().expect("a socket can be cloned"));
        let mut front = Front::listening(Process::start_with(socket.into(), "activated front", world.mark(), command));
        let args = ["--unix-socket", &at, "--cacert", &cert, "https://shop.test/"];
        assert_eq!(curl(&names.dir, &args), format!("unix:{at}"));
        assert!(front.terminate().success());
        assert!(path.exists(), "whoever made it removes it");
    }
    world.finish();
}

#[test]
fn the_fronts_of_tempest_up_share_sockets_of_all_kinds() {
    let names = Names::new();
    let path = names.dir.join("up.sock");
    let tables: String = ["127.0.0.1:0", &format!("unix:{}", path.display())]
        .iter()
        .map(|listen| {
            let pair = format!("{{ cert = \"{0}/shop.pem\", key = \"{0}/shop.key\" }}", names.dir.display());
            format!("[[front.tls]]\nlisten = \"{listen}\"\ncertificates = [{pair}]\n")
        })
        .collect();
    let mut up = Up::start(&format!(
        "front.processes = 1\nfront.redirect = \"127.0.0.1:0\"\nfront.drain_idle = 0\nlog.format = \"json\"\n{tables}"
    ));
    let cert = names.dir.join("shop.pem").display().to_string();
    let port = up.front.tls_address().port();
    let asked = |url: &str, args: &[&str]| {
        let all =
            [&["--cacert", &cert, "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", url][..], args].concat();
        curl(&names.dir, &all)
    };
    let redirect = format!("http://{}/x", up.front.redirect_address());
    let all_answer = || {
        assert_eq!(asked(&format!("https://127.0.0.1:{port}/sub/"), &[]), "400 ");
        assert_eq!(asked("https://shop.test/sub/", &["--unix-socket", &path.display().to_string()]), "400 ");
        assert_eq!(asked(&redirect, &[]), format!("308 https://127.0.0.1:{port}/x"));
    };
    all_answer();
    up.front.process.signal(Signal::HUP);
    up.front.process.log.wait_for("all fronts are replaced");
    all_answer();
    up.finish();
    assert!(!path.exists());
}
