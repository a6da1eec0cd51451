//! Redis goes away and comes back.

use rustix::process::kill_process;
use serde_json::Value;
use tempest_worker::{App, Bytes, Request, Response};
use tokio::sync::mpsc;

use crate::harness::{Answered, Redis, Signal, Worker, get, with};

#[tokio::test]
async fn answers_are_delivered_after_a_restart() {
    let mut redis = Redis::start();
    let mut front = redis.front().await;
    let (entered, mut entries) = mpsc::unbounded_channel();
    let leave = Signal::default();
    let go = leave.clone();
    let handler = move |request: Request| {
        let (entered, leave) = (entered.clone(), leave.clone());
        async move {
            entered.send(()).expect("a test");
            leave.given().await;
            request.id().to_owned()
        }
    };
    let worker = Worker::start(&redis, App::new().fallback(handler));
    let jobs: Vec<Value> = (0..3).map(|n| get(&format!("r-{n}"), "/")).collect();
    for job in &jobs {
        front.push(job, b"").await;
        entries.recv().await.expect("a start");
    }
    redis.kill();
    for _ in 0..3 {
        go.give();
        tokio::task::yield_now().await;
    }
    redis.restart();
    let mut front = redis.front().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(front.answer().await.text());
    }
    ids.sort();
    assert_eq!(ids, ["r-0", "r-1", "r-2"]);
    // And it goes on.
    go.give();
    front.push(&get("r-3", "/"), b"").await;
    assert_eq!(front.answer().await.text(), "r-3");
    front.record(|record| record["done"] == 4).await;
    worker.stopped().await;
}

#[tokio::test]
async fn an_answer_that_redis_never_read_is_sent_again() {
    let mut redis = Redis::start();
    let mut front = redis.front().await;
    let (pid, written) = (redis.pid(), Signal::default());
    let stopped = written.clone();
    let handler = move |_| {
        // From here on Redis reads nothing: the answer gets as far as its socket.
        kill_process(pid, rustix::process::Signal::STOP).expect("a running server");
        stopped.give();
        async { "here" }
    };
    let worker = Worker::start(&redis, App::new().fallback(handler));
    front.push(&get("r-1", "/"), b"").await;
    written.given().await;
    // The worker is on this thread: it writes before this goes on.
    tokio::task::yield_now().await;
    redis.kill();
    redis.restart();
    let mut front = redis.front().await;
    assert_eq!(front.answer().await.text(), "here");
    worker.stopped().await;
}

#[tokio::test]
async fn a_stream_goes_on_after_a_restart() {
    let mut redis = Redis::start();
    let mut front = redis.front().await;
    let (part, parts) = mpsc::channel::<Bytes>(1);
    let parts = std::sync::Arc::new(std::sync::Mutex::new(Some(parts)));
    let handler = move |_| {
        let parts = parts.lock().expect("a lock").take().expect("one request");
        async { Response::stream(tokio_stream::wrappers::ReceiverStream::new(parts)) }
    };
    let worker = Worker::start(&redis, App::new().fallback(handler));
    front.push(&get("r-1", "/"), b"").await;
    assert_eq!(front.answer().await.n, 0);
    redis.kill();
    part.send("one".into()).await.expect("a reader");
    redis.restart();
    let mut front = redis.front().await;
    part.send("two".into()).await.expect("a reader");
    drop(part);
    // What Redis had not acknowledged came twice; the front goes by the number.
    let mut parts = front.whole_stream().await;
    parts.sort_by_key(|part| part.n);
    parts.dedup_by_key(|part| part.n);
    let text: String = parts.iter().map(Answered::text).collect();
    assert_eq!(text, "onetwo");
    let first = parts[0].n;
    assert!(first <= 1 && parts.iter().zip(first..).all(|(part, n)| part.n == n), "{parts:?}");
    worker.stopped().await;
}

#[tokio::test]
async fn answers_past_their_deadline_are_not_delivered() {
    let mut redis = Redis::start();
    let mut front = redis.front().await;
    let (entered, leave) = (Signal::default(), Signal::default());
    let (in_it, go) = (entered.clone(), leave.clone());
    let handler = move |request: Request| {
        let (entered, leave) = (entered.clone(), leave.clone());
        async move {
            if request.path() == "/slow" {
                entered.give();
                leave.given().await;
            }
        }
    };
    let worker = Worker::start(&redis, App::new().fallback(handler));
    let deadline = front.now_ms().await + 2500;
    front.push(&with(get("late", "/slow"), &[("deadline", deadline.into())]), b"").await;
    in_it.given().await;
    redis.kill();
    go.give();
    // Time itself is what is waited for.
    tokio::time::sleep(std::time::Duration::from_millis(3500)).await;
    redis.restart();
    let mut front = redis.front().await;
    front.push(&get("next", "/"), b"").await;
    assert_eq!(front.answer().await.id, "next");
    assert_eq!(front.record(|record| record["done"] == 2).await["undelivered"], 1);
    worker.stopped().await;
}

#[tokio::test]
async fn a_worker_waits_for_a_redis_that_is_not_there_yet() {
    let mut redis = Redis::start();
    redis.kill();
    let worker = Worker::start(&redis, App::new().fallback(|_| async { "here" }));
    redis.restart();
    let mut front = redis.front().await;
    front.push(&get("r-1", "/"), b"").await;
    assert_eq!(front.answer().await.text(), "here");
    worker.stopped().await;
}

#[tokio::test]
async fn cut_connections_lose_no_answer() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, App::new().fallback(|_| async { "here" }));
    for round in 0..20 {
        let id = format!("r-{round}");
        front.push(&get(&id, "/"), b"").await;
        assert_eq!(front.answer().await.id, id);
        // The worker waits in a pop now, with nothing in its hands.
        front.until_waiting(1).await;
        front.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        front.until_waiting(1).await;
    }
    worker.stopped().await;
}
