//! What one address may have: connections, requests on each, requests at a time.

use serde_json::json;
use tempest_tests::{Job, Reply, World, wait_until};

use super::{ended, refused};

/// A worker that says what it was asked.
fn ok(job: &Job) -> Reply {
    vec![job.answer(json!({"status": 200}), job.line().as_bytes())]
}

#[test]
fn one_connection_more_than_an_address_may_have_is_a_429() {
    let mut world = World::builder().set("limits.connections_per_address = 3").start();
    world.worker(ok);
    let mut held: Vec<_> = (0..2).map(|_| world.http()).collect();
    for http in &mut held {
        assert_eq!(http.get("/").status, 200);
    }
    // A connection that has become a stream is one like any other.
    let stream = world.front.subscribe("news");
    let mut fourth = world.http();
    fourth.request("GET", "/", &[], b"");
    let response = fourth.response();
    assert_eq!((response.status, response.header("retry-after")), (429, Some("10")));
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(fourth.rest(), b"");
    assert_eq!(refused(&world, "connections_per_address"), 1);
    drop(stream);
    wait_until("the stream's end", || world.gauge("tempest_streams_open") == 0);
    let mut again = world.http();
    assert_eq!(again.get("/").status, 200, "room again");
    assert_eq!(refused(&world, "connections_per_address"), 1);
    drop((held, again));
    world.finish();
}

#[test]
fn without_a_limit_an_address_has_as_many_as_it_likes() {
    let mut world = World::start();
    world.worker(ok);
    let mut held: Vec<_> = (0..50).map(|_| world.http()).collect();
    assert!(held.iter_mut().all(|http| http.get("/").status == 200));
    assert_eq!(refused(&world, "connections_per_address"), 0);
    drop(held);
    world.finish();
}

#[test]
fn the_last_request_that_a_connection_may_have_says_close() {
    let mut world = World::builder().set("limits.requests_per_connection = 3").start();
    world.worker(ok);
    let mut http = world.http();
    for n in 1..=2 {
        let response = http.get(&format!("/{n}"));
        assert_eq!((response.status, response.header("connection")), (200, None), "{n}");
    }
    assert_eq!(ended(&world, "requests"), 0);
    let last = http.get("/3");
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert_eq!(last.text(), "GET /3");
    assert_eq!(http.rest(), b"");
    assert_eq!(ended(&world, "requests"), 1);
    assert_eq!(world.http().get("/4").status, 200);
    world.finish();
}

#[test]
fn one_request_more_than_an_address_may_have_at_a_time_is_a_429() {
    let mut world = World::builder().set("limits.requests_per_address = 2").start();
    let mut held: Vec<_> = (0..2).map(|_| world.http()).collect();
    for http in &mut held {
        http.request("GET", "/held", &[], b"");
    }
    let jobs = [world.take(), world.take()];
    let mut third = world.http();
    for target in ["/third", "/sub/news"] {
        let response = third.get(target);
        assert_eq!((response.status, response.header("retry-after")), (429, Some("10")), "{target}");
    }
    assert_eq!(refused(&world, "requests_per_address"), 2);
    assert_eq!(world.redis.llen("tempest:web"), 0, "no worker gets to see it");
    world.ok(&jobs[0], "one");
    let first = jobs.iter().zip(&mut held).next().expect("one").1;
    assert_eq!(first.response().status, 200);
    // A stream is no request any more; its limit is another.
    let streams = [world.front.subscribe("news"), world.front.subscribe("news")];
    third.request("GET", "/again", &[], b"");
    let job = world.take();
    world.ok(&job, "room again");
    assert_eq!(third.response().text(), "room again");
    world.ok(&jobs[1], "two");
    drop((streams, held));
    world.finish();
}

#[test]
fn one_request_more_than_may_wait_is_a_503_whichever_reactor_has_it() {
    let mut world = World::builder().set("limits.pending = 3").set("front.reactors = 2").start();
    let mut held: Vec<_> = (0..3).map(|_| world.http()).collect();
    let mut jobs = Vec::new();
    for http in &mut held {
        http.request("GET", "/held", &[], b"");
        jobs.push(world.take());
    }
    assert_eq!(world.gauge("tempest_requests_waiting"), 3);
    // One on each reactor.
    for mut http in [world.http(), world.http()] {
        let response = http.get("/fourth");
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
        held.push(http);
    }
    assert_eq!(refused(&world, "too_many_pending"), 2);
    for job in &jobs {
        world.ok(job, "done");
    }
    assert!(held[..3].iter_mut().all(|http| http.response().status == 200));
    assert_eq!(world.gauge("tempest_requests_waiting"), 0);
    drop(held);
    world.finish();
}
