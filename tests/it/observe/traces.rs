//! Trace contexts: continued, made, replaced, and told to the worker, the client and the logs.

use serde_json::{Value, json};
use tempest_tests::{Job, Response, World};

const CLIENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn traced(mode: &str, more: &str) -> World {
    World::builder().set(&format!("telemetry.trace = \"{mode}\"\n{more}")).start()
}

/// One request with these headers: its job, and what the client got.
fn ask(world: &mut World, headers: &[&str]) -> (Job, Response) {
    let mut http = world.http();
    http.request("GET", "/", headers, b"");
    let job = world.take();
    world.ok(&job, "");
    (job, http.response())
}

fn context(job: &Job) -> &str {
    job["traceparent"].as_str().unwrap_or_default()
}

#[test]
fn a_clients_context_is_continued_and_its_header_is_no_fact() {
    let mut world = World::start();
    let (job, _) = ask(&mut world, &[&format!("traceparent: {CLIENT}"), "tracestate: a=\"1\"", "tracestate: b=2"]);
    assert_eq!((context(&job), job["tracestate"].as_str()), (CLIENT, Some("a=\"1\",b=2")));
    assert_eq!(job.header("traceparent"), Some(CLIENT), "what a client sent stands among its headers");
    for headers in [&["traceparent: forged", "tracestate: a=1"][..], &["tracestate: a=1"], &[]] {
        let (job, _) = ask(&mut world, headers);
        assert!(job["traceparent"].is_null() && job["tracestate"].is_null(), "{headers:?}");
    }
    let (job, _) = ask(&mut world, &["traceparent: \",\"traceparent\":\"x"]);
    assert!(job["traceparent"].is_null(), "{}", job.head);
    world.finish();
}

#[test]
fn contexts_are_made_where_that_is_configured() {
    let mut world = traced("create", "");
    let mut seen = Vec::new();
    for headers in [&[][..], &["traceparent: forged"], &["traceparent: 00-0-0-00"]] {
        let (job, _) = ask(&mut world, headers);
        let parts: Vec<String> = context(&job).split('-').map(str::to_owned).collect();
        assert_eq!(parts.iter().map(String::len).collect::<Vec<_>>(), [2, 32, 16, 2], "{}", job.head);
        assert_eq!((parts[0].as_str(), parts[3].as_str()), ("00", "01"));
        seen.push(parts[1].clone());
    }
    seen.dedup();
    assert_eq!(seen.len(), 3);
    assert_eq!(context(&ask(&mut world, &[&format!("traceparent: {CLIENT}")]).0), CLIENT);
    world.finish();
}

#[test]
fn who_believes_no_client_makes_all_of_them_and_samples_as_told() {
    let mut world = traced("restart", "telemetry.trace_sample = 0\n");
    let (job, _) = ask(&mut world, &[&format!("traceparent: {CLIENT}"), "tracestate: a=1"]);
    assert!(context(&job).ends_with("-00") && !context(&job).contains(&CLIENT[3..35]), "{}", context(&job));
    assert!(job["tracestate"].is_null());
    world.finish();
    let mut world = traced("off", "");
    assert!(ask(&mut world, &[&format!("traceparent: {CLIENT}")]).0["traceparent"].is_null());
    world.finish();
}

#[test]
fn logs_and_refusals_name_the_request_and_its_trace() {
    let mut world =
        World::builder().set("log.access = \"json\"").table("[[route]]\npath = \"/a\"\nqueue = \"web\"\n").start();
    let (header, trace) = (format!("traceparent: {CLIENT}"), &CLIENT[3..35]);
    let mut http = world.http();
    http.request("GET", "/nowhere", &[&header, "accept: application/json"], b"");
    let response = http.response();
    let problem: Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!(
        (&problem["trace_id"], problem["request_id"].as_str()),
        (&json!(trace), response.header("x-request-id"))
    );
    let id = response.header("x-request-id").expect("an id").to_owned();
    let line = world.front.process.log.wait("the access log", |line| line.contains(&id).then(|| line.to_owned()));
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&line["id"], &line["trace"]), (&json!(id), &json!(trace)));
    let text = http.get("/nowhere").text();
    assert!(
        text.starts_with("404 Not Found: ") && text.lines().nth(1).is_some_and(|l| l.starts_with("request ")),
        "{text}"
    );
    http.request("GET", "/a", &[&header], b"");
    let job = world.take();
    world.answer(&job, json!({"status": 99}), "");
    let response = http.response();
    assert_eq!(response.status, 502);
    assert!(response.text().contains(&format!("request {}, trace {trace}\n", job.id())), "{}", response.text());
    let found = |line: &str| line.contains("malformed-answer").then(|| line.to_owned());
    let line: Value = serde_json::from_str(&world.front.process.log.wait("a line", found)).expect("JSON");
    assert_eq!((&line["request"], &line["trace"]), (&json!(job.id()), &json!(trace)));
    world.finish();
}

#[test]
fn sdks_show_the_context_and_say_how_long_they_took() {
    for language in ["rust", "python"] {
        let mut world = World::start();
        world.sdk_worker(language);
        let mut http = world.http();
        http.request("GET", "/", &[&format!("traceparent: {CLIENT}")], b"");
        assert_eq!(http.response().status, 200, "{language}");
        let count = |name: &str| world.count(name, &["queue=\"web\""]);
        let counted = ["duration", "wait", "service"].map(|what| count(&format!("tempest_job_{what}_seconds_count")));
        assert_eq!(counted, [1; 3], "{language}");
        world.finish();
    }
}
