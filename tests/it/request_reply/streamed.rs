//! Several answers to one request: passed on as they come, put in order, bounded, and cut where they cannot be
//! completed, so that the client can tell.

use serde_json::json;
use tempest_tests::{Chunk, Http, Job, World};

/// A request whose worker the test plays.
fn begin(world: &mut World) -> (Http, Job) {
    let mut http = world.http();
    http.request("GET", "/stream", &[], b"");
    let job = world.take();
    (http, job)
}

fn part(world: &mut World, job: &Job, n: u64, more: bool, body: &str) {
    world.answer(job, json!({"n": n, "more": more}), body);
}

fn data(text: &str) -> Chunk {
    Chunk::Data(text.as_bytes().to_vec())
}

#[test]
fn parts_are_passed_on_as_they_come() {
    let mut world = World::start();
    let (mut http, job) = begin(&mut world);
    world.answer(&job, json!({"status": 201, "headers": {"content-type": "text/plain"}, "n": 0, "more": true}), "one ");
    let head = http.read_head().expect("the head comes with the first part");
    assert_eq!((head.status, head.header("content-type")), (201, Some("text/plain")));
    assert_eq!(http.chunk(), data("one "), "before the second part exists");
    part(&mut world, &job, 1, true, "two ");
    assert_eq!(http.chunk(), data("two "));
    part(&mut world, &job, 2, false, "three");
    assert_eq!((http.chunk(), http.chunk()), (data("three"), Chunk::End));
    world.finish();
}

#[test]
fn an_empty_first_part_sends_the_head_and_an_empty_last_one_ends() {
    let mut world = World::start();
    let (mut http, job) = begin(&mut world);
    world.answer(&job, json!({"status": 200, "n": 0, "more": true}), "");
    assert_eq!(http.read_head().expect("a head").status, 200);
    part(&mut world, &job, 1, true, "only");
    assert_eq!(http.chunk(), data("only"));
    world.answer(&job, json!({"n": 2}), "");
    assert_eq!(http.chunk(), Chunk::End);
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.ok(&job, "and the connection goes on");
    assert_eq!(http.response().text(), "and the connection goes on");
    world.finish();
}

#[test]
fn parts_that_come_out_of_order_are_put_in_order() {
    let mut world = World::start();
    for order in [[0, 2, 1, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 0, 3, 1]] {
        let (mut http, job) = begin(&mut world);
        for n in order {
            let mut fields = json!({"n": n, "more": n < 3});
            if n == 0 {
                fields["status"] = json!(202);
            }
            world.answer(&job, fields, n.to_string());
        }
        let response = http.response();
        assert_eq!((response.status, response.text().as_str(), response.complete), (202, "0123", true), "{order:?}");
    }
    world.finish();
}

#[test]
fn a_part_that_comes_twice_is_dropped() {
    let mut world = World::start();
    let (mut http, job) = begin(&mut world);
    for n in [0, 0, 1, 1, 0, 2] {
        part(&mut world, &job, n, true, &n.to_string());
    }
    part(&mut world, &job, 3, false, ".");
    assert_eq!(http.response().text(), "012.");
    assert_eq!(world.count("tempest_answers_total", &["duplicate"]), 3);
    world.finish();
}

#[test]
fn a_gap_that_is_never_filled_cuts_the_connection() {
    let mut world = World::start();
    let (mut http, job) = begin(&mut world);
    part(&mut world, &job, 0, true, "begin");
    for n in 2..=70 {
        part(&mut world, &job, n, true, "x");
    }
    let response = http.response();
    assert!(!response.complete, "cut, not ended: {response:?}");
    assert_eq!(response.text(), "begin");
    world.finish();
}

#[test]
fn a_gap_is_bounded_in_bytes_too() {
    let mut world = World::builder().set("limits.answer_buffer = \"1MiB\"").start();
    let (mut http, job) = begin(&mut world);
    part(&mut world, &job, 0, true, "begin");
    let large = "x".repeat(500_000);
    for n in 2..=5 {
        part(&mut world, &job, n, true, &large);
    }
    assert!(!http.response().complete);
    world.finish();
}

#[test]
fn a_gap_before_the_first_part_fails_the_request() {
    let mut world = World::start();
    let (mut http, job) = begin(&mut world);
    for n in 1..=70 {
        part(&mut world, &job, n, true, "x");
    }
    assert_eq!(http.response().status, 502);
    world.finish();
}

#[test]
fn a_stated_length_is_passed_on_and_enforced() {
    let mut world = World::start();
    for (second, complete) in [("67890", true), ("678", false), ("67890 and more", false)] {
        let (mut http, job) = begin(&mut world);
        world.answer(&job, json!({"status": 200, "headers": {"content-length": "10"}, "n": 0, "more": true}), "12345");
        part(&mut world, &job, 1, false, second);
        let head = http.read_head().expect("a head");
        assert_eq!((head.header("content-length"), head.header("transfer-encoding")), (Some("10"), None));
        let mut body = Vec::new();
        let mut limited = std::io::Read::take(&mut http, 10);
        std::io::Read::read_to_end(&mut limited, &mut body).ok();
        if complete {
            assert_eq!(body, b"1234567890");
        } else {
            // Either the connection ended early, or nothing was sent beyond what was stated.
            assert!(b"1234567890".starts_with(&body) || body.starts_with(b"12345"), "{body:?}");
            assert_eq!(http.rest(), b"", "the connection is of no use any more");
        }
    }
    world.finish();
}

#[test]
fn an_http_1_0_client_gets_a_stream_without_chunks() {
    let mut world = World::start();
    let mut http = world.http();
    http.send("GET / HTTP/1.0\r\n\r\n");
    let job = world.take();
    part(&mut world, &job, 0, true, "one ");
    part(&mut world, &job, 1, false, "two");
    let response = http.response();
    assert_eq!((response.text().as_str(), response.header("transfer-encoding")), ("one two", None));
    world.finish();
}

#[test]
fn head_gets_no_part_of_a_stream() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("HEAD", "/", &[], b"");
    let job = world.take();
    world.answer(&job, json!({"status": 200, "headers": {"x-a": "1"}, "n": 0, "more": true}), "one");
    part(&mut world, &job, 1, false, "two");
    assert_eq!(http.head_response().header("x-a"), Some("1"));
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.ok(&job, "in step");
    assert_eq!(http.response().text(), "in step");
    world.finish();
}

fn short_wait() -> World {
    World::builder().table("[[route]]\npath = \"/{rest...}\"\nqueue = \"web\"\ntimeout = \"1s\"").start()
}

#[test]
fn each_part_may_take_as_long_as_the_first() {
    let mut world = short_wait();
    let (mut http, job) = begin(&mut world);
    part(&mut world, &job, 0, true, "0");
    assert_eq!(http.read_head().expect("a head").status, 200);
    assert_eq!(http.chunk(), data("0"));
    for n in 1..=3 {
        std::thread::sleep(std::time::Duration::from_millis(600)); // what passes is most of the wait itself
        part(&mut world, &job, n, n < 3, "x");
        assert_eq!(http.chunk(), data("x"), "after more than a second in all");
    }
    assert_eq!(http.chunk(), Chunk::End);
    world.finish();
}

#[test]
fn a_part_that_does_not_come_cuts_the_connection() {
    let mut world = short_wait();
    let (mut http, job) = begin(&mut world);
    part(&mut world, &job, 0, true, "begin");
    let response = http.response();
    assert_eq!((response.text().as_str(), response.complete), ("begin", false));
    world.finish();
}

#[test]
fn a_client_that_does_not_read_is_cut_and_memory_stays_flat() {
    let mut world = World::start();
    let (http, job) = begin(&mut world);
    let before = world.front.process.rss_bytes();
    let large = "x".repeat(250_000);
    world.answer(&job, json!({"status": 200, "n": 0, "more": true}), "begin");
    for n in 1..=120 {
        part(&mut world, &job, n, true, &large);
    }
    let connections = || world.front.open_connections();
    tempest_tests::wait_until("the front to cut the connection", || connections() == 0);
    let grown = world.front.process.rss_bytes().saturating_sub(before);
    assert!(grown < 16_000_000, "30 MB were sent, memory grew by {grown}");
    drop(http);
    world.finish();
}

#[test]
fn many_parts_arrive_complete_and_in_order() {
    let mut world = World::start();
    let (mut http, job) = begin(&mut world);
    let expected: String = (0..2_000).map(|n| format!("{n},")).collect();
    for n in 0..2_000 {
        part(&mut world, &job, n, n < 1_999, &format!("{n},"));
    }
    assert_eq!(http.response().text(), expected);
    world.finish();
}
