//! What goes wrong with one job must stay with that job.

use serde_json::json;
use tempest_worker::{App, BoxError, Request, Response, blocking, dedicated};
use tokio::sync::mpsc;

use crate::harness::{QUEUE, REPLY_TO, Redis, Worker, get, with};

async fn fails(_: Request) -> Result<String, BoxError> {
    Err("the secret reason".into())
}

async fn panics(_: Request) -> String {
    panic!("the secret mistake")
}

fn panics_on_a_thread(_: Request) -> String {
    panic!("the secret mistake")
}

async fn answers_nonsense(_: Request) -> Response {
    Response::text("the secret text").with_header("x-a", "1\r\nset-cookie: forged")
}

fn app() -> App {
    App::new()
        .get("/error", fails)
        .get("/panic", panics)
        .get("/panic-at-once", |_| -> std::future::Ready<String> { panic!("the secret mistake") })
        .get("/panic-pool", blocking(panics_on_a_thread))
        .get("/panic-own", dedicated(1, panics_on_a_thread).expect("a thread"))
        .get("/nonsense", answers_nonsense)
        .get("/good", |_| async { "good" })
}

const PATHS: [&str; 6] = ["/error", "/panic", "/panic-at-once", "/panic-pool", "/panic-own", "/nonsense"];

#[tokio::test]
async fn errors_and_panics_become_500_without_their_text() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, app().development(false));
    for _ in 0..2 {
        for path in PATHS {
            front.push(&get("r-1", path), b"").await;
            let answer = front.answer().await;
            assert_eq!((answer.status, answer.text().as_str()), (500, "internal server error\n"), "{path}");
        }
    }
    front.push(&get("r-2", "/good"), b"").await;
    assert_eq!(front.answer().await.text(), "good");
    assert_eq!(front.record(|record| record["done"] == 13).await["failed"], 12);
    worker.stopped().await;
}

#[tokio::test]
async fn development_shows_them() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, app().development(true));
    for path in PATHS {
        front.push(&get("r-1", path), b"").await;
        let answer = front.answer().await;
        let text = answer.text();
        assert_eq!(answer.status, 500);
        match path {
            "/error" => assert!(text.contains("the secret reason"), "{text}"),
            "/nonsense" => assert!(text.contains("x-a") && answer.header("x-a").is_none(), "{text}"),
            _ => {
                assert!(text.contains("the secret mistake") && text.contains("failures.rs:"), "{path}: {text}");
                assert!(text.lines().count() > 5, "a back-trace: {text}");
            }
        }
    }
    worker.stopped().await;
}

#[tokio::test]
async fn jobs_past_their_deadline_are_not_run() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (ran, mut runs) = mpsc::unbounded_channel();
    let handler = move |request: Request| {
        let ran = ran.clone();
        async move {
            let left = request.time_left().expect("a deadline");
            ran.send((request.id().to_owned(), left)).map_err(|_| "no test")
        }
    };
    let now = front.now_ms().await;
    let deadline = |id: &str, at: u64| with(get(id, "/"), &[("deadline", json!(at))]);
    front.push_all(&[deadline("late", now - 5000), deadline("good", now + 60_000)]).await;
    let worker = Worker::start(&redis, App::new().fallback(handler));
    assert_eq!(front.answer().await.id, "good");
    let (id, left) = runs.recv().await.expect("a run");
    assert!(id == "good" && (50..=60).contains(&left.as_secs()), "{id} {left:?}");
    assert_eq!(front.record(|record| record["done"] == 1).await["expired"], 1);
    assert!(runs.try_recv().is_err());
    worker.stopped().await;
}

#[tokio::test]
async fn garbage_is_dropped_and_counted() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let garbage: [&[u8]; 8] = [
        b"",
        b"\n",
        b"hello",
        b"{\"v\":1}\n",
        b"{\"v\":2,\"id\":\"a\",\"reply_to\":\"tempest:@test.0\"}\n",
        b"[1,\"a\",1]\n",
        b"{\"v\":1,\"id\":\"a\",\"headers\":7}\n",
        b"\xff\xfe\x00",
    ];
    for message in garbage {
        front.push_raw(message).await;
    }
    let worker = Worker::start(&redis, app());
    front.push(&get("r-1", "/good"), b"").await;
    assert_eq!(front.answer().await.id, "r-1");
    let record = front.record(|record| record["done"] == 1).await;
    assert_eq!((&record["malformed"], &record["failed"]), (&json!(8), &json!(0)));
    worker.stopped().await;
}

#[tokio::test]
async fn no_job_makes_a_worker_write_to_another_key() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, app());
    let keys = ["victim", QUEUE, "tempest:@", "other:@test.0", "{tempest:web}:workers", ""];
    for key in keys.into_iter().filter(|key| *key != "tempest:@") {
        front.push(&with(get("forged", "/good"), &[("reply_to", json!(key))]), b"").await;
    }
    front.push(&get("r-1", "/good"), b"").await;
    assert_eq!(front.answer().await.id, "r-1");
    let record = front.record(|record| record["done"] == 1).await;
    assert_eq!(record["malformed"], 5);
    for key in ["victim", QUEUE, "other:@test.0"] {
        assert_eq!(front.number(&["EXISTS", key]).await, 0, "{key}");
    }
    assert_eq!(front.number(&["LLEN", REPLY_TO]).await, 0);
    worker.stopped().await;
}

#[tokio::test]
async fn an_answer_that_redis_refuses_harms_nothing() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    front.command(&["SET", "tempest:@wrong.0", "a string"]).await;
    let worker = Worker::start(&redis, app());
    front.push(&with(get("r-1", "/good"), &[("reply_to", json!("tempest:@wrong.0"))]), b"").await;
    front.push(&get("r-2", "/good"), b"").await;
    assert_eq!(front.answer().await.id, "r-2");
    front.record(|record| record["undelivered"] == 1).await;
    worker.stopped().await;
}

#[tokio::test]
async fn a_queue_that_is_no_list_is_waited_for() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    front.command(&["SET", QUEUE, "a string"]).await;
    let worker = Worker::start(&redis, app());
    front.record(|_| true).await;
    front.command(&["DEL", QUEUE]).await;
    front.push(&get("r-1", "/good"), b"").await;
    assert_eq!(front.answer().await.id, "r-1");
    worker.stopped().await;
}

#[tokio::test]
async fn bad_settings_are_errors_at_once() {
    let app = App::new().get("hello", fails).get("/{", fails).redis("localhost").queue("web");
    let error = app.serve(std::future::pending()).await.expect_err("bad settings");
    assert_eq!(error.problems.len(), 4, "{error}");
    assert!(error.to_string().contains("redis://"), "{error}");
}
