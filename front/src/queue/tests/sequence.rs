//! The order of an answer's messages, and what of its headers may go on.

use std::time::Instant;

use tempest_protocol::{Decoded, Reason, decode_answer};

use super::super::pending::{Bounds, Taken, is_hop_by_hop};
use super::super::{Inbox, pending};
use super::*;

const BOUNDS: Bounds = Bounds { buffer: 100, reorder: 4, may_hold: true };

/// A request that waits by itself, without a table.
fn pending() -> Pending {
    let world = plain();
    let job = world.look(&world.submit(Method::GET), |pending| pending.job.clone());
    Pending::new(Rc::clone(&world.lane), job, Inbox::new(), Instant::now())
}

fn take(pending: &mut Pending, fields: &str) -> Taken {
    let message = Bytes::from(format!("{{\"id\":\"a\"{fields}}}"));
    match decode_answer(&message, 64 * 1024, false) {
        Decoded::Answer(answer) => pending.take(&message, &answer, BOUNDS),
        other => panic!("no answer: {other:?}"),
    }
}

fn message(n: u64, body: &str) -> String {
    format!(",\"n\":{n},\"more\":true,\"body\":\"{body}\"")
}

/// What has come in order.
fn bodies(pending: &Pending) -> Vec<String> {
    let mut all = Vec::new();
    while let Poll::Ready(Ok(part)) = pending.inbox.poll_part(&mut Context::from_waker(Waker::noop())) {
        all.push(String::from_utf8_lossy(&part.body).into_owned());
    }
    all
}

#[test]
fn messages_are_put_in_order() {
    let mut pending = pending();
    assert!(!pending.begun());
    assert_eq!(take(&mut pending, &message(2, "c")), Taken::More);
    assert_eq!(take(&mut pending, &message(1, "b")), Taken::More);
    assert!(!pending.begun(), "nothing can be sent before the first");
    assert_eq!(take(&mut pending, &message(2, "again")), Taken::Duplicate);
    assert!(bodies(&pending).is_empty());
    assert_eq!(take(&mut pending, &message(0, "a")), Taken::More);
    assert!(pending.begun());
    assert_eq!(bodies(&pending), ["a", "b", "c"]);
    assert_eq!(take(&mut pending, &message(1, "again")), Taken::Duplicate);
    assert_eq!(take(&mut pending, &message(4, "e")), Taken::More);
    assert_eq!(take(&mut pending, ",\"n\":5,\"body\":\"f\""), Taken::More, "the last has come, others are missing");
    assert_eq!(take(&mut pending, &message(3, "d")), Taken::Complete);
    assert_eq!(bodies(&pending), ["d", "e", "f"]);
}

#[test]
fn early_messages_have_limits() {
    let mut far = pending();
    assert_eq!(take(&mut far, &message(4, "x")), Taken::More);
    assert_eq!(take(&mut far, &message(5, "x")), Taken::Overflow, "four are the most");
    let mut many = pending();
    let half = "x".repeat(50);
    assert_eq!(take(&mut many, &message(1, &half)), Taken::More);
    assert_eq!(take(&mut many, &message(2, &half)), Taken::More, "a hundred bytes are not too many");
    assert_eq!(take(&mut many, &message(3, "x")), Taken::Overflow);
}

#[test]
fn what_was_early_and_is_delivered_counts_no_more() {
    let mut pending = pending();
    let half = "x".repeat(50);
    for n in [1, 3, 5, 7] {
        assert_eq!(take(&mut pending, &message(n, &half)), Taken::More);
        assert_eq!(take(&mut pending, &message(n - 1, &half)), Taken::More);
        assert_eq!(bodies(&pending).len(), 2);
    }
    // One without a body is delivered like any other.
    take(&mut pending, &message(9, ""));
    take(&mut pending, &message(8, ""));
    assert_eq!(bodies(&pending), ["", ""]);
}

#[test]
fn what_nobody_takes_has_a_limit() {
    let mut pending = pending();
    assert_eq!(take(&mut pending, &message(0, &"x".repeat(100))), Taken::More);
    assert_eq!(take(&mut pending, &message(1, "x")), Taken::Overflow);
}

#[test]
fn another_attempt_begins_anew() {
    let mut pending = pending();
    pending.deadline = Instant::now() + Duration::from_secs(5);
    let half = "x".repeat(50);
    take(&mut pending, &message(1, &half));
    take(&mut pending, &message(2, &half));
    let now = pending.deadline - Duration::from_millis(1234);
    pending.renew(now);
    assert_eq!(pending.attempt, 2);
    let job = String::from_utf8_lossy(&pending.job).into_owned();
    assert!(job.contains("\"attempt\":2,") && job.contains("\"timeout_ms\":1234,"), "{job}");
    assert_eq!(take(&mut pending, &message(1, &half)), Taken::More, "that of the attempt before is forgotten");
    assert_eq!(take(&mut pending, &message(2, &half)), Taken::More);
    assert_eq!(take(&mut pending, ",\"attempt\":1"), Taken::Fenced);
    assert_eq!(take(&mut pending, &format!("{},\"attempt\":2", message(0, ""))), Taken::More);
    assert_eq!(bodies(&pending).len(), 3);
}

#[test]
fn each_message_moves_the_deadline() {
    let mut pending = pending();
    let begin = Instant::now();
    pending.deadline = begin;
    take(&mut pending, &message(1, ""));
    assert_eq!(pending.deadline, begin, "one that cannot be sent yet moves nothing");
    take(&mut pending, &message(0, ""));
    assert!(pending.deadline >= begin + TIMEOUT);
}

#[test]
fn only_the_first_has_a_head() {
    let mut pending = pending();
    take(&mut pending, ",\"n\":0,\"more\":true,\"status\":201");
    take(&mut pending, ",\"n\":1,\"more\":true,\"status\":500,\"headers\":{\"x-a\":\"b\"}");
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(head)) = pending.inbox.poll_head(&mut cx) else { panic!("no head") };
    assert_eq!((head.status.as_u16(), head.headers.len()), (201, 0));
    assert!(pending.inbox.poll_head(&mut cx).is_pending());
}

fn headers(fields: &str) -> Result<HeaderMap, Taken> {
    let mut pending = pending();
    match take(&mut pending, &format!(",\"headers\":{fields}")) {
        Taken::Complete => match pending.inbox.poll_head(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(head)) => Ok(head.headers),
            other => panic!("no head: {other:?}"),
        },
        taken => Err(taken),
    }
}

#[test]
fn headers_of_the_connection_do_not_go_on() {
    let map = headers(
        "{\"connection\":\"x-mine, close\",\"x-mine\":\"1\",\"keep-alive\":\"2\",\"upgrade\":\"3\",\
         \"transfer-encoding\":\"chunked\",\"x-kept\":[\"4\",\"5\"]}",
    );
    let map = map.expect("headers");
    let kept: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(kept, [("x-kept", &b"4"[..]), ("x-kept", b"5")]);
}

#[test]
fn which_headers_are_the_connections() {
    let names = ["connection", "te", "trailer", "transfer-encoding", "upgrade", "proxy-authenticate"];
    let more = ["proxy-authorization", "keep-alive", "proxy-connection"];
    let of = |name: &str| is_hop_by_hop(&name.parse().expect("a name"));
    assert!(names.iter().chain(&more).all(|name| of(name)));
    assert!(["content-type", "host", "expect", "x-keep-alive", "proxy"].iter().all(|name| !of(name)));
    let named: Vec<_> = pending::connection_names("close, X-A ,, b\u{e9}d,x-b").map(|name| name.to_string()).collect();
    assert_eq!(named, ["close", "x-a", "x-b"]);
}

#[test]
fn values_are_latin_1() {
    let map = headers("{\"x-a\":\"caf\u{e9}\",\"x-b\":\"a\\u0009\\u00ffb\",\"x-c\":\"\"}").expect("headers");
    assert_eq!(map["x-a"].as_bytes(), b"caf\xe9");
    assert_eq!(map["x-b"].as_bytes(), b"a\t\xffb");
    assert_eq!(map["x-c"].as_bytes(), b"");
}

#[test]
fn large_bodies_are_shared_and_small_ones_copied() {
    for (size, shared) in [(16 * 1024, true), (16 * 1024 - 1, false)] {
        let mut pending = pending();
        let mut text = b"{\"id\":\"a\"}\n".to_vec();
        text.resize(text.len() + size, b'x');
        let message = Bytes::from(text);
        let Decoded::Answer(answer) = decode_answer(&message, 1 << 20, false) else { panic!("no answer") };
        let bounds = Bounds { buffer: 1 << 20, ..BOUNDS };
        assert_eq!(pending.take(&message, &answer, bounds), Taken::Complete);
        let body = pending.inbox.take_whole().expect("one part");
        assert_eq!(body.len(), size);
        let inside = message.as_ptr_range().contains(&body.as_ptr());
        assert_eq!(inside, shared, "{size} bytes");
    }
}

#[test]
fn a_status_that_http_does_not_have_is_malformed() {
    let mut pending = pending();
    let message = Bytes::from_static(b"{\"id\":\"a\"}");
    let Decoded::Answer(mut answer) = decode_answer(&message, 1024, false) else { panic!("no answer") };
    answer.status = 1;
    assert_eq!(pending.take(&message, &answer, BOUNDS), Taken::Malformed(Reason::BadStatus));
}
