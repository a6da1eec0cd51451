//! A stop takes no more jobs and loses none.

use std::time::{Duration, Instant};

use serde_json::Value;
use tempest_worker::{App, Claims};

use crate::harness::{QUEUE, Redis, Signal, Worker, get};

#[tokio::test]
async fn an_idle_worker_stops_although_its_pop_waits() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let app = App::new().fallback(|_| async { "here" }).claim_wait(Duration::from_secs(60));
    let worker = Worker::start(&redis, app);
    front.push(&get("r-1", "/"), b"").await;
    front.answer().await;
    let before = Instant::now();
    worker.stopped().await;
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    // Nobody is left to take this one.
    front.push(&get("r-2", "/"), b"").await;
    assert_eq!(front.number(&["LLEN", QUEUE]).await, 1);
}

#[tokio::test]
async fn a_stop_finishes_what_was_begun() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (entered, leave) = (Signal::default(), Signal::default());
    let (in_it, go) = (entered.clone(), leave.clone());
    let handler = move |_| {
        let (entered, leave) = (entered.clone(), leave.clone());
        async move {
            entered.give();
            leave.given().await;
            "done"
        }
    };
    let mut worker = Worker::start(&redis, App::new().fallback(handler));
    front.push(&get("r-1", "/"), b"").await;
    in_it.given().await;
    front.until_waiting(1).await;
    worker.stop();
    front.until_waiting(0).await;
    front.record(|record| record["state"] == "quiet").await;
    front.push(&get("r-2", "/"), b"").await;
    go.give();
    assert_eq!(front.answer().await.text(), "done");
    worker.ended().await;
    assert_eq!(front.number(&["LLEN", QUEUE]).await, 1, "the second job is left for another worker");
}

#[tokio::test]
async fn what_exceeds_the_grace_is_left() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let entered = Signal::default();
    let in_it = entered.clone();
    let handler = move |_| {
        let entered = entered.clone();
        async move {
            entered.give();
            std::future::pending::<()>().await;
        }
    };
    for (claims, id) in [(Claims::Base, "base"), (Claims::Reliable, "reliable")] {
        let app = App::new().fallback(handler.clone()).stop_grace(Duration::from_millis(300));
        let worker = Worker::start(&redis, app.claims(claims).worker_id(id));
        front.push(&get("r-1", "/"), b"").await;
        in_it.given().await;
        worker.stopped().await;
        // Its claim stays, and so does its registration: so the job is taken from it like from one that died.
        let left = front.number(&["EXISTS", "{tempest:web}:claimers"]).await;
        assert_eq!((left, front.claims(id).await.len() as i64), (left, 2 * left), "{claims:?}");
        assert_eq!(left > 0, claims == Claims::Reliable);
    }
}

/// Stops at any moment of a busy worker; every job is answered or still there.
#[tokio::test]
async fn a_stop_loses_no_job() {
    const JOBS: usize = 400;
    let (blmpop, blpop) = (tempest_worker::ClaimCommand::Blmpop, tempest_worker::ClaimCommand::BlpopLpop);
    for (claims, command) in [(Claims::Reliable, blmpop), (Claims::Base, blmpop), (Claims::Base, blpop)] {
        let redis = Redis::start();
        let mut front = redis.front().await;
        for round in 0..8 {
            let app = App::new().fallback(|_| async { "here" }).claims(claims).claim_command(command);
            let worker = Worker::start(&redis, app);
            let jobs: Vec<Value> = (0..JOBS).map(|n| get(&format!("r-{n}"), "/")).collect();
            for jobs in jobs.chunks(20) {
                front.push_all(jobs).await;
            }
            for _ in 0..round * 10 {
                front.answer().await;
            }
            worker.stopped().await;
            let left = front.number(&["LLEN", QUEUE]).await;
            let answered = front.number(&["LLEN", crate::harness::REPLY_TO]).await;
            assert_eq!(left + answered + round * 10, JOBS as i64, "round {round}");
            front.command(&["FLUSHALL"]).await;
        }
    }
}
