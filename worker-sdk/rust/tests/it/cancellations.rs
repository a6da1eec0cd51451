//! Jobs whose client has left while they ran.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempest_worker::connection::Reply;
use tempest_worker::{App, Request, Response, blocking};

use crate::claims::post;
use crate::harness::{Front, REPLY_TO, Redis, Signal, Worker};

/// As the front does when the client of a running job leaves.
async fn withdraw(front: &mut Front, id: &str) {
    let deadline = (front.now_ms().await + 30_000).to_string();
    front.command(&["ZADD", "{tempest:web}:withdrawn", &deadline, id]).await;
}

async fn acknowledged(front: &mut Front) {
    // `started` stays.
    front.until(&["HLEN", "{tempest:web}:claimed:w1"], &Reply::Int(1)).await;
    assert_eq!(front.number(&["LLEN", REPLY_TO]).await, 0, "there is nobody to answer");
}

struct OnDrop(Signal);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.give();
    }
}

#[tokio::test]
async fn an_async_handler_is_dropped() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (entered, dropped) = (Signal::default(), Signal::default());
    let (in_it, gone) = (entered.clone(), dropped.clone());
    let handler = move |_| {
        entered.give();
        let guard = OnDrop(dropped.clone());
        async move {
            std::future::pending::<()>().await;
            drop(guard);
        }
    };
    let worker = Worker::start(&redis, App::new().fallback(handler).worker_id("w1"));
    front.push(&post("r-1", "/"), b"").await;
    in_it.given().await;
    withdraw(&mut front, "r-1").await;
    gone.given().await;
    acknowledged(&mut front).await;
    worker.stopped().await;
}

#[tokio::test]
async fn a_handler_may_finish_what_nobody_wants() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (told, leave) = (Signal::default(), Signal::default());
    let finished = Arc::new(AtomicBool::new(false));
    let (heard, go, is_finished) = (told.clone(), leave.clone(), finished.clone());
    let handler = move |request: Request| {
        let (told, leave, finished) = (told.clone(), leave.clone(), finished.clone());
        async move {
            assert!(!request.is_cancelled());
            told.give();
            request.cancelled().await;
            told.give();
            leave.given().await;
            finished.store(request.is_cancelled(), Ordering::SeqCst);
        }
    };
    let app = App::new().fallback(handler).finish_cancelled(true).worker_id("w1");
    let worker = Worker::start(&redis, app);
    front.push(&post("r-1", "/"), b"").await;
    heard.given().await;
    withdraw(&mut front, "r-1").await;
    heard.given().await;
    assert_eq!(front.number(&["HLEN", "{tempest:web}:claimed:w1"]).await, 2, "it is at work");
    go.give();
    acknowledged(&mut front).await;
    assert!(is_finished.load(Ordering::SeqCst));
    worker.stopped().await;
}

#[tokio::test]
async fn a_thread_looks_for_itself() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (entered, finished) = (Signal::default(), Arc::new(AtomicBool::new(false)));
    let (in_it, is_finished) = (entered.clone(), finished.clone());
    let handler = blocking(move |request: Request| {
        entered.give();
        while !request.is_cancelled() {
            std::thread::sleep(Duration::from_millis(5));
        }
        finished.store(true, Ordering::SeqCst);
    });
    let worker = Worker::start(&redis, App::new().fallback(handler).worker_id("w1"));
    front.push(&post("r-1", "/"), b"").await;
    in_it.given().await;
    withdraw(&mut front, "r-1").await;
    acknowledged(&mut front).await;
    assert!(is_finished.load(Ordering::SeqCst));
    worker.stopped().await;
}

#[tokio::test]
async fn a_stream_ends() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let closed = Signal::default();
    let ended = closed.clone();
    let handler = move |_| {
        let (sender, response) = Response::channel();
        let closed = closed.clone();
        async move {
            tokio::spawn(async move {
                while sender.send("part").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                closed.give();
            });
            response
        }
    };
    let worker = Worker::start(&redis, App::new().fallback(handler).worker_id("w1"));
    front.push(&post("r-1", "/"), b"").await;
    assert!(front.answer().await.more);
    withdraw(&mut front, "r-1").await;
    ended.given().await;
    front.command(&["DEL", REPLY_TO]).await;
    acknowledged(&mut front).await;
    worker.stopped().await;
}
