//! What every test needs: a Redis, somebody who plays the front, a worker.
//!
//! Each test has a Redis of its own on a free port in its own folder, ended by its process id. Nothing here sleeps
//! where there is something to wait for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Pid;
use serde_json::{Value, json};
use tempest_protocol::{Decoded, Hold, MAX_ANSWER_BYTES, decode_answer};
use tempest_worker::connection::{Connection, Reply};
use tempest_worker::{Address, App, Bytes, Error};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest wait for anything in a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const QUEUE: &str = "tempest:web";
pub(crate) const REPLY_TO: &str = "tempest:@test.0";

/// A real server.
pub(crate) struct Redis {
    child: Option<Child>,
    pub(crate) port: u16,
    pub(crate) folder: PathBuf,
    options: Vec<String>,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With further options of redis-server.
    pub(crate) fn with(options: &[&str]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tempest-worker-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for Redis");
        let options = options.iter().map(ToString::to_string).collect();
        let mut redis = Self { child: None, port: free_port(), folder, options };
        redis.restart();
        redis
    }

    /// Starts it (again) on its port and waits until it is ready.
    pub(crate) fn restart(&mut self) {
        let server = std::env::var_os("TEMPEST_TEST_REDIS").unwrap_or_else(|| "redis-server".into());
        let mut child = Command::new(&server)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--unixsocket", "redis.sock", "--dir"])
            .arg(&self.folder)
            .args(&self.options)
            .current_dir(&self.folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{server:?}: {error}"));
        let output = child.stdout.take().expect("its output is piped");
        let mut lines = BufReader::new(output).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.contains("Ready to accept connections")));
        assert!(ready, "redis-server did not start");
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        self.child = Some(child);
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a living server");
            child.wait().expect("an ended server");
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("a running server"))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn connect(&self) -> Connection {
        let address = Address::parse(&self.url()).expect("a good URL");
        Connection::open(&address, "test").await.expect("a connection")
    }

    pub(crate) async fn front(&self) -> Front {
        Front { connection: self.connect().await }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        // A leftover in the system's folder for leftovers.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Plays the front.
pub(crate) struct Front {
    pub(crate) connection: Connection,
}

/// A decoded answer that owns what it says.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) id: String,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) n: u64,
    pub(crate) more: bool,
    pub(crate) attempt: Option<u32>,
    pub(crate) body: Bytes,
    pub(crate) hold: Option<Box<Hold>>,
}

impl Answered {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Front {
    pub(crate) async fn command(&mut self, parts: &[&str]) -> Reply {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        timeout(PATIENCE, self.connection.command(&parts)).await.expect("in time").expect("a reply")
    }

    /// The reply as a number.
    pub(crate) async fn number(&mut self, parts: &[&str]) -> i64 {
        match self.command(parts).await {
            Reply::Int(number) => number,
            other => panic!("{parts:?}: {other:?}"),
        }
    }

    /// The clock of Redis in ms.
    pub(crate) async fn now_ms(&mut self) -> u64 {
        let Reply::List(parts) = self.command(&["TIME"]).await else { panic!("no time") };
        let Reply::Text(seconds) = &parts[0] else { panic!("no time") };
        String::from_utf8_lossy(seconds).parse::<u64>().expect("a number") * 1000
    }

    pub(crate) async fn push(&mut self, job: &Value, body: &[u8]) {
        self.push_raw(&message(job, body)).await;
    }

    pub(crate) async fn push_raw(&mut self, message: &[u8]) {
        let reply = self.connection.command(&[b"RPUSH", QUEUE.as_bytes(), message]).await.expect("a reply");
        assert!(matches!(reply, Reply::Int(_)), "{reply:?}");
    }

    /// Many jobs in one command.
    pub(crate) async fn push_all(&mut self, jobs: &[Value]) {
        let messages: Vec<Vec<u8>> = jobs.iter().map(|job| message(job, b"")).collect();
        let mut parts: Vec<&[u8]> = vec![b"RPUSH", QUEUE.as_bytes()];
        parts.extend(messages.iter().map(Vec::as_slice));
        self.connection.command(&parts).await.expect("a reply");
    }

    /// The next message of the answer list.
    pub(crate) async fn answer(&mut self) -> Answered {
        read(&self.answer_message().await, false)
    }

    /// The answer to a HEAD, whose `content-length` counts a body that is not there.
    pub(crate) async fn answer_to_head(&mut self) -> Answered {
        read(&self.answer_message().await, true)
    }

    /// The bytes of the next message.
    pub(crate) async fn answer_message(&mut self) -> Bytes {
        let Reply::List(mut parts) = self.command(&["BLPOP", REPLY_TO, "20"]).await else {
            panic!("no answer in time")
        };
        let Some(Reply::Text(message)) = parts.pop() else { panic!("{parts:?}") };
        message
    }

    /// All parts of one streamed answer, in the order in which they came.
    pub(crate) async fn whole_stream(&mut self) -> Vec<Answered> {
        let mut parts = vec![self.answer().await];
        while parts.last().is_some_and(|part| part.more) {
            parts.push(self.answer().await);
        }
        parts
    }

    /// The record of the one worker there is; waits for its next beat where `fits` does not like it yet.
    pub(crate) async fn record(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        let looking = async {
            loop {
                if let Some(record) = self.some_record().await.filter(&fits) {
                    return record;
                }
                // A record is a value without an event; it changes once a second.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, looking).await.expect("such a record in time")
    }

    pub(crate) async fn some_record(&mut self) -> Option<Value> {
        let Reply::List(ids) = self.command(&["ZRANGE", "{tempest:web}:workers", "0", "-1"]).await else { return None };
        let Some(Reply::Text(id)) = ids.first() else { return None };
        let key = format!("{{tempest:web}}:worker:{}", String::from_utf8_lossy(id));
        let Reply::Text(record) = self.command(&["GET", &key]).await else { return None };
        serde_json::from_slice(&record).ok()
    }

    /// All keys but the queue's counters, which fronts look after.
    pub(crate) async fn keys(&mut self) -> Vec<String> {
        let Reply::List(keys) = self.command(&["KEYS", "*"]).await else { panic!("no list") };
        let text = |key| if let Reply::Text(key) = key { String::from_utf8_lossy(&key).into_owned() } else { panic!() };
        keys.into_iter().map(text).filter(|key| key != "{tempest:web}:stats").collect()
    }

    /// The claims of a worker: numbers, and `started`.
    pub(crate) async fn claims(&mut self, worker: &str) -> BTreeMap<String, String> {
        let Reply::List(parts) = self.command(&["HGETALL", &format!("{{tempest:web}}:claimed:{worker}")]).await else {
            panic!("no hash")
        };
        let text = |part: &Reply| match part {
            Reply::Text(text) => String::from_utf8_lossy(text).into_owned(),
            other => panic!("{other:?}"),
        };
        parts.chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
    }

    /// Waits until something in Redis is as it should be; Redis has no event for most things.
    pub(crate) async fn until(&mut self, what: &[&str], wanted: &Reply) {
        let waiting = async {
            while self.command(what).await != *wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{what:?} never gave {wanted:?}");
    }

    /// Calls a script of the contract.
    pub(crate) async fn script(&mut self, script: &str, keys: &[&str], arguments: &[&str]) -> Reply {
        let count = keys.len().to_string();
        let command = [&["EVAL", script, &count], keys, arguments].concat();
        self.command(&command).await
    }

    /// One line of `INFO`.
    pub(crate) async fn info(&mut self, section: &str, name: &str) -> Option<String> {
        let Reply::Text(text) = self.command(&["INFO", section]).await else { panic!("no info") };
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned))
    }

    /// Waits until so many clients wait in blocking commands; Redis has no event for that.
    pub(crate) async fn until_waiting(&mut self, clients: u64) {
        let waiting = async {
            while self.info("clients", "blocked_clients").await.is_none_or(|text| text.trim() != clients.to_string()) {}
        };
        timeout(PATIENCE, waiting).await.expect("in time");
    }

    /// How often a command was called since the statistics were reset.
    pub(crate) async fn calls(&mut self, command: &str) -> u64 {
        let line = self.info("commandstats", &format!("cmdstat_{command}")).await;
        let calls = line.as_deref().and_then(|line| line.strip_prefix("calls=")?.split(',').next()?.parse().ok());
        calls.unwrap_or(0)
    }
}

fn message(job: &Value, body: &[u8]) -> Vec<u8> {
    let mut message = job.to_string().into_bytes();
    message.push(b'\n');
    message.extend_from_slice(body);
    message
}

fn read(message: &Bytes, to_head: bool) -> Answered {
    let Decoded::Answer(answer) = decode_answer(message, MAX_ANSWER_BYTES, to_head) else {
        panic!("{:?} is no answer", String::from_utf8_lossy(message))
    };
    Answered {
        id: answer.id.into_owned(),
        status: answer.status,
        headers: answer.headers.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
        n: answer.n,
        more: answer.more,
        attempt: answer.attempt,
        body: answer.body,
        hold: answer.hold,
    }
}

/// A request as the front writes it.
pub(crate) fn get(id: &str, path: &str) -> Value {
    json!({
        "v": 1, "id": id, "attempt": 1, "deadline": 0, "timeout_ms": 30000, "reply_to": REPLY_TO, "queue": "web",
        "action": "http", "method": "GET", "path": path, "query": null, "host": "test", "scheme": "http",
        "http": "1.1", "peer": "127.0.0.1:1", "server": "127.0.0.1:2", "enqueued": 0, "headers": {},
    })
}

/// The same with some fields changed.
pub(crate) fn with(mut job: Value, fields: &[(&str, Value)]) -> Value {
    for (name, value) in fields {
        job[*name] = value.clone();
    }
    job
}

/// A worker on this test's runtime.
pub(crate) struct Worker {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Error>>,
}

impl Worker {
    pub(crate) fn start(redis: &Redis, app: App) -> Self {
        Self::start_at(&redis.url(), app)
    }

    pub(crate) fn start_at(url: &str, app: App) -> Self {
        let app = app.redis(url).queue(QUEUE);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(app.serve(async {
            let _ = stopped.await;
        }));
        Self { stop: Some(stop), task }
    }

    /// Asks it to stop.
    pub(crate) fn stop(&mut self) {
        self.stop.take().expect("stopped once").send(()).expect("a running worker");
    }

    /// Waits until it has stopped.
    pub(crate) async fn ended(self) {
        timeout(PATIENCE, self.task).await.expect("in time").expect("no panic").expect("good settings");
    }

    pub(crate) async fn stopped(mut self) {
        self.stop();
        self.ended().await;
    }
}

/// An event that handlers and tests wait for.
#[derive(Clone, Default)]
pub(crate) struct Signal(Arc<tokio::sync::Notify>);

impl Signal {
    pub(crate) fn give(&self) {
        self.0.notify_one();
    }

    pub(crate) async fn given(&self) {
        timeout(PATIENCE, self.0.notified()).await.expect("the signal in time");
    }
}
