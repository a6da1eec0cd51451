//! Raw streams: the data of each message as it is.

use std::fs;

use serde_json::json;
use tempest_tests::{Chunk, Signal, World, wait_until};

use super::got;

/// Whether the front's socket of this connection has TCP ask for its peer: its timer is the second kind.
pub(super) fn has_keepalive(front: u16, client: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc is there");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let (local, remote) = (format!(":{front:04X}"), format!(":{client:04X}"));
    let mut ours = rows.filter(|row| row.len() > 5 && row[1].ends_with(&local) && row[2].ends_with(&remote));
    ours.any(|row| row[5].starts_with("02:"))
}

fn data(text: impl AsRef<[u8]>) -> Chunk {
    Chunk::Data(text.as_ref().to_vec())
}

#[test]
fn messages_are_chunks_and_nothing_stands_between() {
    let mut world = World::builder().set("channels.heartbeat = \"1s\"").start();
    let fields = json!({"headers": {"content-type": "application/x-ndjson", "x-a": "b"},
        "hold": {"channels": ["a", "b"], "first": "{\"n\":0}\n"}});
    let (mut http, head) = got(&mut world, fields);
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/x-ndjson")));
    assert_eq!((head.header("x-a"), head.header("cache-control")), (Some("b"), None));
    assert!(head.header("x-request-id").is_some());
    assert_eq!(http.chunk(), data("{\"n\":0}\n"));
    let port = http.local_address().port();
    wait_until("keepalive to be on", || has_keepalive(world.front.address().port(), port));
    for (channel, payload, expected) in [
        ("a", "{\"n\":1}\n", "{\"n\":1}\n"),
        ("b", "[\"name\",\"one\\r\\ntwo\\n\"]", "one\r\ntwo\n"),
        ("a", "[\"\u{fc}\"]", "\u{fc}"),
        ("b", ": comment", ": comment"),
        ("a", "[\"$unsubscribe\"]", "$unsubscribe"),
    ] {
        assert_eq!(world.redis.publish(channel, payload), 1);
        assert_eq!(http.chunk(), data(expected));
    }
    world.redis.publish("a", "");
    world.redis.publish("a", "behind an empty one");
    assert_eq!(http.chunk(), data("behind an empty one"));
    assert!(!http.readable_within(std::time::Duration::from_millis(1500)), "no heartbeat");
    assert_eq!(world.count("tempest_holds_total", &["raw"]), 1);
    drop(http);
    world.finish();
}

#[test]
fn what_is_published_when_the_head_arrives_is_never_lost() {
    let mut world = World::start();
    for n in 0..200 {
        let channel = format!("fresh-{n}");
        let fields = json!({"headers": {"content-type": "text/plain"}, "hold": {"channels": ["other", channel]}});
        let (mut http, _) = got(&mut world, fields);
        assert_eq!(world.redis.publish(&channel, "at once"), 1, "subscribed before head {n} was sent");
        assert_eq!(http.chunk(), data("at once"));
    }
    world.finish();
}

#[test]
fn a_raw_stream_ends_properly() {
    let mut world = World::builder().table("[[channels.rule]]\npattern = \"jobs.*\"\ncontrol = true\n").start();
    let fields = |hold| json!({"headers": {"content-type": "text/plain"}, "hold": hold});
    let (mut http, _) = got(&mut world, fields(json!({"channels": ["jobs.7", "news"]})));
    world.redis.publish("news", "last");
    world.redis.publish("jobs.7", "[\"$unsubscribe\"]");
    assert_eq!((http.chunk(), http.chunk()), (data("last"), Chunk::End));
    // What has ended properly leaves a connection that goes on.
    http.request("GET", "/page", &[], b"");
    let job = world.take();
    world.ok(&job, "a page");
    assert_eq!(http.response().text(), "a page");
    let (mut http, _) = got(&mut world, fields(json!({"channels": ["news"], "timeout": 200})));
    assert_eq!(http.chunk(), Chunk::End, "at its time");
    let (mut http, _) = got(&mut world, fields(json!({"channels": ["news"], "first": "x"})));
    assert_eq!(http.chunk(), data("x"));
    world.front.process.signal(Signal::TERM);
    assert_eq!(http.chunk(), Chunk::End, "when the front stops");
    assert!(world.front.process.wait().success());
    drop(http);
    world.finish_without_front();
}

#[test]
fn a_reader_that_does_not_read_is_cut_and_slows_nobody() {
    let mut world = World::builder().set("channels.buffer_messages = 8").start();
    let fields = json!({"headers": {"content-type": "text/plain"}, "hold": {"channels": ["news"]}});
    let (slow, _) = got(&mut world, fields.clone());
    let (mut quick, _) = got(&mut world, fields);
    let large = "x".repeat(900_000);
    wait_until("the reader to be cut", || {
        world.redis.publish("news", &large);
        assert_eq!(quick.chunk(), data(&large));
        world.count("tempest_stream_drops_total", &["slow"]) == 1
    });
    assert_eq!(world.gauge("tempest_streams_open"), 1);
    drop((slow, quick));
    world.finish();
}
