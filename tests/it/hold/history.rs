//! Held streams of channels with history: what was missed is sent first.

use std::fs;

use serde_json::json;
use tempest_tests::{Sse, World, repository};

const RULE: &str = "[[channels.rule]]\npattern = \"orders.*\"\nhistory = {}\n";

/// Publishes with history, as any client of Redis can; gives the id.
fn publish(world: &mut World, channel: &str, text: &str) -> String {
    let script = repository().join("worker-sdk/protocol/scripts/publish.lua");
    let script = fs::read_to_string(script).expect("the script is there");
    let log = format!("tempest:log:{channel}");
    let reply = world.redis.cmd(&["EVAL", &script, "1", &log, text, "1000", "60000"]);
    let id = match &reply {
        tempest_tests::Value::Array(parts) => parts[0].text(),
        other => other.text(),
    };
    assert!(id.contains('-'), "an id: {reply:?}");
    id
}

/// A held stream of these channels, asked for with a header line, and where its answer says it begins.
fn held(world: &mut World, seen: &[&str], hold: serde_json::Value) -> Sse {
    let mut http = world.http();
    http.request("GET", "/events", seen, b"");
    let job = world.take();
    world.answer(&job, json!({"hold": hold}), "");
    let head = http.read_head().expect("a head");
    assert_eq!(head.status, 200, "{head:?}");
    Sse::after(http, head)
}

#[test]
fn a_client_that_comes_back_to_a_held_stream_gets_what_it_missed() {
    let mut world = World::builder().set("channels.public = []").table(RULE).start();
    let first = publish(&mut world, "orders.1", "one");
    let second = publish(&mut world, "orders.1", "two");
    publish(&mut world, "orders.1", "three");
    let seen = format!("Last-Event-ID: {first}");
    let hold = json!({"channels": ["orders.1", "news"], "history": "earliest"});
    let mut stream = held(&mut world, &[&seen], hold.clone());
    assert_eq!(stream.head.header("tempest-resume"), Some("complete"));
    let event = stream.event();
    assert_eq!((event.data.as_str(), &event.id), ("two", &second));
    assert_eq!(stream.data(), "three");
    publish(&mut world, "orders.1", "four");
    assert_eq!(stream.data(), "four");
    world.redis.publish("news", "live");
    assert_eq!(stream.data(), "live");
    drop(stream);
    // A client that says nothing begins where the worker says.
    let mut stream = held(&mut world, &[], hold);
    assert_eq!((stream.data(), stream.data()), ("one".into(), "two".into()));
    drop(stream);
    let mut stream = held(&mut world, &[], json!({"channels": ["orders.1"], "history": second}));
    assert_eq!(stream.data(), "three");
    drop(stream);
    let mut stream = held(&mut world, &[], json!({"channels": ["orders.1"]}));
    publish(&mut world, "orders.1", "five");
    assert_eq!(stream.data(), "five", "without a start point nothing of before");
    drop(stream);
    world.redis.cmd(&["DEL", "tempest:log:orders.1"]);
    world.finish();
}

#[test]
fn a_start_point_that_is_none_is_a_loss_and_no_error() {
    let mut world = World::builder().table(RULE).start();
    for (seen, hold) in [
        (&["Last-Event-ID: garbage"][..], json!({"channels": ["orders.1"]})),
        (&["Last-Event-ID: 5-1,5-1"], json!({"channels": ["orders.1"]})),
        (&[], json!({"channels": ["orders.1"], "history": "yesterday"})),
    ] {
        let mut stream = held(&mut world, seen, hold);
        assert_eq!(stream.head.header("tempest-resume"), Some("lost"));
        assert_eq!(stream.event().name, "$lost");
    }
    world.finish();
}

#[test]
fn what_is_published_with_history_reaches_those_who_are_no_event_stream() {
    let mut world = World::builder().table(RULE).start();
    let fields = json!({"headers": {"content-type": "text/plain"}, "hold": {"channels": ["orders.1", "news"]}});
    let (mut raw, _) = super::got(&mut world, fields);
    let mut once =
        super::asked(&mut world, "GET /next HTTP/1.1", json!({"hold": {"channels": ["orders.1"], "mode": "once"}}));
    tempest_tests::wait_until("both to listen", || world.gauge("tempest_streams_open") == 2);
    publish(&mut world, "orders.1", "kept");
    world.redis.publish("orders.1", "live");
    assert_eq!(once.response().text(), "kept");
    assert_eq!(raw.chunk(), tempest_tests::Chunk::Data(b"kept".to_vec()));
    assert_eq!(raw.chunk(), tempest_tests::Chunk::Data(b"live".to_vec()));
    drop((raw, once));
    world.redis.cmd(&["DEL", "tempest:log:orders.1"]);
    world.finish();
}
