//! Streams over a reload: they live on, but where their channel is another now.

use tempest_tests::{Http, Item, Response, Sse, World};

fn ask(world: &World, target: &str) -> u16 {
    let mut http = world.http();
    http.request("GET", target, &["Accept: text/event-stream"], b"");
    http.read_head().expect("a head").status
}

#[track_caller]
fn assert_sent_away(stream: &mut Sse) {
    let rest = stream.until_end();
    assert!(rest.iter().any(|item| matches!(item, Item::Retry(_))), "a time to come back: {rest:?}");
}

/// Comes back until there is a stream: while the last of those before is still there it is told to wait.
fn come_back(world: &World, target: &str, last_id: Option<&str>) -> Sse {
    let address = world.front.address();
    loop {
        let mut stream = match last_id {
            Some(id) => Sse::resume(address, target, id),
            None => Sse::open(address, target),
        };
        if stream.head.header("content-length").is_none() {
            stream.comment();
            return stream;
        }
        stream.until_end();
    }
}

#[test]
fn a_channel_that_is_closed_sends_its_readers_away_and_takes_no_more() {
    let mut world = World::start();
    let (mut secret, mut news) = (world.front.subscribe("secret.1"), world.front.subscribe("news"));
    world.configure(|text| text.replace("channels.public = [\"*\"]", "channels.public = [\"news\"]"));
    assert!(world.hang_up());
    assert_sent_away(&mut secret);
    assert_eq!(ask(&world, "/sub/secret.1"), 403);
    world.redis.cmd(&["PUBLISH", "news", "x"]);
    assert_eq!(news.data(), "x");
    assert_eq!(world.count("tempest_stream_drops_total", &["changed"]), 1);
    drop((secret, news));
    world.finish();
}

#[test]
fn a_channel_that_gets_a_history_begins_anew_with_it() {
    let mut world = World::start();
    let (mut stream, mut other) = (world.front.subscribe("log"), world.front.subscribe("news"));
    world.redis.cmd(&["PUBLISH", "log", "live"]);
    assert_eq!(stream.event().id, "");
    let rule = "[[channels.rule]]\npattern = \"log\"\nhistory = { messages = 10, time = \"1m\" }\n";
    world.configure(|text| format!("{text}{rule}"));
    assert!(world.hang_up());
    assert_sent_away(&mut stream);
    let mut again = come_back(&world, "/sub/log", None);
    let url = world.redis.url();
    let publish =
        |text: &str| tempest_tests::tempest(world.dir(), &["publish", "log", text, "--redis", &url], &[], "").ok();
    publish("kept");
    let event = again.event();
    assert!(event.data == "kept" && !event.id.is_empty(), "{event:?}");
    publish("missed");
    drop(again);
    assert_eq!(come_back(&world, "/sub/log", Some(&event.id)).data(), "missed");
    world.redis.cmd(&["PUBLISH", "news", "x"]);
    assert_eq!(other.data(), "x");
    drop((stream, other));
    world.finish();
}

#[test]
fn one_that_is_gone_says_so() {
    let mut world = World::start();
    let mut stream = world.front.subscribe("done");
    world.configure(|text| format!("{text}[[channels.rule]]\npattern = \"done\"\ngone = true\n"));
    assert!(world.hang_up());
    assert_sent_away(&mut stream);
    assert_eq!(ask(&world, "/sub/done"), 204);
    drop(stream);
    world.finish();
}

#[test]
fn streams_that_are_held_go_as_well() {
    let mut world = World::start();
    let hold = |world: &mut World, kind: &str| -> (Http, Response) {
        let mut http = world.http();
        http.request("GET", "/", &[], b"");
        let job = world.take();
        let fields = serde_json::json!({"hold": {"channels": ["room"]}, "headers": {"content-type": kind}});
        world.answer(&job, fields, "");
        let head = http.read_head().expect("a head");
        assert_eq!(head.status, 200, "{head:?}");
        (http, head)
    };
    let ((mut raw, _), (http, head)) = (hold(&mut world, "text/plain"), hold(&mut world, "text/event-stream"));
    let mut events = Sse::after(http, head);
    world.configure(|text| format!("{text}[[channels.rule]]\npattern = \"room\"\npayload = \"raw\"\n"));
    assert!(world.hang_up());
    assert_eq!(raw.chunk(), tempest_tests::Chunk::End);
    assert_sent_away(&mut events);
    drop((raw, events));
    world.finish();
}

#[test]
fn limits_of_streams_hold_for_those_that_begin() {
    let mut world = World::start();
    let mut stream = world.front.subscribe("news");
    world.configure(|text| format!("channels.streams = 1\nchannels.retry = \"7s\"\n{text}"));
    assert!(world.hang_up());
    assert_eq!(ask(&world, "/sub/other"), 503);
    world.redis.cmd(&["PUBLISH", "news", "x"]);
    assert_eq!(stream.data(), "x");
    world.configure(|text| text.replace("channels.streams = 1\n", "channels.streams = 2\n"));
    assert!(world.hang_up());
    let mut fresh = Sse::open(world.front.address(), "/sub/other");
    assert_eq!((fresh.item(), fresh.item()), (Item::Comment("tempest".into()), Item::Retry(7000)));
    drop((stream, fresh));
    world.finish();
}
