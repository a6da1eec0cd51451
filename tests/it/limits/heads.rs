//! Heads and bodies: as large as they may be, and one more.

use serde_json::json;
use tempest_tests::{Http, World, wait_until};

use super::{ended, refused};

fn world(setting: &str) -> World {
    let mut world = World::builder().set(setting).start();
    world.worker(|job| vec![job.answer(json!({"status": 200}), job.body.len().to_string().as_bytes())]);
    world
}

#[track_caller]
fn is_too_large(world: &World, mut http: Http, so_many: i64) {
    assert_eq!(http.response().status, 431);
    assert_eq!(http.rest(), b"");
    wait_until("it to be counted", || ended(world, "head_size") == so_many);
}

#[test]
fn a_head_of_as_many_bytes_as_may_be_and_one_more() {
    const LIMIT: usize = 10_000;
    let world = world(&format!("limits.head_bytes = {LIMIT}"));
    let of = |bytes: usize| {
        let begin = "GET /x HTTP/1.1\r\nHost: test\r\nX-A: ";
        let head = format!("{begin}{}\r\n\r\n", "a".repeat(bytes - begin.len() - 4));
        assert_eq!(head.len(), bytes);
        let mut http = world.http();
        http.send(head);
        http
    };
    assert_eq!(of(LIMIT).response().status, 200);
    assert_eq!(ended(&world, "head_size"), 0);
    is_too_large(&world, of(LIMIT + 1), 1);
    world.finish();
}

#[test]
fn as_many_fields_as_may_be_and_one_more() {
    // With the number that hyper has by itself, and with another.
    for limit in [100, 5] {
        let world = world(&format!("limits.headers = {limit}"));
        let of = |fields: usize| {
            let mut http = world.http();
            // One of them is the host.
            http.request("GET", "/x", &vec!["X-A: 1"; fields - 1], b"");
            http
        };
        assert_eq!(of(limit).response().status, 200);
        is_too_large(&world, of(limit + 1), 1);
        world.finish();
    }
}

#[test]
fn a_body_of_as_many_bytes_as_may_be_and_one_more() {
    let mut world =
        World::builder().table("[[route]]\npath = \"/{rest...}\"\nqueue = \"web\"\nbody_limit = 1000").start();
    world.worker(|job| vec![job.answer(json!({"status": 200}), job.body.len().to_string().as_bytes())]);
    let chunked = |bytes: usize| {
        let mut http = world.http();
        http.send("POST /x HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        http.send(format!("1\r\na\r\n{:x}\r\n{}\r\n0\r\n\r\n", bytes - 1, "b".repeat(bytes - 1)));
        http
    };
    let whole = |bytes: usize| {
        let mut http = world.http();
        http.request("POST", "/x", &[], &vec![b'a'; bytes]);
        http
    };
    assert_eq!((whole(1000).response().text(), chunked(1000).response().text()), ("1000".into(), "1000".into()));
    assert_eq!(refused(&world, "body_bytes"), 0);
    assert_eq!(whole(1001).response().status, 413);
    assert_eq!(refused(&world, "body_bytes"), 1);
    assert_eq!(chunked(1001).response().status, 413);
    assert_eq!(refused(&world, "body_bytes"), 2);
    world.finish();
}

#[test]
fn bodies_of_as_many_bytes_as_may_be_held_and_one_more() {
    let mut world = World::builder().set("limits.body_memory = 1000").start();
    world.worker(|job| vec![job.answer(json!({"status": 200}), job.body.len().to_string().as_bytes())]);
    let mut half = world.http();
    half.send("POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: 601\r\n\r\n");
    half.send("a".repeat(600));
    let mut other = world.http();
    // That those 600 bytes are held is seen by what is refused, once they are.
    wait_until("600 bytes to be held", || {
        other.request("POST", "/x", &[], &[b'b'; 401]);
        let response = other.response();
        if response.status == 200 {
            return false;
        }
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
        true
    });
    let refusals = refused(&world, "body_memory");
    assert_eq!(refusals, 1);
    other.request("POST", "/x", &[], &[b'b'; 400]);
    assert_eq!(other.response().text(), "400", "exactly as many as there is room for");
    half.send("a");
    assert_eq!(half.response().text(), "601");
    assert_eq!(refused(&world, "body_memory"), 1);
    world.finish();
}
