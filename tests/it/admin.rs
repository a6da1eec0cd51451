//! What operators see: health, metrics, the access log, the front's record in Redis.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tempest_tests::{World, wait_until};

#[test]
fn health_and_metrics_are_on_the_admin_listener_alone() {
    let mut world = World::start();
    let mut admin = world.front.admin();
    for (path, status) in [("/live", 200), ("/ready", 200), ("/metrics", 200), ("/nothing", 404)] {
        assert_eq!(admin.get(path).status, status, "{path}");
    }
    let mut http = world.http();
    http.request("GET", "/metrics", &[], b"");
    let job = world.take();
    world.ok(&job, "a worker's own");
    assert_eq!(http.response().text(), "a worker's own");
    world.finish();
}

#[test]
fn every_metric_has_help_and_type_and_values() {
    let world = World::start();
    let response = world.front.admin().get("/metrics");
    assert!(response.header("content-type").expect("a type").starts_with("text/plain; version=0.0.4"));
    let text = response.text();
    let second = |start: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(start));
        lines.filter_map(|rest| rest.split(' ').next()).map(str::to_owned).collect()
    };
    let (helped, typed) = (second("# HELP "), second("# TYPE "));
    assert_eq!(helped, typed);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().expect("a name");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(typed.contains(name) || typed.contains(family), "{line}");
        assert!(line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).is_some(), "{line}");
    }
    assert!(typed.len() >= 15);
    world.finish();
}

#[test]
fn a_front_that_drains_is_not_ready() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.front.process.signal(tempest_tests::Signal::TERM);
    wait_until("the front to say so", || world.front.admin().get("/ready").status == 503);
    assert_eq!(world.front.admin().get("/live").status, 200);
    world.ok(&job, "");
    assert_eq!(http.response().status, 200);
    assert!(world.front.process.wait().success());
    world.finish_without_front();
}

/// One request through a world with this access log; returns its line.
fn logged(format: &str) -> String {
    let mut world = World::builder().set(&format!("log.access = \"{format}\"")).start();
    let mut http = world.http();
    http.request("POST", "/a?b=%22", &["User-Agent: a \"quoted\" agent", "Referer: http://x/"], b"body");
    let job = world.take();
    world.answer(&job, json!({"status": 201}), "12345");
    assert_eq!(http.response().status, 201);
    let found = |line: &str| line.contains(job.id()).then(|| line.to_owned());
    let line = world.front.process.log.wait("the line of the access log", found);
    world.finish();
    line
}

#[test]
fn the_access_log_is_combined_or_json() {
    let combined = logged("combined");
    assert!(combined.starts_with("127.0.0.1 - - ["), "{combined}");
    assert!(combined.contains("\"POST /a?b=%22 HTTP/1.1\" 201 5 \"http://x/\""), "{combined}");
    let json: Value = serde_json::from_str(&logged("json")).expect("a line of JSON");
    assert_eq!((json["status"].as_u64(), json["method"].as_str()), (Some(201), Some("POST")), "{json}");
    assert_eq!((json["path"].as_str(), json["query"].as_str()), (Some("/a"), Some("b=%22")), "{json}");
    assert_eq!(json["agent"].as_str(), Some("a \"quoted\" agent"));
}

#[test]
fn a_front_registers_itself_and_its_queues() {
    let mut world = World::start();
    let reactors = world.redis.cmd(&["ZRANGE", "tempest:@fronts", "0", "-1"]);
    let reactor = reactors.list()[0].text();
    let front = reactor.split('.').next().expect("a front").to_owned();
    let key = format!("tempest:@front:{front}");
    let record: Value = serde_json::from_str(&world.redis.cmd(&["GET", &key]).text()).expect("JSON");
    assert_eq!(record["id"], json!(front));
    assert_eq!(record["pid"], json!(world.front.process.pid()));
    assert_eq!(record["reactors"], json!([reactor]));
    assert_eq!(record["listen"], json!([world.front.address().to_string()]));
    assert_eq!(record["admin"], json!(world.front.admin_address().to_string()));
    for field in ["host", "version", "started", "counters", "problems"] {
        assert!(!record[field].is_null(), "{field} in {record}");
    }
    let left = world.redis.cmd(&["PTTL", &key]).int();
    assert!((1..=5_000).contains(&left), "{left}");
    let queues: Vec<_> = world
        .redis
        .cmd(&["ZRANGE", "tempest:@queues", "0", "-1"])
        .list()
        .iter()
        .map(tempest_tests::Value::text)
        .collect();
    assert_eq!(queues, ["web"]);
    world.finish();
}
