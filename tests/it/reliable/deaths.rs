//! The retry table of the contract, row by row, with workers that die in each way.

use std::time::Duration;

use serde_json::json;
use tempest_tests::{Chunk, Claimer, Http, World, WorldBuilder, wait_until};

fn with_route(lines: &str) -> WorldBuilder {
    World::builder().table(&format!("[[route]]\npath = \"/{{rest...}}\"\nqueue = \"web\"\n{lines}"))
}

/// How a worker ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Its connections are gone.
    Dies,
    /// It does not beat any more.
    FallsSilent,
}

/// One row of the table: a request whose worker ends.
struct Row {
    method: &'static str,
    headers: &'static [&'static str],
    started: bool,
    end: End,
}

impl Row {
    fn new(method: &'static str, started: bool, end: End) -> Self {
        Self { method, headers: &[], started, end }
    }

    /// Sends it, lets its worker end; the client then waits for what is to come.
    #[track_caller]
    fn play(&self, world: &mut World) -> Http {
        let mut first = Claimer::start(&world.redis, "first");
        let mut http = world.http();
        http.request(self.method, "/work", self.headers, b"");
        let claim = first.claim(u32::from(self.started));
        assert_eq!(claim.job["attempt"], 1);
        match self.end {
            End::Dies => first.die(),
            End::FallsSilent => {
                // The front trusts no silence in its first four seconds.
                wait_until("the worker to be found silent", || {
                    first.fall_silent();
                    !first.is_connected()
                });
            }
        }
        http
    }

    #[track_caller]
    fn is_tried_again(&self, world: &mut World) {
        let mut http = self.play(world);
        let mut second = Claimer::start(&world.redis, "second");
        let claim = second.claim(1);
        assert_eq!(claim.job["attempt"], 2, "{} {:?} started {}", self.method, self.end, self.started);
        assert_eq!(claim.job["method"], self.method);
        second.finish(&claim, "second");
        assert_eq!(http.response().status, 200);
        second.leave();
    }

    #[track_caller]
    fn is_a_502(&self, world: &mut World) {
        let mut http = self.play(world);
        let response = http.response();
        assert_eq!(response.status, 502, "{} {:?} started {}: {response:?}", self.method, self.end, self.started);
        assert!(response.header("retry-after").is_none(), "another try is not known to be safe");
        assert_eq!(world.redis.llen("tempest:web"), 0);
    }
}

#[test]
fn what_is_idempotent_is_tried_again_whatever_its_worker_had_done() {
    let mut world = World::start();
    for method in ["GET", "OPTIONS", "PUT", "DELETE"] {
        Row::new(method, true, End::Dies).is_tried_again(&mut world);
    }
    Row::new("GET", false, End::Dies).is_tried_again(&mut world);
    assert_eq!(world.count("tempest_requests_retried_total", &[]), 5);
    assert_eq!(world.count("tempest_requests_orphaned_total", &[]), 5);
    assert_eq!(world.count("tempest_workers_reaped_total", &[]), 5);
    world.finish();
}

#[test]
fn a_head_is_tried_again() {
    let world = World::start();
    let mut first = Claimer::start(&world.redis, "first");
    let mut http = world.http();
    http.request("HEAD", "/work", &[], b"");
    first.claim(1);
    first.die();
    let mut second = Claimer::start(&world.redis, "second");
    let claim = second.claim(1);
    second.finish(&claim, "");
    assert_eq!(http.head_response().status, 200);
    second.leave();
    world.finish();
}

#[test]
fn a_post_is_tried_again_only_if_it_was_certainly_not_started() {
    let mut world = World::start();
    Row::new("POST", false, End::Dies).is_tried_again(&mut world);
    Row::new("POST", true, End::Dies).is_a_502(&mut world);
    Row::new("PATCH", true, End::Dies).is_a_502(&mut world);
    world.finish();
}

#[test]
fn silence_is_a_suspicion_under_which_a_claimed_post_counts_as_started() {
    let mut world = World::start();
    Row::new("GET", false, End::FallsSilent).is_tried_again(&mut world);
    Row::new("POST", false, End::FallsSilent).is_a_502(&mut world);
    Row::new("POST", true, End::FallsSilent).is_a_502(&mut world);
    world.finish();
}

#[test]
fn a_key_or_the_route_gives_the_right_to_try_a_post_again() {
    let mut world = World::start();
    Row { headers: &["Idempotency-Key: order-7"], ..Row::new("POST", true, End::Dies) }.is_tried_again(&mut world);
    world.finish();
    let mut world = with_route("retry = \"always\"").start();
    Row::new("POST", true, End::Dies).is_tried_again(&mut world);
    world.finish();
    let mut world = with_route("retry = \"never\"").start();
    Row::new("GET", true, End::Dies).is_a_502(&mut world);
    Row::new("GET", false, End::Dies).is_tried_again(&mut world);
    world.finish();
}

#[test]
fn an_answer_that_breaks_off_before_any_of_it_has_left_is_a_502() {
    let mut world = World::start();
    for n in 0..20 {
        let mut http = world.http();
        http.request("GET", "/", &[], b"");
        let job = world.take();
        let begun = job.answer(json!({"status": 200, "n": 0, "more": true}), b"begun");
        let died =
            json!({"id": job.id(), "kind": "died", "attempt": 1, "started": true, "certain": true, "worker": "w"});
        // Both come in one turn of the front.
        world.redis.cmd(&[b"RPUSH".as_ref(), job.reply_to().as_bytes(), &begun, died.to_string().as_bytes()]);
        // What has left is cut, as always; the client is told in any case.
        let head = http.read_head().unwrap_or_else(|error| panic!("nothing was said, try {n}: {error}"));
        assert!(matches!(head.status, 200 | 502), "{head:?}");
    }
    world.finish();
}

#[test]
fn attempts_come_to_an_end() {
    let world = World::builder().set("limits.attempts = 2").start();
    let mut http = world.http();
    http.request("GET", "/poison", &[], b"");
    for attempt in 1..=2 {
        let mut worker = Claimer::start(&world.redis, &format!("w{attempt}"));
        assert_eq!(worker.claim(1).job["attempt"], attempt);
        worker.die();
    }
    assert_eq!(http.response().status, 502);
    world.finish();
}

#[test]
fn after_the_first_byte_the_client_is_cut_off() {
    let mut world = World::start();
    let mut worker = Claimer::start(&world.redis, "first");
    let mut http = world.http();
    http.request("GET", "/stream", &[], b"");
    let claim = worker.claim(1);
    worker.answer(&claim, json!({"status": 200, "n": 0, "more": true}), "one");
    assert_eq!(http.read_head().expect("a head").status, 200);
    assert_eq!(http.chunk(), Chunk::Data(b"one".to_vec()));
    worker.die();
    assert_eq!(http.chunk(), Chunk::Cut, "without the closing chunk");
    assert_eq!(world.redis.llen("tempest:web"), 0, "it is not tried again");
    world.finish();
}

#[test]
fn an_answer_of_the_attempt_before_reaches_nobody() {
    let world = World::start();
    let mut first = Claimer::start(&world.redis, "first");
    let mut http = world.http();
    http.request("GET", "/work", &[], b"");
    let old = first.claim(1);
    wait_until("the worker to be found silent", || {
        first.fall_silent();
        !first.is_connected()
    });
    let mut second = Claimer::start(&world.redis, "second");
    let new = second.claim(1);
    // The first one wakes up and answers over a new connection.
    let mut late = old.clone();
    late.number = 0;
    second.answer(&late, json!({"status": 200}), "from the past");
    wait_until("the answer to be fenced off", || world.count("tempest_answers_total", &["fenced"]) == 1);
    second.finish(&new, "of now");
    assert_eq!(http.response().text(), "of now");
    second.leave();
    world.finish();
}

#[test]
fn parts_that_came_early_do_not_outlive_their_attempt() {
    let world = World::start();
    let mut first = Claimer::start(&world.redis, "first");
    let mut http = world.http();
    http.request("GET", "/stream", &[], b"");
    let old = first.claim(1);
    first.answer(&old, json!({"n": 1, "more": false}), "old end");
    first.die();
    let mut second = Claimer::start(&world.redis, "second");
    let new = second.claim(1);
    second.answer(&new, json!({"n": 0, "more": true}), "new start, ");
    second.answer(&new, json!({"n": 1}), "new end");
    second.acknowledge(&new);
    assert_eq!(http.response().text(), "new start, new end");
    second.leave();
    world.finish();
}

#[test]
fn an_answer_given_before_the_end_counts() {
    let world = World::start();
    for n in 0..20 {
        let mut worker = Claimer::start(&world.redis, &format!("w{n}"));
        let mut http = world.http();
        http.request("POST", "/work", &[], b"");
        let claim = worker.claim(1);
        worker.answer(&claim, json!({"status": 200}), "before");
        worker.die();
        assert_eq!(http.response().text(), "before", "it died between the answer and the acknowledgement");
    }
    wait_until("all to be found dead", || world.count("tempest_workers_reaped_total", &[]) == 20);
    assert_eq!(world.count("tempest_requests_orphaned_total", &[]), 0);
    world.finish();
}

#[test]
fn one_lost_connection_or_a_long_job_is_no_death() {
    let world = World::start();
    let mut worker = Claimer::start(&world.redis, "slow");
    let mut http = world.http();
    http.request("POST", "/work", &[], b"");
    let claim = worker.claim(1);
    for _ in 0..20 {
        assert_eq!(worker.reconnect(&world.redis), 1);
        worker.beat();
        assert!(!http.closes_within(Duration::from_millis(50)));
    }
    worker.finish(&claim, "done");
    assert_eq!(http.response().text(), "done");
    assert_eq!(world.count("tempest_workers_reaped_total", &[]), 0);
    worker.leave();
    world.finish();
}

#[test]
fn background_jobs_go_back_to_the_head_and_to_the_dead_after_three_crashes() {
    let mut world = World::start();
    let job = |id: &str| format!("{{\"v\":1,\"id\":\"{id}\",\"attempt\":1,\"queue\":\"web\",\"action\":\"a.b\"}}\n");
    for id in ["poison", "later"] {
        world.redis.cmd(&["RPUSH", "tempest:web", &job(id)]);
    }
    world.redis.cmd(&["RPUSH", "tempest:web", "no job at all\n"]);
    for life in 1..=3 {
        let mut worker = Claimer::start(&world.redis, &format!("w{life}"));
        let claim = worker.claim(1);
        assert_eq!(claim.job.id(), "poison", "the head of the queue again");
        let next = worker.claim_now(1, 0);
        assert_eq!(next[0].job.id(), "later");
        worker.die();
        wait_until("its claims to be taken", || world.redis.cmd(&["EXISTS", "{tempest:web}:claimers"]).int() == 0);
    }
    let dead = world.redis.cmd(&["LRANGE", "{tempest:web}:dead", "0", "-1"]);
    assert_eq!(dead.list().iter().map(tempest_tests::Value::text).collect::<Vec<_>>(), [job("poison")]);
    assert_eq!(world.redis.cmd(&["HGETALL", "{tempest:web}:attempts"]).list().len(), 0);
    assert_eq!(world.redis.llen("tempest:web"), 2, "what was not started crashed nobody");
    let mut worker = Claimer::start(&world.redis, "last");
    assert_eq!(worker.claim(1).job.id(), "later");
    worker.leave();
    world.redis.cmd(&["DEL", "tempest:web", "{tempest:web}:dead"]);
    world.finish();
}

#[test]
fn jobs_of_a_worker_go_to_the_front_that_waits_for_them() {
    let mut world = World::start();
    // A front of the test's own, which never looks after anybody.
    let message = "{\"v\":1,\"id\":\"x.0-1\",\"attempt\":1,\"deadline\":9999999999999,\"timeout_ms\":1,\
        \"reply_to\":\"tempest:@x.0\",\"queue\":\"web\",\"action\":\"a.b\"}\n";
    world.redis.cmd(&["RPUSH", "tempest:web", message]);
    let mut worker = Claimer::start(&world.redis, "w");
    worker.claim(1);
    worker.die();
    let told = world.redis.cmd(&["BLPOP", "tempest:@x.0", "20"]);
    let told: serde_json::Value = serde_json::from_str(&told.list()[1].text()).expect("JSON");
    let expected =
        json!({"id": "x.0-1", "kind": "died", "attempt": 1, "started": true, "certain": true, "worker": "w"});
    assert_eq!(told, expected);
    world.redis.cmd(&["DEL", "tempest:@x.0"]);
    world.finish();
}
