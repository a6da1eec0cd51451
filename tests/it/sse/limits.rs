//! Limits on streams at their edges, and a front that has no descriptors left.

use serde_json::json;
use tempest_tests::{Http, Response, Sse, World, in_seconds, token, wait_until};

fn get(world: &World, target: &str, accept: &str) -> Response {
    let mut http = Http::connect(world.front.address());
    http.request("GET", target, &[&format!("Accept: {accept}")], b"");
    http.try_response(false).expect("a response")
}

/// Asks until there is a stream: the room of one that ended is given back a moment after its end can be seen.
#[track_caller]
fn subscribe_again(world: &World, channel: &str) -> Sse {
    let mut found = None;
    wait_until("room again", || {
        let stream = Sse::on(world.http(), &format!("/sub/{channel}"));
        found = (stream.head.status == 200).then_some(stream);
        found.is_some()
    });
    found.expect("just found")
}

#[test]
fn an_address_has_so_many_streams_over_all_reactors() {
    let mut world = World::builder().set("channels.streams_per_address = 3").set("front.reactors = 2").start();
    let mut held: Vec<_> = (0..3).map(|n| world.front.subscribe(&format!("room-{n}"))).collect();
    let refused = get(&world, "/sub/room-3", "text/event-stream");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("10")));
    assert!(refused.text().contains("from this address"), "{}", refused.text());
    assert_eq!(world.count("tempest_requests_refused_total", &["reason=\"streams_per_address\""]), 1);
    assert_eq!(world.redis.subscribers("room-3"), 0);
    let mut other = world.http();
    other.request("GET", "/page", &[], b"");
    let job = world.take();
    world.ok(&job, "requests are not streams");
    assert_eq!(other.response().status, 200);
    held.pop();
    held.push(subscribe_again(&world, "room-3"));
    assert_eq!(get(&world, "/sub/room-4", "text/event-stream").status, 429);
    drop(held);
    world.finish();
}

#[test]
fn a_user_has_so_many_streams_whichever_token_opens_them() {
    const SECRET: &str = "the secret of a test, 32 bytes or more";
    let key = format!("[[channels.key]]\nname = \"test\"\nalg = \"HS256\"\nsecret = \"{SECRET}\"");
    let world = World::builder().set("channels.streams_per_user = 2").table(&key).start();
    let target = |user: &str, room: u64, more: u64| {
        let claims = json!({"sub": user, "exp": in_seconds(60 + more), "tempest": {"subscribe": ["*"]}});
        format!("/sub/room-{room}?token={}", token(SECRET, &claims))
    };
    let held = [0, 1].map(|n| Sse::open(world.front.address(), &target("ann", n, n)));
    let refused = get(&world, &target("ann", 2, 2), "text/event-stream");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("10")));
    assert!(refused.text().contains("for this user"), "{}", refused.text());
    assert_eq!(world.count("tempest_requests_refused_total", &["reason=\"streams_per_user\""]), 1);
    let other = Sse::open(world.front.address(), &target("bob", 0, 0));
    let nobody = Sse::open(world.front.address(), "/sub/room-0");
    drop((held, other, nobody));
    wait_until("the streams to be closed", || world.gauge("tempest_streams_open") == 0);
    drop(Sse::open(world.front.address(), &target("ann", 2, 2)));
    world.finish();
}

#[test]
fn what_became_no_stream_takes_no_place() {
    let mut world = World::builder()
        .set("channels.streams_per_address = 1")
        .set("channels.subscribe_time = \"200ms\"")
        .set("channels.public = [\"news\"]")
        .start();
    for _ in 0..3 {
        assert_eq!(get(&world, "/sub/news", "text/html").status, 406);
        assert_eq!(get(&world, "/sub/secret", "text/event-stream").status, 403);
    }
    world.redis.kill();
    for _ in 0..3 {
        let away = get(&world, "/sub/news", "text/event-stream");
        assert_eq!((away.status, away.complete), (200, true), "told to come back");
    }
    world.restart_redis();
    drop(world.front.subscribe("news"));
    world.finish();
}

#[test]
fn streams_and_channels_are_refused_by_their_own_reasons() {
    let world = World::builder().set("channels.streams = 2").set("channels.channels = 1").start();
    let first = world.front.subscribe("a");
    assert_eq!(get(&world, "/sub/b", "*/*").status, 503);
    assert_eq!(world.count("tempest_requests_refused_total", &["reason=\"channels\""]), 1);
    let second = world.front.subscribe("a");
    assert_eq!(get(&world, "/sub/a", "*/*").status, 503);
    assert_eq!(world.count("tempest_requests_refused_total", &["reason=\"streams\""]), 1);
    drop((first, second));
    world.finish();
}

#[test]
fn without_descriptors_new_connections_wait_and_streams_go_on() {
    const WAITING: usize = 20;
    let mut world = World::start();
    let mut streams: Vec<_> = (0..5).map(|_| world.front.subscribe("news")).collect();
    // Opened before, since it could not be later.
    let mut admin = world.front.admin();
    let mut failures = || {
        let text = admin.get("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix("tempest_accept_failures_total "));
        value.and_then(|value| value.parse::<u64>().ok()).expect("a counter")
    };
    assert_eq!(failures(), 0);
    world.front.process.limit_descriptors(Some(3));
    let mut waiting: Vec<_> = (0..WAITING).map(|_| world.http()).collect();
    for http in &mut waiting {
        http.request("GET", "/sub/news", &["Accept: text/event-stream"], b"");
    }
    wait_until("accepting to fail again and again", || failures() >= 4);
    for n in 0..3 {
        world.redis.publish("news", n.to_string());
        for stream in &mut streams {
            assert_eq!(stream.data(), n.to_string());
        }
    }
    let said = world.front.process.log.lines().iter().filter(|line| line.contains("cannot accept")).count();
    assert_eq!(said, 1, "an outage is one line, whatever the number of its failures");
    world.front.process.limit_descriptors(None);
    for http in &mut waiting {
        assert_eq!(http.read_head().expect("the head of a stream").status, 200);
    }
    drop((streams, waiting));
    world.finish();
}
