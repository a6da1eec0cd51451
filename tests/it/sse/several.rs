//! Several channels in one stream, and patterns: what may be named, what an event says of where it comes from.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tempest_tests::{Sse, World, wait_until};

use super::history::{publish, world};

#[test]
fn one_stream_reads_several_channels() {
    let mut world = World::start();
    let mut stream = Sse::open(world.front.address(), "/sub?channel=a&channel=b%2Fc");
    world.redis.publish("a", "one");
    assert_eq!(stream.data(), "one");
    world.redis.publish("b/c", "two");
    assert_eq!(stream.data(), "two");
    let mut both = Sse::open(world.front.address(), "/sub/a?channel=d");
    world.redis.publish("d", "three");
    assert_eq!(both.data(), "three");
    assert_eq!(world.gauge("tempest_streams_open"), 2);
    drop((stream, both));
    wait_until("all to be given up", || world.redis.subscribers("a") + world.redis.subscribers("d") == 0);
    world.finish();
}

#[test]
fn an_event_is_told_its_channel_where_that_is_asked_for() {
    let mut world = World::start();
    let mut stream = Sse::open(world.front.address(), "/sub?channel=a&channel=b&tell=channel");
    for (channel, payload, event, data) in [
        ("a", r#"["paid","4\n2"]"#, json!("paid"), "4\n2"),
        ("b", "plain \"text\"", Json::Null, "plain \"text\""),
        ("b", "", Json::Null, ""),
    ] {
        world.redis.publish(channel, payload);
        let got = stream.event();
        assert_eq!(got.name, "");
        let told: Json = serde_json::from_str(&got.data).expect("JSON");
        assert_eq!(told, json!({"channel": channel, "event": event, "data": data}));
    }
    // One channel alone can be asked for it, too.
    let mut alone = Sse::open(world.front.address(), "/sub/a?tell=channel");
    world.redis.publish("a", "x");
    assert!(alone.data().starts_with(r#"{"channel":"a""#));
    drop((stream, alone));
    world.finish();
}

#[test]
fn an_id_is_a_place_in_every_channel_with_history() {
    let mut world = world();
    let target = "/sub?channel=log.a&channel=plain&channel=log.b";
    let mut stream = Sse::open(world.front.address(), target);
    assert_eq!(stream.head.header("tempest-last-event-id"), Some("0-0,0-0"));
    let first = publish(&mut world.redis, "log.b", "b0");
    assert_eq!((stream.data(), stream.last_id.clone()), ("b0".into(), format!("0-0,{first}")));
    world.redis.publish("plain", "p");
    assert_eq!(stream.event().id, "");
    let last = stream.last_id.clone();
    drop(stream);
    for n in 0..3 {
        publish(&mut world.redis, "log.a", &format!("a{n}"));
        publish(&mut world.redis, "log.b", &format!("b{}", n + 1));
    }
    let mut back = Sse::resume(world.front.address(), target, &last);
    assert_eq!(back.head.header("tempest-resume"), Some("complete"));
    let mut got: Vec<String> = (0..6).map(|_| back.data()).collect();
    let ids: Vec<&str> = back.last_id.split(',').collect();
    assert!(ids.len() == 2 && ids.iter().all(|id| id.ends_with("-3") || id.ends_with("-4")), "{ids:?}");
    got.sort();
    assert_eq!(got, ["a0", "a1", "a2", "b1", "b2", "b3"]);
    // In the order of each channel, and from the last place nothing comes again.
    let mut again = Sse::resume(world.front.address(), target, &back.last_id);
    publish(&mut world.redis, "log.a", "a3");
    assert_eq!((back.data(), again.data()), ("a3".into(), "a3".into()));
    // The id of another list of channels says nothing about this one.
    let mut other = Sse::resume(world.front.address(), "/sub?channel=log.a", &last);
    assert_eq!(other.event().name, "$lost");
    drop((back, again, other));
    world.finish();
}

#[test]
fn what_may_be_named_has_its_limits() {
    let world = World::builder()
        .set("channels.per_stream = 3\nchannels.logs_per_stream = 2\nchannels.patterns = [\"x.*\"]\nchannels.public = [\"a\", \"b\", \"c\", \"d\", \"log.*\"]")
        .table("[[channels.rule]]\npattern = \"log.*\"\nhistory = {}")
        .start();
    let status = |target: &str| {
        let mut http = world.http();
        http.request("HEAD", target, &[], b"");
        http.head_response().status
    };
    for (target, expected) in [
        ("/sub?channel=a&channel=b&channel=c", 200),
        ("/sub?channel=a&channel=b&channel=c&channel=d", 400),
        ("/sub?channel=log.1&channel=log.2&channel=a", 200),
        ("/sub?channel=log.1&channel=log.2&channel=log.3", 400),
        ("/sub", 400),
        ("/sub?channel=", 400),
        ("/sub?channel=a&channel=a", 400),
        ("/sub?channel=a&tell=all", 400),
        ("/sub?channel=a&channel=e", 403),
        ("/sub?channel=a&channel=tempest:log:log.1", 403),
        ("/sub?pattern=x.*", 200),
        ("/sub?pattern=x.1*", 403),
        ("/sub?pattern=*", 403),
        ("/sub?channel=x.*", 403),
    ] {
        assert_eq!(status(target), expected, "{target}");
    }
    world.finish();
}

#[test]
fn a_pattern_reads_whatever_matches_it_live_and_nothing_of_the_system() {
    let mut world = World::builder()
        .set("channels.patterns = [\"*\", \"log.?\", \"o[r].*\"]")
        .table("[[channels.rule]]\npattern = \"log.*\"\nhistory = {}")
        .start();
    let mut all = Sse::open(world.front.address(), "/sub?pattern=*&tell=channel");
    let mut logs = Sse::open(world.front.address(), "/sub?pattern=log.?");
    let mut odd = Sse::open(world.front.address(), "/sub?pattern=o%5Br%5D.*&channel=a");
    world.redis.publish("o[r].1", "bracket");
    assert_eq!(odd.data(), "bracket");
    world.redis.publish("or.1", "no bracket");
    world.redis.publish("a", "named");
    assert_eq!(odd.data(), "named");
    publish(&mut world.redis, "log.a", "kept");
    publish(&mut world.redis, "log.long", "kept");
    world.redis.publish("log.b", "not kept");
    assert_eq!(logs.data(), "kept");
    assert_eq!(logs.event().id, "", "live only");
    let names: Vec<Json> =
        (0..6).map(|_| serde_json::from_str::<Json>(&all.data()).expect("JSON")["channel"].clone()).collect();
    assert_eq!(names, ["o[r].1", "or.1", "a", "log.a", "log.long", "log.b"]);
    assert!(all.is_silent_for(Duration::from_millis(100)), "each comes once");
    // The connection for patterns is made anew like any other.
    world.redis.cut_clients_named("tempest:");
    wait_until("the patterns to be asked for again", || world.redis.cmd(&["PUBSUB", "NUMPAT"]).int() >= 6);
    world.redis.publish("log.c", "after");
    assert_eq!(logs.data(), "after");
    drop((all, logs, odd));
    wait_until("the patterns to be given up", || world.redis.cmd(&["PUBSUB", "NUMPAT"]).int() == 0);
    world.finish();
}
