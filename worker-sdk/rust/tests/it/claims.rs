//! Reliable mode: what a worker leaves in Redis, and what it makes of being cut off, stopped, or declared dead.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempest_worker::connection::{Connection, Reply};
use tempest_worker::{Address, App, Bytes, Claims, Request};
use tokio::time::{Instant, timeout};

use crate::harness::{Front, PATIENCE, QUEUE, REPLY_TO, Redis, Signal, Worker, get, with};

pub(crate) fn post(id: &str, path: &str) -> Value {
    with(get(id, path), &[("method", json!("POST"))])
}

fn text(text: impl Into<String>) -> Reply {
    Reply::Text(Bytes::from(text.into()))
}

/// A handler that says that it runs, and runs until it is told to end.
fn held() -> (App, Signal, Signal) {
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
    (App::new().fallback(handler), in_it, go)
}

/// Ids and names of the worker's connections.
async fn connections(front: &mut Front) -> HashMap<String, String> {
    let Reply::Text(list) = front.command(&["CLIENT", "LIST"]).await else { panic!("no list") };
    let list = String::from_utf8_lossy(&list).into_owned();
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    let each = list.lines().filter_map(|line| Some((field(line, "name")?, field(line, "id")?)));
    each.filter_map(|(name, id)| Some((name.rsplit_once(':')?.1.to_owned(), id))).collect()
}

#[tokio::test]
async fn a_job_is_claimed_until_it_is_answered() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (app, in_it, go) = held();
    let worker = Worker::start(&redis, app.worker_id("w1"));
    front.push(&post("r-1", "/"), b"body").await;
    in_it.given().await;
    let claims = front.claims("w1").await;
    assert_eq!(claims["started"], "1");
    assert!(claims["1"].contains("\"r-1\"") && claims["1"].ends_with("\nbody"), "{claims:?}");
    let ids = connections(&mut front).await;
    let run_id = front.info("server", "run_id").await.expect("it has one");
    let registration = format!("{} {} {}", run_id.trim(), ids["jobs"], ids["answers"]);
    assert_eq!(front.command(&["HGET", "{tempest:web}:claimers", "w1"]).await, text(registration));
    assert_eq!(front.number(&["EXISTS", "{tempest:web}:worker:w1"]).await, 1);
    go.give();
    assert_eq!(front.answer().await.text(), "done");
    // It is in the same write as the answer, and behind it.
    front.until(&["HLEN", "{tempest:web}:claimed:w1"], &Reply::Int(1)).await;
    worker.stopped().await;
    assert_eq!(front.keys().await, [""; 0]);
}

#[tokio::test]
async fn dropped_jobs_and_streams_are_acknowledged() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let app = App::new().get("/stream", |_| async {
        let (sender, response) = tempest_worker::Response::channel();
        tokio::spawn(async move {
            for part in ["one", "two", "three"] {
                sender.send(part).await?;
                tokio::task::yield_now().await;
            }
            Ok::<(), tempest_worker::Gone>(())
        });
        response
    });
    let worker = Worker::start(&redis, app.worker_id("w1").action("mine", |_| async {}));
    front.push_raw(b"not a job").await;
    front.push(&with(get("late", "/"), &[("deadline", json!(1))]), b"").await;
    front.push(&json!({"v": 1, "id": "b-1", "attempt": 1, "queue": "web", "action": "mine"}), b"").await;
    front.push(&get("s-1", "/stream"), b"").await;
    let parts = front.whole_stream().await;
    assert_eq!(parts.iter().map(|part| part.text()).collect::<String>(), "onetwothree");
    let gone = front.until_acknowledged("w1");
    timeout(PATIENCE, gone).await.expect("all are acknowledged");
    let record = front.record(|record| record["expired"] == 1 && record["malformed"] == 1).await;
    assert_eq!(record["lost"], 0);
    worker.stopped().await;
    assert_eq!(front.keys().await, [""; 0]);
}

impl Front {
    /// Waits until a worker holds no claim.
    async fn until_acknowledged(&mut self, worker: &str) {
        while self.claims(worker).await.keys().any(|name| name != "started") {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test]
async fn an_id_that_is_taken_gets_an_ending() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (app, in_it, go) = held();
    let first = Worker::start(&redis, app.worker_id("w1").concurrency(1));
    front.push(&get("r-1", "/"), b"").await;
    in_it.given().await;
    let second = Worker::start(&redis, App::new().fallback(|_| async { "second" }).worker_id("w1"));
    front.push(&get("r-2", "/"), b"").await;
    assert_eq!(front.answer().await.text(), "second");
    let Reply::List(names) = front.command(&["HKEYS", "{tempest:web}:claimers"]).await else { panic!("no list") };
    assert!(names.len() == 2 && names.contains(&text("w1")), "{names:?}");
    go.give();
    front.answer().await;
    first.stopped().await;
    second.stopped().await;
    assert_eq!(front.keys().await, [""; 0]);
}

#[tokio::test]
async fn forgotten_scripts_are_loaded_again() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, App::new().fallback(|_| async { "here" }));
    for round in 0..5 {
        front.until_waiting(1).await;
        front.command(&["SCRIPT", "FLUSH"]).await;
        front.push(&get(&format!("r-{round}"), "/"), b"").await;
        assert_eq!(front.answer().await.id, format!("r-{round}"));
    }
    worker.stopped().await;
    assert_eq!(front.keys().await, [""; 0]);
}

/// Both connections are cut over and over; each job is answered, and none is run twice.
#[tokio::test]
async fn cut_connections_run_no_job_twice() {
    const ROUNDS: usize = 60;
    let redis = Redis::start();
    let mut front = redis.front().await;
    let runs: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let counted = runs.clone();
    let handler = move |request: Request| {
        *counted.lock().expect("a lock").entry(request.id().to_owned()).or_default() += 1;
        async move {
            let time = if request.path() == "/slow" { 2000 } else { 3 };
            tokio::time::sleep(Duration::from_millis(time)).await;
            request.id().to_owned()
        }
    };
    let worker = Worker::start(&redis, App::new().fallback(handler).worker_id("w1"));
    front.push(&post("slow", "/slow"), b"").await;
    let mut expected = vec!["slow".to_owned()];
    for round in 0..ROUNDS {
        let jobs: Vec<Value> = (0..7).map(|n| post(&format!("r-{round}-{n}"), "/")).collect();
        expected.extend(jobs.iter().map(|job| job["id"].as_str().expect("an id").to_owned()));
        front.push_all(&jobs).await;
        // The time between two cuts is the test.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let which = if round % 3 == 0 { "answers" } else { "jobs" };
        if let Some(id) = connections(&mut front).await.get(which) {
            front.command(&["CLIENT", "KILL", "ID", id]).await;
        }
    }
    let mut missing: std::collections::HashSet<String> = expected.iter().cloned().collect();
    while !missing.is_empty() {
        missing.remove(&front.answer().await.id);
    }
    let runs = runs.lock().expect("a lock").clone();
    let twice: Vec<_> = runs.iter().filter(|(_, runs)| **runs != 1).collect();
    assert!(twice.is_empty() && runs.len() == expected.len(), "{twice:?}");
    timeout(PATIENCE, front.until_acknowledged("w1")).await.expect("nothing is left claimed");
    assert_eq!(front.record(|record| record["done"] == expected.len()).await["lost"], 0);
    worker.stopped().await;
    // Answers can come twice; the front drops those.
    front.command(&["DEL", REPLY_TO]).await;
    assert_eq!(front.keys().await, [""; 0]);
}

/// What the front does with a worker that was silent for too long.
pub(crate) async fn reap(front: &mut Front, worker: &str, certain: bool) -> Reply {
    let (claimed, landing) = (format!("{{tempest:web}}:claimed:{worker}"), format!("{{tempest:web}}:landing:{worker}"));
    let record = format!("{{tempest:web}}:worker:{worker}");
    let batch = format!("{{tempest:web}}:batch:{worker}");
    let keys = [
        "{tempest:web}:claimers",
        &claimed,
        &landing,
        &record,
        "{tempest:web}:workers",
        QUEUE,
        "{tempest:web}:lost",
        "{tempest:web}:attempts",
        "{tempest:web}:dead",
        "{tempest:web}:stats",
        &batch,
    ];
    let certain = if certain { "1" } else { "0" };
    let arguments = [worker, "", certain, "3", "10000", "604800000"];
    front.script(tempest_protocol::scripts::REAP, &keys, &arguments).await
}

pub(crate) fn counts(numbers: [i64; 3]) -> Reply {
    Reply::List(numbers.map(Reply::Int).into())
}

#[tokio::test]
async fn a_worker_that_was_declared_dead_begins_anew() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (app, in_it, go) = held();
    let dropped = Signal::default();
    let gone = dropped.clone();
    let app = app.get("/held", move |_| {
        let guard = OnDrop(dropped.clone());
        async move {
            std::future::pending::<()>().await;
            drop(guard);
        }
    });
    let worker = Worker::start(&redis, app.worker_id("w1"));
    front.push_all(&[get("held", "/held"), post("r-1", "/")]).await;
    in_it.given().await;
    assert_eq!(reap(&mut front, "w1", true).await, counts([2, 0, 0]));
    let lost: Vec<Value> = (0..2).map(|_| Value::Null).collect();
    assert_eq!(front.number(&["LLEN", "{tempest:web}:lost"]).await, lost.len() as i64);
    // It learns that at its next claim, and calls off what it has lost.
    gone.given().await;
    front.until(&["HEXISTS", "{tempest:web}:claimers", "w1"], &Reply::Int(1)).await;
    go.give();
    go.give();
    front.push(&post("r-2", "/"), b"").await;
    // Neither of the two from before is answered.
    assert_eq!(front.answer().await.id, "r-2");
    assert_eq!(front.number(&["LLEN", REPLY_TO]).await, 0);
    worker.stopped().await;
}

struct OnDrop(Signal);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.give();
    }
}

#[tokio::test]
async fn crashes_are_told_and_forgotten() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let attempts: Arc<Mutex<Vec<u32>>> = Arc::default();
    let seen = attempts.clone();
    let action = move |request: Request| {
        seen.lock().expect("a lock").push(request.attempt());
        async {}
    };
    let worker = Worker::start(&redis, App::new().action("mine.do", action).worker_id("w1"));
    front.command(&["HSET", "{tempest:web}:attempts", "b-1", "2", "other", "1"]).await;
    front.push(&json!({"v": 1, "id": "b-1", "attempt": 1, "queue": "web", "action": "mine.do"}), b"").await;
    front.until(&["HLEN", "{tempest:web}:attempts"], &Reply::Int(1)).await;
    assert_eq!(*attempts.lock().expect("a lock"), [3]);
    timeout(PATIENCE, front.until_acknowledged("w1")).await.expect("it is acknowledged");
    worker.stopped().await;
}

/// The count of a job that was taken away from this worker is another's by now.
#[tokio::test]
async fn crashes_are_not_forgotten_with_a_claim_that_was_taken_away() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (go, going) = (Signal::default(), Signal::default());
    let (begun, wait) = (going.clone(), go.clone());
    let action = move |_: Request| {
        let (begun, wait) = (begun.clone(), wait.clone());
        async move {
            begun.give();
            wait.given().await;
        }
    };
    let app = App::new().action("mine.do", action).action("mine.quick", |_: Request| async {}).worker_id("w1");
    let worker = Worker::start(&redis, app);
    front.command(&["HSET", "{tempest:web}:attempts", "b-1", "1", "b-2", "1"]).await;
    front.push(&json!({"v": 1, "id": "b-1", "attempt": 1, "queue": "web", "action": "mine.do"}), b"").await;
    going.given().await;
    // As if the worker had been declared dead meanwhile, but for its registration.
    front.command(&["HDEL", "{tempest:web}:claimed:w1", "1"]).await;
    front.command(&["HINCRBY", "{tempest:web}:attempts", "b-1", "1"]).await;
    go.give();
    front.push(&json!({"v": 1, "id": "b-2", "attempt": 1, "queue": "web", "action": "mine.quick"}), b"").await;
    front.until(&["HGET", "{tempest:web}:attempts", "b-2"], &Reply::Nil).await;
    assert_eq!(front.number(&["HLEN", "{tempest:web}:attempts"]).await, 1);
    worker.stopped().await;
    assert_eq!(front.number(&["HLEN", "{tempest:web}:attempts"]).await, 1);
}

/// No POST begins before Redis knows that it does.
#[tokio::test]
async fn what_must_not_run_twice_is_marked_first() {
    const JOBS: usize = 120;
    let redis = Redis::start();
    let mut front = redis.front().await;
    let url = redis.url();
    let handler = move |request: Request| {
        // So few start within 2 ms that most are not marked by their claim.
        std::thread::sleep(Duration::from_millis(1));
        let address = Address::parse(&url).expect("a good URL");
        async move {
            let mut connection = Connection::open(&address, "handler").await?;
            let all = connection.command(&[b"HGETALL", b"{tempest:web}:claimed:w1"]).await?;
            Ok::<_, tempest_worker::BoxError>(is_marked(&all, request.id()).to_string())
        }
    };
    let worker = Worker::start(&redis, App::new().fallback(handler).worker_id("w1"));
    let jobs: Vec<Value> = (0..JOBS).map(|n| post(&format!("r-{n:03}"), "/")).collect();
    front.push_all(&jobs).await;
    for _ in 0..JOBS {
        let answer = front.answer().await;
        assert_eq!(answer.text(), "true", "{}", answer.id);
    }
    worker.stopped().await;
}

fn is_marked(claims: &Reply, id: &str) -> bool {
    let Reply::List(parts) = claims else { return false };
    let string = |part: &Reply| match part {
        Reply::Text(text) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    };
    let pairs: Vec<_> = parts.chunks(2).map(|pair| (string(&pair[0]), string(&pair[1]))).collect();
    let number = pairs.iter().find(|(_, job)| job.contains(id)).and_then(|(number, _)| number.parse::<u64>().ok());
    let started = pairs.iter().find(|(name, _)| name == "started").and_then(|(_, to)| to.parse::<u64>().ok());
    matches!((number, started), (Some(number), Some(started)) if number <= started)
}

/// A worker on a thread of its own, since its handlers block it.
pub(crate) struct Blocked {
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<Result<(), tempest_worker::Error>>,
}

impl Blocked {
    pub(crate) fn start(redis: &Redis, app: App) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let app = app.redis(redis.url()).queue(QUEUE);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(app.serve(async {
                let _ = stopped.await;
            }))
        });
        Self { stop, thread }
    }

    pub(crate) fn stopped(self) {
        self.stop.send(()).expect("a running worker");
        self.thread.join().expect("no panic").expect("good settings");
    }
}

/// One job of ten computes for long: the other nine are anybody's again within 100 ms.
#[tokio::test]
async fn what_waits_behind_a_long_job_is_given_back() {
    const ROUNDS: usize = 5;
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (entered, mut entries) = tokio::sync::mpsc::unbounded_channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Mutex::new(released);
    let app = App::new().get("/quick", |_| async { "quick" }).get("/long", move |_| {
        entered.send(Instant::now()).expect("a test");
        let waited = released.lock().map(|released| released.recv());
        assert!(matches!(waited, Ok(Ok(()))), "it was released");
        async { "long" }
    });
    let blocked = Blocked::start(&redis, app.worker_id("w1"));
    let quick: Vec<Value> = (0..400).map(|n| get(&format!("q-{n}"), "/quick")).collect();
    let mut ten = vec![get("long", "/long")];
    let either = |n: usize| {
        if n.is_multiple_of(2) { get(&format!("r-{n}"), "/quick") } else { post(&format!("r-{n}"), "/quick") }
    };
    ten.extend((0..9).map(either));
    let mut shortest = Duration::MAX;
    for _ in 0..ROUNDS {
        // It gets to know that jobs are quick.
        front.push_all(&quick).await;
        for _ in 0..quick.len() {
            front.answer().await;
        }
        front.push_all(&ten).await;
        let since = entries.recv().await.expect("it runs");
        front.until(&["LLEN", QUEUE], &Reply::Int(9)).await;
        shortest = shortest.min(since.elapsed());
        let Reply::List(jobs) = front.command(&["LRANGE", QUEUE, "0", "-1"]).await else { panic!("no list") };
        let in_order = jobs.iter().enumerate().all(|(n, job)| format!("{job:?}").contains(&format!("r-{n}")));
        assert!(in_order, "{jobs:?}");
        let other = Worker::start(&redis, App::new().fallback(|_| async { "other" }));
        for _ in 0..9 {
            assert_eq!(front.answer().await.text(), "other");
        }
        other.stopped().await;
        assert_eq!(front.number(&["HEXISTS", "{tempest:web}:claimers", "w1"]).await, 1);
        release.send(()).expect("it waits");
        assert_eq!(front.answer().await.text(), "long");
    }
    // The promise is a time. A busy machine may break it in some rounds, but not in all of them.
    assert!(shortest < Duration::from_millis(100), "{shortest:?}");
    blocked.stopped();
    assert_eq!(front.keys().await, [""; 0]);
}

#[tokio::test]
async fn a_computing_handler_does_not_look_dead() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let app = App::new().fallback(|_| {
        std::thread::sleep(Duration::from_millis(4500));
        async { "done" }
    });
    let blocked = Blocked::start(&redis, app.worker_id("w1"));
    front.push(&post("r-1", "/"), b"").await;
    let until = Instant::now() + Duration::from_millis(4200);
    front.until(&["EXISTS", "{tempest:web}:worker:w1"], &Reply::Int(1)).await;
    while Instant::now() < until {
        assert_eq!(front.number(&["EXISTS", "{tempest:web}:worker:w1"]).await, 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(front.answer().await.text(), "done");
    blocked.stopped();
}

#[tokio::test]
async fn without_the_right_to_claim_a_worker_pops() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    // It may load scripts, and finds out what they may not do only when it calls them.
    for rights in [&["-blmove"][..], &["-lmove", "-hset"], &["-evalsha"], &["-script"], &["-info"], &["-client|id"]] {
        let base = ["ACL", "SETUSER", "worker", "reset", "on", ">secret", "~*", "&*", "+@all"];
        front.command(&[&base[..], rights].concat()).await;
        let url = format!("redis://worker:secret@127.0.0.1:{}", redis.port);
        let worker = Worker::start_at(&url, App::new().fallback(|_| async { "here" }));
        for n in 0..3 {
            front.push(&post(&format!("r-{n}"), "/"), b"").await;
            assert_eq!(front.answer().await.text(), "here", "{rights:?}");
        }
        // Redis 6.2 has the older one only.
        assert!(front.calls("blmpop").await + front.calls("blpop").await > 0, "{rights:?}");
        worker.stopped().await;
        front.command(&["CONFIG", "RESETSTAT"]).await;
        front.command(&["FLUSHALL"]).await;
    }
}

#[tokio::test]
async fn base_mode_can_be_told() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, App::new().fallback(|_| async { "here" }).claims(Claims::Base));
    front.push(&get("r-1", "/"), b"").await;
    assert_eq!(front.answer().await.text(), "here");
    assert_eq!(front.number(&["EXISTS", "{tempest:web}:claimers"]).await, 0);
    assert_eq!(front.calls("evalsha").await, 0);
    worker.stopped().await;
}
