//! How a held stream of events begins, and what is sent to those who get none.

use serde_json::json;
use tempest_tests::{Item, Sse, World, wait_until};

use super::{asked, got, held, past_first_lines};

#[test]
fn a_held_stream_is_a_stream_like_any_other_with_the_workers_headers() {
    let mut world = World::builder().set("channels.public = []").set("channels.cors = [\"*\"]").start();
    let headers = json!({"x-order": "42", "set-cookie": ["a=1", "b=2"], "connection": "x-hop", "x-hop": "1",
        "x-accel-buffering": "yes", "x-latin": "caf\u{e9}", "content-length": "0"});
    let fields = json!({"headers": headers, "hold": {"channels": ["orders.42"], "first": "one\ntwo"}});
    let mut http = world.http();
    http.request("GET", "/events", &["Origin: https://a.test", "Accept: application/json"], b"");
    let job = world.take();
    world.answer(&job, fields, "");
    let head = http.read_head().expect("a head");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(head.header("cache-control"), Some("no-cache, no-transform"));
    assert_eq!((head.header("x-order"), head.all("set-cookie")), (Some("42"), vec!["a=1", "b=2"]));
    assert_eq!((head.header("x-accel-buffering"), head.header("x-latin")), (Some("yes"), Some("caf\u{e9}")));
    for name in ["x-hop", "connection", "content-length", "access-control-allow-origin"] {
        assert_eq!(head.header(name), None, "{name}");
    }
    assert_eq!(head.header("x-request-id"), Some(job.id()));
    assert_eq!((head.all("date").len(), head.header("transfer-encoding")), (1, Some("chunked")));
    let mut stream = Sse::after(http, head);
    past_first_lines(&mut stream);
    assert_eq!(stream.item(), Item::Event(tempest_tests::Event { data: "one\ntwo".into(), ..Default::default() }));
    assert_eq!(world.redis.publish("orders.42", "[\"paid\",\"yes\"]"), 1);
    let event = stream.event();
    assert_eq!((event.name.as_str(), event.data.as_str()), ("paid", "yes"));
    assert_eq!(world.count("tempest_holds_total", &["events"]), 1);
    assert_eq!(world.count("tempest_http_requests_total", &["200"]), 1);
    assert_eq!(world.count("tempest_answers_total", &["answered"]), 1);
    drop(stream);
    world.finish();
}

#[test]
fn the_workers_own_content_type_of_events_is_kept() {
    let mut world = World::start();
    let headers = json!({"content-type": "Text/Event-Stream; charset=utf-8", "date": "Sun, 06 Nov 1994 08:49:37 GMT"});
    let (http, head) = got(&mut world, json!({"headers": headers, "hold": {"channels": ["a"]}}));
    assert_eq!(head.all("content-type"), ["Text/Event-Stream; charset=utf-8"]);
    assert_eq!(head.all("date"), ["Sun, 06 Nov 1994 08:49:37 GMT"]);
    past_first_lines(&mut Sse::after(http, head));
    world.finish();
}

#[test]
fn what_is_published_when_the_head_arrives_is_never_lost() {
    let mut world = World::start();
    for n in 0..200 {
        let channel = format!("fresh-{n}");
        let mut stream = held(&mut world, json!({"channels": [channel]}));
        assert_eq!(world.redis.publish(&channel, "at once"), 1, "subscribed before head {n} was sent");
        assert_eq!(stream.data(), "at once");
    }
    world.finish();
}

#[test]
fn a_request_waits_for_a_worker_that_is_away_and_is_held_when_it_comes() {
    let mut world = World::start();
    // None has answered lately, whom any route would wait for: all of it is started anew, and the pages come back first.
    let mut clients: Vec<_> = (0..3).map(|_| world.http()).collect();
    for http in &mut clients {
        http.request("GET", "/events", &["Accept: text/event-stream"], b"");
    }
    wait_until("all of them to wait in the queue", || world.redis.llen("tempest:web") == 3);
    world.worker(|job| vec![job.answer(json!({"hold": {"channels": ["orders.42"]}}), b"")]);
    let mut streams: Vec<_> = clients
        .into_iter()
        .map(|mut http| {
            let head = http.read_head().expect("a head");
            assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
            Sse::after(http, head)
        })
        .collect();
    assert_eq!(world.redis.publish("orders.42", "paid"), 1);
    for stream in &mut streams {
        assert_eq!(stream.data(), "paid");
    }
    drop(streams);
    world.finish();
}

#[test]
fn one_hold_takes_several_channels() {
    let mut world = World::start();
    let names: Vec<String> = (0..64).map(|n| format!("room-{n}")).collect();
    let mut stream = held(&mut world, json!({"channels": names}));
    for name in names.iter().rev() {
        assert_eq!(world.redis.publish(name, format!("in {name}")), 1);
        assert_eq!(stream.data(), format!("in {name}"));
    }
    drop(stream);
    wait_until("all to be given up", || world.gauge("tempest_channels_subscribed") == 0);
    let mut twice = held(&mut world, json!({"channels": ["a", "b", "a"]}));
    for (channel, text) in [("a", "first"), ("b", "second"), ("a", "third")] {
        world.redis.publish(channel, text);
        assert_eq!(twice.data(), text, "a name that comes twice counts once");
    }
    drop(twice);
    world.finish();
}

#[test]
fn any_method_can_be_held_and_a_head_gets_the_head_alone() {
    let mut world = World::start();
    let hold = json!({"channels": ["a"], "first": "x"});
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PURGE"] {
        let mut http = asked(&mut world, &format!("{method} /events HTTP/1.1"), json!({"hold": hold}));
        let head = http.read_head().expect("a head");
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")), "{method}");
        assert_eq!(Sse::after(http, head).data(), "x", "{method}");
    }
    wait_until("all to be given up", || world.redis.subscribers("a") == 0);
    for (headers, hold, content_type) in [
        (json!({}), json!({"channels": ["a"]}), Some("text/event-stream")),
        (json!({"content-type": "text/plain"}), json!({"channels": ["a"]}), Some("text/plain")),
        (json!({}), json!({"channels": ["a"], "mode": "once"}), None),
    ] {
        let mut http = asked(&mut world, "HEAD /events HTTP/1.1", json!({"headers": headers, "hold": hold}));
        let head = http.head_response();
        assert_eq!((head.status, head.header("content-type")), (200, content_type));
        assert_eq!(world.redis.subscribers("a"), 0, "nobody listens");
        // The connection is an ordinary one.
        http.request("GET", "/page", &[], b"");
        let job = world.take();
        world.ok(&job, "a page");
        assert_eq!(http.response().text(), "a page");
    }
    world.finish();
}

#[test]
fn http_1_0_gets_a_stream_that_ends_with_the_connection() {
    let mut world = World::start();
    for headers in [json!({}), json!({"content-type": "text/plain"})] {
        let fields = json!({"headers": headers, "hold": {"channels": ["a"], "timeout": 1500}});
        let mut http = asked(&mut world, "GET /events HTTP/1.0", fields);
        let head = http.read_head().expect("a head");
        assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
        world.redis.publish("a", "plain");
        let rest = String::from_utf8(http.rest()).expect("text");
        assert!(rest.contains("plain"), "{rest:?}");
    }
    world.finish();
}

#[test]
fn a_prefix_stands_before_every_name_and_opens_no_way_to_reserved_ones() {
    let mut world = World::builder().set("channels.prefix = \"app:\"").start();
    let mut stream = held(&mut world, json!({"channels": ["orders"]}));
    assert_eq!((world.redis.publish("orders", "no"), world.redis.publish("app:orders", "yes")), (0, 1));
    assert_eq!(stream.data(), "yes");
    drop(stream);
    world.finish();
    let mut world = World::builder().set("channels.prefix = \"tempest:\"").start();
    assert_eq!(got(&mut world, json!({"hold": {"channels": ["web"]}})).1.status, 502);
    world.finish();
}

#[test]
fn without_room_a_hold_is_a_503() {
    let mut world = World::builder().set("channels.streams = 1").start();
    let stream = held(&mut world, json!({"channels": ["a"]}));
    for fields in [
        json!({"hold": {"channels": ["b"]}}),
        json!({"headers": {"content-type": "text/plain"}, "hold": {"channels": ["b"]}}),
        json!({"hold": {"channels": ["b"], "mode": "once"}}),
    ] {
        let (_, head) = got(&mut world, fields);
        assert_eq!((head.status, head.header("retry-after").is_some()), (503, true));
    }
    drop(stream);
    world.finish();
    let mut world = World::builder().set("channels.channels = 2").start();
    for headers in [json!({}), json!({"content-type": "text/plain"})] {
        let (_, head) = got(&mut world, json!({"headers": headers, "hold": {"channels": ["a", "b", "c"]}}));
        assert_eq!((head.status, head.header("retry-after").is_some()), (503, true));
    }
    wait_until("what was taken before to be given up", || world.gauge("tempest_channels_subscribed") == 0);
    drop(held(&mut world, json!({"channels": ["a", "b"]})));
    world.finish();
}

#[test]
fn held_connections_count_for_their_address_whatever_they_are() {
    let mut world = World::builder().set("channels.streams_per_address = 1").start();
    let stream = held(&mut world, json!({"channels": ["a"]}));
    for fields in [
        json!({"hold": {"channels": ["b"]}}),
        json!({"headers": {"content-type": "text/plain"}, "hold": {"channels": ["b"]}}),
        json!({"hold": {"channels": ["b"], "mode": "once", "timeout": 1000}}),
    ] {
        let (_, head) = got(&mut world, fields);
        assert_eq!((head.status, head.header("retry-after").is_some()), (429, true));
    }
    drop(stream);
    world.finish();
}
