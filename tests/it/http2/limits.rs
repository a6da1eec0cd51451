//! Time and number by HTTP/2: what is slow, silent, or too many at the same time.

use std::time::Duration;

use serde_json::json;
use tempest_tests::h2::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, GO_AWAY, H2, HEADERS, PING, RESET, SETTINGS, WINDOW_UPDATE, head,
    literals,
};
use tempest_tests::{World, wait_until};

/// Error codes of RFC 9113, section 7.
const NO_ERROR: u32 = 0;
const FLOW_CONTROL_ERROR: u32 = 3;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

fn ended(world: &World, reason: &str) -> i64 {
    world.count("tempest_http2_connections_ended_total", &[&format!("reason=\"{reason}\"")])
}

/// A setting of the client.
fn setting(id: u8, value: u32) -> Vec<u8> {
    [&[0, id][..], &value.to_be_bytes()].concat()
}

#[test]
fn requests_beyond_the_limit_are_refused_and_may_be_asked_again() {
    let mut world = World::builder().set("limits.h2_streams = 2").start();
    let mut h2 = H2::connect(world.front.address());
    let settings = h2.next(SETTINGS);
    assert!(settings.payload.windows(6).any(|setting| setting == [0, 3, 0, 0, 0, 2]), "{settings:?}");
    [1, 3, 5].iter().for_each(|stream| h2.request(*stream, "GET", "/"));
    let refused = h2.next_of(5);
    assert_eq!((refused.kind, refused.reason()), (RESET, REFUSED_STREAM));
    for _ in 0..2 {
        let job = world.take();
        world.ok(&job, "");
    }
    assert_eq!((h2.response(1).0, h2.response(3).0), (200, 200));
    h2.request(7, "GET", "/");
    let job = world.take();
    world.ok(&job, "");
    assert_eq!(h2.response(7).0, 200);
    drop(h2);
    world.finish();
}

#[test]
fn after_its_last_request_a_connection_is_told_to_go_and_answers_all_of_them() {
    let mut world = World::builder().set("limits.requests_per_connection = 3").start();
    let mut h2 = H2::connect(world.front.address());
    for stream in [1, 3] {
        h2.request(stream, "GET", "/early");
        let job = world.take();
        world.ok(&job, "early");
        // A GOAWAY as early as this would be laid aside here, and missed below.
        assert_eq!(h2.response(stream), (200, "early".to_owned()));
    }
    h2.request(5, "GET", "/last");
    let job = world.take();
    assert_eq!(h2.next(GO_AWAY).reason(), NO_ERROR);
    // By which the front knows that nothing else is on its way.
    let ping = h2.next(PING);
    h2.frame(PING, ACK, 0, &ping.payload);
    world.ok(&job, "last");
    assert_eq!(h2.response(5), (200, "last".to_owned()));
    assert_eq!(h2.until_end(), Some(NO_ERROR));
    let mut next = H2::connect(world.front.address());
    next.request(1, "GET", "/sub/");
    assert_eq!(next.response(1).0, 400, "the next connection begins anew");
    drop((h2, next));
    world.finish();
}

#[test]
fn heads_are_limited_as_in_http_1() {
    let world = World::builder().set("limits.headers = 10").start();
    let mut h2 = H2::connect(world.front.address());
    let fields = [("x-a", "1"); 11];
    h2.frame(HEADERS, END_STREAM | END_HEADERS, 1, &[head("GET", "/"), literals(&fields)].concat());
    assert_eq!(h2.response(1).0, 431);
    let large = "x".repeat(120);
    let fields = vec![("x-a", large.as_str()); 200];
    let block = [head("GET", "/"), literals(&fields)].concat();
    let (first, rest) = block.split_at(16_000);
    h2.frame(HEADERS, END_STREAM, 3, first);
    h2.frame(tempest_tests::h2::CONTINUATION, END_HEADERS, 3, rest);
    assert_eq!(h2.next_of(3).status(), 431);
    h2.request(5, "GET", "/sub/");
    assert_eq!(h2.response(5).0, 400, "the connection goes on");
    drop(h2);
    world.finish();
}

#[test]
fn who_is_silent_idle_or_slow_with_a_head_is_sent_away() {
    let world = World::builder().set("limits.head_time = \"1s\"").set("limits.idle_time = \"1s\"").start();
    let address = world.front.address();
    let (mut silent, mut idle, mut half) = (H2::connect(address), H2::connect(address), H2::connect(address));
    idle.request(1, "GET", "/sub/");
    assert_eq!(idle.response(1).0, 400);
    half.request(1, "GET", "/sub/news");
    half.data_until(1, ": tempest");
    // A head that does not go on, while a stream is open and pings come.
    half.frame(PING, 0, 0, b"12345678");
    half.send(&Frame::bytes(HEADERS, END_STREAM | END_HEADERS, 3, &head("GET", "/"))[..20]);
    assert_eq!(silent.until_end(), Some(NO_ERROR));
    assert_eq!(idle.until_end(), Some(NO_ERROR));
    assert_eq!(half.until_end(), Some(ENHANCE_YOUR_CALM));
    assert_eq!((ended(&world, "idle"), ended(&world, "head_time")), (2, 1));
    world.finish();
}

#[test]
fn a_body_that_stops_is_a_408_and_its_neighbours_go_on() {
    let mut world = World::builder().set("limits.body_time = \"1s\"").start();
    let mut h2 = H2::connect(world.front.address());
    h2.request(1, "GET", "/waits");
    let job = world.take();
    h2.frame(HEADERS, END_HEADERS, 3, &head("POST", "/"));
    h2.frame(DATA, 0, 3, b"begun");
    assert_eq!(h2.next_of(3).status(), 408);
    world.ok(&job, "still here");
    assert_eq!(h2.response(1), (200, "still here".to_owned()));
    assert_eq!(world.redis.llen("tempest:web"), 0);
    drop(h2);
    world.finish();
}

#[test]
fn a_window_that_stays_closed_ends_its_requests_and_memory_does_not_grow() {
    let mut world = World::builder().set("limits.body_time = \"1s\"").set("limits.idle_time = \"2s\"").start();
    let large = "x".repeat(300_000);
    world.worker(move |job| vec![job.answer(json!({"status": 200}), large.as_bytes())]);
    let stall = |window: u32| {
        let mut h2 = H2::connect(world.front.address());
        h2.frame(SETTINGS, 0, 0, &setting(4, window));
        (0..20).for_each(|n| h2.request(2 * n + 1, "GET", "/"));
        let mut resets = 0;
        while resets < 20 {
            let frame = h2.try_next().expect("each request is ended");
            if frame.kind == RESET {
                assert_eq!(frame.reason(), CANCEL);
                resets += 1;
            }
        }
        // The connection is as good as before.
        h2.request(101, "HEAD", "/");
        assert_eq!(h2.next_of(101).status(), 200);
    };
    stall(0);
    let before = world.front.process.rss_bytes();
    [0, 1, 100].into_iter().for_each(stall);
    let grown = world.front.process.rss_bytes().saturating_sub(before);
    // What three rounds would hold, if nothing were given back, is 18 MB.
    assert!(grown < 12_000_000, "memory grew by {grown} bytes");
    assert_eq!(world.count("tempest_http2_requests_stalled_total", &[]), 80);
    world.finish();
}

#[test]
fn a_client_that_takes_nothing_off_its_socket_is_cut_off() {
    let mut world = World::builder().set("limits.body_time = \"1s\"").start();
    let large = "x".repeat(1_000_000);
    world.worker(move |job| vec![job.answer(json!({"status": 200}), large.as_bytes())]);
    let mut h2 = H2::connect(world.front.address());
    h2.frame(SETTINGS, 0, 0, &setting(4, 1 << 30));
    h2.frame(WINDOW_UPDATE, 0, 0, &(1u32 << 30).to_be_bytes());
    (0..20).for_each(|n| h2.request(2 * n + 1, "GET", "/"));
    wait_until("it to be cut off", || ended(&world, "slow") == 1);
    assert_eq!(world.http().get("/").status, 200);
    drop(h2);
    world.finish();
}

#[test]
fn more_data_than_there_is_room_for_is_an_error() {
    let world = World::start();
    let mut h2 = H2::connect(world.front.address());
    h2.frame(HEADERS, END_HEADERS, 1, &head("POST", "/sub/"));
    for _ in 0..100 {
        if h2.try_send(&Frame::bytes(DATA, 0, 1, &[b'x'; 16_000])).is_err() {
            break;
        }
    }
    let said = h2.until_end();
    assert!(said.is_none_or(|said| said == FLOW_CONTROL_ERROR), "{said:?}");
    wait_until("the end to be counted", || ended(&world, "protocol") + ended(&world, "client") == 1);
    drop(h2);
    world.finish();
}

#[test]
fn an_idle_connection_is_told_when_the_front_drains() {
    let mut world = World::builder().set("front.drain_idle = \"100ms\"").start();
    let mut h2 = H2::connect(world.front.address());
    h2.request(1, "GET", "/sub/");
    assert_eq!(h2.response(1).0, 400);
    world.front.process.signal(tempest_tests::Signal::TERM);
    assert_eq!(h2.next(GO_AWAY).reason(), NO_ERROR);
    h2.until_end();
    assert!(tempest_tests::within(Duration::from_secs(20), || !world.front.process.is_running()));
    world.finish_without_front();
}
