//! What proxies say in headers.

use serde_json::{Value as Json, json};
use tempest_tests::{Http, World, WorldBuilder, wait_until};

use super::{facts, job_of};

const FOR: &str = "X-Forwarded-For: 198.51.100.9, 203.0.113.7";
const ALL: [&str; 3] = [FOR, "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example"];
const STANDARD: &str = "Forwarded: for=\"203.0.113.8:61000\";proto=https;host=shop.example";

fn behind(kind: &str) -> WorldBuilder {
    World::builder().set("front.trusted_proxies = [\"127.0.0.1\"]").set(&format!("front.forwarded = \"{kind}\""))
}

/// As the connection itself has it.
fn own(http: &Http) -> [String; 3] {
    [http.local_address().to_string(), "http".to_owned(), "test".to_owned()]
}

#[test]
fn a_trusted_proxy_names_client_scheme_and_host() {
    let mut world = behind("x-forwarded").set("front.forwarded_host = true").start();
    let mut http = world.http();
    let job = job_of(&mut world, &mut http, &ALL);
    assert_eq!(facts(&job), ["203.0.113.7:0", "https", "shop.example"]);
    assert_eq!(job["headers"]["x-forwarded-for"], "198.51.100.9, 203.0.113.7", "what was believed is a header, too");
    assert_eq!(job["headers"]["host"], "test");
    assert_eq!(facts(&job_of(&mut world, &mut http, &[])), own(&http), "each request has its own");
    let job = job_of(&mut world, &mut http, &["X-Forwarded-For: 2001:db8::7"]);
    assert_eq!(facts(&job), ["[2001:db8::7]:0", "http", "test"]);
    assert_eq!(facts(&job_of(&mut world, &mut http, &[STANDARD])), own(&http), "the other kind is not looked at");
    world.finish();

    let mut world = behind("forwarded").start();
    let mut http = world.http();
    let job = job_of(&mut world, &mut http, &[STANDARD]);
    assert_eq!(facts(&job), ["203.0.113.8:61000", "https", "test"], "the host only where it is wanted");
    assert_eq!(facts(&job_of(&mut world, &mut http, &ALL)), own(&http), "the other kind is not looked at");
    world.finish();
}

#[test]
fn nobody_else_is_believed() {
    let others = World::builder()
        .set("front.trusted_proxies = [\"10.0.0.0/8\", \"unix\"]")
        .set("front.forwarded = \"x-forwarded\"")
        .set("front.forwarded_host = true");
    let off = World::builder().set("front.trusted_proxies = [\"127.0.0.1\"]");
    for mut world in [others.start(), off.start(), World::start()] {
        let mut http = world.http();
        let job = job_of(&mut world, &mut http, &[&ALL[..], &[STANDARD, "X-Forwarded-For: rubbish"]].concat());
        assert_eq!(facts(&job), own(&http));
        assert_eq!(job["headers"]["x-forwarded-proto"], "https", "a header like any other");
        assert_eq!(job["headers"]["x-forwarded-for"], "198.51.100.9, 203.0.113.7, rubbish");
        assert_eq!(world.count("tempest_forwarded_malformed_total", &[]), 0);
        world.finish();
    }
}

#[test]
fn what_cannot_be_read_is_counted_and_never_an_error() {
    let mut world = behind("x-forwarded").set("front.forwarded_host = true").start();
    let mut http = world.http();
    let bad: [&[&str]; 4] = [
        &["X-Forwarded-For: 203.0.113.7, 127.0.0.1:x"],
        &["X-Forwarded-For: \u{fc}"],
        &["X-Forwarded-Proto: ftp"],
        &["X-Forwarded-Host: a/b"],
    ];
    for (nth, headers) in (1..).zip(bad) {
        assert_eq!(facts(&job_of(&mut world, &mut http, headers)), own(&http), "{headers:?}");
        assert_eq!(world.count("tempest_forwarded_malformed_total", &[]), nth, "{headers:?}");
    }
    assert_eq!(job_of(&mut world, &mut http, &["X-Forwarded-For: unknown"])["peer"], own(&http)[0].as_str());
    assert_eq!(world.count("tempest_forwarded_malformed_total", &[]), 4, "`unknown` is allowed");
    world.finish();
}

#[test]
fn routes_go_by_the_host_that_is_believed() {
    let route = "[[route]]\npath = \"/{rest...}\"\nhost = \"shop.example\"\nqueue = \"web\"";
    let mut world = behind("x-forwarded").set("front.forwarded_host = true").table(route).start();
    let mut http = world.http();
    job_of(&mut world, &mut http, &["X-Forwarded-Host: shop.example:8443"]);
    assert_eq!(http.get("/who").status, 404);
    world.finish();
}

#[test]
fn the_access_log_and_limits_by_address_go_by_the_client() {
    let mut world = behind("x-forwarded")
        .set("log.access = \"json\"")
        .set("limits.requests_per_address = 1")
        .set("limits.connections_per_address = 1")
        .set("channels.streams_per_address = 1")
        .start();
    let [mut one, mut two, mut three] = [(); 3].map(|()| world.http());
    one.request("GET", "/", &["X-Forwarded-For: 203.0.113.7"], b"");
    let job = world.take();
    two.request("GET", "/", &["X-Forwarded-For: 203.0.113.7"], b"");
    assert_eq!(two.response().status, 429);
    three.request("GET", "/", &["X-Forwarded-For: 203.0.113.8"], b"");
    let other = world.take();
    world.ok(&job, "one");
    world.ok(&other, "three");
    assert_eq!((one.response().text(), three.response().text()), ("one".into(), "three".into()));
    let entry = world.front.process.log.wait("the line of the refused request", |line| {
        serde_json::from_str::<Json>(line).ok().filter(|entry| entry["status"] == 429)
    });
    assert_eq!(entry["peer"], "203.0.113.7:0");

    let stream = |http: Http, client: &str| {
        let from = format!("X-Forwarded-For: {client}");
        tempest_tests::Sse::with(http, "/sub/news", &[&from])
    };
    let held = stream(world.http(), "203.0.113.7");
    assert_eq!((held.head.status, stream(two, "203.0.113.7").head.status), (200, 429));
    let other = stream(three, "203.0.113.8");
    assert_eq!(other.head.status, 200);
    drop((held, other, one));
    wait_until("the streams to be noticed", || world.gauge("tempest_streams_open") == 0);
    world.finish();
}

#[test]
fn a_session_is_kept_to_tls_where_the_client_has_come_by_it() {
    let table = "[session]\nkeys = [\"0123456789abcdef0123456789abcdef\"]";
    for (kind, from, secure) in [("x-forwarded", ALL[1], true), ("forwarded", ALL[1], false)] {
        let mut world = behind(kind).table(table).start();
        let mut http = world.http();
        http.request("GET", "/", &[from], b"");
        let job = world.take();
        world.answer(&job, json!({"status": 200, "session": {"user": "ann"}}), "");
        let response = http.response();
        let cookie = response.header("set-cookie").expect("a session");
        assert_eq!(cookie.contains("; Secure"), secure, "{kind}: {cookie}");
        world.finish();
    }
}

#[test]
fn a_proxy_that_is_not_trusted_any_more_is_not_believed_on_connections_that_it_has() {
    let mut world = behind("x-forwarded").start();
    let mut http = world.http();
    assert_eq!(job_of(&mut world, &mut http, &[FOR])["peer"], "203.0.113.7:0");
    world.configure(|text| text.replace("trusted_proxies = [\"127.0.0.1\"]", "trusted_proxies = [\"10.0.0.1\"]"));
    assert!(world.hang_up(), "it holds");
    assert_eq!(facts(&job_of(&mut world, &mut http, &[FOR])), own(&http));
    world.finish();
}
