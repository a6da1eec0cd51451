//! What is asked by HTTP/2: jobs and their facts, streamed answers, errors, files, publishing, holds, cancelled requests.

use serde_json::json;
use tempest_tests::h2::{ACK, DATA, END_HEADERS, END_STREAM, H2, HEADERS, RESET, SETTINGS, head, literals};
use tempest_tests::{Http, World, wait_until};

/// The error codes of RFC 9113, section 7.
const INTERNAL_ERROR: u32 = 2;

#[test]
fn a_job_says_what_was_asked_and_how() {
    let mut world = World::start();
    let mut h2 = H2::connect(world.front.address());
    let fields = [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("content-type", "text/plain")];
    h2.frame(HEADERS, END_HEADERS, 1, &[head("POST", "/a%2Fb?c=d"), literals(&fields)].concat());
    h2.frame(DATA, 0, 1, b"one ");
    h2.frame(DATA, END_STREAM, 1, b"two");
    let job = world.take();
    assert_eq!((job.text("http"), job.text("scheme"), job.text("host")), ("2", "http", "test"));
    assert_eq!((job.line().as_str(), job.text("query")), ("POST /a%2Fb", "c=d"));
    assert_eq!(job.body, b"one two");
    let headers = json!({"cookie": "a=1; b=2", "content-type": "text/plain", "host": "test"});
    assert_eq!(job.head["headers"], headers);
    world.ok(&job, "done");
    assert_eq!(h2.response(1), (200, "done".to_owned()));
    drop(h2);
    world.finish();
}

#[test]
fn many_are_under_way_and_answered_in_any_order() {
    let mut world = World::start();
    let mut h2 = H2::connect(world.front.address());
    let streams: Vec<u32> = (0..50).map(|n| 2 * n + 1).collect();
    streams.iter().for_each(|stream| h2.request(*stream, "GET", &format!("/{stream}")));
    let mut jobs: Vec<_> = streams.iter().map(|_| world.take()).collect();
    jobs.reverse();
    for job in &jobs {
        world.ok(job, job.text("path"));
    }
    for stream in streams {
        assert_eq!(h2.response(stream), (200, format!("/{stream}")));
    }
    drop(h2);
    world.finish();
}

#[test]
fn a_streamed_answer_comes_as_it_is_made_and_a_large_one_in_pieces() {
    let mut world = World::start();
    let mut h2 = H2::connect(world.front.address());
    // Room for what follows; 65,535 is what there is.
    h2.frame(tempest_tests::h2::WINDOW_UPDATE, 0, 0, &2_000_000u32.to_be_bytes());
    h2.request(1, "GET", "/");
    let job = world.take();
    world.answer(&job, json!({"n": 0, "more": true}), "first");
    assert_eq!(h2.data_until(1, "first"), "first");
    world.answer(&job, json!({"n": 1}), "last");
    let last = h2.data_until(1, "last");
    assert_eq!(last, "last");
    h2.frame(SETTINGS, 0, 0, &[[0, 4].as_slice(), &1_000_000u32.to_be_bytes()].concat());
    h2.request(3, "GET", "/");
    let job = world.take();
    world.ok(&job, &"x".repeat(900_000));
    let (status, body) = h2.response(3);
    assert_eq!((status, body.len()), (200, 900_000));
    drop(h2);
    world.finish();
}

#[test]
fn errors_end_their_request_and_no_other() {
    let mut world = World::builder()
        .table("[[route]]\npath = \"/late\"\nqueue = \"late\"\ntimeout = \"200ms\"\n[[route]]\npath = \"/{rest...}\"\nqueue = \"web\"\nbody_limit = \"1KiB\"")
        .start();
    let mut h2 = H2::connect(world.front.address());
    h2.request(1, "GET", "/waits");
    let waiting = world.take();
    // Too large: said before the body is over.
    h2.frame(HEADERS, END_HEADERS, 3, &head("POST", "/"));
    h2.frame(DATA, 0, 3, &[b'x'; 2000]);
    assert_eq!(h2.next_of(3).status(), 413);
    h2.request(5, "GET", "/late");
    assert_eq!(h2.response(5).0, 504);
    // Two hosts, one of them no host.
    h2.frame(HEADERS, END_STREAM | END_HEADERS, 7, &[head("GET", "/"), literals(&[("host", "other")])].concat());
    assert_eq!(h2.response(7).0, 400);
    h2.request(9, "CONNECT", "/");
    assert_eq!(h2.next_of(9).kind, RESET, "CONNECT has no path");
    // An answer that breaks off resets its stream.
    h2.request(11, "GET", "/breaks");
    let job = world.take();
    world.answer(&job, json!({"n": 0, "more": true}), "begun");
    h2.data_until(11, "begun");
    world.answer(&job, json!({"n": 1, "status": "no"}), "");
    let reset = h2.next_of(11);
    assert_eq!((reset.kind, reset.reason()), (RESET, INTERNAL_ERROR));
    world.ok(&waiting, "still here");
    assert_eq!(h2.response(1), (200, "still here".to_owned()));
    drop(h2);
    world.finish();
}

#[test]
fn a_cancelled_request_is_withdrawn_and_so_are_those_of_a_connection_that_is_gone() {
    let mut world = World::start();
    let mut h2 = H2::connect(world.front.address());
    h2.request(1, "GET", "/cancelled");
    h2.request(3, "GET", "/kept");
    wait_until("both jobs", || world.redis.llen("tempest:web") == 2);
    h2.frame(RESET, 0, 1, &8u32.to_be_bytes());
    wait_until("one to be withdrawn", || world.redis.llen("tempest:web") == 1);
    let job = world.take();
    assert_eq!(job.text("path"), "/kept");
    world.ok(&job, "yes");
    assert_eq!(h2.response(3).1, "yes");
    h2.request(5, "GET", "/gone");
    wait_until("its job", || world.redis.llen("tempest:web") == 1);
    drop(h2);
    wait_until("it to be withdrawn", || world.redis.llen("tempest:web") == 0);
    wait_until("the connection's end", || world.count("tempest_http2_connections_ended_total", &["client"]) == 1);
    world.finish();
}

#[test]
fn streams_publishing_files_and_holds_work() {
    let routes = "[[route]]\npath = \"/sub/{channel...}\"\nkind = \"subscribe\"\n[[route]]\npath = \"/pub/{channel...}\"\nkind = \"publish\"\n\
                  [[route]]\npath = \"/files/{file...}\"\nkind = \"files\"\ndir = \".\"\n[[route]]\npath = \"/{rest...}\"\nqueue = \"web\"";
    let mut world = World::builder().set("channels.publish = [\"*\"]").table(routes).start();
    let mut h2 = H2::connect(world.front.address());
    h2.frame(SETTINGS, ACK, 0, &[]);
    for stream in [1, 3] {
        h2.request(stream, "GET", "/sub/news");
        h2.data_until(stream, ": tempest");
    }
    h2.frame(HEADERS, END_HEADERS, 5, &head("POST", "/pub/news"));
    h2.frame(DATA, END_STREAM, 5, b"hello");
    assert_eq!(h2.response(5).0, 200);
    for stream in [1, 3] {
        assert!(h2.data_until(stream, "hello").ends_with("data: hello\n\n"));
    }
    // One reader leaves, the other goes on.
    h2.frame(RESET, 0, 1, &8u32.to_be_bytes());
    wait_until("it to be gone", || world.gauge("tempest_streams_open") == 1);
    world.redis.cmd(&["PUBLISH", "news", "more"]);
    h2.data_until(3, "data: more");
    h2.request(7, "GET", "/files/tempest.toml");
    assert!(h2.response(7).1.contains("kind = \"files\""));
    for (stream, fields, first) in [
        (9, json!({"hold": {"channels": ["held"], "first": "welcome"}}), "data: welcome"),
        (11, json!({"hold": {"channels": ["held"], "first": "raw"}, "headers": {"content-type": "text/plain"}}), "raw"),
    ] {
        h2.request(stream, "GET", "/");
        let job = world.take();
        world.answer(&job, fields, "");
        h2.data_until(stream, first);
    }
    h2.request(13, "GET", "/");
    let job = world.take();
    world.answer(&job, json!({"hold": {"channels": ["held"], "mode": "once"}}), "");
    wait_until("all three", || world.gauge("tempest_streams_open") == 4);
    world.redis.cmd(&["PUBLISH", "held", "to all"]);
    h2.data_until(9, "data: to all");
    h2.data_until(11, "to all");
    assert_eq!(h2.response(13), (200, "to all".to_owned()));
    drop(h2);
    world.finish();
}

#[test]
fn the_preface_is_one_only_at_the_beginning_and_only_whole() {
    let world = World::builder().set("limits.head_time = \"1s\"").start();
    let mut late = world.http();
    late.request("OPTIONS", "/sub/news", &[], b"");
    assert_eq!(late.response().status, 204);
    late.send(tempest_tests::h2::PREFACE);
    assert_eq!(late.response().status, 400, "a connection of HTTP/1.1 stays one");
    let mut half: Http = world.http();
    half.send("PRI * HTTP/2");
    assert_eq!(half.response().status, 408);
    let mut other: Http = world.http();
    other.send("PRI");
    other.send("SE /sub/ HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(other.response().status, 405, "a method that begins like the preface");
    // However it is cut.
    for size in [1, 3, 12, 16, 23] {
        let mut h2 = H2::silent(world.front.address());
        for piece in tempest_tests::h2::PREFACE.chunks(size) {
            h2.send(piece);
        }
        h2.frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        h2.request(1, "GET", "/sub/");
        assert_eq!(h2.response(1).0, 400, "{size}");
    }
    world.finish();
}
