//! Hostile input: every case has one exact outcome, nothing of it reaches a worker that should not, and the front is
//! up and no larger afterwards.

use std::time::Duration;

use serde_json::json;
use tempest_tests::{Http, World};

/// What the sender does.
enum Step {
    /// Writes these bytes.
    Send(Vec<u8>),
    /// Ends its direction.
    HalfClose,
}

/// What comes of it.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// These responses, in order, as `status body`, then the connection stays open.
    Served(&'static [&'static str]),
    /// These responses, then the end of the connection.
    ServedThenClosed(&'static [&'static str]),
    /// One response with this status, then the end of the connection; no worker saw the request.
    Refused(u16),
    /// The end of the connection without a byte; no worker saw anything.
    Closed,
}

use Outcome::{Closed, Refused, Served, ServedThenClosed};

struct Case {
    name: &'static str,
    steps: Vec<Step>,
    outcome: Outcome,
}

fn case(name: &'static str, bytes: impl AsRef<[u8]>, outcome: Outcome) -> Case {
    Case { name, steps: vec![Step::Send(bytes.as_ref().to_vec())], outcome }
}

fn half_closed(name: &'static str, bytes: &str, outcome: Outcome) -> Case {
    Case { name, steps: vec![Step::Send(bytes.as_bytes().to_vec()), Step::HalfClose], outcome }
}

/// A request line and `Host`, then these lines.
fn head(lines: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: test\r\n{lines}")
}

fn framing() -> Vec<Case> {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";
    vec![
        case(
            "content-length and transfer-encoding",
            head(&format!("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}")),
            // Read as chunked, and the connection is closed after it, so that nothing behind it is ever read as a
            // request (RFC 9112, section 6.1).
            ServedThenClosed(&["200 POST /x "]),
        ),
        case(
            "transfer-encoding and content-length",
            head(&format!("Transfer-Encoding: chunked\r\nContent-Length: 100\r\n\r\n0\r\n\r\n{smuggled}")),
            ServedThenClosed(&["200 POST /x "]),
        ),
        case(
            "two equal content-lengths",
            head("Content-Length: 2\r\nContent-Length: 2\r\n\r\nab"),
            Served(&["200 POST /x ab"]),
        ),
        case(
            "two different content-lengths",
            head(&format!("Content-Length: 0\r\nContent-Length: 42\r\n\r\n{smuggled}")),
            Refused(400),
        ),
        case("a list of content-lengths", head("Content-Length: 2, 2\r\n\r\nab"), Refused(400)),
        case("a negative content-length", head("Content-Length: -1\r\n\r\n"), Refused(400)),
        case("a content-length with a plus", head("Content-Length: +2\r\n\r\nab"), Refused(400)),
        case("a content-length in hexadecimal", head("Content-Length: 0x2\r\n\r\nab"), Refused(400)),
        case("an empty content-length", head("Content-Length: \r\n\r\n"), Refused(400)),
        case("a content-length beyond 64 bits", head("Content-Length: 99999999999999999999\r\n\r\n"), Refused(400)),
        case(
            "transfer-encoding chunked, identity",
            head("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
            Refused(400),
        ),
        case("transfer-encoding xchunked", head("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), Refused(400)),
        case("transfer-encoding gzip", head("Transfer-Encoding: gzip\r\n\r\n"), Refused(400)),
        case(
            "transfer-encoding twice",
            head("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            Refused(400),
        ),
        case(
            "transfer-encoding in http/1.0",
            "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Refused(400),
        ),
        case(
            "a chunk size that overflows",
            head("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nab\r\n"),
            Refused(400),
        ),
        case(
            "a chunk size that is none",
            head("Transfer-Encoding: chunked\r\n\r\nxyz\r\nab\r\n0\r\n\r\n"),
            Refused(400),
        ),
        case("a negative chunk size", head("Transfer-Encoding: chunked\r\n\r\n-1\r\nab\r\n0\r\n\r\n"), Refused(400)),
        case(
            "a chunk without its line end",
            head("Transfer-Encoding: chunked\r\n\r\n2\r\nabXX0\r\n\r\n"),
            Refused(400),
        ),
        case(
            "a chunk size line that never ends",
            head(&format!("Transfer-Encoding: chunked\r\n\r\n2;{}", "x".repeat(70_000))),
            Refused(400),
        ),
        case(
            "endless trailers",
            head(&format!("Transfer-Encoding: chunked\r\n\r\n0\r\n{}", "X-T: 1\r\n".repeat(20_000))),
            Refused(400),
        ),
    ]
}

fn headers() -> Vec<Case> {
    let get = |lines: &str| format!("GET /x HTTP/1.1\r\nHost: test\r\n{lines}\r\n");
    vec![
        case("a folded header", get("X-A: 1\r\n folded\r\n"), Refused(400)),
        case("a bare CR in a header", get("X-A: 1\rX-B: 2\r\n"), Refused(400)),
        case("a NUL in a header", get("X-A: 1\x002\r\n"), Refused(400)),
        case("a space before the colon", get("X-A : 1\r\n"), Refused(400)),
        case("a line without a colon", get("X-A\r\n"), Refused(400)),
        case("an empty header name", get(": 1\r\n"), Refused(400)),
        case("a header name that is no token", get("X(A): 1\r\n"), Refused(400)),
        case("a first header that is folded", "GET /x HTTP/1.1\r\n X-A: 1\r\nHost: test\r\n\r\n", Refused(400)),
        case("a header of 100 KB", get(&format!("X-A: {}\r\n", "x".repeat(100_000))), Refused(431)),
        case("2,000 headers", get(&"X-A: 1\r\n".repeat(2_000)), Refused(431)),
        case(
            "a head that never ends",
            format!("GET /x HTTP/1.1\r\n{}", "X-A: 1234567890\r\n".repeat(20_000)),
            Refused(431),
        ),
        case("no host in http/1.1", "GET /x HTTP/1.1\r\n\r\n", Refused(400)),
        case("two hosts", "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Refused(400)),
        case("two equal hosts", "GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Refused(400)),
        case("a host that is none", "GET /x HTTP/1.1\r\nHost: a/b@c d\r\n\r\n", Refused(400)),
        case(
            "invalid UTF-8 in a header",
            b"GET /x HTTP/1.1\r\nHost: test\r\nX-A: \xff\xfe\xc3\r\n\r\n".as_slice(),
            Served(&["200 GET /x "]),
        ),
        case("an unknown expectation", get("Expect: miracles\r\n"), Refused(417)),
    ]
}

fn request_lines() -> Vec<Case> {
    let with = |line: &str| format!("{line}\r\nHost: test\r\n\r\n");
    vec![
        case("a target of 100 KB", with(&format!("GET /{} HTTP/1.1", "x".repeat(100_000))), Refused(431)),
        case("an unknown version", with("GET /x HTTP/9.9"), Refused(400)),
        case("no version", "GET /x\r\n\r\n", Refused(400)),
        case("a method that is no token", with("GE(T /x HTTP/1.1"), Refused(400)),
        case("a target with a space", with("GET /a b HTTP/1.1"), Refused(400)),
        case("a target with a NUL", with("GET /a\0b HTTP/1.1"), Refused(400)),
        case("a target without its slash", with("GET x HTTP/1.1"), Refused(400)),
        case("an invalid percent-encoding", with("GET /%zz%2 HTTP/1.1"), Served(&["200 GET /%zz%2 "])),
        case("dots that climb", with("GET /../../etc/passwd HTTP/1.1"), Served(&["200 GET /../../etc/passwd "])),
        case("an absolute target", with("GET http://test/abs HTTP/1.1"), Served(&["200 GET /abs "])),
        case(
            "an absolute target that names another host",
            with("GET http://other/abs HTTP/1.1"),
            Served(&["200 GET /abs "]),
        ),
        case("CONNECT", "CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n", Refused(400)),
        case("OPTIONS *", with("OPTIONS * HTTP/1.1"), Refused(404)),
        case("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".as_slice(), Refused(400)),
        case("a preface of HTTP/2 that goes wrong", "PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", Refused(400)),
        case("a Redis command", "*1\r\n$4\r\nPING\r\n", Refused(400)),
        case("bytes of no protocol", b"\x00\x01\x02\x03\r\n\r\n".as_slice(), Refused(400)),
        case("empty lines before a request", "\r\n\r\nGET /x HTTP/1.1\r\nHost: test\r\n\r\n", Served(&["200 GET /x "])),
    ]
}

fn connections() -> Vec<Case> {
    let get = "GET /x HTTP/1.1\r\nHost: test\r\n\r\n";
    vec![
        half_closed("nothing at all", "", Closed),
        half_closed("half a head", "GET /x HTT", Closed),
        half_closed("half a body", &head("Content-Length: 10\r\n\r\nabc"), Refused(400)),
        half_closed("half a chunk", &head("Transfer-Encoding: chunked\r\n\r\na\r\nabc"), Refused(400)),
        case("three requests in one packet", get.repeat(3), Served(&["200 GET /x ", "200 GET /x ", "200 GET /x "])),
        case(
            "a request, then garbage",
            format!("{get}\x00\x01garbage\r\n\r\n"),
            ServedThenClosed(&["200 GET /x ", "400"]),
        ),
        case(
            "a body longer than stated",
            head("Content-Length: 2\r\n\r\nab\x01\x02\r\n\r\n"),
            ServedThenClosed(&["200 POST /x ab", "400"]),
        ),
    ]
}

fn all_cases() -> Vec<Case> {
    [framing(), headers(), request_lines(), connections()].into_iter().flatten().collect()
}

/// Starts a world with a worker that says what it saw, and short waits.
fn world() -> World {
    let mut world = World::builder().set("limits.head_time = \"1s\"").set("limits.body_time = \"1s\"").start();
    world.worker(|job| {
        let seen = [job.line().as_bytes(), b" ", &job.body].concat();
        vec![job.answer(json!({"status": 200}), &seen)]
    });
    world
}

fn play(world: &World, case: &Case) -> Http {
    let mut http = world.http();
    for step in &case.steps {
        match step {
            Step::Send(bytes) => http.send(bytes),
            Step::HalfClose => http.shutdown_write(),
        }
    }
    http
}

/// What came, as `status body`; a refusal's text is left out.
fn next(http: &mut Http) -> Option<String> {
    let response = http.try_response(false).ok()?;
    let words = if response.status == 200 { format!(" {}", response.text()) } else { String::new() };
    Some(format!("{}{words}", response.status))
}

fn check(case: &Case, http: &mut Http) -> Result<(), String> {
    let expected: Vec<String> = match &case.outcome {
        Served(all) | ServedThenClosed(all) => all.iter().map(|one| (*one).to_owned()).collect(),
        Refused(status) => vec![status.to_string()],
        Closed => Vec::new(),
    };
    for one in &expected {
        let came = next(http);
        if came.as_ref() != Some(one) {
            return Err(format!("{}: {came:?} instead of {one:?}", case.name));
        }
    }
    if matches!(case.outcome, Served(_)) {
        http.send("GET /again HTTP/1.1\r\nHost: test\r\n\r\n");
        let came = next(http);
        return if came.as_deref() == Some("200 GET /again ") {
            Ok(())
        } else {
            Err(format!("{}: not kept open, {came:?}", case.name))
        };
    }
    let rest = http.rest();
    if rest.is_empty() { Ok(()) } else { Err(format!("{}: and then {:?}", case.name, String::from_utf8_lossy(&rest))) }
}

#[test]
fn every_case_has_its_outcome() {
    let mut world = world();
    let cases = all_cases();
    assert!(cases.len() >= 25);
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case, &mut play(&world, case)).err()).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(world.http().get("/alive").status, 200);
    assert_eq!(world.redis.llen("tempest:web"), 0);
    world.finish();
}

#[test]
fn the_front_is_no_larger_after_a_thousand_of_them() {
    let world = world();
    let cases = all_cases();
    let play_all = || {
        for case in &cases {
            let _ = next(&mut play(&world, case));
        }
    };
    for _ in 0..3 {
        play_all();
    }
    let before = world.front.process.rss_bytes();
    let files = world.front.process.open_files();
    for _ in 0..15 {
        play_all();
    }
    let grown = world.front.process.rss_bytes().saturating_sub(before);
    assert!(grown < 5_000_000, "memory grew by {grown} bytes");
    tempest_tests::wait_until("all descriptors to be returned", || world.front.process.open_files() <= files + 2);
    world.finish();
}

#[test]
fn a_head_that_comes_too_slowly_is_a_408() {
    let world = world();
    for begun in ["GET", "GET / HTTP/1.1\r\nHost: te", "GET / HTTP/1.1\r\nHost: test\r\nX-A: 1\r\n"] {
        let mut http = world.http();
        http.send(begun);
        assert_eq!(http.response().status, 408, "{begun:?}");
        assert_eq!(http.rest(), b"");
    }
    world.finish();
}

#[test]
fn a_head_that_drips_is_a_408_all_the_same() {
    let world = world();
    let mut http = world.http();
    let mut refused = false;
    for byte in b"GET / HTTP/1.1\r\nHost: test\r\nX-A: 1234567890\r\n" {
        http.send([*byte]);
        refused = http.readable_within(Duration::from_millis(100));
        if refused {
            break;
        }
    }
    assert!(refused, "a byte now and then must not extend the time for a head");
    assert_eq!(http.response().status, 408);
    world.finish();
}

#[test]
fn a_body_that_stops_is_a_408_and_no_worker_sees_it() {
    let mut world = world();
    for request in [
        "Content-Length: 10\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\na\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n",
    ] {
        let mut http = world.http();
        http.send(head(request));
        assert_eq!(http.response().status, 408, "{request:?}");
        assert_eq!(http.rest(), b"");
    }
    assert_eq!(world.redis.llen("tempest:web"), 0);
    world.finish();
}

#[test]
fn who_ends_its_side_is_taken_to_have_left() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("POST", "/", &[], b"x");
    tempest_tests::wait_until("the job to be queued", || world.redis.llen("tempest:web") == 1);
    http.shutdown_write();
    assert_eq!(http.rest(), b"", "closed without a byte");
    tempest_tests::wait_until("the job to be withdrawn", || world.redis.llen("tempest:web") == 0);
    world.finish();
}

#[test]
fn connections_over_the_limit_are_refused_at_once() {
    let world = World::builder().set("limits.connections = 3").start();
    let held: Vec<_> = (0..3).map(|_| world.http()).collect();
    tempest_tests::wait_until("three connections", || world.gauge("tempest_connections_open") == 3);
    let mut fourth = world.http();
    fourth.request("GET", "/", &[], b"");
    assert_eq!(fourth.response().status, 503);
    assert_eq!(fourth.rest(), b"");
    drop(held);
    tempest_tests::wait_until("room again", || world.gauge("tempest_connections_open") == 0);
    world.finish();
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let world = World::builder().set("limits.idle_time = \"1s\"").set("limits.head_time = \"1s\"").start();
    let mut silent = world.http();
    let mut used = world.http();
    assert_eq!(used.get("/sub/").status / 100, 4, "some answer, after which the connection idles");
    assert_eq!(silent.rest(), b"");
    assert_eq!(used.rest(), b"");
    world.finish();
}
