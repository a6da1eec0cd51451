//! Clients that are slow on purpose, or by accident: with their heads, with their bodies, with reading.

use std::time::Duration;

use serde_json::json;
use tempest_tests::{Http, World, WorldBuilder, wait_until};

use super::{ended, refused};

/// Between two bytes of a slow client.
const PAUSE: Duration = Duration::from_millis(50);

fn world() -> WorldBuilder {
    World::builder().set("limits.head_time = \"1s\"").set("limits.body_time = \"1s\"")
}

/// Sends these bytes one by one until the other side has something to say; true: it had.
fn drip(http: &mut Http, bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| {
        http.send([*byte]);
        http.readable_within(PAUSE)
    })
}

#[test]
fn slow_heads_end_at_their_time_and_are_counted_while_everybody_else_is_answered() {
    // More than are ended in one look.
    const SLOW: usize = 600;
    let mut world = world().start();
    world.worker(|job| vec![job.answer(json!({"status": 200}), job.line().as_bytes())]);
    let mut slow: Vec<_> = (0..SLOW).map(|_| world.http()).collect();
    let mut quick = world.http();
    let head = b"GET / HTTP/1.1\r\nHost: test\r\nX-A: 1";
    for (answered, byte) in head.iter().cycle().take(10 * head.len()).enumerate() {
        for http in &mut slow {
            http.send([*byte]);
        }
        assert_eq!(quick.get(&format!("/{answered}")).text(), format!("GET /{answered}"));
        if ended(&world, "head_time") == SLOW as i64 {
            break;
        }
    }
    wait_until("all slow ones to be counted", || ended(&world, "head_time") == SLOW as i64);
    for http in &mut slow {
        assert_eq!(http.response().status, 408);
        assert_eq!(http.rest(), b"");
    }
    assert_eq!(world.http().get("/x").status, 200);
    drop((slow, quick));
    world.finish();
}

#[test]
fn a_body_that_drips_is_a_408_all_the_same_and_one_that_keeps_the_pace_is_taken() {
    let mut world = world().set("limits.body_rate = 1000").start();
    world.worker(|job| vec![job.answer(json!({"status": 200}), job.body.len().to_string().as_bytes())]);
    let head = "POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: 3000\r\n\r\n";
    let mut slow = world.http();
    slow.send(head);
    assert!(drip(&mut slow, &[b'a'; 400]), "a byte now and then must not extend the time for a body");
    assert_eq!(slow.response().status, 408);
    assert_eq!(slow.rest(), b"");
    assert_eq!(refused(&world, "body_time"), 1);
    assert_eq!(world.redis.llen("tempest:web"), 0);
    // It takes longer than the time between two pieces, and is worth it.
    let mut paced = world.http();
    paced.send(head);
    for _ in 0..30 {
        paced.send([b'a'; 100]);
        assert!(!paced.readable_within(PAUSE) || paced.response().text() == "3000");
    }
    assert_eq!(refused(&world, "body_time"), 1);
    drop((slow, paced));
    world.finish();
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_cut_and_counted() {
    let mut world = world().set("limits.answer_bytes = \"8MiB\"").start();
    world.worker(|job| vec![job.answer(json!({"status": 200}), &vec![b'x'; 8_000_000])]);
    let mut reads = world.http();
    reads.request("GET", "/reads", &[], b"");
    let mut takes_nothing = world.http();
    takes_nothing.request("GET", "/", &[], b"");
    assert_eq!(reads.response().body.len(), 8_000_000);
    wait_until("the other one to be cut", || ended(&world, "slow_reader") == 1);
    let cut = takes_nothing.try_response(false);
    assert!(cut.is_err() || cut.is_ok_and(|response| !response.complete));
    assert_eq!(reads.get("/again").status, 200);
    drop((reads, takes_nothing));
    world.finish();
}

#[test]
fn an_idle_connection_is_closed_at_its_time_and_counted() {
    let mut world = World::builder().set("limits.idle_time = \"1s\"").start();
    world.worker(|job| vec![job.answer(json!({"status": 200}), b"")]);
    let mut http = world.http();
    for _ in 0..2 {
        assert_eq!(http.get("/").status, 200);
    }
    assert_eq!(ended(&world, "idle_time"), 0);
    assert_eq!(http.rest(), b"");
    wait_until("it to be counted", || ended(&world, "idle_time") == 1);
    assert_eq!(ended(&world, "head_time"), 0);
    world.finish();
}
