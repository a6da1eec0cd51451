//! The same key twice: published once, whoever takes the requests, with a history and without.

use serde_json::json;

use super::{another_front, json_of, kept, post_to, published, with_history};

#[test]
fn the_same_key_is_published_once_across_fronts() {
    let mut world = with_history();
    let mut other = another_front(&world, "other", "");
    for channel in ["kept.a", "live"] {
        let mut stream = world.front.subscribe(channel);
        let target = format!("/pub/{channel}");
        let first = published(&world, &target, &["Idempotency-Key: order-7"], "a");
        assert_eq!(first["repeated"], json!(false));
        let again = post_to(other.http(), &target, &["Idempotency-Key: \"order-7\""], b"a");
        assert_eq!(again.status, 200);
        let again = json_of(&again);
        assert_eq!((&again["id"], &again["repeated"]), (&first["id"], &json!(true)), "{channel}");
        assert_eq!(first["id"].is_string(), channel == "kept.a");
        let third = published(&world, &target, &["Content-Type: application/json"], r#"{"data":"a","key":"order-7"}"#);
        assert_eq!(third["repeated"], json!(true), "a key in the body is the same");
        published(&world, &target, &["Idempotency-Key: order-8"], "b");
        if channel == "live" {
            assert_eq!((stream.data(), stream.data()), ("a".to_owned(), "b".to_owned()));
        }
        let life = world.redis.cmd(&["PTTL", &format!("{{tempest:log:{channel}}}:once:order-7")]).int();
        assert!((590_000..=600_000).contains(&life), "{life}");
        drop(stream);
    }
    assert_eq!(kept(&mut world.redis, "kept.a"), ["[\"a\"]", "[\"b\"]"]);
    assert_eq!(world.count("tempest_publications_sent_total", &["outcome=\"repeated\""]), 2);
    assert!(other.terminate().success());
    world.finish();
}

#[test]
fn a_key_is_one_of_its_channel_and_is_forgotten_after_a_time() {
    let world = super::open().set("channels.key_time = \"200ms\"").start();
    let key = ["Idempotency-Key: k"];
    assert_eq!(published(&world, "/pub/a", &key, "x")["repeated"], json!(false));
    assert_eq!(published(&world, "/pub/b", &key, "x")["repeated"], json!(false), "another channel");
    tempest_tests::wait_until("the key to be forgotten", || {
        published(&world, "/pub/a", &key, "x")["repeated"] == json!(false)
    });
    world.finish();
}

#[test]
fn requests_at_the_same_time_publish_once() {
    let mut world = with_history();
    let mut clients: Vec<_> = (0..20).map(|_| world.http()).collect();
    for http in &mut clients {
        http.request("POST", "/pub/kept.a", &["Idempotency-Key: once"], b"x");
    }
    let answers: Vec<_> = clients.iter_mut().map(|http| json_of(&http.response())).collect();
    assert_eq!(answers.iter().filter(|told| told["repeated"] == json!(false)).count(), 1);
    assert!(answers.iter().all(|told| told["id"] == answers[0]["id"]));
    assert_eq!(kept(&mut world.redis, "kept.a").len(), 1);
    drop(clients);
    world.finish();
}
