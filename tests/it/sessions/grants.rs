//! Sessions open channels.

use serde_json::json;
use tempest_tests::{Sse, World};

use super::{Client, KEYS, patch};

fn world(settings: &str) -> World {
    let session = format!("[session]\n{KEYS}\n{settings}");
    let routes = "[[route]]\npath = \"/sub/{channel...}\"\nkind = \"subscribe\"\n[[route]]\npath = \"/pub/{channel...}\"\n\
                  kind = \"publish\"\n[[route]]\npath = \"/{rest...}\"\nqueue = \"web\"";
    World::builder().set("channels.public = [\"open\"]").table(&session).table(routes).start()
}

fn logged_in(world: &mut World) -> Client {
    let mut client = Client::default();
    let grants = json!({"subscribe": ["orders.7.*"], "publish": ["chat"], "patterns": ["orders.7.*"]});
    client.visit(world, patch(json!({"user": 7, "tempest": grants})));
    client
}

fn status(world: &World, client: &Client, target: &str) -> u16 {
    let mut http = world.http();
    let cookie = client.header();
    http.request("GET", target, &cookie.iter().map(String::as_str).collect::<Vec<_>>(), b"");
    http.read_head().expect("a head").status
}

#[test]
fn a_session_opens_what_it_grants_in_either_store() {
    for store in ["cookie", "redis"] {
        let mut world = world(&format!("store = {store:?}"));
        let client = logged_in(&mut world);
        let stranger = Client::default();
        assert_eq!(status(&world, &stranger, "/sub/orders.7.paid"), 403);
        assert_eq!(status(&world, &client, "/sub/orders.8.paid"), 403);
        assert_eq!(status(&world, &client, "/sub/tempest:x"), 403, "reserved for all");
        assert_eq!((status(&world, &stranger, "/sub/open"), status(&world, &client, "/sub/open")), (200, 200));
        let cookie = client.header().expect("a cookie");
        let mut stream = Sse::with(world.http(), "/sub/orders.7.paid", &[&cookie]);
        world.redis.publish("orders.7.paid", "yes");
        assert_eq!(stream.data(), "yes");
        drop(stream);
        world.finish();
    }
}

#[test]
fn a_session_publishes_from_our_pages_only() {
    let mut world = world("");
    let client = logged_in(&mut world);
    let cookie = client.header().expect("a cookie");
    let host = "origin: http://test".to_owned();
    let publish = |headers: &[&str], channel: &str| {
        let mut http = world.http();
        http.request("POST", &format!("/pub/{channel}"), headers, b"hi");
        http.response().status
    };
    assert_eq!(publish(&[&cookie, &host], "chat"), 200);
    assert_eq!(publish(&[&cookie, &host], "news"), 403);
    assert_eq!(publish(&[&cookie], "chat"), 403, "nothing says that it comes from one of our pages");
    assert_eq!(publish(&[&cookie, "origin: https://evil.test"], "chat"), 403);
    assert_eq!(publish(&[&host], "chat"), 403);
    world.finish();
}

#[test]
fn the_stream_ends_with_the_session_and_says_so() {
    let mut world = world("lifetime = \"2s\"");
    let client = logged_in(&mut world);
    let mut stream = Sse::with(world.http(), "/sub/orders.7.paid", &[&client.header().expect("a cookie")]);
    let items = format!("{:?}", stream.until_end());
    assert!(items.contains("$end") && items.contains("expired"), "{items}");
    world.finish();
}

#[test]
fn malformed_grants_open_nothing() {
    let mut world = world("");
    for grants in
        [json!("*"), json!({"subscribe": "*"}), json!({"subscribe": [1]}), json!({"subscribe": vec!["*"; 101]})]
    {
        let mut client = Client::default();
        client.visit(&mut world, patch(json!({"tempest": grants})));
        assert_eq!(status(&world, &client, "/sub/orders.7.paid"), 403, "{grants}");
    }
    world.finish();
}

#[test]
fn streams_are_counted_by_the_sessions_user() {
    let session = format!("[session]\n{KEYS}");
    let mut world = World::builder().set("channels.streams_per_user = 1").table(&session).start();
    let client = logged_in(&mut world);
    let cookie = client.header().expect("a cookie");
    let first = Sse::with(world.http(), "/sub/a", &[&cookie]);
    assert_eq!(status(&world, &client, "/sub/b"), 429);
    assert_eq!(status(&world, &Client::default(), "/sub/b"), 200);
    drop(first);
    world.finish();
}
