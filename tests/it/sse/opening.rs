//! How a stream begins, and every request for one that gets something else.

use tempest_tests::{Http, Item, Response, Sse, World, WorldBuilder, wait_until};

fn asked(world: &World, request: &str) -> Response {
    let mut http = world.http();
    http.send(request);
    http.try_response(request.starts_with("HEAD")).expect("a response")
}

fn get(world: &World, target: &str) -> Response {
    asked(world, &format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"))
}

fn some_public() -> WorldBuilder {
    World::builder().set("channels.public = [\"news\", \"room.*\", \"?\"]")
}

#[test]
fn a_stream_begins_with_its_head_a_comment_and_a_reconnection_time() {
    let world = World::start();
    let mut stream = Sse::open(world.front.address(), "/sub/news");
    let head = stream.head.clone();
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    assert_eq!((head.header("access-control-allow-origin"), head.header("content-length")), (None, None));
    assert!(matches!(stream.item(), Item::Comment(_)));
    assert_eq!(stream.item(), Item::Retry(2000));
    drop(stream);
    world.finish();
}

#[test]
fn what_is_published_after_the_head_arrives() {
    let mut world = World::start();
    for n in 0..30 {
        let channel = format!("fresh-{n}");
        let mut stream = Sse::open(world.front.address(), &format!("/sub/{channel}"));
        assert_eq!(world.redis.publish(&channel, "at once"), 1, "subscribed before head {n} was sent");
        assert_eq!(stream.data(), "at once");
    }
    world.finish();
}

#[test]
fn names_are_decoded_once_and_name_the_same_channel_in_redis() {
    let mut world = World::start();
    for (target, channel) in [
        ("news", "news"),
        ("a/b", "a/b"),
        ("a%2Fb", "a/b"),
        ("two%20words", "two words"),
        ("a+b", "a+b"),
        ("%C3%BC%E2%98%83", "\u{fc}\u{2603}"),
        ("*", "*"),
        ("n%3Fws", "n?ws"),
        ("%2525", "%25"),
        ("x?query=ignored", "x"),
        ("/", "/"),
        ("%2e%2e/..", "../.."),
    ] {
        let mut stream = world.front.subscribe(target);
        assert_eq!(world.redis.subscribers(channel), 1, "{target}");
        world.redis.publish(channel, target);
        assert_eq!(stream.data(), target);
    }
    world.finish();
}

#[test]
fn a_pattern_in_a_name_is_no_pattern() {
    let mut world = World::start();
    let mut stream = world.front.subscribe("news*");
    assert_eq!(world.redis.publish("newsflash", "for others"), 0);
    assert_eq!(world.redis.publish("news*", "for me"), 1);
    assert_eq!(stream.data(), "for me");
    drop(stream);
    world.finish();
}

#[test]
fn a_name_that_is_none_is_a_400() {
    let world = World::start();
    let longest = "x".repeat(1024);
    for target in ["", "%", "%2", "%zz", "%ff", "%c3%28", "a%00b", "a%0Ab", "a%7Fb", "%C2%85", &format!("{longest}y")] {
        assert_eq!(get(&world, &format!("/sub/{target}")).status, 400, "{target:.20}");
    }
    drop(world.front.subscribe(&longest));
    world.finish();
}

#[test]
fn reserved_names_are_never_served() {
    let world = World::start();
    for target in [
        "tempest:web",
        "tempest:@fronts",
        "tempest:@x.0",
        "{tempest:web}:workers",
        "__keyspace@0__:x",
        "__x",
        "tempest%3Alog:a",
    ] {
        assert_eq!(get(&world, &format!("/sub/{target}")).status, 403, "{target}");
    }
    for target in ["tempest", "tempestuous:x", "a:tempest:b", "_x"] {
        drop(world.front.subscribe(target));
    }
    world.finish();
}

#[test]
fn only_public_channels_are_served() {
    let world = some_public().start();
    for target in ["secret", "news2", "rooms", "room", "%C3%BCx", "NEWS"] {
        assert_eq!(get(&world, &format!("/sub/{target}")).status, 403, "{target}");
    }
    for target in ["news", "room.", "room.a/b", "x", "%C3%BC"] {
        drop(world.front.subscribe(target));
    }
    world.finish();
    let world = World::builder().set("channels.public = []").start();
    assert_eq!(get(&world, "/sub/news").status, 403, "by default nothing is public");
    world.finish();
}

#[test]
fn a_prefix_stands_before_every_name() {
    let mut world = World::builder().set("channels.prefix = \"app1:\"").start();
    let mut stream = world.front.subscribe("news");
    assert_eq!(world.redis.publish("news", "another application's"), 0);
    assert_eq!(world.redis.publish("app1:news", "ours"), 1);
    assert_eq!(stream.data(), "ours");
    drop(stream);
    world.finish();
}

#[test]
fn a_prefix_opens_no_way_to_reserved_names() {
    let world = World::builder().set("channels.prefix = \"tempest:\"").start();
    assert_eq!(get(&world, "/sub/web").status, 403);
    world.finish();
}

#[test]
fn other_methods_are_refused_and_options_and_head_answered() {
    let mut world = World::start();
    for method in ["POST", "PUT", "DELETE", "PATCH", "PURGE"] {
        let response =
            asked(&world, &format!("{method} /sub/news HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD, OPTIONS")), "{method}");
    }
    let options = asked(&world, "OPTIONS /sub/news HTTP/1.1\r\nHost: test\r\nOrigin: https://a.test\r\n\r\n");
    assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    assert_eq!(options.header("access-control-allow-origin"), None);
    let head = asked(&world, "HEAD /sub/news HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(head.header("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(world.redis.subscribers("news"), 0, "nobody listens");
    world.finish();
}

#[test]
fn accept_decides() {
    let world = World::start();
    let with = |accept: &str| {
        let mut http = world.http();
        http.send(format!("GET /sub/news HTTP/1.1\r\nHost: test\r\n{accept}\r\n"));
        http.read_head().expect("a head").status
    };
    for accept in [
        "",
        "Accept: */*\r\n",
        "Accept: text/*\r\n",
        "Accept: text/html, text/event-stream;q=0.1\r\n",
        "Accept: TEXT/Event-Stream\r\n",
    ] {
        assert_eq!(with(accept), 200, "{accept}");
    }
    for accept in ["Accept: application/json\r\n", "Accept: text/html\r\n", "Accept: text/event-stream;q=0\r\n"] {
        assert_eq!(with(accept), 406, "{accept}");
    }
    world.finish();
}

#[test]
fn origins_are_allowed_by_configuration() {
    let world = World::builder().set("channels.cors = [\"https://a.test\"]").start();
    let from = |world: &World, origin: &str, method: &str| {
        let mut http = world.http();
        http.send(format!("{method} /sub/news HTTP/1.1\r\nHost: test\r\nOrigin: {origin}\r\n\r\n"));
        http.read_head().expect("a head")
    };
    for method in ["GET", "OPTIONS"] {
        let allowed = from(&world, "https://a.test", method);
        assert_eq!(allowed.header("access-control-allow-origin"), Some("https://a.test"), "{method}");
        assert_eq!(allowed.header("vary").map(str::to_lowercase).as_deref(), Some("origin"));
        let other = from(&world, "https://b.test", method);
        assert_eq!(other.header("access-control-allow-origin"), None, "{method}");
    }
    world.finish();
    let world = World::builder().set("channels.cors = [\"*\"]").start();
    assert_eq!(from(&world, "https://b.test", "GET").header("access-control-allow-origin"), Some("*"));
    world.finish();
}

#[test]
fn http_1_0_gets_a_stream_that_ends_with_the_connection() {
    let mut world = World::start();
    let mut http = world.http();
    http.send("GET /sub/news HTTP/1.0\r\n\r\n");
    let head = http.read_head().expect("a head");
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    wait_until("the subscription", || world.redis.subscribers("news") == 1);
    world.redis.publish("news", "plain");
    let mut lines = Vec::new();
    while lines.last().map(String::as_str) != Some("data: plain") {
        lines.push(http.line().expect("a line"));
    }
    drop(http);
    world.finish();
}

#[test]
fn a_stream_follows_other_requests_on_the_same_connection() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/page", &[], b"");
    let job = world.take();
    world.ok(&job, "the page");
    assert_eq!(http.response().text(), "the page");
    let mut stream = Sse::on(http, "/sub/news");
    assert_eq!(stream.head.status, 200);
    world.redis.publish("news", "live");
    assert_eq!(stream.data(), "live");
    drop(stream);
    world.finish();
}

#[test]
fn an_answer_pipelined_before_a_stream_is_not_lost() {
    let mut world = World::start();
    for _ in 0..20 {
        let mut http = world.http();
        http.send("GET /first HTTP/1.1\r\nHost: test\r\n\r\nGET /sub/news HTTP/1.1\r\nHost: test\r\n\r\nGET /behind HTTP/1.1\r\nHost: test\r\n\r\n");
        let job = world.take();
        assert_eq!(job.line(), "GET /first");
        world.ok(&job, &"x".repeat(100_000));
        assert_eq!(http.response().body.len(), 100_000);
        let head: Response = http.read_head().expect("the stream's head");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
    }
    assert_eq!(world.redis.llen("tempest:web"), 0, "what is pipelined behind a stream ends with it");
    world.finish();
}

#[test]
fn limits_refuse_with_retry_after() {
    let world = World::builder().set("channels.streams = 2").start();
    let held = [world.front.subscribe("a"), world.front.subscribe("b")];
    let refused = get(&world, "/sub/c");
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    drop(held);
    wait_until("room again", || world.gauge("tempest_streams_open") == 0);
    drop(world.front.subscribe("c"));
    world.finish();

    let world = World::builder().set("channels.channels = 2").start();
    let held = [world.front.subscribe("a"), world.front.subscribe("b"), world.front.subscribe("a")];
    let refused = get(&world, "/sub/c");
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    drop(held);
    world.finish();
}

#[test]
fn without_redis_a_new_stream_is_told_to_come_back() {
    let mut world = World::builder().set("channels.subscribe_time = \"300ms\"").start();
    world.redis.kill();
    let mut http = Http::connect(world.front.address());
    http.request("GET", "/sub/news", &["Accept: text/event-stream"], b"");
    let response = http.response();
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/event-stream")));
    assert!(response.complete && response.text().starts_with(':') && response.text().contains("retry: 2000"));
    world.redis.restart();
    wait_until("the front to be ready again", || world.front.is_ready());
    let mut stream = world.front.subscribe("news");
    wait_until("the subscription", || world.redis.publish("news", "back") == 1);
    assert_eq!(stream.data(), "back");
    drop(stream);
    world.finish();
}
