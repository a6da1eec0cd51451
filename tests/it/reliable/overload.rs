//! More than the workers can do, workers that are not there, and clients that leave: answered early and honestly.

use std::time::{Duration, Instant};

use serde_json::json;
use tempest_tests::{Claimer, Http, World, WorldBuilder, wait_until};

fn with_route(lines: &str) -> WorldBuilder {
    World::builder().table(&format!("[[route]]\npath = \"/{{rest...}}\"\nqueue = \"web\"\n{lines}"))
}

/// What `Retry-After` says behind `depth` jobs of which a worker does one each `pace`.
fn retry_after(pace: Duration) -> u64 {
    const DEPTH: usize = 40;
    // The depth is to be the limit that is met, however slow the worker.
    let mut world = with_route(&format!("queue_depth = {DEPTH}\nmax_wait = \"1m\"")).start();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut clients: Vec<Http> = Vec::new();
    let mut answered = 0;
    let mut worker = Claimer::start(&world.redis, "w");
    let mut seconds = None;
    // The queue is kept full while the front measures for some seconds.
    let begin = Instant::now();
    let mut next = begin;
    while begin.elapsed() < Duration::from_secs(7) {
        while clients.len() - answered < DEPTH {
            let mut http = world.http();
            http.request("GET", "/work", &[], b"");
            clients.push(http);
        }
        if let Some(left) = next.checked_duration_since(Instant::now()) {
            std::thread::sleep(left); // the pace of the service is what is tested
        }
        next += pace;
        let claim = worker.claim(1);
        worker.finish(&claim, "done");
        worker.beat();
        answered += 1;
    }
    wait_until("the queue to be full", || {
        let mut http = world.http();
        http.request("GET", "/work", &[], b"");
        if !http.readable_within(Duration::from_millis(300)) {
            clients.push(http);
            return false;
        }
        let response = http.response();
        assert_eq!(response.status, 503);
        seconds = response.header("retry-after").map(|text| text.parse().expect("whole seconds"));
        true
    });
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    drop(clients);
    worker.leave();
    wait_until("the queue to be empty", || world.redis.llen("tempest:web") == 0);
    world.finish();
    seconds.expect("a 503 says when to come back")
}

#[test]
fn retry_after_follows_depth_and_service_rate() {
    let (fast, slow) = (retry_after(Duration::from_millis(125)), retry_after(Duration::from_millis(500)));
    assert!((3 * fast..=5 * slow.max(1)).contains(&slow), "8 a second: {fast} s, 2 a second: {slow} s");
    assert!(slow <= 5 * fast, "8 a second: {fast} s, 2 a second: {slow} s");
}

#[test]
fn a_wait_beyond_the_routes_limit_is_refused_at_once() {
    let mut world = with_route("max_wait = \"1s\"").start();
    let mut worker = Claimer::start(&world.redis, "w");
    let mut clients: Vec<Http> = Vec::new();
    let mut send = |world: &World| {
        let mut http = world.http();
        http.request("GET", "/work", &[], b"");
        clients.push(http);
    };
    // Ten a second are done, of thirty that wait all the time.
    (0..30).for_each(|_| send(&world));
    let refused = loop {
        let claim = worker.claim(1);
        worker.finish(&claim, "done");
        worker.beat();
        std::thread::sleep(Duration::from_millis(100)); // the pace of the service
        let mut http = world.http();
        http.request("GET", "/one-more", &[], b"");
        if http.readable_within(Duration::from_millis(20)) {
            break http.response();
        }
        clients.push(http);
        assert!(clients.len() < 500, "never refused");
    };
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("wait for a worker"), "{refused:?}");
    let again: u64 = refused.header("retry-after").expect("when to come back").parse().expect("seconds");
    assert!((2..=8).contains(&again), "{again} s for about 30 jobs at 10 a second");
    assert!(world.count("tempest_requests_refused_total", &["too_long"]) >= 1);
    drop(clients);
    worker.leave();
    wait_until("the queue to be empty", || world.redis.llen("tempest:web") == 0);
    world.finish();
}

#[test]
fn without_a_worker_a_route_may_fail_at_once() {
    let mut world = with_route("when_no_worker = \"fail\"").start();
    let response = world.http().get("/work");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("5")), "{response:?}");
    assert_eq!(world.redis.llen("tempest:web"), 0, "the job was taken back");
    assert_eq!(world.count("tempest_requests_refused_total", &["no_worker"]), 1);
    // One that waits takes the job at once, registered or not.
    world.worker(|job| vec![job.answer(json!({"status": 200}), b"here")]);
    wait_until("the worker to wait", || world.redis.cmd(&["CLIENT", "LIST"]).text().contains("cmd=blpop"));
    assert_eq!(world.http().get("/work").text(), "here");
    // And from then on it is known to be there for a while, even if it is busy.
    world.stop_workers();
    let mut http = world.http();
    http.request("GET", "/work", &[], b"");
    assert!(!http.readable_within(Duration::from_millis(300)), "it waits");
    let job = world.take();
    world.ok(&job, "at last");
    assert_eq!(http.response().text(), "at last");
    world.finish();
}

#[test]
fn a_registered_worker_is_a_worker() {
    let mut world = with_route("when_no_worker = \"fail\"").start();
    let mut worker = Claimer::start(&world.redis, "busy");
    wait_until("the front to know of the worker", || {
        worker.beat();
        let mut http = world.http();
        http.request("GET", "/work", &[], b"");
        !http.readable_within(Duration::from_millis(200))
    });
    worker.leave();
    wait_until("the queue to be empty", || world.redis.llen("tempest:web") == 0);
    world.finish();
}

#[test]
fn a_job_whose_client_left_is_not_started() {
    let mut world = World::builder().set("limits.withdraw_depth = 0").start();
    let mut gone = world.http();
    gone.request("POST", "/gone", &[], b"");
    wait_until("the job to be queued", || world.redis.llen("tempest:web") == 1);
    drop(gone);
    wait_until("the job to be withdrawn", || world.redis.cmd(&["EXISTS", "{tempest:web}:withdrawn"]).int() == 1);
    let mut http = world.http();
    http.request("GET", "/here", &[], b"");
    wait_until("the other job to be queued", || world.redis.llen("tempest:web") == 2);
    let mut worker = Claimer::start(&world.redis, "w");
    let claims = worker.claim_now(10, 10);
    assert_eq!(claims.iter().map(|claim| claim.job.line()).collect::<Vec<_>>(), ["GET /here"]);
    assert_eq!(world.redis.cmd(&["HGET", "{tempest:web}:stats", "withdrawn"]).text(), "1");
    worker.finish(&claims[0], "yes");
    assert_eq!(http.response().text(), "yes");
    worker.leave();
    world.finish();
}

#[test]
fn a_worker_is_told_that_the_client_of_a_running_job_left() {
    let mut world = World::start();
    let mut worker = Claimer::start(&world.redis, "w");
    let mut http = world.http();
    http.request("POST", "/long", &[], b"");
    let claim = worker.claim(1);
    assert_eq!(world.redis.cmd(&["ZSCORE", "{tempest:web}:withdrawn", claim.job.id()]).text(), "");
    drop(http);
    wait_until("the worker to be told", || {
        !world.redis.cmd(&["ZSCORE", "{tempest:web}:withdrawn", claim.job.id()]).text().is_empty()
    });
    worker.finish(&claim, "to nobody");
    worker.leave();
    wait_until("the answer to be late", || world.count("tempest_answers_total", &["late"]) == 1);
    world.finish();
}

#[test]
fn a_route_may_let_work_be_finished() {
    let mut world = with_route("client_gone = \"finish\"").start();
    let mut worker = Claimer::start(&world.redis, "w");
    let mut http = world.http();
    http.request("POST", "/long", &[], b"");
    let claim = worker.claim(1);
    drop(http);
    wait_until("the client to be gone", || world.count("tempest_clients_gone_total", &[]) == 1);
    assert_eq!(world.redis.cmd(&["EXISTS", "{tempest:web}:withdrawn"]).int(), 0);
    let mut queued = world.http();
    queued.request("POST", "/queued", &[], b"");
    wait_until("the job to be queued", || world.redis.llen("tempest:web") == 1);
    drop(queued);
    wait_until("the job to be withdrawn", || world.redis.llen("tempest:web") == 0);
    worker.finish(&claim, "to nobody");
    worker.leave();
    world.finish();
}

#[test]
fn a_worker_that_works_beyond_the_deadline_is_told() {
    let mut world = with_route("timeout = \"200ms\"").start();
    let mut worker = Claimer::start(&world.redis, "w");
    let mut http = world.http();
    http.request("POST", "/long", &[], b"");
    let claim = worker.claim(1);
    assert_eq!(http.response().status, 504);
    wait_until("the worker to be told", || {
        !world.redis.cmd(&["ZSCORE", "{tempest:web}:withdrawn", claim.job.id()]).text().is_empty()
    });
    worker.acknowledge(&claim);
    worker.leave();
    world.finish();
}

#[test]
fn no_more_ids_are_noted_than_the_limit_says() {
    let mut world = World::builder().set("limits.withdrawn = 2").start();
    let mut worker = Claimer::start(&world.redis, "w");
    for sent in 1..=3 {
        let mut http = world.http();
        http.request("POST", "/long", &[], b"");
        worker.claim(1);
        drop(http);
        wait_until("the client to be gone", || world.count("tempest_clients_gone_total", &[]) == sent);
    }
    wait_until("the third to be noted", || world.redis.cmd(&["ZCARD", "{tempest:web}:withdrawn"]).int() == 2);
    worker.leave();
    world.finish();
}
