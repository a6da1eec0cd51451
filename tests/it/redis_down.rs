//! Redis goes away and comes back: refusals are quick and cost nothing, every request that was under way gets exactly
//! one outcome, and everything resumes by itself.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempest_tests::{Http, Sse, World, wait_until};

/// Far above the 100 ms that a refusal may take, so that a busy machine does not fail the test.
const AT_ONCE: Duration = Duration::from_secs(1);

fn short_deadline() -> World {
    World::builder().table("[[route]]\npath = \"/sub/{channel...}\"\nkind = \"subscribe\"\n[[route]]\npath = \"/{rest...}\"\nqueue = \"web\"\ntimeout = \"4s\"").start()
}

fn ready(world: &World) -> bool {
    world.front.is_ready()
}

#[track_caller]
fn lose_redis(world: &mut World) {
    world.redis.kill();
    wait_until("the front to notice", || !ready(world));
}

#[track_caller]
fn return_redis(world: &mut World) {
    world.redis.restart();
    wait_until("the front to be ready again", || ready(world));
}

#[test]
fn a_request_is_refused_at_once_and_served_after_the_return() {
    let mut world = World::start();
    let mut http = world.http();
    lose_redis(&mut world);
    for method in ["GET", "POST", "GET"] {
        let start = Instant::now();
        http.request(method, "/", &[], b"");
        let response = http.response();
        assert_eq!(response.status, 503, "{method}");
        assert!(response.header("retry-after").is_some());
        assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    }
    assert_eq!(world.front.admin().get("/live").status, 200, "alive all the same");
    return_redis(&mut world);
    world.worker(|job| vec![job.answer(json!({"status": 200}), b"back")]);
    assert_eq!(http.get("/").text(), "back", "on the same connection");
    assert!(world.count("tempest_redis_reconnects_total", &[]) >= 1);
    world.finish();
}

#[test]
fn ten_thousand_refusals_cost_no_memory() {
    let mut world = World::start();
    let mut http = world.http();
    let body = "x".repeat(2_000);
    lose_redis(&mut world);
    let mut refuse = |count: usize| {
        for _ in 0..count {
            http.request("POST", "/", &[], body.as_bytes());
            assert_eq!(http.response().status, 503);
        }
    };
    refuse(500);
    let before = world.front.process.rss_bytes();
    refuse(10_000);
    let grown = world.front.process.rss_bytes().saturating_sub(before);
    assert!(grown < 5_000_000, "memory grew by {grown} bytes");
    return_redis(&mut world);
    assert_eq!(world.redis.llen("tempest:web"), 0, "what was refused is not pushed later");
    world.finish();
}

#[test]
fn what_is_safe_to_repeat_is_pushed_again_after_redis_lost_its_memory() {
    let mut world = World::start();
    let mut queued = world.http();
    queued.request("GET", "/queued", &[], b"");
    wait_until("the job to be queued", || world.redis.llen("tempest:web") == 1);
    world.redis.restart();
    let job = world.take();
    assert_eq!((job.line().as_str(), &job["attempt"]), ("GET /queued", &json!(2)));
    world.ok(&job, "second try");
    assert_eq!(queued.response().text(), "second try");
    world.finish();
}

#[test]
fn what_is_not_safe_to_repeat_waits_and_says_that_the_outcome_is_unknown() {
    let mut world = short_deadline();
    let mut http = world.http();
    http.request("POST", "/pay", &["Accept: text/plain"], b"once");
    wait_until("the job to be queued", || world.redis.llen("tempest:web") == 1);
    world.redis.restart();
    let response = http.response();
    assert_eq!(response.status, 504);
    assert!(response.text().contains("unknown"), "{}", response.text());
    assert_eq!(world.redis.llen("tempest:web"), 0, "it was not pushed again");
    world.finish();
}

#[test]
fn an_answer_to_a_post_still_arrives_after_a_restart() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("POST", "/pay", &[], b"once");
    let job = world.take();
    world.redis.restart();
    world.ok(&job, "paid");
    assert_eq!(http.response().text(), "paid");
    world.finish();
}

#[test]
fn an_answer_that_waited_in_the_list_arrives_after_a_reconnect() {
    let mut world = World::start();
    let mut http = world.http();
    for _ in 0..20 {
        http.request("POST", "/", &[], b"x");
        let job = world.take();
        assert!(world.redis.cut_clients_named("tempest:") > 0);
        world.ok(&job, "kept");
        assert_eq!(http.response().text(), "kept");
    }
    world.finish();
}

#[test]
fn a_stalled_redis_is_refused_at_once_and_what_was_written_is_not_lost() {
    let mut world = World::start();
    let mut before = world.http();
    world.redis.cmd(&["PING"]);
    world.redis.stall();
    before.request("GET", "/written", &[], b"");
    wait_until("the front to notice the stall", || !ready(&world));
    let start = Instant::now();
    assert_eq!(world.http().get("/new").status, 503);
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    world.redis.resume();
    world.worker(|job| vec![job.answer(json!({"status": 200}), job.line().as_bytes())]);
    // The first was written before anybody knew: it must not be refused, and its answer comes.
    assert_eq!(before.response().text(), "GET /written");
    wait_until("the front to be ready again", || ready(&world));
    assert_eq!(world.http().get("/after").text(), "GET /after");
    world.finish();
}

/// A request whose job Redis was given and never acknowledged: Redis is stopped, then killed with it in its hands.
#[track_caller]
fn without_acknowledgement(world: &mut World, method: &str) -> Http {
    let mut http = world.http();
    world.redis.stall();
    http.request(method, "/unacknowledged", &["Accept: text/plain"], b"");
    wait_until("the front to have the request", || world.gauge("tempest_http_requests_in_flight") == 1);
    thread::sleep(Duration::from_millis(100)); // nothing tells that the job is written: who could tell is stopped
    world.redis.kill();
    http
}

#[test]
fn a_repeatable_request_without_acknowledgement_is_tried_again_and_never_refused() {
    let mut world = World::start();
    let mut http = without_acknowledgement(&mut world, "GET");
    assert!(!http.readable_within(Duration::from_millis(500)), "not refused, however long Redis is away");
    world.redis.restart();
    let job = world.take();
    assert!(job["attempt"].as_u64().expect("a number") > 1, "a worker may have had the first: {}", job.head);
    world.ok(&job, "answered");
    assert_eq!(http.response().text(), "answered");
    world.finish();
}

#[test]
fn a_request_without_acknowledgement_is_never_refused_where_redis_stays_away() {
    for method in ["GET", "POST"] {
        let mut world = short_deadline();
        let response = without_acknowledgement(&mut world, method).response();
        assert_eq!(response.status, 504, "{method}: {}", response.text());
        assert!(response.text().contains("unknown"), "{method}: {}", response.text());
        world.redis.restart();
        world.front.wait_ready();
        world.finish();
    }
}

/// Requests one after the other until told to stop; returns the statuses.
fn keep_asking(address: std::net::SocketAddr, method: &'static str, until: Instant) -> thread::JoinHandle<Vec<u16>> {
    thread::spawn(move || {
        let mut http = Http::connect(address);
        let mut statuses = Vec::new();
        while Instant::now() < until {
            http.request(method, "/load", &[], b"x");
            let response = http.response();
            assert!(response.complete);
            statuses.push(response.status);
            if response.header("connection") == Some("close") {
                http = Http::connect(address);
            }
        }
        statuses
    })
}

#[test]
fn under_load_every_request_has_exactly_one_outcome_through_three_restarts() {
    let mut world = short_deadline();
    for _ in 0..2 {
        world.worker(|job| vec![job.answer(json!({"status": 200}), &job.body)]);
    }
    let mut stream = world.front.subscribe("news");
    let until = Instant::now() + Duration::from_secs(6);
    let address = world.front.address();
    let clients: Vec<_> =
        ["GET", "POST"].into_iter().cycle().take(10).map(|method| keep_asking(address, method, until)).collect();
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(700)); // the load itself is what passes here
        world.redis.kill();
        thread::sleep(Duration::from_millis(300)); // and here the outage
        world.redis.restart();
    }
    let statuses: Vec<u16> = clients.into_iter().flat_map(|client| client.join().expect("one outcome each")).collect();
    let strange: Vec<_> = statuses.iter().filter(|status| !matches!(status, 200 | 503 | 504)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert!(statuses.iter().filter(|status| **status == 200).count() > 100, "{} requests", statuses.len());
    wait_until("the front to be ready again", || ready(&world));
    assert_eq!(world.http().get("/after").status, 200);
    assert_still_live(&mut world, &mut stream);
    drop(stream);
    world.finish();
}

/// The stream, opened before, gets what is published now.
#[track_caller]
fn assert_still_live(world: &mut World, stream: &mut Sse) {
    wait_until("the channel to be subscribed again", || world.redis.subscribers("news") == 1);
    world.redis.publish("news", "still here");
    assert_eq!(stream.data(), "still here");
}

#[test]
fn cut_connections_lose_no_request() {
    let mut world = World::start();
    for _ in 0..2 {
        world.worker(|job| vec![job.answer(json!({"status": 200}), &job.body)]);
    }
    let until = Instant::now() + Duration::from_secs(3);
    let address = world.front.address();
    let clients: Vec<_> = (0..8).map(|_| keep_asking(address, "GET", until)).collect();
    let mut cut = 0;
    while Instant::now() < until - Duration::from_millis(500) {
        cut += world.redis.cut_clients_named("tempest:");
        thread::sleep(Duration::from_millis(100)); // some load between two cuts
    }
    assert!(cut >= 20, "only {cut} connections were cut");
    let statuses: Vec<u16> = clients.into_iter().flat_map(|client| client.join().expect("one outcome each")).collect();
    let failed = statuses.iter().filter(|status| **status != 200).count();
    assert_eq!(failed, 0, "of {}", statuses.len());
    world.finish();
}

#[test]
fn a_stream_of_answers_goes_on_over_a_restart() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("POST", "/stream", &[], b"x");
    let job = world.take();
    world.answer(&job, json!({"status": 200, "n": 0, "more": true}), "one ");
    assert_eq!(http.read_head().expect("a head").status, 200);
    assert_eq!(http.chunk(), tempest_tests::Chunk::Data(b"one ".to_vec()));
    world.redis.restart();
    world.answer(&job, json!({"n": 1, "more": true}), "two ");
    world.answer(&job, json!({"n": 2}), "three");
    let mut text = Vec::new();
    loop {
        match http.chunk() {
            tempest_tests::Chunk::Data(bytes) => text.extend(bytes),
            end => break assert_eq!(end, tempest_tests::Chunk::End),
        }
    }
    assert_eq!(text, b"two three");
    world.finish();
}

#[test]
fn a_front_that_starts_before_redis_waits_for_it() {
    let mut world = World::start();
    world.redis.kill();
    let config = format!(
        "redis.url = \"{}\"\nfront.listen = [\"127.0.0.1:0\"]\nfront.admin = \"127.0.0.1:0\"\n",
        world.redis.url()
    );
    let mut early = tempest_tests::Front::start(&world.dir().join("early"), world.mark(), &config);
    assert_eq!(early.http().get("/").status, 503);
    assert_eq!(early.admin().get("/ready").status, 503);
    world.redis.restart();
    wait_until("it to be ready", || early.admin().get("/ready").status == 200);
    let mut http = early.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.ok(&job, "");
    assert_eq!(http.response().status, 200);
    assert!(early.terminate().success());
    world.finish();
}

#[test]
fn lists_of_dead_fronts_are_freed_after_redis_has_forgotten_whose_they_are() {
    let mut world = World::start();
    let gone = |world: &mut World| wait_until("the list to be freed", || world.redis.llen("tempest:@ghost.0") == 0);
    let late_answer = ["RPUSH", "tempest:@ghost.0", "{\"id\":\"ghost.0-1\"}"];
    let now = world.redis.cmd(&["TIME"]).list()[0].text().parse::<u64>().expect("seconds") * 1000;
    world.redis.cmd(&["ZADD", "tempest:@fronts", &(now - 6_000).to_string(), "ghost.0"]);
    world.redis.cmd(&late_answer);
    gone(&mut world);
    world.restart_redis();
    world.redis.cmd(&late_answer);
    gone(&mut world);
    world.finish();
}
