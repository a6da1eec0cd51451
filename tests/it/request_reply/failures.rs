//! What goes wrong on the way to a worker: each failure has one status, and none tells internals.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempest_tests::{World, WorldBuilder, wait_until};

fn with_route(lines: &str) -> WorldBuilder {
    World::builder().table(&format!("[[route]]\npath = \"/{{rest...}}\"\nqueue = \"web\"\n{lines}"))
}

#[test]
fn without_a_worker_a_request_waits_and_is_answered_when_one_comes() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/later", &[], b"");
    wait_until("the job to lie in the list", || world.redis.llen("tempest:web") == 1);
    assert!(!http.closes_within(Duration::from_millis(200)), "the client waits");
    world.worker(|job| vec![job.answer(json!({"status": 200}), job.line().as_bytes())]);
    assert_eq!(http.response().text(), "GET /later");
    world.finish();
}

#[test]
fn a_deadline_that_passes_is_a_504_and_the_job_is_withdrawn() {
    let mut world = with_route("timeout = \"300ms\"").start();
    let mut http = world.http();
    let start = Instant::now();
    for method in ["GET", "POST"] {
        http.request(method, "/slow", &[], b"");
        assert_eq!(http.response().status, 504, "{method}");
    }
    assert!(start.elapsed() >= Duration::from_millis(600), "not before the deadline");
    wait_until("the jobs to be withdrawn", || world.redis.llen("tempest:web") == 0);
    assert_eq!(world.count("tempest_request_timeouts_total", &[]), 2);
    world.finish();
}

#[test]
fn a_late_answer_reaches_nobody_and_is_counted() {
    let mut world = with_route("timeout = \"300ms\"").start();
    let mut http = world.http();
    http.request("GET", "/slow", &[], b"");
    let job = world.take();
    assert!(job["timeout_ms"].as_u64().expect("ms") <= 300);
    assert_eq!(http.response().status, 504);
    world.ok(&job, "too late");
    wait_until("the answer to be counted", || world.count("tempest_answers_total", &["late"]) == 1);
    http.request("GET", "/next", &[], b"");
    let job = world.take();
    world.ok(&job, "mine");
    assert_eq!(http.response().text(), "mine");
    world.finish();
}

#[test]
fn a_queue_over_its_limit_refuses_with_retry_after() {
    let mut world = World::builder().set("limits.queue_depth = 2").start();
    let mut waiting: Vec<_> = (0..2).map(|_| world.http()).collect();
    for (n, http) in waiting.iter_mut().enumerate() {
        http.request("GET", "/", &[], b"");
        let depth = i64::try_from(n).expect("small") + 1;
        wait_until("the job to be queued", || world.redis.llen("tempest:web") == depth);
    }
    // The depth becomes known with the acknowledgement of a push, so at most one more may slip in.
    let mut refused = None;
    let mut more = Vec::new();
    for _ in 0..3 {
        let mut http = world.http();
        http.request("GET", "/", &[], b"");
        if http.readable_within(Duration::from_secs(1)) {
            refused = Some(http.response());
            break;
        }
        more.push(http);
    }
    let refused = refused.expect("a refusal");
    assert_eq!(refused.status, 503);
    let seconds: u32 = refused.header("retry-after").expect("when to come again").parse().expect("seconds");
    assert!(seconds >= 1);
    assert!(world.redis.llen("tempest:web") <= 3, "what was refused is not in the list");
    assert_eq!(world.count("tempest_requests_refused_total", &["queue_full"]), 1);
    world.worker(|job| vec![job.answer(json!({"status": 200}), b"")]);
    for http in waiting.iter_mut().chain(&mut more) {
        assert_eq!(http.response().status, 200);
    }
    world.finish();
}

#[test]
fn a_body_over_the_limit_is_a_413_whoever_says_so() {
    let mut world = with_route("body_limit = \"1000\"").start();
    let stated = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1001\r\n\r\n";
    let expecting = "POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n";
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n{:x}\r\n{}\r\n",
        600,
        "x".repeat(600),
        600,
        "x".repeat(600)
    );
    for request in [stated, expecting, &chunked] {
        let mut http = world.http();
        http.send(request);
        let response = http.response();
        assert_eq!(response.status, 413, "before the body, and without 100: {request:.80}");
        assert_eq!(response.header("connection"), Some("close"), "the rest of the body is not awaited");
    }
    let mut http = world.http();
    http.request("POST", "/", &[], "x".repeat(1000).as_bytes());
    let job = world.take();
    assert_eq!(job.body.len(), 1000, "the limit itself is allowed, and nothing refused reached the queue");
    world.ok(&job, "");
    assert_eq!(http.response().status, 200);
    world.finish();
}

#[test]
fn too_many_requests_in_waiting_are_refused() {
    let mut world = World::builder().set("limits.pending = 3").start();
    let mut waiting: Vec<_> = (0..3).map(|_| world.http()).collect();
    for http in &mut waiting {
        http.request("GET", "/", &[], b"");
    }
    wait_until("three jobs", || world.redis.llen("tempest:web") == 3);
    let mut fourth = world.http();
    let refused = fourth.get("/");
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(world.count("tempest_requests_refused_total", &["too_many_pending"]), 1);
    world.worker(|job| vec![job.answer(json!({"status": 200}), b"")]);
    for http in &mut waiting {
        assert_eq!(http.response().status, 200);
    }
    assert_eq!(fourth.get("/").status, 200, "and on the same connection the next is served");
    world.finish();
}

#[test]
fn an_error_is_short_text_or_problem_json_by_accept() {
    let world = with_route("timeout = \"100ms\"").start();
    let mut http = world.http();
    for (accept, kind) in [
        ("Accept: */*", "text/plain"),
        ("Accept: text/html,*/*;q=0.8", "text/plain"),
        ("Accept: application/json", "application/problem+json"),
        ("Accept: application/problem+json, text/plain;q=0.1", "application/problem+json"),
        ("Accept: text/plain, application/json;q=0.5", "text/plain"),
    ] {
        http.request("GET", "/", &[accept], b"");
        let response = http.response();
        assert_eq!(response.status, 504);
        let content_type = response.header("content-type").expect("a type");
        assert!(content_type.starts_with(kind), "{accept}: {content_type}");
        if kind == "application/problem+json" {
            let problem: Value = serde_json::from_slice(&response.body).expect("JSON");
            assert_eq!(problem["status"], json!(504));
            assert!(problem["title"].is_string(), "{problem}");
        }
        let text = response.text().to_lowercase();
        assert!(text.len() < 1_000 && !text.is_empty(), "{text}");
        for internal in ["redis", "tempest:", "127.0.0.1", ".rs", "panic"] {
            assert!(!text.contains(internal), "{internal} in {text}");
        }
        assert!(response.header("x-request-id").is_some());
    }
    http.request("HEAD", "/", &[], b"");
    assert_eq!(http.head_response().status, 504);
    world.finish();
}

#[test]
fn a_request_in_flight_survives_the_drain() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.front.process.signal(tempest_tests::Signal::TERM);
    wait_until("the front to accept no more", || tempest_tests::Http::try_connect(world.front.address()).is_err());
    world.ok(&job, "answered while draining");
    let response = http.response();
    assert_eq!((response.text().as_str(), response.header("connection")), ("answered while draining", Some("close")));
    assert!(world.front.process.wait().success());
    world.finish_without_front();
}
