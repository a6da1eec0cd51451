//! What operators see of streams: the channels in a front's record, `tempest status --channels`, metrics.

use serde_json::{Value, json};
use tempest_tests::{Front, World, tempest, wait_until};

fn status(world: &World, args: &[&str]) -> String {
    let url = world.redis.url();
    tempest(world.dir(), &[&["status", "--channels", "--redis", &url], args].concat(), &[], "").ok()
}

#[test]
fn status_adds_up_the_channels_of_all_fronts() {
    let mut world = World::builder().set("front.reactors = 2").start();
    let config = format!(
        "redis.url = \"{}\"\nfront.listen = [\"127.0.0.1:0\"]\nfront.admin = \"127.0.0.1:0\"\n\
         channels.public = [\"*\"]\nlog.format = \"json\"\n",
        world.redis.url()
    );
    let mut other = Front::start(&world.dir().join("other"), world.mark(), &config);
    other.wait_ready();
    wait_until("both to be seen", || {
        let text = tempest(world.dir(), &["status", "--redis", &world.redis.url()], &[], "").ok();
        text.contains(&other.address().to_string()) && text.contains(&world.front.address().to_string())
    });
    let empty = status(&world, &[]);
    assert!(empty.contains("nobody reads any") && empty.contains("curl -N http://127.0.0.1:"), "{empty}");

    let mut streams: Vec<_> = (0..4).map(|_| world.front.subscribe("news")).collect();
    streams.push(other.subscribe("news"));
    let odd = "evil%E2%80%AE%22name";
    streams.push(other.subscribe(odd));
    for n in 0..3 {
        world.redis.publish("news", n.to_string());
    }
    for stream in streams.iter_mut().take(5) {
        assert_eq!(stream.data(), "0");
    }
    let expected = json!([
        {"channel": "news", "streams": 5, "fronts": 2, "published": 3},
        {"channel": "evil\u{202e}\"name", "streams": 1, "fronts": 1, "published": 0},
    ]);
    wait_until("the records to say so", || {
        let seen: Value = serde_json::from_str(&status(&world, &["--json"])).expect("JSON");
        seen["channels"] == expected
    });
    let text = status(&world, &[]);
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(words.contains(&vec!["news", "5", "2", "3"]), "{text}");
    assert!(words.contains(&vec!["evil\u{fffd}\"name", "1", "1", "0"]), "{text}");
    drop(streams);
    wait_until("nobody to read any more", || status(&world, &[]).contains("nobody reads any"));
    assert!(other.terminate().success());
    world.finish();
}

#[test]
fn a_record_tells_of_no_more_than_fifty_channels_and_cuts_their_names() {
    let mut world = World::builder().set("channels.prefix = \"app:\"").start();
    let long = "x".repeat(1000);
    let mut streams: Vec<_> = (0..55).map(|n| world.front.subscribe(&format!("room-{n:02}"))).collect();
    streams.extend((0..2).map(|_| world.front.subscribe("room-54")));
    streams.extend((0..3).map(|_| world.front.subscribe(&long)));
    let record = || -> Value { serde_json::from_str(&world.front.admin().get("/status").text()).expect("JSON") };
    wait_until("the channels to be told", || record()["channels"][1]["streams"] == 3);
    let told = record()["channels"].clone();
    assert_eq!(told.as_array().map(Vec::len), Some(50));
    assert_eq!(told[0], json!({"name": "room-54", "streams": 3, "published": 0}), "without the prefix: {told}");
    assert_eq!(told[1], json!({"name": format!("{}…", "x".repeat(200)), "streams": 3, "published": 0}), "{told}");
    assert_eq!(told[2]["streams"], 1);
    world.redis.publish("app:room-54", "x");
    wait_until("the publication to be told", || record()["channels"].to_string().contains("\"published\":1"));
    drop(streams);
    world.finish();
}

#[test]
fn publications_are_counted_by_kind_and_timed_to_their_first_write() {
    let mut world = World::start();
    let mut streams: Vec<_> = (0..3).map(|_| world.front.subscribe("news")).collect();
    for n in 0..10 {
        world.redis.publish("news", n.to_string());
        for stream in &mut streams {
            assert_eq!(stream.data(), n.to_string());
        }
    }
    assert_eq!(world.count("tempest_publications_received_total", &["kind=\"plain\""]), 10);
    assert_eq!(world.count("tempest_publications_received_total", &["kind=\"history\""]), 0);
    assert_eq!(
        world.count("tempest_stream_lag_seconds_count", &[]),
        10,
        "each, since none came before the last was read"
    );
    drop(streams);
    world.finish();
}
