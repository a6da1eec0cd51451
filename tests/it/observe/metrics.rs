//! Metrics under traffic: what was done is what is counted, and a parser that is not ours can read it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempest_tests::{Claimer, World, repository, wait_until};

const ROUTES: &str = "[[route]]\npath = \"/orders/{id}\"\nmethods = [\"GET\"]\nqueue = \"web\"\n\
                      [[route]]\npath = \"/it's\\\\\"\nqueue = \"web\"\n\
                      [[route]]\npath = \"/sub/{channel...}\"\nkind = \"subscribe\"\n";

fn world() -> World {
    World::builder().table(ROUTES).start()
}

/// Requests of every kind: 6 orders of which 2 fail, one by the wrong method, 3 that no route takes, a stream.
fn traffic(world: &mut World) {
    world.worker(|job| {
        let status = if job["path"] == "/orders/0" { 500 } else { 200 };
        // Half of them say how long they took.
        let took = if job["query"].is_null() { json!(null) } else { json!(40) };
        vec![job.answer(json!({"status": status, "took": took}), b"done")]
    });
    let mut http = world.http();
    for path in ["/orders/1?", "/orders/2?", "/orders/3?", "/orders/4", "/orders/0", "/orders/0"] {
        http.get(path);
    }
    http.request("POST", "/orders/1", &[], b"");
    assert_eq!(http.response().status, 405);
    (0..3).for_each(|_| assert_eq!(http.get("/nowhere").status, 404));
    let mut stream = world.front.subscribe("news");
    world.redis.publish("news", "hello");
    assert_eq!(stream.event().data, "hello");
    // Counted behind the write that the reader has seen.
    wait_until("the delivery to be counted", || world.count("tempest_stream_deliveries_total", &[]) == 1);
}

#[test]
fn what_was_asked_is_what_is_counted() {
    let mut world = world();
    traffic(&mut world);
    let metrics = world.metrics();
    let routed = |labels: &[&str]| metrics.sum("tempest_route_requests_total", labels);
    let orders = "path=\"/orders/{id}\"";
    assert_eq!((routed(&[orders, "status=\"200\""]), routed(&[orders, "status=\"500\""])), (4.0, 2.0));
    assert_eq!((routed(&["route=\"none\"", "404"]), routed(&["route=\"none\"", "405"])), (3.0, 1.0));
    assert_eq!((routed(&["route=\"3\"", "path=\"/sub/{channel...}\""]), routed(&["route=\"2\""])), (1.0, 0.0));
    assert_eq!(routed(&[]), metrics.sum("tempest_http_requests_total", &[]));
    assert_eq!(metrics.sum("tempest_route_request_duration_seconds_count", &[orders]), 6.0);
    assert_eq!(metrics.sum("tempest_http_request_duration_seconds_count", &[]), routed(&[]));
    let queue = |name: &str| metrics.sum(name, &["queue=\"web\""]);
    assert_eq!(queue("tempest_job_duration_seconds_count"), 6.0);
    assert_eq!((queue("tempest_job_wait_seconds_count"), queue("tempest_job_service_seconds_count")), (3.0, 3.0));
    assert!((queue("tempest_job_service_seconds_sum") - 3.0 * 40e-6).abs() < 1e-9, "as the worker said");
    assert!(queue("tempest_job_wait_seconds_sum") <= queue("tempest_job_duration_seconds_sum"));
    assert_eq!(metrics.sum("tempest_answers_total", &["answered"]), 6.0);
    assert_eq!(metrics.sum("tempest_stream_deliveries_total", &[]), 1.0);
    world.finish();
}

#[test]
fn another_programs_parser_reads_a_scrape_under_traffic() {
    let mut world = world();
    traffic(&mut world);
    let text = world.front.admin().get("/metrics").text();
    let prepared = Command::new(repository().join("tests/clients/prepare")).status().expect("bash");
    assert!(prepared.success(), "tests/clients/prepare failed");
    let mut command = Command::new(repository().join("tests/clients/.venv/bin/python"));
    command.arg(repository().join("tests/clients/prometheus_lint.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("python");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&said["problems"], output.status.success()), (&json!([]), true), "{text}");
    let families = said["families"].as_object().expect("families");
    assert!(families.len() >= 45, "{}", families.len());
    assert_eq!(families["tempest_job_wait_seconds"]["type"], "histogram");
    assert_eq!(families["tempest_route_requests"]["samples"][0]["labels"]["route"], "1");
    let build = &families["tempest_build_info"]["samples"][0];
    assert!(build["value"] == 1.0 && build["labels"]["version"].as_str().is_some_and(|v| !v.is_empty()), "{build}");
    for gauge in ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"] {
        assert!(families[gauge]["samples"][0]["value"].as_f64().is_some_and(|value| value > 1.0), "{gauge}");
    }
    world.finish();
}

#[test]
fn how_deep_a_queue_is_and_how_old_its_oldest_job() {
    let mut world = World::start();
    let queue = |world: &World, name: &str| world.metrics().sum(name, &["queue=\"web\""]);
    let oldest = |world: &World| queue(world, "tempest_queue_oldest_job_age_seconds");
    wait_until("the first look", || world.front.admin().get("/metrics").text().contains("oldest_job_age_seconds{"));
    assert_eq!((queue(&world, "tempest_queue_depth"), oldest(&world)), (0.0, 0.0));
    let mut https = [world.http(), world.http()];
    https.iter_mut().for_each(|http| http.request("GET", "/", &[], b""));
    wait_until("both jobs to be seen", || queue(&world, "tempest_queue_depth") == 2.0);
    wait_until("the oldest to be a second old", || oldest(&world) >= 1.0);
    assert!(oldest(&world) < 60.0);
    for http in &mut https {
        let job = world.take();
        world.ok(&job, "");
        assert_eq!(http.response().status, 200);
    }
    wait_until("the queue to be empty", || (queue(&world, "tempest_queue_depth"), oldest(&world)) == (0.0, 0.0));
    // A job of another writer says when it was pushed in a field of its own, or not at all.
    let job = |more: &str| format!("{{\"v\":1,\"id\":\"a\",\"attempt\":1,\"queue\":\"web\",\"action\":\"x.y\"{more}}}");
    world.redis.cmd(&["RPUSH", "{tempest:web}:low", &job("")]);
    wait_until("it to be seen", || queue(&world, "tempest_queue_depth") == 1.0);
    let series = world.front.admin().get("/metrics").text();
    assert!(!series.contains("tempest_queue_oldest_job_age_seconds{"), "nobody knows its age");
    world.redis.cmd(&["DEL", "tempest:web", "{tempest:web}:low"]);
    world.redis.cmd(&["RPUSH", "tempest:web", &job(",\"enqueued\":1000")]);
    wait_until("its age to be seen", || world.front.admin().get("/metrics").text().contains("oldest_job_age_seconds{"));
    assert!(oldest(&world) > 1e9);
    world.redis.cmd(&["DEL", "tempest:web"]);
    world.finish();
}

#[test]
fn a_worker_that_is_killed_is_counted_with_what_it_held() {
    let world = World::start();
    let workers = |world: &World| world.count("tempest_queue_workers", &["queue=\"web\""]);
    let mut worker = Claimer::start(&world.redis, "first");
    wait_until("the worker to be seen", || workers(&world) == 1);
    let mut http = world.http();
    http.request("POST", "/", &[], b"");
    worker.claim(1);
    worker.die();
    assert_eq!(http.response().status, 502);
    for name in ["tempest_requests_orphaned_total", "tempest_workers_reaped_total"] {
        assert_eq!(world.count(name, &[]), 1, "{name}");
    }
    assert_eq!(world.count("tempest_route_requests_total", &["status=\"502\""]), 1);
    wait_until("it to be gone", || workers(&world) == 0);
    world.finish();
}

#[test]
fn answers_that_nobody_waits_for_are_told_apart() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.answer(&job, json!({"attempt": 2}), "");
    world.push(&job, "{\"id\":\"somebody-else\"}");
    world.push(&job, "nonsense");
    world.ok(&job, "");
    assert_eq!(http.response().status, 200);
    world.ok(&job, "");
    let count = |world: &World, outcome: &str| world.count("tempest_answers_total", &[&format!("\"{outcome}\"")]);
    wait_until("all to be read", || count(&world, "late") == 1);
    let counted = ["answered", "late", "unknown", "fenced", "malformed"].map(|outcome| count(&world, outcome));
    assert_eq!(counted, [1; 5]);
    world.finish();
}

#[test]
fn the_list_of_the_command_line_is_what_is_served() {
    let world = World::start();
    let listed = tempest_tests::tempest(world.dir(), &["metrics"], &[], "").ok();
    let text = world.front.admin().get("/metrics").text();
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        let line = listed.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        assert!(line.is_some(), "{name} in {listed}");
    }
    let help = tempest_tests::tempest(world.dir(), &["help", "metrics"], &[], "").ok();
    assert!(help.contains("tempest_job_wait_seconds{queue} (histogram)"), "{help}");
    world.finish();
}
