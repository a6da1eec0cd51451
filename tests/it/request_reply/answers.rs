//! What a client gets for an answer: every shape the contract allows.

use serde_json::json;
use tempest_tests::{Response, World};

/// One GET, answered by these bytes with `ID` replaced by the request's id.
fn answered(world: &mut World, message: &[u8]) -> Response {
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    let at = message.windows(2).position(|two| two == b"ID").expect("a place for the id");
    let bytes = [&message[..at], job.id().as_bytes(), &message[at + 2..]].concat();
    world.push(&job, bytes);
    http.response()
}

#[test]
fn every_shape_of_an_answer_is_understood() {
    let mut world = World::start();
    let cases: &[(&[u8], u16, &[u8])] = &[
        (br#"{"id":"ID"}"#, 200, b""),
        (b"{\"id\":\"ID\"}\n", 200, b""),
        (b"{\"id\":\"ID\"}\n\n", 200, b"\n"),
        (b"{\"id\":\"ID\",\"status\":201}\nraw \0\xff\n", 201, b"raw \0\xff\n"),
        (br#"{"id":"ID","status":404,"body":"text\n\u00e9"}"#, 404, "text\n\u{e9}".as_bytes()),
        (b"{\"id\":\"ID\",\"body\":\"text\"}\n", 200, b"text"),
        (b"{\n  \"id\": \"ID\",\n  \"status\": 418,\n  \"headers\": {\n  }\n}\nbody", 418, b"body"),
        (br#"{"status":599,"later":{"a":[1]},"id":"ID","body":"x"}"#, 599, b"x"),
        (br#"{"id":"ID","status":null,"headers":null,"n":null,"more":null,"attempt":null,"body":null}"#, 200, b""),
        (br#"{"id":"ID","n":0,"more":false,"attempt":1,"body":""}"#, 200, b""),
        (br#"{"id":"ID","status":503,"body":"own words"}"#, 503, b"own words"),
        (br#"{"id":"ID","status":500,"headers":{"x-trace":"1"},"body":"boom"}"#, 500, b"boom"),
    ];
    for (message, status, body) in cases {
        let response = answered(&mut world, message);
        let shown = String::from_utf8_lossy(message);
        assert_eq!((response.status, response.body.as_slice()), (*status, *body), "{shown}");
        assert!(response.complete, "{shown}");
        assert_eq!(response.header("content-length"), Some(body.len().to_string().as_str()), "{shown}");
        assert!(response.header("date").is_some(), "{shown}");
    }
    world.finish();
}

#[test]
fn headers_of_an_answer_reach_the_client() {
    let mut world = World::start();
    let headers = json!({
        "Content-Type": "text/html; charset=utf-8",
        "set-cookie": ["a=1; Path=/", "b=2, c", "d=3"],
        "x-latin": "caf\u{e9}",
        "x-empty": "",
        "vary": ["accept", "origin"],
        "connection": "close, x-hop",
        "x-hop": "1",
        "keep-alive": "timeout=1",
        "transfer-encoding": "chunked",
        "upgrade": "h2c",
        "proxy-authenticate": "Basic",
        "content-length": "2",
    });
    let message = format!("{}\nhi", json!({"id": "ID", "headers": headers}));
    let response = answered(&mut world, message.as_bytes());
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(response.all("set-cookie"), ["a=1; Path=/", "b=2, c", "d=3"]);
    assert_eq!(response.header("x-latin"), Some("caf\u{e9}"));
    assert_eq!(response.header("x-empty"), Some(""));
    assert_eq!(response.all("vary").join(","), "accept,origin");
    for hop in ["x-hop", "keep-alive", "transfer-encoding", "upgrade", "proxy-authenticate"] {
        assert_eq!(response.header(hop), None, "{hop}");
    }
    assert_eq!((response.all("content-length"), response.text().as_str()), (vec!["2"], "hi"));
    world.finish();
}

#[test]
fn a_worker_may_set_the_date_and_there_is_only_one() {
    let mut world = World::start();
    let date = "Thu, 01 Jan 1970 00:00:00 GMT";
    let message = json!({"id": "ID", "headers": {"Date": date}}).to_string();
    let response = answered(&mut world, message.as_bytes());
    assert_eq!(response.all("date"), [date]);
    world.finish();
}

#[test]
fn no_content_and_not_modified_have_no_body() {
    let mut world = World::start();
    let mut http = world.http();
    for status in [204, 304, 204] {
        http.request("GET", "/", &[], b"");
        let job = world.take();
        world.answer(&job, json!({"status": status, "headers": {"etag": "\"1\""}}), "must not be sent");
        let response = http.response();
        assert_eq!((response.status, response.header("etag")), (status, Some("\"1\"")));
        assert_eq!(response.header("transfer-encoding"), None);
        // A body would now stand where the next response is expected.
    }
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.ok(&job, "next");
    assert_eq!(http.response().text(), "next");
    world.finish();
}

#[test]
fn head_gets_the_head_alone() {
    let mut world = World::start();
    let mut http = world.http();
    // A length may be left out, but it must never be another than the one GET would have.
    for (fields, body, lengths) in [
        (json!({"status": 200, "headers": {"x-a": "1"}}), "12345", [None, Some("5")]),
        (json!({"status": 200, "headers": {"x-a": "1"}}), "", [None, None]),
        (json!({"status": 200, "headers": {"x-a": "1", "content-length": "1000"}}), "", [Some("1000"), Some("1000")]),
    ] {
        http.request("HEAD", "/", &[], b"");
        let job = world.take();
        assert_eq!(job["method"], json!("HEAD"));
        world.answer(&job, fields, body);
        let response = http.head_response();
        assert_eq!(response.header("x-a"), Some("1"));
        assert!(lengths.contains(&response.header("content-length")), "{response:?}");
    }
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.ok(&job, "the connection is in step");
    assert_eq!(http.response().text(), "the connection is in step");
    world.finish();
}

#[test]
fn connections_are_kept_and_closed_as_asked() {
    let mut world = World::start();
    let mut http = world.http();
    for n in 0..3 {
        http.request("GET", "/", &[], b"");
        let job = world.take();
        world.ok(&job, &n.to_string());
        assert_eq!(http.response().text(), n.to_string());
    }
    http.request("GET", "/", &["Connection: close"], b"");
    let job = world.take();
    world.ok(&job, "last");
    let response = http.response();
    assert_eq!((response.text().as_str(), response.header("connection")), ("last", Some("close")));
    assert_eq!(http.rest(), b"");

    let mut http = world.http();
    for _ in 0..2 {
        http.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let job = world.take();
        world.ok(&job, "kept");
        let response = http.response();
        assert_eq!(response.text(), "kept");
        assert_eq!(response.header("connection").map(str::to_lowercase).as_deref(), Some("keep-alive"));
    }
    world.finish();
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let mut world = World::start();
    let mut http = world.http();
    http.send(
        "GET /1 HTTP/1.1\r\nHost: test\r\n\r\nPOST /2 HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nab\
               GET /3 HTTP/1.1\r\nHost: test\r\n\r\n",
    );
    for expected in ["/1", "/2", "/3"] {
        let job = world.take();
        let path = job["path"].as_str().expect("a path").to_owned();
        assert_eq!(path, expected);
        world.ok(&job, &path);
        assert_eq!(http.response().text(), expected);
    }
    world.finish();
}

#[test]
fn a_published_answer_arrives_too() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    let message = job.answer(json!({"status": 200}), b"published");
    assert_eq!(world.redis.publish(job.reply_to(), message), 1, "one front listens");
    assert_eq!(http.response().text(), "published");
    world.finish();
}

#[test]
fn an_answer_that_comes_twice_is_delivered_once() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    let message = job.answer(json!({"status": 200}), b"once");
    world.redis.publish(job.reply_to(), &message);
    world.push(&job, &message);
    assert_eq!(http.response().text(), "once");
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.ok(&job, "the next");
    assert_eq!(http.response().text(), "the next");
    world.finish();
}
