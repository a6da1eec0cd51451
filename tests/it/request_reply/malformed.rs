//! Malformed answers of every kind: the client gets a 502 that tells nothing, the log and the front's record tell
//! the reason; where no id can be read the message is dropped and counted.

use serde_json::{Value, json};
use tempest_tests::{World, wait_until};

/// Bytes with `ID` in place of the request's id, and the reason by its name in the contract.
const CASES: &[(&[u8], &str)] = &[
    (br#"{"id":"ID","status":100}"#, "bad-status"),
    (br#"{"id":"ID","status":199}"#, "bad-status"),
    (br#"{"id":"ID","status":600}"#, "bad-status"),
    (br#"{"id":"ID","status":"200"}"#, "bad-status"),
    (br#"{"id":"ID","status":200.5}"#, "bad-status"),
    (br#"{"id":"ID","status":-1}"#, "bad-status"),
    (br#"{"id":"ID","status":99999999999999999999}"#, "bad-status"),
    (br#"{"id":"ID","headers":[["a","b"]]}"#, "bad-headers"),
    (br#"{"id":"ID","headers":"a: b"}"#, "bad-headers"),
    (br#"{"id":"ID","headers":{"content-length":5}}"#, "bad-header-value"),
    (br#"{"id":"ID","headers":{"a":{"b":"c"}}}"#, "bad-header-value"),
    (br#"{"id":"ID","headers":{"a":["b",1]}}"#, "bad-header-value"),
    (br#"{"id":"ID","headers":{"a":"b\r\nset-cookie: x=1"}}"#, "bad-header-value"),
    (br#"{"id":"ID","headers":{"a":"b\u0000"}}"#, "bad-header-value"),
    (br#"{"id":"ID","headers":{"a":"\u2603"}}"#, "bad-header-value"),
    (br#"{"id":"ID","headers":{"":"b"}}"#, "bad-header-name"),
    (br#"{"id":"ID","headers":{"a b":"c"}}"#, "bad-header-name"),
    (br#"{"id":"ID","headers":{"a:":"c"}}"#, "bad-header-name"),
    (br#"{"id":"ID","headers":{"x\r\ny":"c"}}"#, "bad-header-name"),
    (br#"{"id":"ID","headers":{"content-length":"7"},"body":"12345"}"#, "content-length-mismatch"),
    (br#"{"id":"ID","headers":{"content-length":"-5"},"body":"12345"}"#, "content-length-mismatch"),
    (br#"{"id":"ID","body":5}"#, "bad-body"),
    (b"{\"id\":\"ID\",\"body\":\"text\"}\nraw", "two-bodies"),
    (br#"{"id":"ID"} "#, "trailing-bytes"),
    (b"{\"id\":\"ID\"}\r\nbody", "trailing-bytes"),
    (br#"{"id":"ID"}{"id":"ID"}"#, "trailing-bytes"),
    (br#"{"id":"ID","n":-1}"#, "bad-n"),
    (br#"{"id":"ID","n":"0"}"#, "bad-n"),
    (br#"{"id":"ID","more":1}"#, "bad-more"),
    (br#"{"id":"ID","more":"true"}"#, "bad-more"),
    (br#"{"id":"ID","attempt":0}"#, "bad-attempt"),
    (br#"{"id":"ID","attempt":"1"}"#, "bad-attempt"),
    (br#"{"id":"ID","kind":7}"#, "bad-kind"),
];

fn with_id(message: &[u8], id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = message;
    while let Some(at) = rest.windows(4).position(|four| four == b"\"ID\"") {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(format!("\"{id}\"").as_bytes());
        rest = &rest[at + 4..];
    }
    out.extend_from_slice(rest);
    out
}

#[test]
fn a_malformed_answer_is_a_502_with_the_reason_in_the_log() {
    let mut world = World::start();
    let mut http = world.http();
    for (message, reason) in CASES {
        let shown = String::from_utf8_lossy(message);
        let mark = world.front.process.log.len();
        http.request("GET", "/", &[], b"");
        let job = world.take();
        world.push(&job, with_id(message, job.id()));
        let response = http.response();
        assert_eq!(response.status, 502, "{shown}");
        assert!(!response.text().contains(reason), "internals stay inside: {}", response.text());
        let named = |line: &str| (line.contains(reason) && line.contains(job.id())).then_some(());
        world.front.process.log.wait_from(mark, &format!("a line with {reason} for {shown}"), named);
    }
    assert_eq!(world.count("tempest_answers_total", &["malformed"]), i64::try_from(CASES.len()).expect("few"));
    assert_record_tells(&mut world, "bad-kind");
    world.finish();
}

/// The front's record in Redis, which `tempest status` prints, lists recent problems.
fn assert_record_tells(world: &mut World, reason: &str) {
    wait_until("the reason to stand in the front's record", || {
        let keys = world.redis.cmd(&["KEYS", "tempest:@front:*"]);
        keys.list().iter().any(|key| {
            let record: Value =
                serde_json::from_str(&world.redis.cmd(&["GET", &key.text()]).text()).unwrap_or_default();
            record["problems"].to_string().contains(reason)
        })
    });
}

#[test]
fn what_names_no_request_is_dropped_and_counted() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    let unreadable: &[&[u8]] = &[
        b"",
        b"\n",
        b"hello",
        b"[]",
        b"null",
        b" {\"id\":\"x\"}",
        b"\xff\xfe",
        b"{",
        b"{\"id\":",
        b"{\"status\":200}",
        b"{\"id\":5}",
        b"{\"id\":\"\"}",
        b"\x81\xa2id",
        b"{\"id\":\"x\",\"headers\":{\"a\":\"\xff\"}}",
    ];
    for message in unreadable {
        world.push(&job, message);
        world.redis.publish(job.reply_to(), message);
    }
    let expected = i64::try_from(unreadable.len()).expect("few") * 2;
    let counted = || world.count("tempest_answers_total", &["malformed"]);
    wait_until("all to be counted", || counted() == expected);
    world.ok(&job, "still served");
    assert_eq!(http.response().text(), "still served");
    world.finish();
}

#[test]
fn an_answer_to_nobody_is_late_and_reserved_kinds_are_ignored() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.push(&job, br#"{"id":"nobody-1","status":200}"#);
    world.push(&job, format!(r#"{{"id":"{}x","status":200}}"#, job.id()));
    wait_until("both to be counted", || world.count("tempest_answers_total", &["unknown"]) == 2);
    for kind in ["start", "progress", "forward", "error", "ping", "died", "something-new"] {
        world.answer(&job, json!({"kind": kind, "status": 500}), "not for the client");
    }
    wait_until("all to be counted", || world.count("tempest_answers_total", &["ignored"]) == 7);
    world.ok(&job, "the answer");
    assert_eq!(http.response().text(), "the answer");
    world.finish();
}

#[test]
fn an_answer_over_the_limit_is_a_502() {
    let mut world = World::builder().set("limits.answer_bytes = \"64KiB\"").start();
    let mut http = world.http();
    for (length, status) in [(60_000, 200), (70_000, 502), (3_000_000, 502)] {
        http.request("GET", "/", &[], b"");
        let job = world.take();
        world.answer(&job, json!({"status": 200}), "x".repeat(length));
        assert_eq!(http.response().status, status, "{length}");
    }
    world.finish();
}

#[test]
fn a_malformed_part_of_a_stream_cuts_it() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.answer(&job, json!({"status": 200, "n": 0, "more": true}), "begin");
    world.answer(&job, json!({"n": 1, "more": "yes"}), "x");
    let response = http.response();
    assert_eq!((response.status, response.text().as_str(), response.complete), (200, "begin", false));
    world.finish();
}

#[test]
fn an_answer_of_an_older_attempt_never_reaches_the_client() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.answer(&job, json!({"status": 200, "attempt": 7}), "of another attempt");
    wait_until("it to be fenced off", || world.count("tempest_answers_total", &["fenced"]) == 1);
    world.answer(&job, json!({"status": 200, "attempt": 1}), "of this one");
    assert_eq!(http.response().text(), "of this one");
    world.finish();
}
