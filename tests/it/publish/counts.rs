//! How many streams a message reached: here, and on all fronts together.

use serde_json::json;
use tempest_tests::wait_until;

use super::{another_front, open, published};

#[test]
fn streams_on_all_fronts_are_counted() {
    let world = open().set("channels.count_time = \"10s\"").start();
    let mut second = another_front(&world, "second", "front.reactors = 2\n");
    let mut third = another_front(&world, "third", "");
    let mut streams =
        vec![world.front.subscribe("news"), world.front.subscribe("news"), world.front.subscribe("other")];
    streams.extend((0..4).map(|_| second.subscribe("news")));
    let told = published(&world, "/pub/news?count=all", &[], "x");
    assert_eq!(
        told["streams"],
        json!({"here": 2, "all": 6, "complete": true}),
        "the third has none, and is not waited for"
    );
    streams.push(third.subscribe("news"));
    let told = published(&world, "/pub/news?count=all", &[], "y");
    assert_eq!(told["streams"], json!({"here": 2, "all": 7, "complete": true}));
    let batch =
        json!([{"channel": "news", "data": "z"}, {"channel": "other", "data": "z"}, {"channel": "none", "data": "z"}]);
    let told = published(&world, "/pub?count=all", &["Content-Type: application/json"], batch.to_string());
    let counts: Vec<_> = told.as_array().expect("three").iter().map(|one| one["streams"]["all"].clone()).collect();
    assert_eq!(counts, [json!(7), json!(1), json!(0)]);
    assert!(told.as_array().expect("three").iter().all(|one| one["streams"]["complete"] == json!(true)));
    assert_eq!(world.count("tempest_answers_total", &["ignored"]), 0, "answers to questions are no strangers");
    drop(streams);
    for front in [&mut second, &mut third] {
        assert!(front.terminate().success());
    }
    world.finish();
}

#[test]
fn who_does_not_answer_makes_the_count_incomplete() {
    let world = open().start();
    let mut stranger = world.redis.connect();
    stranger.cmd(&["SUBSCRIBE", "news"]);
    let stream = world.front.subscribe("news");
    let told = published(&world, "/pub/news?count=all", &[], "x");
    assert_eq!(
        told["streams"],
        json!({"here": 1, "all": 1, "complete": false}),
        "a stranger was told, and is no front"
    );
    let key = ["Idempotency-Key: k"];
    published(&world, "/pub/news?count=all", &key, "x");
    let again = published(&world, "/pub/news?count=all", &key, "x");
    assert_eq!(again["streams"], json!({"here": 1, "all": null, "complete": false}), "nobody was told this time");
    drop((stream, stranger));
    world.finish();
}

#[test]
fn a_question_cannot_make_a_front_write_elsewhere() {
    let mut world = open().start();
    let stream = world.front.subscribe("news");
    let mut heard = world.redis.connect();
    heard.cmd(&["SUBSCRIBE", "elsewhere"]);
    heard.cmd(&["SUBSCRIBE", "tempest:@asked"]);
    for question in [
        json!({"channel": "news", "reply_to": "elsewhere", "id": "1"}).to_string(),
        "no question".to_owned(),
        json!({"channel": "nothing", "reply_to": "tempest:@asked", "id": "2"}).to_string(),
        json!({"channel": "news", "reply_to": "tempest:@asked", "id": "3", "more": 1}).to_string(),
    ] {
        world.redis.publish("tempest:@count", question);
    }
    let answer = heard.read().expect("an answer");
    assert_eq!(answer.list()[1].text(), "tempest:@asked");
    let told: serde_json::Value = serde_json::from_str(&answer.list()[2].text()).expect("JSON");
    assert_eq!(told, json!({"id": "3", "kind": "streams", "count": 1}));
    drop((stream, heard));
    wait_until("the end of the stream", || world.gauge("tempest_streams_open") == 0);
    world.finish();
}
