//! Every request that publishes nothing, and what it is told; the limits at their edges.

use tempest_tests::{Response, World};

use super::{open, post, published};

const JSON: &str = "Content-Type: application/json";

fn asked(world: &World, method: &str, target: &str, headers: &[&str]) -> Response {
    let mut http = world.http();
    http.request(method, target, headers, b"");
    http.response()
}

#[test]
fn other_methods_are_refused_and_options_answered() {
    let world = open().start();
    for target in ["/pub/news", "/pub"] {
        for method in ["GET", "PUT", "DELETE", "PATCH", "PURGE"] {
            let response = asked(&world, method, target, &[]);
            assert_eq!((response.status, response.header("allow")), (405, Some("POST, OPTIONS")), "{method} {target}");
        }
        let options = asked(&world, "OPTIONS", target, &["Origin: https://a.test"]);
        assert_eq!((options.status, options.header("allow")), (204, Some("POST, OPTIONS")));
        assert_eq!(options.header("access-control-allow-origin"), None);
    }
    world.finish();
}

#[test]
fn pages_of_other_origins_publish_only_where_they_are_named() {
    let world = open().set("channels.cors = [\"https://a.test\"]").start();
    for (headers, status) in [
        (&[][..], 200),
        (&["Origin: https://a.test"], 200),
        (&["Origin: http://test"], 200),
        (&["Origin: https://TEST:443"], 200),
        (&["Origin: https://b.test"], 403),
        (&["Origin: http://test:8080"], 403),
        (&["Origin: null"], 403),
        (&["Origin: https://b.test", "Sec-Fetch-Site: same-origin"], 200),
        (&["Origin: https://b.test", "Sec-Fetch-Site: same-site"], 403),
    ] {
        assert_eq!(post(&world, "/pub/news", headers, "x").status, status, "{headers:?}");
    }
    let cross = ["Origin: https://a.test"];
    let preflight = asked(&world, "OPTIONS", "/pub/news", &cross);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://a.test"));
    assert!(preflight.header("access-control-allow-headers").is_some_and(|all| all.contains("Idempotency-Key")));
    let wrong = post(&world, "/pub/news", &[cross[0], JSON], "{");
    assert_eq!((wrong.status, wrong.header("access-control-allow-origin")), (400, Some("https://a.test")));
    world.finish();
}

#[test]
fn only_what_is_granted_is_published_on_and_reserved_names_never() {
    let world = World::builder().set("channels.publish = [\"news\", \"room.*\"]").start();
    let mut all = world.redis.connect();
    all.cmd(&["PSUBSCRIBE", "*"]);
    for target in ["secret", "news2", "NEWS", "rooms"] {
        let response = post(&world, &format!("/pub/{target}"), &[], "x");
        assert_eq!(response.status, 403, "{target}");
    }
    published(&world, "/pub/room.a/b", &[], "x");
    let heard = all.read().expect("the one message");
    assert_eq!((heard.list()[2].text(), heard.list()[3].text()), ("room.a/b".to_owned(), "[\"x\"]".to_owned()));
    world.finish();

    let world = open().start();
    for target in ["tempest:web", "tempest:@count", "tempest%3Alog:a", "{tempest:web}:workers", "__x"] {
        assert_eq!(post(&world, &format!("/pub/{target}"), &[], "x").status, 403, "{target}");
    }
    world.finish();
    let world = open().set("channels.prefix = \"tempest:\"").start();
    assert_eq!(post(&world, "/pub/web", &[], "x").status, 403);
    world.finish();
}

#[test]
fn a_name_that_is_none_is_a_400() {
    let world = open().set("channels.name_bytes = 8").start();
    for target in ["", "%", "%zz", "%ff", "a%00b", "a%0Ab", "123456789"] {
        assert_eq!(post(&world, &format!("/pub/{target}"), &[], "x").status, 400, "{target}");
    }
    published(&world, "/pub/12345678", &[], "x");
    world.finish();
}

#[test]
fn what_is_wrong_with_a_message_is_said() {
    let world = open().start();
    for (headers, target, body, status, words) in [
        (JSON, "", "{", 400, "EOF"),
        (JSON, "", "\"text\"", 400, "not what it should be"),
        (JSON, "", "{\"event\":\"e\"}", 400, "data"),
        (JSON, "", "{\"data\":7}", 400, "string"),
        (JSON, "", "{\"data\":\"d\",\"evnet\":\"e\"}", 400, "evnet"),
        (JSON, "", "{\"data\":\"d\",\"event\":\"a\\nb\"}", 400, "one line"),
        (JSON, "", "{\"data\":\"d\",\"event\":\"$lost\"}", 400, "begin with $"),
        (JSON, "?event=e", "{\"data\":\"d\"}", 400, "the body names the event"),
        ("X: y", "?event=$end", "d", 400, "begin with $"),
        ("X: y", "?event=a%0Ab", "d", 400, "one line"),
        ("X: y", "?count=some", "d", 400, "count=all"),
        ("Idempotency-Key: \"\"", "", "d", 400, "1 to 255"),
        ("Content-Type: image/png", "", "d", 415, "text/plain or application/json"),
        ("Content-Type: text/plain; charset=utf-16", "", "d", 415, "UTF-8"),
    ] {
        let response = post(&world, &format!("/pub/news{target}"), &[headers], body);
        assert_eq!(response.status, status, "{headers} {target} {body}");
        assert!(response.text().contains(words), "{words} in {}", response.text());
    }
    let response = post(&world, "/pub/news", &[], b"\xff");
    assert!(response.status == 400 && response.text().contains("UTF-8"));
    let longest = format!("Idempotency-Key: {}", "k".repeat(255));
    published(&world, "/pub/news", &[&longest], "x");
    assert_eq!(post(&world, "/pub/news", &[&format!("{longest}k")], "x").status, 400);
    assert_eq!(post(&world, "/pub/news", &["Idempotency-Key: a", "Idempotency-Key: b"], "x").status, 400);
    world.finish();
}

#[test]
fn a_body_has_a_largest_size() {
    let world = open().start();
    let mut stream = world.front.subscribe("news");
    let largest = "x".repeat(256 * 1024);
    published(&world, "/pub/news", &[], &largest);
    assert_eq!(stream.data().len(), largest.len());
    let response = post(&world, "/pub/news", &[], format!("{largest}x"));
    assert_eq!(response.status, 413);
    assert!(response.text().contains("262144"), "{}", response.text());
    let mut http = world.http();
    http.send("POST /pub/news HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n40001\r\n");
    http.send(format!("{largest}x\r\n0\r\n\r\n"));
    assert_eq!(http.response().status, 413, "also where its length is not announced");
    drop((stream, http));
    world.finish();
}
