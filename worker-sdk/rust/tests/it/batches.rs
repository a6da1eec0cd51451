//! Reliable mode when there is much to do: whole lists are claimed at once, and lie in Redis as one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempest_worker::connection::Reply;
use tempest_worker::{App, Request};
use tokio::time::timeout;

use crate::claims::{counts, post, reap};
use crate::harness::{Front, PATIENCE, QUEUE, REPLY_TO, Redis, Signal, Worker, get};

const BATCH: &str = "{tempest:web}:batch:w1";

/// An application with a handler that ends at once, and one that ends when it is told to.
fn app() -> (App, Signal, Signal) {
    let (entered, leave) = (Signal::default(), Signal::default());
    let (in_it, go) = (entered.clone(), leave.clone());
    let held = move |_| {
        let (entered, leave) = (entered.clone(), leave.clone());
        async move {
            entered.give();
            leave.given().await;
            "held"
        }
    };
    let app = App::new().worker_id("w1").fallback(|_| async { "quick" });
    (app.get("/held", held.clone()).post("/held", held), in_it, go)
}

fn jobs(prefix: &str, count: usize) -> Vec<Value> {
    (0..count).map(|n| post(&format!("{prefix}-{n}"), "/")).collect()
}

impl Front {
    /// Gives the worker work until it takes whole lists.
    async fn until_batches(&mut self) {
        while self.calls("renamenx").await == 0 {
            self.push_all(&jobs("warm", 40)).await;
            for _ in 0..40 {
                self.answer().await;
            }
        }
        self.until_waiting(1).await;
    }

    async fn batch(&mut self) -> Vec<String> {
        let Reply::List(parts) = self.command(&["LRANGE", BATCH, "0", "-1"]).await else { panic!("no list") };
        let text = |part: Reply| {
            if let Reply::Text(text) = part { String::from_utf8_lossy(&text).into_owned() } else { panic!() }
        };
        parts.into_iter().map(text).collect()
    }
}

/// Pushes six quick jobs with a held one among them, and waits until the quick ones are answered and acknowledged.
async fn with_one_held(front: &mut Front, held: Value, in_it: &Signal) {
    let mut seven = jobs("r", 6);
    seven.insert(3, held);
    front.push_all(&seven).await;
    in_it.given().await;
    for _ in 0..6 {
        assert_eq!(front.answer().await.text(), "quick");
    }
    timeout(PATIENCE, async {
        while !front.batch().await.first().is_some_and(|head| head.ends_with(" 1")) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("six are acknowledged, and one is not");
}

#[tokio::test]
async fn jobs_of_a_batch_that_end_at_different_times_are_acknowledged_each() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (app, in_it, go) = app();
    let worker = Worker::start(&redis, app);
    front.until_batches().await;
    with_one_held(&mut front, get("held", "/held"), &in_it).await;
    let batch = front.batch().await;
    let left: Vec<_> = batch[1..].iter().filter(|job| !job.is_empty()).collect();
    assert!(batch.len() == 8 && left.len() == 1 && left[0].contains("\"held\""), "{batch:?}");
    // Redis forgets the script with which the last one is to be acknowledged.
    front.command(&["SCRIPT", "FLUSH"]).await;
    go.give();
    assert_eq!(front.answer().await.text(), "held");
    front.until(&["EXISTS", BATCH], &Reply::Int(0)).await;
    assert_eq!(front.record(|record| record["current"] == serde_json::json!([])).await["lost"], 0);
    worker.stopped().await;
    assert_eq!(front.keys().await, [""; 0]);
}

#[tokio::test]
async fn what_a_dead_worker_held_of_a_batch_is_taken_from_it() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (app, in_it, go) = app();
    let worker = Worker::start(&redis, app);
    front.until_batches().await;
    with_one_held(&mut front, post("held", "/held"), &in_it).await;
    assert_eq!(reap(&mut front, "w1", true).await, counts([1, 0, 0]));
    let Reply::List(lost) = front.command(&["LRANGE", "{tempest:web}:lost", "0", "-1"]).await else {
        panic!("no list")
    };
    let Reply::Text(lost) = &lost[0] else { panic!("{lost:?}") };
    let lost: Value = serde_json::from_slice(lost).expect("an entry");
    assert_eq!((&lost["id"], &lost["started"]), (&"held".into(), &true.into()));
    assert_eq!(front.number(&["EXISTS", BATCH]).await, 0);
    // It learns that at its next claim, and answers the lost one no more.
    front.until(&["HEXISTS", "{tempest:web}:claimers", "w1"], &Reply::Int(1)).await;
    go.give();
    front.push(&post("next", "/"), b"").await;
    assert_eq!(front.answer().await.id, "next");
    worker.stopped().await;
    front.command(&["DEL", "{tempest:web}:lost"]).await;
    assert_eq!(front.keys().await, [""; 0]);
}

#[tokio::test]
async fn jobs_of_a_batch_that_wait_behind_a_long_one_go_back() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Mutex::new(released);
    let app = App::new().worker_id("w1").fallback(|_| async { "quick" }).get("/stuck", move |_| {
        let waited = released.lock().map(|released| released.recv());
        assert!(matches!(waited, Ok(Ok(()))), "it was released");
        async { "stuck" }
    });
    // Its handlers block their thread.
    let (app, (stop, stopped)) = (app.redis(redis.url()).queue(QUEUE), tokio::sync::oneshot::channel::<()>());
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(app.serve(async {
            let _ = stopped.await;
        }))
    });
    front.until_batches().await;
    let mut seven = jobs("r", 6);
    seven.insert(0, get("stuck", "/stuck"));
    front.push_all(&seven).await;
    front.until(&["LLEN", QUEUE], &Reply::Int(6)).await;
    let batch = front.batch().await;
    assert!(batch[0].ends_with(" 1") && batch.len() == 8, "one is left: {batch:?}");
    release.send(()).expect("a worker");
    for _ in 0..7 {
        front.answer().await;
    }
    front.until(&["EXISTS", BATCH], &Reply::Int(0)).await;
    stop.send(()).expect("a running worker");
    tokio::task::spawn_blocking(move || worker.join().expect("no panic").expect("good settings"))
        .await
        .expect("joined");
    assert_eq!(front.keys().await, [""; 0]);
}

/// The connection that claims is cut over and over while there is much to do; each job is answered, none is run twice.
#[tokio::test]
async fn cut_connections_lose_nothing_of_a_batch() {
    const ROUNDS: usize = 100;
    const EACH: usize = 30;
    let redis = Redis::start();
    let mut front = redis.front().await;
    let runs: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let counted = runs.clone();
    let handler = move |request: Request| {
        *counted.lock().expect("a lock").entry(request.id().to_owned()).or_default() += 1;
        async { "quick" }
    };
    let worker = Worker::start(&redis, App::new().worker_id("w1").fallback(handler));
    front.until_batches().await;
    front.command(&["CONFIG", "RESETSTAT"]).await;
    for round in 0..ROUNDS {
        front.push_all(&jobs(&format!("r{round}"), EACH)).await;
        // Each cut comes at another moment of the batch.
        tokio::time::sleep(Duration::from_micros(20 * round as u64)).await;
        let Reply::Text(list) = front.command(&["CLIENT", "LIST"]).await else { panic!("no list") };
        let list = String::from_utf8_lossy(&list).into_owned();
        let which = if round % 3 == 0 { ":answers " } else { ":jobs " };
        let id =
            list.lines().find(|line| line.contains(which)).and_then(|line| line.strip_prefix("id=")?.split(' ').next());
        if let Some(id) = id {
            front.command(&["CLIENT", "KILL", "ID", id]).await;
        }
    }
    let mut missing: std::collections::HashSet<String> =
        (0..ROUNDS).flat_map(|round| (0..EACH).map(move |n| format!("r{round}-{n}"))).collect();
    while !missing.is_empty() {
        missing.remove(&front.answer().await.id);
    }
    assert!(front.calls("renamenx").await > 0 || front.calls("copy").await > 0, "there were batches");
    let runs = runs.lock().expect("a lock").clone();
    let twice: Vec<_> = runs.iter().filter(|(id, runs)| id.starts_with('r') && **runs != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    front.until(&["EXISTS", BATCH], &Reply::Int(0)).await;
    worker.stopped().await;
    // Answers can come twice; the front drops those.
    front.command(&["DEL", REPLY_TO]).await;
    assert_eq!(front.keys().await, [""; 0]);
}
