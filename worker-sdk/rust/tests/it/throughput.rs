//! Batches: what a busy worker sends to Redis.

use serde_json::Value;
use tempest_worker::App;

use crate::harness::{Redis, Worker, get};

const JOBS: u64 = 1280;
const BATCH: u64 = 64;

async fn answer_all(front: &mut crate::harness::Front) {
    let jobs: Vec<Value> = (0..JOBS).map(|n| get(&format!("r-{n}"), "/")).collect();
    front.push_all(&jobs).await;
    for n in 0..JOBS {
        assert_eq!(front.answer().await.id, format!("r-{n}"));
    }
}

#[tokio::test]
async fn a_batch_is_one_write() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, App::new().fallback(|_| async { "here" }));
    // The worker gets to know how long its jobs take.
    answer_all(&mut front).await;
    front.command(&["CONFIG", "RESETSTAT"]).await;
    answer_all(&mut front).await;
    let claims = front.calls("blmpop").await;
    let pushes = front.calls("rpush").await - 1;
    assert!(claims <= JOBS / BATCH + 5, "{claims} claims for {JOBS} jobs");
    assert!(pushes <= claims, "{pushes} pushes for {claims} batches");
    let beats = front.calls("set").await;
    let reads: u64 = front.info("stats", "total_reads_processed").await.expect("a number").parse().expect("a number");
    // Redis reads once a write: the worker's batches and beats, the push of the jobs (large, so in several), a read
    // for each answer taken and for each of these questions.
    let by_worker = reads.saturating_sub(JOBS + beats + 1 + 4);
    assert!(by_worker <= claims + 40, "{by_worker} writes for {claims} batches");
    worker.stopped().await;
}

#[tokio::test]
async fn batches_can_be_turned_off() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, App::new().fallback(|_| async { "here" }).batch(1));
    answer_all(&mut front).await;
    assert!(front.calls("blmpop").await >= JOBS);
    worker.stopped().await;
}
