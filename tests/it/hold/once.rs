//! Holds for one message: the long poll.

use std::time::{Duration, Instant};

use serde_json::json;
use tempest_tests::{Signal, World, wait_until};

use super::asked;

#[test]
fn the_next_message_is_the_body_of_an_ordinary_response() {
    let mut world = World::start();
    let fields = json!({"status": 202, "headers": {"content-type": "application/json", "x-a": "b", "content-length": "0"},
        "hold": {"channels": ["a", "b"], "mode": "once"}});
    let mut http = world.http();
    for (channel, payload, body) in
        [("a", "{\"n\":1}", "{\"n\":1}"), ("b", "[\"named\",\"one\\r\\ntwo\"]", "one\r\ntwo"), ("a", "", "")]
    {
        http.request("POST", "/next", &[], b"x");
        let job = world.take();
        world.answer(&job, fields.clone(), "");
        wait_until("the subscription", || world.redis.subscribers(channel) == 1);
        assert!(!http.readable_within(Duration::from_millis(20)), "nothing is sent before there is something");
        world.redis.publish(channel, payload);
        world.redis.publish(channel, "too late");
        let response = http.response();
        assert_eq!((response.status, response.text().as_str()), (202, body));
        assert_eq!(response.header("content-length"), Some(body.len().to_string().as_str()));
        assert_eq!((response.header("content-type"), response.header("x-a")), (Some("application/json"), Some("b")));
        wait_until("the subscription to be given up", || world.redis.subscribers(channel) == 0);
    }
    assert_eq!(world.count("tempest_holds_total", &["once"]), 3);
    assert_eq!(world.count("tempest_http_requests_total", &["202"]), 3);
    world.finish();
}

#[test]
fn nothing_in_time_is_a_204_with_the_workers_headers() {
    let mut world = World::start();
    let fields = json!({"headers": {"x-a": "b"}, "hold": {"channels": ["a"], "mode": "once", "timeout": 200}});
    let begun = Instant::now();
    let mut http = asked(&mut world, "GET /next HTTP/1.1", fields);
    let response = http.response();
    assert_eq!((response.status, response.header("x-a"), response.header("content-length")), (204, Some("b"), None));
    assert!(begun.elapsed() >= Duration::from_millis(200));
    // The connection goes on.
    http.request("GET", "/page", &[], b"");
    let job = world.take();
    world.ok(&job, "a page");
    assert_eq!(http.response().text(), "a page");
    world.finish();
}

#[test]
fn one_publication_answers_all_who_wait() {
    let mut world = World::start();
    let fields = json!({"hold": {"channels": ["a"], "mode": "once"}});
    let mut waiting: Vec<_> = (0..50).map(|_| asked(&mut world, "GET /next HTTP/1.1", fields.clone())).collect();
    wait_until("all to wait", || world.gauge("tempest_streams_open") == 50);
    assert_eq!(world.redis.publish("a", "for all"), 1);
    for http in &mut waiting {
        assert_eq!(http.response().text(), "for all");
    }
    world.finish();
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    let mut world = World::start();
    let http = asked(&mut world, "GET /next HTTP/1.1", json!({"hold": {"channels": ["a"], "mode": "once"}}));
    wait_until("the subscription", || world.redis.subscribers("a") == 1);
    drop(http);
    wait_until("the subscription to be given up", || world.redis.subscribers("a") == 0);
    assert_eq!(world.gauge("tempest_streams_open"), 0);
    world.finish();
}

#[test]
fn unsubscribe_and_a_front_that_stops_are_a_204() {
    let mut world = World::builder().table("[[channels.rule]]\npattern = \"*\"\ncontrol = true\n").start();
    let fields = json!({"hold": {"channels": ["a"], "mode": "once"}});
    let mut http = asked(&mut world, "GET /next HTTP/1.1", fields.clone());
    wait_until("the subscription", || world.redis.subscribers("a") == 1);
    world.redis.publish("a", "[\"$unsubscribe\"]");
    assert_eq!(http.response().status, 204);
    let mut http = asked(&mut world, "GET /next HTTP/1.1", fields);
    wait_until("the subscription", || world.redis.subscribers("a") == 1);
    world.front.process.signal(Signal::TERM);
    let response = http.response();
    assert_eq!((response.status, response.header("connection")), (204, Some("close")));
    assert!(world.front.process.wait().success());
    drop(http);
    world.finish_without_front();
}

#[test]
fn one_who_waits_is_asked_for_by_tcp() {
    let mut world = World::start();
    let http = asked(&mut world, "GET /next HTTP/1.1", json!({"hold": {"channels": ["a"], "mode": "once"}}));
    let port = http.local_address().port();
    wait_until("keepalive to be on", || super::raw::has_keepalive(world.front.address().port(), port));
    drop(http);
    world.finish();
}
