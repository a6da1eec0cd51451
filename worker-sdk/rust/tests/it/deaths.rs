//! Workers that are killed, stopped and given up: what they leave behind, and what they do when they were not dead.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempest_worker::Bytes;
use tempest_worker::connection::Reply;

use crate::claims::{counts, post, reap};
use crate::harness::{Front, PATIENCE, QUEUE, REPLY_TO, Redis, get};
use crate::processes::Process;

/// The next entry for the fronts.
async fn lost(front: &mut Front) -> Value {
    let Reply::Text(entry) = front.command(&["LPOP", "{tempest:web}:lost"]).await else { panic!("nothing is lost") };
    serde_json::from_slice(&entry).expect("JSON")
}

async fn started(front: &mut Front, id: &str) {
    let Reply::List(parts) = front.command(&["BLPOP", "entered", "20"]).await else { panic!("it never started") };
    assert_eq!(parts[1], Reply::Text(Bytes::from(id.to_owned())));
}

fn background(id: &str) -> Value {
    json!({"v": 1, "id": id, "attempt": 1, "queue": "web", "action": "test.wait"})
}

#[tokio::test]
async fn a_killed_worker_leaves_its_claims() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let process = Process::start(&redis);
    for job in [post("r-1", "/wait"), get("r-2", "/wait"), background("b-1")] {
        front.push(&job, b"").await;
        started(&mut front, job["id"].as_str().expect("an id")).await;
    }
    process.signal(Signal::KILL);
    process.ended();
    let claims = front.claims("given").await;
    assert_eq!((claims.len(), claims["started"].as_str()), (4, "3"), "{claims:?}");
    assert_eq!(reap(&mut front, "given", true).await, counts([2, 1, 0]));
    let mut entries = [lost(&mut front).await, lost(&mut front).await];
    entries.sort_by_key(|entry| entry["id"].to_string());
    for (entry, id) in entries.iter().zip(["r-1", "r-2"]) {
        let expected = json!({"id": id, "attempt": 1, "reply_to": REPLY_TO, "started": true, "certain": true,
            "worker": "given"});
        assert_eq!(*entry, expected);
    }
    assert_eq!(front.number(&["LLEN", QUEUE]).await, 1);
    assert_eq!(front.command(&["HGET", "{tempest:web}:attempts", "b-1"]).await, Reply::Text("1".into()));
    // The next one does what is left, under the same id.
    let process = Process::start(&redis);
    started(&mut front, "b-1").await;
    front.command(&["RPUSH", "leave", "1", "2", "3"]).await;
    front.until(&["EXISTS", "{tempest:web}:attempts"], &Reply::Int(0)).await;
    process.signal(Signal::TERM);
    assert!(process.ended().success());
    front.command(&["DEL", "leave"]).await;
    assert_eq!(front.keys().await, [""; 0]);
}

#[tokio::test]
async fn a_suspended_worker_answers_nothing_that_was_taken_away() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let mut process = Process::start(&redis);
    front.push(&post("r-1", "/wait"), b"").await;
    started(&mut front, "r-1").await;
    process.signal(Signal::STOP);
    front.until(&["EXISTS", "{tempest:web}:worker:given"], &Reply::Int(0)).await;
    // What the front does with one that is silent.
    let registration = front.command(&["HGET", "{tempest:web}:claimers", "given"]).await;
    let Reply::Text(registration) = registration else { panic!("no registration") };
    for id in String::from_utf8_lossy(&registration).split(' ').skip(1) {
        front.command(&["CLIENT", "KILL", "ID", id]).await;
    }
    assert_eq!(reap(&mut front, "given", false).await, counts([1, 0, 0]));
    let entry = lost(&mut front).await;
    assert_eq!((&entry["started"], &entry["certain"]), (&json!(true), &json!(false)));
    process.signal(Signal::CONT);
    process.said("begins anew");
    front.push(&post("r-2", "/wait"), b"").await;
    started(&mut front, "r-2").await;
    front.command(&["RPUSH", "leave", "1", "2"]).await;
    assert_eq!(front.answer().await.id, "r-2");
    assert_eq!(front.number(&["LLEN", REPLY_TO]).await, 0, "the first one is not answered any more");
    process.signal(Signal::TERM);
    assert!(process.ended().success());
}

/// A job that comes while another blocks the worker's thread goes back, although the worker has not even read it.
#[tokio::test]
async fn what_comes_while_the_thread_is_blocked_is_given_back() {
    const ROUNDS: usize = 3;
    let redis = Redis::start();
    let mut front = redis.front().await;
    let mut reader = redis.front().await;
    reader.command(&["SUBSCRIBE", "entered"]).await;
    let process = Process::start(&redis);
    let mut shortest = Duration::MAX;
    for _ in 0..ROUNDS {
        front.push(&post("block", "/block"), b"").await;
        reader.connection.reply().await.expect("it runs");
        let since = Instant::now();
        let taken = front.command(&["HGET", "{tempest:web}:stats", "taken"]).await;
        front.push(&post("r-1", "/fail"), b"").await;
        // It was taken, and is there again.
        while front.command(&["HGET", "{tempest:web}:stats", "taken"]).await == taken {
            assert!(since.elapsed() < PATIENCE, "it was never taken");
        }
        front.until(&["LLEN", QUEUE], &Reply::Int(1)).await;
        shortest = shortest.min(since.elapsed());
        let mut ids = [front.answer().await.id, front.answer().await.id];
        ids.sort();
        assert_eq!(ids, ["block", "r-1"]);
    }
    // The promise is a time. A busy machine may break it in some rounds, but not in all of them.
    assert!(shortest < Duration::from_millis(100), "{shortest:?}");
    process.signal(Signal::TERM);
    assert!(process.ended().success());
    assert_eq!(front.keys().await, [""; 0]);
}

#[tokio::test]
async fn the_environment_tells_how_and_where() {
    let (redis, other) = (Redis::start(), Redis::start());
    let mut front = redis.front().await;
    let url = redis.url();
    let mut process = Process::with(&other, &[("TEMPEST_REDIS_URL", &url), ("TEMPEST_CLAIMS", "base")]);
    process.said("taking jobs");
    front.push(&get("r-1", "/"), b"").await;
    assert_eq!(front.answer().await.status, 404);
    assert_eq!(front.calls("evalsha").await, 0);
    process.signal(Signal::TERM);
    assert!(process.ended().success());
}
