//! The keeper of a queue: what it sees, whom it takes for dead, what it leaves alone.

use std::time::Instant;

use tempest_protocol::scripts;

use super::super::Keeper;
use super::super::lane::Look;
use super::with_redis::{Redis, in_list, soon, until, with_redis};
use super::*;

const LEASE: &str = "{tempest:web}:lease";

fn keep(world: &World) {
    for keeper in Keeper::all(&world.dispatch) {
        tokio::task::spawn_local(keeper.keep());
    }
}

/// A worker claims one job and is heard of no more; `connections` as it registered them.
fn claims(redis: &Redis, connections: &str, marks: &str) {
    let info = redis.command(&["INFO", "server"]).remove(0);
    let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:")).expect("a run id").trim().to_owned();
    let registration = format!("{run_id} {connections}");
    redis.command(&["EVAL", scripts::REGISTER, "1", "{tempest:web}:claimers", "w-7", &registration, "1"]);
    let keys = ["claimers", "claimed:w-7", "landing:w-7", "", "high", "low", "withdrawn", "attempts", "stats"];
    let keys = keys.map(|key| if key.is_empty() { "tempest:web".into() } else { format!("{{tempest:web}}:{key}") });
    let mut words = vec!["EVAL", scripts::CLAIM, "9"];
    words.extend(keys.iter().map(String::as_str));
    words.extend(["w-7", "1", "1", marks]);
    redis.command(&words);
    assert_eq!(redis.length("tempest:web"), 0, "it has the job");
}

#[test]
fn a_dead_workers_job_is_pushed_again() {
    with_redis(
        |_| {},
        |world, redis| async move {
            for keeper in Keeper::all(&world.dispatch) {
                tokio::task::spawn_local(keeper.keep());
            }
            let (get, post) = (in_list(&world, Method::GET).await, in_list(&world, Method::POST).await);
            redis.command(&["LPOP", "tempest:web"]);
            let begin = Instant::now();
            claims(&redis, "999999 999998", "1");
            let failed = soon("the death", post.ticket.head()).await;
            assert!(matches!(failed, Err(Failure::WorkerDied)), "a POST that was started: {failed:?}");
            // 100 ms to come back, looks every 25 ms; a loaded machine takes longer, but silence would be three seconds.
            assert!(begin.elapsed() < Duration::from_millis(2_500), "{:?}", begin.elapsed());
            assert_eq!(world.metrics.reaped.get(), 1);
            until("the lost jobs to be removed", || redis.length("{tempest:web}:lost") == 0).await;
            assert_eq!(redis.number(&["EXISTS", "{tempest:web}:claimed:w-7"]), 0);
            assert_eq!(redis.number(&["HLEN", "{tempest:web}:claimers"]), 0);
            assert!(get.head().is_none());
            assert_eq!(world.problem().what, "worker-died");
            drop(get);
            until("the lease to be left", || redis.number(&["EXISTS", LEASE]) == 0).await;
        },
    );
}

#[test]
fn a_silent_worker_is_dead_and_jobs_of_others_are_told_to_them() {
    with_redis(
        |_| {},
        |world, redis| async move {
            let waiting = in_list(&world, Method::GET).await;
            let job = "{\"v\":1,\"id\":\"x\",\"attempt\":4,\"reply_to\":\"tempest:@other.0\"}";
            claims(&redis, "- -", "1");
            redis.command(&["HSET", "{tempest:web}:claimed:w-7", "2", job]);
            redis.command(&["HSET", "{tempest:web}:claimed:w-7", "3", "{\"v\":1,\"id\":\"mail\"}"]);
            for keeper in Keeper::all(&world.dispatch) {
                tokio::task::spawn_local(keeper.keep());
            }
            until("the second attempt", || world.attempt(&waiting) == 2).await;
            until("the push of it and of the background job", || redis.length("tempest:web") == 2).await;
            assert_eq!(redis.length("tempest:@other.0"), 1);
            let told: serde_json::Value =
                serde_json::from_str(&redis.command(&["LPOP", "tempest:@other.0"])[0]).expect("JSON");
            let expected = serde_json::json!({
                "id": "x", "kind": "died", "attempt": 4, "started": false, "certain": false, "worker": "w-7",
            });
            assert_eq!(told, expected);
            assert_eq!(redis.number(&["EXISTS", "{tempest:web}:lost"]), 0);
        },
    );
}

#[test]
fn a_queue_is_looked_at() {
    with_redis(
        |_| {},
        |world, redis| async move {
            let now = world.broker.now_ms();
            redis.command(&["ZADD", "{tempest:web}:workers", &now.to_string(), "w-1"]);
            redis.command(&["ZADD", "{tempest:web}:workers", &(now - 5_000).to_string(), "w-2"]);
            redis.command(&["HSET", "{tempest:web}:stats", "taken", "7"]);
            for keeper in Keeper::all(&world.dispatch) {
                tokio::task::spawn_local(keeper.keep());
            }
            until("the worker to be seen", || world.lane.queue.has_worker(Instant::now())).await;
            let left = redis.number(&["PTTL", "{tempest:web}:stats"]);
            assert!((86_000_000..=86_400_000).contains(&left), "{left}");
            assert_eq!(redis.number(&["EXISTS", LEASE]), 0, "nothing is claimed, so nobody watches");
            redis.command(&["DEL", "{tempest:web}:workers"]);
            let words = ["EVAL", scripts::REGISTER, "1", "{tempest:web}:claimers", "w-1", "r 1 2", "1"];
            redis.command(&words);
            until("the worker to be gone", || !world.lane.queue.has_worker(Instant::now())).await;
            tokio::time::sleep(Duration::from_millis(1_100)).await; // the next look sees one that takes claims and has none
            assert_eq!(redis.number(&["EXISTS", LEASE]), 0, "a worker that has nothing needs no watch");
        },
    );
}

#[test]
fn claims_of_jobs_that_nobody_wanted_are_no_measure_of_speed() {
    let redis = Redis::start();
    let look = || {
        let keys = ["tempest:web", "h", "l", "s", "w", "c"];
        let words: Vec<&str> = ["EVAL", scripts::LOOK, "6"].into_iter().chain(keys).chain(["0", "1000"]).collect();
        redis.command(&words)
    };
    assert_eq!(look(), ["0", "0", "0", "0", "0", "0"]);
    redis.command(&["HSET", "s", "taken", "9"]);
    redis.command(&["RPUSH", "tempest:web", "job"]);
    assert_eq!(look(), ["1", "0", "0", "9", "0", "0"]);
    redis.command(&["HSET", "s", "withdrawn", "4"]);
    assert_eq!(look(), ["1", "0", "0", "5", "0", "0"]);
}

#[test]
fn all_lists_of_a_queue_count() {
    with_redis(
        |_| {},
        |world, redis| async move {
            // Ten a second are known to be done.
            for second in 0..4 {
                world.lane.queue.looked(Look { depth: 1, taken: second * 10, workers: 1 }, Instant::now());
            }
            redis.command(&["HSET", "{tempest:web}:stats", "taken", "30"]);
            for (list, length) in [("tempest:web", 3), ("{tempest:web}:high", 50), ("{tempest:web}:low", 70)] {
                let jobs = vec!["job"; length];
                redis.command(&[&["RPUSH", list][..], &jobs].concat());
            }
            keep(&world);
            // 123 of them, while some tenths of a second may have passed.
            let again = || world.lane.queue.retry_after(Instant::now()).as_secs();
            until("a look", || again() > 10).await;
            assert!((12..=13).contains(&again()), "{} s", again());
        },
    );
}

#[test]
fn what_nobody_here_waits_for_is_taken_from_the_dead_too() {
    with_redis(
        |_| {},
        |world, redis| async move {
            redis.command(&["RPUSH", "tempest:web", "{\"v\":1,\"id\":\"mail\"}"]);
            claims(&redis, "999999 999998", "0");
            keep(&world);
            until("the background job to be back", || redis.length("tempest:web") == 1).await;
            until("the reply to be counted", || world.metrics.reaped.get() == 1).await;
        },
    );
}

#[test]
fn a_worker_that_lives_is_left_alone() {
    with_redis(
        |_| {},
        |world, redis| async move {
            // Two connections that are there.
            let [mut one, mut other] = [redis.connect(), redis.connect()];
            let ids = format!("{} {}", one.number(&["CLIENT", "ID"]), other.number(&["CLIENT", "ID"]));
            let waiting = in_list(&world, Method::GET).await;
            claims(&redis, &ids, "1");
            redis.command(&["SET", "{tempest:web}:worker:w-7", "{}"]);
            keep(&world);
            until("the lease to be held", || redis.number(&["EXISTS", LEASE]) == 1).await;
            // Four seconds after the first look silence would count, if it were silent.
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(4_500) {
                assert_eq!(redis.number(&["HLEN", "{tempest:web}:claimers"]), 1);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!((world.metrics.reaped.get(), world.attempt(&waiting)), (0, 1));
            drop(one);
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(redis.number(&["HLEN", "{tempest:web}:claimers"]), 1, "one connection gone is no death");
            drop(other);
            until("the death", || world.attempt(&waiting) == 2).await;
        },
    );
}

#[test]
fn who_has_no_lease_only_asks_for_it_now_and_then() {
    with_redis(
        |_| {},
        |world, redis| async move {
            let waiting = in_list(&world, Method::GET).await;
            claims(&redis, "999999 999998", "1");
            redis.command(&["SET", LEASE, "somebody-else"]);
            keep(&world);
            tokio::time::sleep(Duration::from_millis(200)).await;
            redis.command(&["CONFIG", "RESETSTAT"]);
            tokio::time::sleep(Duration::from_secs(1)).await;
            let stats = redis.command(&["INFO", "commandstats"]).remove(0);
            let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_eval:calls=")).unwrap_or("0");
            let asked: u32 = line.split(',').next().expect("a word").parse().expect("a number");
            // Ten times, and one look at the queue. A slow machine asks less often, never more.
            assert!((1..=14).contains(&asked), "{asked}");
            assert_eq!((redis.number(&["HLEN", "{tempest:web}:claimers"]), world.attempt(&waiting)), (1, 1));
            redis.command(&["DEL", LEASE]);
            until("the death", || world.attempt(&waiting) == 2).await;
        },
    );
}
