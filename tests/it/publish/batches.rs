//! Several messages in one request: all are checked before any is published, and each has its own outcome.

use serde_json::{Value as Json, json};
use tempest_tests::World;

use super::{json_of, kept, open, post, published, with_history};

const JSON: &str = "Content-Type: application/json";

#[test]
fn messages_of_a_batch_arrive_in_order_and_each_is_answered() {
    let mut world = with_history();
    let mut stream = world.front.subscribe("live");
    let batch = json!([
        {"channel": "live", "data": "1"},
        {"channel": "kept.a", "data": "2", "event": "e"},
        {"channel": "live", "data": "3", "event": "e"},
        {"channel": "kept.a", "data": "[\"x\"]", "raw": true},
    ]);
    let told = published(&world, "/pub", &[JSON], batch.to_string());
    let told = told.as_array().expect("an answer for each").clone();
    assert_eq!(told.iter().map(|one| one["id"].is_string()).collect::<Vec<_>>(), [false, true, false, true]);
    assert_eq!(
        told.iter().map(|one| one["streams"]["here"].clone()).collect::<Vec<_>>(),
        [json!(1), json!(0), json!(1), json!(0)]
    );
    let (first, second) = (stream.event(), stream.event());
    assert_eq!((first.data.as_str(), second.name.as_str(), second.data.as_str()), ("1", "e", "3"));
    assert_eq!(kept(&mut world.redis, "kept.a"), ["[\"e\",\"2\"]", "[\"x\"]"]);
    assert_eq!(published(&world, "/pub", &[JSON], "[]"), json!([]));
    drop(stream);
    world.finish();
}

#[test]
fn one_message_that_may_not_be_published_stops_all_of_them() {
    let world = World::builder().set("channels.publish = [\"a\", \"b\"]").set("channels.name_bytes = 4").start();
    let mut stream = world.front.subscribe("a");
    let good = json!({"channel": "a", "data": "never"});
    for (wrong, status) in [
        (json!({"channel": "c", "data": "x"}), 403),
        (json!({"channel": "__x", "data": "x"}), 403),
        (json!({"channel": "", "data": "x"}), 400),
        (json!({"channel": "abcde", "data": "x"}), 400),
        (json!({"channel": "a\n", "data": "x"}), 400),
        (json!({"data": "x"}), 400),
        (json!({"channel": "b"}), 400),
        (json!({"channel": "b", "data": "x", "key": ""}), 400),
        (json!("b"), 400),
    ] {
        let response = post(&world, "/pub", &[JSON], json!([good, wrong, good]).to_string());
        assert_eq!(response.status, status, "{wrong}");
        let words = response.text();
        assert!(words.contains("message 1,") && words.contains("nothing was published"), "{words}");
    }
    for (headers, body, status) in [(&[JSON][..], "{}", 400), (&[JSON], "[", 400), (&[], "[]", 415)] {
        assert_eq!(post(&world, "/pub", headers, body).status, status, "{body}");
    }
    published(&world, "/pub/a", &[], "the first");
    assert_eq!(stream.data(), "the first");
    drop(stream);
    world.finish();
}

#[test]
fn a_batch_has_a_largest_size() {
    let world = open().start();
    let batch = |count: usize| {
        let messages: Vec<Json> = (0..count).map(|n| json!({"channel": "a", "data": n.to_string()})).collect();
        post(&world, "/pub", &[JSON], Json::from(messages).to_string())
    };
    assert_eq!(json_of(&batch(100)).as_array().map(Vec::len), Some(100));
    let over = batch(101);
    assert_eq!(over.status, 400);
    assert!(over.text().contains("at most 100"), "{}", over.text());
    world.finish();
}

#[test]
fn a_batch_may_be_sent_again_with_its_key() {
    let mut world = with_history();
    let batch =
        json!([{"channel": "kept.a", "data": "1"}, {"channel": "kept.a", "data": "2", "key": "own"}]).to_string();
    let key = "Idempotency-Key: all";
    let first = published(&world, "/pub", &[JSON, key], &batch);
    let again = published(&world, "/pub", &[JSON, key], &batch);
    for at in 0..2 {
        assert_eq!((&first[at]["repeated"], &again[at]["repeated"]), (&json!(false), &json!(true)));
        assert_eq!(first[at]["id"], again[at]["id"]);
    }
    let single = published(&world, "/pub/kept.a", &["Idempotency-Key: own"], "2");
    assert_eq!(single["repeated"], json!(true), "a key of a message's own stands by itself");
    assert_eq!(kept(&mut world.redis, "kept.a").len(), 2);
    world.finish();
}
