//! One job, one answer: routes, bodies, threads, actions, what is published.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempest_worker::connection::Reply;
use tempest_worker::{App, Bytes, ClaimCommand, Request, Response, blocking, dedicated};
use tokio::sync::{Barrier, mpsc};

use crate::harness::{QUEUE, REPLY_TO, Redis, Signal, Worker, get, with};

async fn describe(request: Request) -> Response {
    let text = format!("{} {} {}", request.method(), request.path(), request.param("name").unwrap_or("-"));
    Response::text(text).with_header("x-a", request.header("x-a").unwrap_or("none").to_owned())
}

fn app() -> App {
    App::new().get("/hello/{name}", describe).post("/hello/{name}", describe)
}

#[tokio::test]
async fn a_job_is_answered() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, app());
    let job = with(get("r-1", "/hello/a%20b"), &[("headers", json!({"x-a": "caf\u{e9}"})), ("attempt", json!(3))]);
    front.push(&job, b"").await;
    let answer = front.answer().await;
    assert_eq!((answer.id.as_str(), answer.status, answer.attempt), ("r-1", 200, Some(3)));
    assert_eq!(answer.text(), "GET /hello/a%20b a b");
    assert_eq!(answer.header("x-a"), Some("caf\u{e9}"));
    assert!(!answer.more);
    worker.stopped().await;
}

#[tokio::test]
async fn what_no_route_answers_is_said() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, app());
    front.push(&get("r-1", "/other"), b"").await;
    assert_eq!(front.answer().await.status, 404);
    front.push(&with(get("r-2", "/hello/x"), &[("method", json!("DELETE"))]), b"").await;
    let answer = front.answer().await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, POST")));
    front.push(&with(get("r-3", "/hello/x"), &[("method", json!("HEAD"))]), b"").await;
    let answer = front.answer_to_head().await;
    assert_eq!((answer.status, answer.body.len(), answer.header("content-length")), (200, 0, Some("15")));
    worker.stopped().await;
}

#[tokio::test]
async fn bodies_of_a_mebibyte_pass_both_ways() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let echo = |request: Request| async move { Response::bytes(request.body().clone()) };
    let worker = Worker::start(&redis, App::new().fallback(echo));
    let body: Vec<u8> = (0..1024 * 1024u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    front.push(&with(get("r-1", "/"), &[("method", json!("POST"))]), &body).await;
    let parts = front.whole_stream().await;
    assert_eq!(parts[0].header("content-length"), Some("1048576"));
    assert!(parts.iter().zip(0..).all(|(part, n)| part.n == n && part.body.len() <= 64 * 1024));
    let received: Vec<u8> = parts.iter().flat_map(|part| part.body.to_vec()).collect();
    assert!(received == body, "the body came back changed");
    worker.stopped().await;
}

#[tokio::test]
async fn jobs_run_at_the_same_time() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let all_there = Arc::new(Barrier::new(8));
    let meet = move |_| {
        let all_there = all_there.clone();
        async move {
            all_there.wait().await;
        }
    };
    let worker = Worker::start(&redis, App::new().fallback(meet).concurrency(8));
    let jobs: Vec<Value> = (0..8).map(|n| get(&format!("r-{n}"), "/")).collect();
    front.push_all(&jobs).await;
    for _ in 0..8 {
        assert_eq!(front.answer().await.status, 204);
    }
    worker.stopped().await;
}

#[tokio::test]
async fn no_more_jobs_are_taken_than_may_run() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (entered, mut entries) = mpsc::unbounded_channel();
    let (inside, most, leave) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Signal::default());
    let (most_seen, let_one_go) = (most.clone(), leave.clone());
    let handler = move |_| {
        let (entered, inside, most, leave) = (entered.clone(), inside.clone(), most.clone(), leave.clone());
        async move {
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            entered.send(()).expect("a test");
            leave.given().await;
            inside.fetch_sub(1, Ordering::SeqCst);
        }
    };
    let worker = Worker::start(&redis, App::new().fallback(handler).concurrency(2));
    let jobs: Vec<Value> = (0..6).map(|n| get(&format!("r-{n}"), "/")).collect();
    front.push_all(&jobs).await;
    entries.recv().await.expect("a job");
    entries.recv().await.expect("another");
    assert_eq!(front.number(&["LLEN", QUEUE]).await, 4, "the others are left for other workers");
    for _ in 0..6 {
        let_one_go.give();
        front.answer().await;
    }
    assert_eq!(most_seen.load(Ordering::SeqCst), 2);
    worker.stopped().await;
}

#[tokio::test]
async fn ordinary_functions_run_on_threads() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let thread = |_: Request| std::thread::current().name().unwrap_or_default().to_owned();
    let app = App::new().get("/pool", blocking(thread)).get("/own", dedicated(1, thread).expect("a thread"));
    let worker = Worker::start(&redis, app);
    front.push(&get("r-1", "/pool"), b"").await;
    assert_eq!(front.answer().await.text(), "tokio-rt-worker");
    front.push(&get("r-2", "/own"), b"").await;
    assert_eq!(front.answer().await.text(), "handler-0");
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_multi_thread_runtime_will_do() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, app());
    let jobs: Vec<Value> = (0..500).map(|n| get(&format!("r-{n}"), "/hello/x")).collect();
    front.push_all(&jobs).await;
    for _ in 0..500 {
        assert_eq!(front.answer().await.status, 200);
    }
    worker.stopped().await;
}

#[tokio::test]
async fn own_actions_are_done_and_not_answered() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (done, mut dones) = mpsc::unbounded_channel();
    let resize = move |request: Request| {
        let done = done.clone();
        async move { done.send((request.action().to_owned(), request.text().into_owned())).map_err(|_| "no test") }
    };
    let worker = Worker::start(&redis, App::new().action("resize", resize));
    front.push(&json!({"v": 1, "id": "a", "action": "resize", "width": 7}), b"picture").await;
    assert_eq!(dones.recv().await, Some(("resize".into(), "picture".into())));
    worker.stopped().await;
    assert_eq!(front.keys().await, [""; 0]);
}

#[tokio::test]
async fn an_action_without_a_handler_is_not_implemented() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, app());
    front.push(&with(get("r-1", "/hello/x"), &[("action", json!("shop.close"))]), b"").await;
    assert_eq!(front.answer().await.status, 501);
    worker.stopped().await;
}

#[tokio::test]
async fn handlers_publish() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let mut reader = redis.front().await;
    reader.command(&["SUBSCRIBE", "news"]).await;
    let tell = |request: Request| async move {
        let first = request.publisher().publish("news", None, "plain \"text\"").await?;
        let second = request.publisher().publish("news", "tick", "1").await?;
        Ok::<_, tempest_worker::PublishError>(format!("{first} {second}"))
    };
    let on_a_thread = |request: Request| request.publisher().publish_blocking("news", None, "2").map(|n| n.to_string());
    let app = App::new().get("/", tell).get("/thread", blocking(on_a_thread));
    let outside = app.publisher();
    let worker = Worker::start(&redis, app);
    front.push(&get("r-1", "/"), b"").await;
    assert_eq!(front.answer().await.text(), "1 1");
    front.push(&get("r-2", "/thread"), b"").await;
    assert_eq!(front.answer().await.text(), "1");
    assert_eq!(outside.publish("news", None, "3").await, Ok(1));
    for payload in [r#"["plain \"text\""]"#, r#"["tick","1"]"#, r#"["2"]"#, r#"["3"]"#] {
        let message = reader.connection.reply().await.expect("a publication");
        let Reply::List(parts) = message else { panic!("{message:?}") };
        assert_eq!(parts[2], Reply::Text(Bytes::from(payload)));
    }
    worker.stopped().await;
}

#[tokio::test]
async fn the_commands_of_redis_6_2_do_as_well() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, app().claim_command(ClaimCommand::BlpopLpop));
    let jobs: Vec<Value> = (0..500).map(|n| get(&format!("r-{n}"), "/hello/x")).collect();
    front.push_all(&jobs).await;
    for n in 0..500 {
        assert_eq!(front.answer().await.id, format!("r-{n}"));
    }
    worker.stopped().await;
    assert_eq!(front.calls("blmpop").await, 0);
    let (blpop, lpop) = (front.calls("blpop").await - 500, front.calls("lpop").await);
    assert!(blpop < 250 && lpop > 2, "{blpop} BLPOP and {lpop} LPOP for 500 jobs");
}

#[tokio::test]
async fn a_redis_without_blmpop_is_noticed() {
    let redis = Redis::with(&["--rename-command", "BLMPOP", ""]);
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, app());
    front.push(&get("r-1", "/hello/x"), b"").await;
    assert_eq!(front.answer().await.status, 200);
    worker.stopped().await;
}

#[tokio::test]
async fn a_worker_says_that_it_is_there() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (entered, leave) = (Signal::default(), Signal::default());
    let (in_it, go) = (entered.clone(), leave.clone());
    let handler = move |_| {
        let (entered, leave) = (entered.clone(), leave.clone());
        async move {
            entered.give();
            leave.given().await;
        }
    };
    let worker = Worker::start(&redis, App::new().fallback(handler).worker_id("w1"));
    front.push(&get("r-1", "/"), b"").await;
    in_it.given().await;
    let record = front.record(|record| record["state"] == "busy").await;
    assert_eq!((&record["id"], &record["queue"], &record["language"]), (&json!("w1"), &json!("web"), &json!("rust")));
    assert_eq!((&record["current"], &record["pid"]), (&json!(["r-1"]), &json!(std::process::id())));
    assert!(record["started"].as_u64().expect("a time").abs_diff(front.now_ms().await) < 60_000);
    let life = front.number(&["PTTL", "{tempest:web}:worker:w1"]).await;
    assert!((1..=3000).contains(&life), "{life}");
    go.give();
    front.answer().await;
    front.record(|record| record["state"] == "idle" && record["done"] == 1).await;
    worker.stopped().await;
    assert_eq!(front.keys().await, [""; 0], "it takes its record along; the answers' list {REPLY_TO} is read");
}
