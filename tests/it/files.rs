//! Static folders: types, validators, ranges of what is and is not served.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use tempest_tests::{Folder, Response, World};

/// A folder with some files, and beside it one that must never be served.
fn folder() -> (Folder, PathBuf) {
    let dir = Folder::new();
    let public = dir.join("public");
    fs::create_dir_all(public.join("sub/empty")).expect("a folder");
    for (name, text) in [
        ("index.html", "<h1>page</h1>"),
        ("style.css", "h1 {}"),
        ("app.js", "1"),
        ("data.json", "{}"),
        ("with space.txt", "space"),
        ("sub/index.html", "sub"),
        ("sub/page.html", "deep"),
        (".hidden", "hidden"),
    ] {
        fs::write(public.join(name), text).expect("a file");
    }
    fs::write(dir.join("secret.txt"), "secret").expect("a file");
    std::os::unix::fs::symlink(dir.join("secret.txt"), public.join("link.txt")).expect("a link");
    (dir, public)
}

fn serving(public: &Path) -> World {
    let dir = public.display();
    World::builder().table(&format!("[[route]]\npath = \"/{{file...}}\"\nkind = \"files\"\ndir = \"{dir}\"")).start()
}

fn ask(world: &World, method: &str, target: &str, headers: &[&str]) -> Response {
    let mut http = world.http();
    http.request(method, target, headers, b"");
    http.try_response(method == "HEAD").expect("a response")
}

#[test]
fn files_come_with_their_type_and_a_validator() {
    let (_dir, public) = folder();
    let world = serving(&public);
    for (target, kind, text) in [
        ("/", "text/html", "<h1>page</h1>"),
        ("/index.html", "text/html", "<h1>page</h1>"),
        ("/style.css", "text/css", "h1 {}"),
        ("/app.js", "text/javascript", "1"),
        ("/data.json", "application/json", "{}"),
        ("/with%20space.txt", "text/plain", "space"),
        ("/sub/", "text/html", "sub"),
        ("/sub/page.html?v=2", "text/html", "deep"),
    ] {
        let response = ask(&world, "GET", target, &[]);
        assert_eq!((response.status, response.text().as_str()), (200, text), "{target}");
        assert!(response.header("content-type").expect("a type").starts_with(kind), "{target}: {response:?}");
        let etag = response.header("etag").expect("a validator").to_owned();
        let fresh = ask(&world, "GET", target, &[&format!("If-None-Match: {etag}")]);
        assert_eq!((fresh.status, fresh.body.len()), (304, 0), "{target}");
        let stale = ask(&world, "GET", target, &["If-None-Match: \"other\""]);
        assert_eq!(stale.status, 200, "{target}");
        let head = ask(&world, "HEAD", target, &[]);
        assert_eq!((head.status, head.header("content-length")), (200, Some(text.len().to_string().as_str())));
    }
    world.finish();
}

#[test]
fn a_changed_file_has_another_validator() {
    let (_dir, public) = folder();
    let world = serving(&public);
    let before = ask(&world, "GET", "/app.js", &[]).header("etag").expect("a validator").to_owned();
    fs::write(public.join("app.js"), "changed").expect("a file");
    let after = ask(&world, "GET", "/app.js", &[&format!("If-None-Match: {before}")]);
    assert_eq!((after.status, after.text().as_str()), (200, "changed"));
    world.finish();
}

#[test]
fn nothing_outside_and_no_listing_is_served() {
    let (_dir, public) = folder();
    let world = serving(&public);
    for target in [
        "/missing",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/sub/../../secret.txt",
        "/..%2fsecret.txt",
        "/sub/%2e%2e/%2e%2e/secret.txt",
        "//secret.txt",
        "/sub/empty/",
        "/sub/empty",
        "/index.html/",
        "/%00",
        "/index.html%00.png",
        "/.hidden",
        "/link.txt",
        "/..\\secret.txt",
        "/%ff",
        "/%",
    ] {
        let response = ask(&world, "GET", target, &[]);
        assert!(matches!(response.status, 400 | 403 | 404), "{target}: {}", response.status);
        assert!(!response.text().contains("secret") && !response.text().contains("hidden"), "{target}");
    }
    world.finish();
}

#[test]
fn other_methods_are_refused() {
    let (_dir, public) = folder();
    let world = serving(&public);
    for method in ["POST", "PUT", "DELETE"] {
        let response = ask(&world, method, "/index.html", &[]);
        assert_eq!(response.status, 405, "{method}");
        assert!(response.header("allow").expect("Allow").contains("GET"));
    }
    world.finish();
}

#[test]
fn a_large_file_arrives_whole() {
    let (_dir, public) = folder();
    let bytes: Vec<u8> = (0..=255).cycle().take(5_000_000).collect();
    fs::write(public.join("large.bin"), &bytes).expect("a file");
    let world = serving(&public);
    let response = ask(&world, "GET", "/large.bin", &[]);
    assert!(response.complete && response.body == bytes, "{} bytes", response.body.len());
    world.finish();
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let (_dir, public) = folder();
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    fs::write(public.join("large.bin"), &bytes).expect("a file");
    let world = serving(&public);
    let head = ask(&world, "HEAD", "/large.bin", &[]);
    assert_eq!(head.header("accept-ranges"), Some("bytes"));
    let tag = format!("If-Range: {}", head.header("etag").expect("a validator"));
    let rest = ask(&world, "GET", "/large.bin", &["Range: bytes=100000-", &tag]);
    assert_eq!((rest.status, rest.header("content-range")), (206, Some("bytes 100000-299999/300000")));
    assert!(rest.complete && rest.body == bytes[100_000..]);
    let other = ask(&world, "GET", "/large.bin", &["Range: bytes=100000-", "If-Range: \"other\""]);
    assert_eq!((other.status, other.body.len()), (200, bytes.len()), "another file is sent whole");
    let beyond = ask(&world, "GET", "/large.bin", &["Range: bytes=300000-"]);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */300000")));
    world.finish();
}

#[test]
fn a_single_page_application_is_served_from_its_build() {
    let (_dir, public) = folder();
    fs::write(public.join("app.js.br"), "compressed").expect("a file");
    let dir = public.display();
    let settings = "cache = \"max-age=60\"\nfallback = \"index.html\"\nprecompressed = true";
    let table = format!("[[route]]\npath = \"/{{file...}}\"\nkind = \"files\"\ndir = \"{dir}\"\n{settings}");
    let world = World::builder().table(&table).start();
    let script = ask(&world, "GET", "/app.js", &["Accept-Encoding: gzip, br"]);
    let header = |name| script.header(name);
    assert_eq!((header("content-encoding"), header("vary")), (Some("br"), Some("Accept-Encoding")));
    assert_eq!((header("cache-control"), script.text().as_str()), (Some("max-age=60"), "compressed"));
    assert_eq!(ask(&world, "GET", "/app.js", &[]).text(), "1");
    let page = ask(&world, "GET", "/users/7", &["Accept: text/html"]);
    assert_eq!((page.status, page.text().as_str()), (200, "<h1>page</h1>"));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    assert_eq!(ask(&world, "GET", "/gone.js", &["Accept: */*"]).status, 404);
    world.finish();
}

#[test]
fn files_that_nobody_reads_take_no_memory() {
    const LENGTH: u64 = 256 * 1024 * 1024;
    let (_dir, public) = folder();
    fs::File::create(public.join("huge.bin")).and_then(|file| file.set_len(LENGTH)).expect("a sparse file");
    let world = serving(&public);
    let before = world.front.process.rss_bytes();
    let mut readers: Vec<_> = (0..8).map(|_| world.http()).collect();
    for http in &mut readers {
        http.request("GET", "/huge.bin", &[], b"");
        assert_eq!(http.read_head().expect("a head").header("content-length"), Some(LENGTH.to_string().as_str()));
        http.read_exact(&mut vec![0; 1 << 20]).expect("a part of it");
    }
    let grown = world.front.process.rss_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for 8 readers");
    drop(readers);
    world.finish();
}
