//! What a body becomes for the readers of a channel, and what its publisher is told.

use serde_json::json;
use tempest_tests::World;

use super::{kept, kept_ids, open, post, published, with_history};

const JSON: &str = "Content-Type: application/json";

#[test]
fn a_text_reaches_the_readers_and_nothing_in_it_is_read_as_anything_else() {
    let world = open().set("[[channels.rule]]\npattern = \"*\"\ncontrol = true").start();
    let mut stream = world.front.subscribe("news");
    let cases: [(&[&str], &str); 6] = [
        (&[], "hello"),
        (&["Content-Type: text/plain; charset=utf-8"], "[\"forged\",\"x\"]"),
        (&["Content-Type: application/x-www-form-urlencoded"], "a=b&c"),
        (&["Content-Type: text/markdown"], "gr\u{fc}\u{df}e"),
        (&[], "$unsubscribe"),
        (&[], ""),
    ];
    for (headers, text) in cases {
        let told = published(&world, "/pub/news", headers, text);
        assert_eq!(told, json!({"id": null, "repeated": false, "streams": {"here": 1}}));
        let event = stream.event();
        assert_eq!((event.name.as_str(), event.data.as_str()), ("", text));
    }
    published(&world, "/pub/news?event=price%20now&x=1", &[], "42");
    let event = stream.event();
    assert_eq!((event.name.as_str(), event.data.as_str()), ("price now", "42"));
    assert_eq!(world.count("tempest_publications_sent_total", &["outcome=\"live\""]), 7);
    drop(stream);
    world.finish();
}

#[test]
fn json_names_the_event_and_may_send_a_payload_as_it_is() {
    let world = open().start();
    let mut stream = world.front.subscribe("a/b");
    for (body, name, data) in [
        (r#"{"data":"one\ntwo"}"#, "", "one\ntwo"),
        (r#"{"data":"42","event":"price"}"#, "price", "42"),
        (r#"{"data":"[\"raw\",\"as it is\"]","raw":true}"#, "raw", "as it is"),
        (r#" { "data" : "" , "event" : "" , "raw" : false } "#, "", ""),
    ] {
        published(&world, "/pub/a%2Fb", &[JSON], body);
        let event = stream.event();
        assert_eq!((event.name.as_str(), event.data.as_str()), (name, data), "{body}");
    }
    drop(stream);
    world.finish();
}

#[test]
fn a_channel_of_raw_text_gets_text_and_no_events() {
    let world = open().table("[[channels.rule]]\npattern = \"raw\"\npayload = \"raw\"").start();
    let mut stream = world.front.subscribe("raw");
    published(&world, "/pub/raw", &[], "[\"as\",\"it is\"]");
    assert_eq!(stream.data(), "[\"as\",\"it is\"]");
    assert_eq!(post(&world, "/pub/raw?event=x", &[], "y").status, 400);
    drop(stream);
    world.finish();
}

#[test]
fn a_channel_with_history_keeps_it_and_says_its_id() {
    let mut world = with_history();
    let mut reader = world.redis.connect();
    reader.cmd(&["SUBSCRIBE", "tempest:log:kept.a"]);
    let mut ids = vec!["0-0".to_owned()];
    for n in 0..4 {
        let told = published(&world, "/pub/kept.a", &[], n.to_string());
        assert_eq!((&told["repeated"], &told["streams"]["here"]), (&json!(false), &json!(0)));
        let id = told["id"].as_str().expect("an id").to_owned();
        let announced = reader.read().expect("an announcement").list()[2].text();
        assert_eq!(announced, format!("{id} {} [\"{n}\"]", ids[n]));
        ids.push(id);
    }
    assert_eq!(kept_ids(&mut world.redis, "kept.a"), ids[2..], "three are kept");
    assert_eq!(kept(&mut world.redis, "kept.a"), ["[\"1\"]", "[\"2\"]", "[\"3\"]"]);
    assert_eq!(published(&world, "/pub/other", &[], "x")["id"], json!(null), "the first rule that matches decides");
    assert_eq!(world.count("tempest_publications_sent_total", &["outcome=\"kept\""]), 4);
    drop(reader);
    world.finish();
}

#[test]
fn a_prefix_stands_before_the_name_and_rules_are_of_the_name_behind_it() {
    let rules =
        "[[channels.rule]]\npattern = \"a\"\nhistory = {}\n[[channels.rule]]\npattern = \"live:b\"\nhistory = {}";
    let mut world =
        World::builder().set("channels.publish = [\"*\"]\nchannels.prefix = \"live:\"").table(rules).start();
    for (channel, payloads) in [("a", 1), ("b", 0), ("c", 0)] {
        published(&world, &format!("/pub/{channel}"), &[], "x");
        assert_eq!(kept(&mut world.redis, &format!("live:{channel}")).len(), payloads, "{channel}");
    }
    let mut stream = world.front.subscribe("c");
    published(&world, "/pub/c", &[], "y");
    assert_eq!(stream.data(), "y");
    drop(stream);
    world.finish();
}

#[test]
fn where_nobody_may_publish_there_are_no_routes_for_it() {
    let mut world = World::start();
    let mut http = world.http();
    for target in ["/pub/news", "/pub"] {
        http.request("POST", target, &[], b"x");
        let job = world.take();
        assert_eq!(job.line(), format!("POST {target}"));
        world.ok(&job, "a worker's");
        assert_eq!(http.response().text(), "a worker's");
    }
    drop(http);
    world.finish();
}

#[test]
fn a_route_of_ones_own_publishes_where_it_says() {
    let world = open().table("[[route]]\npath = \"/in/{channel}/x\"\nkind = \"publish\"\nbody_limit = 3\n[[route]]\npath = \"/sub/{channel}\"\nkind = \"subscribe\"").start();
    let mut stream = world.front.subscribe("news");
    published(&world, "/in/news/x", &[], "yes");
    assert_eq!(stream.data(), "yes");
    assert_eq!(post(&world, "/in/news/x", &[], "four").status, 413);
    assert_eq!(post(&world, "/pub/news", &[], "x").status, 404);
    drop(stream);
    world.finish();
}
