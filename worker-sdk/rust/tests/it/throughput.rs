//! Batches: what a busy worker sends to Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempest_worker::connection::Reply;
use tempest_worker::{App, Claims};

use crate::harness::{Front, QUEUE, REPLY_TO, Redis, Signal, Worker, get};

const JOBS: usize = 1280;
/// Far from 1 and from the limit of 64: how quick jobs are depends on what else this machine does.
const LARGE_BATCH: u64 = 8;

/// An application that tells when it has done all jobs of a round.
fn app() -> (App, Signal) {
    let (done, all_done) = (Arc::new(AtomicUsize::new(0)), Signal::default());
    let signal = all_done.clone();
    let handler = move |_| {
        if (done.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(JOBS) {
            signal.give();
        }
        async { "here" }
    };
    (App::new().fallback(handler), all_done)
}

/// Pushes jobs, forgets in the same transaction what was counted so far, and waits for all answers. Returns how many
/// commands that took after the transaction.
async fn one_round(front: &mut Front, all_done: &Signal) -> u64 {
    let jobs: Vec<Value> = (0..JOBS).map(|n| get(&format!("r-{n}"), "/")).collect();
    front.command(&["MULTI"]).await;
    front.push_all(&jobs).await;
    front.command(&["CONFIG", "RESETSTAT"]).await;
    assert!(matches!(front.command(&["EXEC"]).await, Reply::List(_)));
    all_done.given().await;
    let mut asked = 1;
    while front.number(&["LLEN", REPLY_TO]).await < JOBS as i64 {
        asked += 1;
    }
    front.command(&["DEL", REPLY_TO]).await;
    asked + 1
}

#[tokio::test]
async fn a_batch_is_one_write() {
    for (claims, command) in [(Claims::Reliable, "evalsha"), (Claims::Base, "blmpop")] {
        a_batch_is_one_write_with(claims, command).await;
    }
}

async fn a_batch_is_one_write_with(claims: Claims, command: &str) {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (app, all_done) = app();
    let worker = Worker::start(&redis, app.claims(claims));
    // The worker gets to know how long its jobs take.
    one_round(&mut front, &all_done).await;
    let asked = one_round(&mut front, &all_done).await;
    let (claims, pushes) = (front.calls(command).await, front.calls("rpush").await);
    // Redis reads once a write: the questions, these three among them, the beats, and the worker's batches.
    let beats = front.calls("pexpire").await;
    let reads = front.info("stats", "total_reads_processed").await.expect("it is counted");
    let writes = reads.parse::<u64>().expect("a number") - asked - 4 - beats;
    assert!(claims <= JOBS as u64 / LARGE_BATCH, "{claims} claims for {JOBS} jobs");
    assert!(pushes <= claims + 1, "{pushes} pushes for {claims} claims");
    let acknowledgements = front.calls("hdel").await;
    assert!(acknowledgements <= pushes, "{acknowledgements} acknowledgements for {pushes} pushes");
    assert!(front.calls("blmove").await <= 2, "no waits while there is work");
    assert!(writes <= claims + 2, "{writes} writes for {claims} claims");
    worker.stopped().await;
}

#[tokio::test]
async fn batches_can_be_turned_off() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (app, all_done) = app();
    let worker = Worker::start(&redis, app.batch(1));
    one_round(&mut front, &all_done).await;
    assert!(front.calls("evalsha").await >= JOBS as u64 - 1);
    worker.stopped().await;
}

#[tokio::test]
async fn answers_wait_for_a_batch_and_no_longer() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let app = App::new()
        .get("/quick", |_| async {})
        // Longer than a batch should take; it cannot be known before.
        .get("/long", |_| async { std::thread::sleep(Duration::from_millis(50)) })
        .get("/stuck", move |_| {
            let waited = released.lock().map(|released| released.recv());
            assert!(matches!(waited, Ok(Ok(()))), "it was released");
            async {}
        });
    // These handlers block their thread, so the worker has one of its own.
    let (app, (stop, stopped)) = (app.redis(redis.url()).queue(QUEUE), tokio::sync::oneshot::channel::<()>());
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(app.serve(async {
            let _ = stopped.await;
        }))
    });
    let quick: Vec<Value> = (0..500).map(|n| get(&format!("r-{n}"), "/quick")).collect();
    front.push_all(&quick).await;
    for _ in 0..500 {
        front.answer().await;
    }
    front.push_all(&[get("quick", "/quick"), get("long", "/long"), get("stuck", "/stuck")]).await;
    assert_eq!(front.answer().await.id, "quick");
    assert_eq!(front.answer().await.id, "long");
    release.send(()).expect("it waits");
    assert_eq!(front.answer().await.id, "stuck");
    stop.send(()).expect("a running worker");
    worker.join().expect("no panic").expect("good settings");
}
