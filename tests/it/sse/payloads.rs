//! What a payload becomes on the wire: every golden vector, published by a real Redis and read byte by byte.

use std::fs;

use serde_json::Value;
use tempest_tests::{Chunk, Sse, World, decode_base64, repository};

use super::history::publish;

fn vectors() -> Vec<Value> {
    let text = fs::read_to_string(repository().join("worker-sdk/vectors/events.json")).expect("the vectors are there");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    all["vectors"].as_array().expect("a list").clone()
}

fn payload(vector: &Value) -> Vec<u8> {
    match (vector["text"].as_str(), vector["base64"].as_str()) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(text)) => decode_base64(text),
        _ => panic!("exactly one of text and base64: {vector}"),
    }
}

/// A stream past its opening, so that the next chunk is the next event.
fn opened(world: &World, channel: &str) -> Sse {
    world.front.subscribe(channel)
}

#[test]
fn every_golden_payload_becomes_exactly_its_event() {
    let mut world = World::builder().table("[[channels.rule]]\npattern = \"control\"\ncontrol = true").start();
    let mut plain = opened(&world, "plain");
    let vectors = vectors();
    assert!(vectors.len() >= 10);
    for vector in &vectors {
        let name = vector["name"].as_str().expect("a name");
        let control = vector["control"].as_bool().expect("control is always there");
        let expected = vector["outcome"]["sse"].as_str().expect("the event");
        let mut own = control.then(|| opened(&world, "control"));
        let stream = own.as_mut().unwrap_or(&mut plain);
        world.redis.publish(if control { "control" } else { "plain" }, payload(vector));
        let Chunk::Data(bytes) = stream.http().chunk() else { panic!("{name}: the stream ended") };
        assert_eq!(String::from_utf8_lossy(&bytes), expected, "{name}");
        if vector["outcome"]["end"] == true {
            assert_eq!(stream.http().chunk(), Chunk::End, "{name}: the stream ends");
        }
    }
    drop(plain);
    world.finish();
}

#[test]
fn a_channel_of_raw_text_passes_arrays_on() {
    let mut world = World::builder().table("[[channels.rule]]\npattern = \"raw.*\"\npayload = \"raw\"").start();
    let mut stream = world.front.subscribe("raw.a");
    for text in ["[\"a\",\"b\"]", "[\"x\"]", "[\"$unsubscribe\"]"] {
        world.redis.publish("raw.a", text);
        let event = stream.event();
        assert_eq!((event.name.as_str(), event.data.as_str()), ("", text));
    }
    drop(stream);
    world.finish();
}

#[test]
fn unsubscribe_ends_every_stream_of_a_controlled_channel_and_no_other() {
    let mut world = World::builder().table("[[channels.rule]]\npattern = \"show\"\ncontrol = true").start();
    let mut shows: Vec<_> = (0..5).map(|_| world.front.subscribe("show")).collect();
    let mut other = world.front.subscribe("chat");
    world.redis.publish("show", "last words");
    world.redis.publish("show", "[\"$unsubscribe\"]");
    world.redis.publish("chat", "[\"$unsubscribe\"]");
    for stream in &mut shows {
        assert_eq!(stream.data(), "last words");
        let end = stream.event();
        assert_eq!((end.name.as_str(), end.data.as_str()), ("end", ""));
        assert!(stream.until_end().iter().all(|item| *item == tempest_tests::Item::Retry(2_147_483_647)));
    }
    assert_eq!(other.data(), "$unsubscribe", "text like any other");
    drop((shows, other));
    world.finish();
}

#[test]
fn unsubscribe_ends_the_streams_of_a_channel_with_history_too() {
    let rule = "[[channels.rule]]\npattern = \"show\"\ncontrol = true\nhistory = {}";
    let mut world = World::builder().table(rule).start();
    for kept in [true, false] {
        let mut stream = world.front.subscribe("show");
        if kept {
            publish(&mut world.redis, "show", "[\"$unsubscribe\"]");
        } else {
            world.redis.publish("show", "[\"$unsubscribe\"]");
        }
        assert_eq!(stream.event().name, "end");
        assert!(stream.until_end().iter().all(|item| *item == tempest_tests::Item::Retry(2_147_483_647)));
    }
    // It was for those who were there.
    let mut late = world.front.subscribe("show?since=earliest");
    publish(&mut world.redis, "show", "again");
    assert_eq!(late.data(), "again");
    drop(late);
    world.finish();
}

#[test]
fn a_large_message_arrives_whole() {
    let mut world = World::start();
    let mut stream = world.front.subscribe("news");
    let text: String = (0..60_000).map(|n| format!("{n};")).collect();
    world.redis.publish("news", &text);
    assert!(stream.data() == text);
    drop(stream);
    world.finish();
}
