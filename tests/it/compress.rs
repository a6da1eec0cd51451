//! Compression on the way to the client: only for those who ask, only where the route says so, and never in the way of
//! what has to arrive at once.

use std::fs;
use std::io::Write;

use flate2::write::GzDecoder;
use serde_json::json;
use tempest_tests::{Chunk, Folder, Http, Job, Response, World};

/// `/c/…` is compressed, the rest is not.
fn world() -> World {
    let routes = "[[route]]\npath = \"/c/{rest...}\"\nqueue = \"web\"\ncompress = true\n[[route]]\npath = \"/{rest...}\"\nqueue = \"web\"";
    World::builder().table(routes).start()
}

fn unzipped(bytes: &[u8]) -> String {
    let mut decoder = GzDecoder::new(Vec::new());
    decoder.write_all(bytes).expect("it is gzip");
    String::from_utf8(decoder.finish().expect("it is whole")).expect("text")
}

fn text(length: usize) -> String {
    "words, and some more words; ".repeat(length / 28 + 1)[..length].to_owned()
}

fn ask(world: &mut World, method: &str, target: &str, headers: &[&str], body: &str) -> Response {
    let mut http = world.http();
    http.request(method, target, headers, b"");
    let job: Job = world.take();
    world.answer(&job, json!({"headers": {"content-type": "text/plain", "etag": "\"v1\""}}), body);
    http.try_response(method == "HEAD").expect("a response")
}

const GZIP: &str = "Accept-Encoding: gzip";

#[test]
fn an_answer_is_compressed_for_those_who_take_it() {
    let mut world = world();
    for length in [1024, 40_000, 900_000] {
        let body = text(length);
        let coded = ask(&mut world, "GET", "/c/x", &[GZIP], &body);
        assert_eq!((coded.header("content-encoding"), coded.header("vary")), (Some("gzip"), Some("Accept-Encoding")));
        assert_eq!(coded.header("etag"), Some("W/\"v1\""));
        assert!(coded.complete && coded.body.len() < length / 2 && unzipped(&coded.body) == body, "{length}");
        let plain = ask(&mut world, "GET", "/c/x", &[], &body);
        assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("Accept-Encoding")));
        assert!(plain.header("etag") == Some("\"v1\"") && plain.text() == body);
    }
    for (method, target, headers) in
        [("GET", "/x", GZIP), ("HEAD", "/c/x", GZIP), ("GET", "/c/x", "Accept-Encoding: gzip;q=0")]
    {
        let response = ask(&mut world, method, target, &[headers], &text(5000));
        assert_eq!(response.header("content-encoding"), None, "{method} {target} {headers}");
    }
    world.finish();
}

/// Decodes what comes until it is `expected`.
#[track_caller]
fn read_until(http: &mut Http, decoder: &mut GzDecoder<Vec<u8>>, expected: &str) {
    while decoder.get_ref() != expected.as_bytes() {
        let Chunk::Data(bytes) = http.chunk() else { panic!("the end comes before {expected:?}") };
        decoder.write_all(&bytes).expect("it is gzip");
        decoder.flush().expect("it is gzip");
    }
}

#[test]
fn each_message_of_a_streamed_answer_leaves_when_it_comes() {
    let mut world = world();
    let mut http = world.http();
    http.request("GET", "/c/x", &[GZIP], b"");
    let job = world.take();
    world.answer(&job, json!({"headers": {"content-type": "text/plain"}, "n": 0, "more": true}), "one ");
    assert_eq!(http.read_head().expect("a head").header("content-encoding"), Some("gzip"));
    let mut decoder = GzDecoder::new(Vec::new());
    read_until(&mut http, &mut decoder, "one ");
    world.answer(&job, json!({"n": 1, "more": true}), "two ");
    read_until(&mut http, &mut decoder, "one two ");
    world.answer(&job, json!({"n": 2}), "three");
    read_until(&mut http, &mut decoder, "one two three");
    while let Chunk::Data(bytes) = http.chunk() {
        decoder.write_all(&bytes).expect("it is gzip");
    }
    assert_eq!(decoder.finish().expect("it is whole"), b"one two three");
    http.request("GET", "/x", &[], b"");
    let job = world.take();
    world.ok(&job, "and the connection goes on");
    assert_eq!(http.response().text(), "and the connection goes on");
    world.finish();
}

#[test]
fn an_answer_that_breaks_off_breaks_off_compressed_too() {
    let mut world = world();
    let mut http = world.http();
    http.request("GET", "/c/x", &[GZIP], b"");
    let job = world.take();
    world.answer(&job, json!({"headers": {"content-type": "text/plain"}, "n": 0, "more": true}), "one ");
    assert_eq!(http.read_head().expect("a head").status, 200);
    world.answer(&job, json!({"n": 1_000_001, "more": true}), "");
    while let Chunk::Data(_) = http.chunk() {}
    assert!(http.rest().is_empty());
    world.finish();
}

#[test]
fn event_streams_are_never_compressed() {
    let mut world = World::builder().set("compress.on = true").start();
    let mut http = world.http();
    http.request("GET", "/events", &[GZIP], b"");
    let job = world.take();
    let head = json!({"headers": {"content-type": "text/event-stream"}, "n": 0, "more": true});
    world.answer(&job, head, "data: 1\n\n");
    assert_eq!(http.read_head().expect("a head").header("content-encoding"), None);
    assert_eq!(http.chunk(), Chunk::Data(b"data: 1\n\n".to_vec()));
    world.answer(&job, json!({"n": 1}), "");
    assert_eq!(http.chunk(), Chunk::End);
    http.request("GET", "/sub/news", &[GZIP], b"");
    assert_eq!(http.read_head().expect("a head").header("content-encoding"), None);
    drop(http);
    let mut http = world.http();
    http.request("GET", "/held", &[GZIP], b"");
    let job = world.take();
    world.answer(
        &job,
        json!({"headers": {"content-type": "text/plain"}, "hold": {"channels": ["a"], "first": "raw"}}),
        "",
    );
    assert_eq!(http.read_head().expect("a head").header("content-encoding"), None);
    assert_eq!(http.chunk(), Chunk::Data(b"raw".to_vec()));
    drop(http);
    world.finish();
}

#[test]
fn files_are_compressed_and_known_again() {
    let dir = Folder::new();
    fs::create_dir_all(dir.join("public")).expect("a folder");
    for (name, length) in [("a.js", 5000), ("large.js", 500_000), ("short.js", 100)] {
        fs::write(dir.join("public").join(name), text(length)).expect("a file");
    }
    let files = dir.join("public");
    let table =
        format!("[[route]]\npath = \"/{{file...}}\"\nkind = \"files\"\ncompress = true\ndir = \"{}\"", files.display());
    let world = World::builder().table(&table).start();
    let get = |target: &str, headers: &[&str]| {
        let mut http = world.http();
        http.request("GET", target, headers, b"");
        http.response()
    };
    for (name, length) in [("/a.js", 5000), ("/large.js", 500_000)] {
        let coded = get(name, &[GZIP]);
        assert_eq!((coded.header("content-encoding"), coded.header("accept-ranges")), (Some("gzip"), None));
        assert!(coded.complete && unzipped(&coded.body) == text(length), "{name}");
        let tag = coded.header("etag").expect("a validator").to_owned();
        assert!(tag.starts_with("W/"), "{tag}");
        assert_eq!(get(name, &[GZIP, &format!("If-None-Match: {tag}")]).status, 304);
        let part = get(name, &[GZIP, "Range: bytes=0-9"]);
        assert_eq!((part.status, part.header("content-encoding"), part.body.len()), (206, None, 10));
    }
    assert_eq!(get("/short.js", &[GZIP]).header("content-encoding"), None);
    world.finish();
}
