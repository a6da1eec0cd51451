//! Redis is away, silent, forgetful or strict: what was not published is said, and what is unknown is said to be.

use serde_json::json;
use tempest_tests::{World, wait_until};

use super::{json_of, kept, kept_ids, post, published, with_history};

const QUICK: &str = "[[route]]\npath = \"/sub/{channel...}\"\nkind = \"subscribe\"\n[[route]]\npath = \"/pub/{channel...}\"\n\
                     kind = \"publish\"\ntimeout = \"300ms\"\n[[route]]\npath = \"/pub\"\nkind = \"publish\"\ntimeout = \"300ms\"";

#[test]
fn without_redis_nothing_is_published_and_it_is_said_when_to_come_back() {
    let mut world = with_history();
    published(&world, "/pub/kept.a", &[], "x");
    world.redis.kill();
    wait_until("the front to notice", || !world.front.is_ready());
    for headers in [&[][..], &["Idempotency-Key: k"]] {
        let response = post(&world, "/pub/kept.a", headers, "x");
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{}", response.text());
        assert!(response.text().contains("nothing was published"), "{}", response.text());
    }
    let batch = json!([{"channel": "a", "data": "1"}, {"channel": "b", "data": "2"}]).to_string();
    let response = post(&world, "/pub", &["Content-Type: application/json"], batch);
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
    assert_eq!(json_of(&response), json!([{"error": "redis-away"}, {"error": "redis-away"}]));
    world.restart_redis();
    wait_until("it to be published again", || post(&world, "/pub/kept.a", &[], "back").status == 200);
    assert_eq!(kept(&mut world.redis, "kept.a").last().map(String::as_str), Some("[\"back\"]"), "the rules were known");
    world.finish();
}

#[test]
fn a_silent_redis_leaves_the_outcome_unknown_and_a_key_makes_another_try_safe() {
    let mut world = super::open().set("redis.stall = \"20s\"").table(QUICK).start();
    published(&world, "/pub/kept.a", &[], "before");
    world.redis.stall();
    let response = post(&world, "/pub/kept.a", &[], "bare");
    assert_eq!((response.status, response.header("retry-after")), (504, None), "{}", response.text());
    assert!(response.text().contains("unknown") && response.text().contains("Idempotency-Key"), "{}", response.text());
    let key = ["Idempotency-Key: k"];
    let response = post(&world, "/pub/kept.a", &key, "keyed");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{}", response.text());
    assert!(response.text().contains("same key"), "{}", response.text());
    let batch = json!([{"channel": "a", "data": "1", "key": "1"}, {"channel": "b", "data": "2"}]).to_string();
    let response = post(&world, "/pub", &["Content-Type: application/json"], batch);
    assert_eq!((response.status, response.header("retry-after")), (504, None), "one of them has no key");
    assert_eq!(json_of(&response), json!([{"error": "unknown"}, {"error": "unknown"}]));
    world.redis.resume();
    let again = published(&world, "/pub/kept.a", &key, "keyed");
    assert_eq!(again["repeated"], json!(true), "it had been published after all");
    assert_eq!(kept(&mut world.redis, "kept.a"), ["[\"before\"]", "[\"bare\"]", "[\"keyed\"]"]);
    assert_eq!(world.count("tempest_publications_sent_total", &["outcome=\"unknown\""]), 4);
    world.finish();
}

#[test]
fn a_connection_that_breaks_leaves_it_unknown_and_rules_that_are_not_read_leave_nothing() {
    let mut world = super::open().set("redis.stall = \"20s\"").start();
    published(&world, "/pub/a", &[], "so that the rules are known");
    world.redis.stall();
    let mut http = world.http();
    http.request("POST", "/pub/a", &[], b"x");
    wait_until("it to be under way", || world.gauge("tempest_http_requests_in_flight") == 1);
    // It is written by the time that the same reactor has answered others.
    for _ in 0..3 {
        let mut other = world.http();
        other.request("HEAD", "/sub/a", &[], b"");
        assert_eq!(other.head_response().status, 200);
    }
    world.redis.kill();
    let response = http.response();
    assert_eq!(response.status, 504, "{}", response.text());
    drop(http);
    world.restart_redis();
    world.finish();

    let mut world = super::open().set("redis.stall = \"20s\"").table(QUICK).start();
    world.redis.stall();
    let response = post(&world, "/pub/a", &[], "x");
    assert_eq!(response.status, 503);
    assert!(response.text().contains("nothing was published"), "{}", response.text());
    world.redis.resume();
    wait_until("Redis to be heard of again", || post(&world, "/pub/a", &[], "x").status == 200);
    world.finish();
}

#[test]
fn a_redis_that_forgot_the_scripts_is_told_them_again() {
    let mut world = with_history();
    for n in 0..3 {
        published(&world, "/pub/kept.a", &["Content-Type: text/plain"], n.to_string());
        published(&world, "/pub/live", &[&format!("Idempotency-Key: {n}")], n.to_string());
        world.redis.cmd(&["SCRIPT", "FLUSH"]);
    }
    let numbers: Vec<_> =
        kept_ids(&mut world.redis, "kept.a").iter().map(|id| id.split('-').nth(1).map(str::to_owned)).collect();
    assert_eq!(numbers, ["1", "2", "3"].map(|number| Some(number.to_owned())));
    world.finish();
}

#[test]
fn a_user_that_may_run_no_scripts_publishes_nothing_instead_of_losing_the_history() {
    let mut world = with_history();
    let mut reader = world.redis.connect();
    reader.cmd(&["SUBSCRIBE", "kept.a"]);
    world.redis.cmd(&["ACL", "SETUSER", "default", "-evalsha", "-eval"]);
    let response = post(&world, "/pub/kept.a", &[], "x");
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(response.text().contains("nothing was published") && !response.text().contains("NOPERM"));
    world.front.process.log.wait_for("+evalsha");
    published(&world, "/pub/live", &[], "what needs no script");
    world.redis.cmd(&["ACL", "SETUSER", "default", "+@all"]);
    world.redis.publish("kept.a", "the first");
    assert_eq!(reader.read().expect("a message").list()[2].text(), "the first");
    drop(reader);
    world.finish();
}

#[test]
fn rules_that_nobody_can_read_stop_publishing_and_the_log_says_why() {
    for rules in ["{}", "[1]", "[{\"pattern\":\"a\",\"messages\":0,\"ms\":1}]", "["] {
        let mut world: World = super::open().start();
        super::forge_rules(&mut world.redis, rules);
        assert_eq!(post(&world, "/pub/a", &[], "x").status, 503, "{rules}");
        world.front.process.log.wait_for("tempest:@history");
        world.finish();
    }
}
