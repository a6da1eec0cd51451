//! Workers: the raw ones of the examples as processes, and one in the test's own process that answers by closure.
//!
//! The one in this process is a real client of the real Redis; only what it answers is up to the test.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::ops::Index;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value as Json, json};

use crate::binary::{python_with_sdk, repository, rust_worker};
use crate::packed;
use crate::process::Process;
use crate::redis::Redis;
use crate::resp::{Closer, Resp, Value};

/// The languages of `examples/raw`, as the workers name themselves in `x-worker`.
pub const RAW_LANGUAGES: [&str; 7] = ["bash", "python", "node", "ruby", "php", "go", "perl"];

/// Starts a raw worker on a queue's list.
pub fn raw_worker(language: &str, queue_key: &str, redis: &Redis, mark: &str) -> Process {
    let launcher = repository().join("examples/raw/.build/ready").join(language);
    assert!(launcher.exists(), "no worker in {language}: run examples/raw/prepare, and install what it names");
    let mut command = Command::new(launcher);
    command.env("REDIS_URL", redis.url()).env("TEMPEST_QUEUE", queue_key);
    Process::start(language, mark, command)
}

/// Starts the hello worker of an SDK on a queue's list: `rust` or `python`. It runs in the folder of a test.
pub fn sdk_worker(language: &str, queue_key: &str, redis: &Redis, dir: &Path, mark: &str) -> Process {
    let mut command = match language {
        "rust" => Command::new(rust_worker()),
        _ => {
            fs::write(dir.join("hello.py"), PYTHON_HELLO).expect("the folder of a test is writable");
            let mut command = Command::new(python_with_sdk());
            command.args(["-m", "tempest_worker", "hello:app"]);
            command
        }
    };
    command.current_dir(dir).env("REDIS_URL", redis.url()).env("TEMPEST_QUEUE", queue_key);
    Process::start(language, mark, command)
}

const PYTHON_HELLO: &str = r#"
from tempest_worker import App, Response

app = App()


@app.handler
def hello(request):
    return Response(f"hello from python, {request.method} {request.path}\n", headers={"x-worker": "python"})
"#;

/// A job as it was taken from the list.
#[derive(Clone, Debug)]
pub struct Job {
    /// The fields: the JSON object of the first line, or all of a MessagePack map but its body.
    pub head: Json,
    /// What follows the first line, or the field `body`.
    pub body: Vec<u8>,
    /// The whole message.
    pub message: Vec<u8>,
}

impl Job {
    /// Splits at the first LF; the contract promises that there is one. Or reads the one map of MessagePack.
    #[track_caller]
    pub fn parse(message: &[u8]) -> Self {
        if message.first() != Some(&b'{') {
            let (head, body) = packed::read(message);
            return Self { head, body, message: message.to_vec() };
        }
        let end = message.iter().position(|byte| *byte == b'\n').expect("a job's first line ends with LF");
        let head = serde_json::from_slice(&message[..end]).expect("a job's first line is JSON");
        Self { head, body: message[end + 1..].to_vec(), message: message.to_vec() }
    }

    /// The request's id.
    pub fn id(&self) -> &str {
        self.head["id"].as_str().expect("a job has an id")
    }

    /// Where answers go.
    pub fn reply_to(&self) -> &str {
        self.head["reply_to"].as_str().expect("a client's job has reply_to")
    }

    /// A field that is a string; empty where it is none.
    pub fn text(&self, field: &str) -> &str {
        self.head[field].as_str().unwrap_or_default()
    }

    /// A header by lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head["headers"][name].as_str()
    }

    /// The method and path.
    pub fn line(&self) -> String {
        let part = |name: &str| self.head[name].as_str().unwrap_or_default().to_owned();
        format!("{} {}", part("method"), part("path"))
    }

    /// The same as [`Job::answer`], in MessagePack.
    pub fn packed_answer(&self, mut fields: Json, body: &[u8]) -> Vec<u8> {
        fields["id"] = json!(self.id());
        packed::write(&fields, body)
    }

    /// An answer message of `fields`, with this job's id, and a raw body.
    pub fn answer(&self, mut fields: Json, body: &[u8]) -> Vec<u8> {
        fields["id"] = json!(self.id());
        let mut message = fields.to_string().into_bytes();
        if !body.is_empty() {
            message.push(b'\n');
            message.extend_from_slice(body);
        }
        message
    }
}

impl Index<&str> for Job {
    type Output = Json;

    fn index(&self, field: &str) -> &Json {
        &self.head[field]
    }
}

/// What a closure answers: messages for the job's `reply_to`, in order.
pub type Reply = Vec<Vec<u8>>;

/// A worker in this process.
#[derive(Debug)]
pub struct TestWorker {
    stop: Arc<AtomicBool>,
    closer: Arc<Mutex<Option<Closer>>>,
    seen: Arc<Mutex<VecDeque<String>>>,
    thread: Option<JoinHandle<()>>,
}

/// Requests a worker remembers, so that a test can count them.
const REMEMBERED: usize = 100_000;

impl TestWorker {
    /// Takes jobs from `queue_key` one by one and pushes what `answer` makes of each. Reconnects while it lives.
    pub fn start(redis: &Redis, queue_key: &str, answer: impl Fn(&Job) -> Reply + Send + 'static) -> Self {
        let (stop, closer, seen) = <(Arc<AtomicBool>, Arc<Mutex<Option<Closer>>>, Arc<Mutex<_>>)>::default();
        let work = Work {
            port: redis.port(),
            queue: queue_key.to_owned(),
            stop: Arc::clone(&stop),
            closer: Arc::clone(&closer),
            seen: Arc::clone(&seen),
        };
        let thread = std::thread::spawn(move || work.run(answer));
        Self { stop, closer, seen, thread: Some(thread) }
    }

    /// Ids of the jobs it has taken, in order.
    pub fn taken(&self) -> Vec<String> {
        self.seen.lock().expect("no holder panics").iter().cloned().collect()
    }
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(closer) = &*self.closer.lock().expect("no holder panics") {
            closer.close();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    port: u16,
    queue: String,
    stop: Arc<AtomicBool>,
    closer: Arc<Mutex<Option<Closer>>>,
    seen: Arc<Mutex<VecDeque<String>>>,
}

impl Work {
    fn run(&self, answer: impl Fn(&Job) -> Reply) {
        while !self.stop.load(Ordering::SeqCst) {
            if self.serve(&answer).is_err() {
                std::thread::sleep(std::time::Duration::from_millis(20)); // Redis is away; there is no event for its return
            }
        }
    }

    fn serve(&self, answer: impl Fn(&Job) -> Reply) -> io::Result<()> {
        let mut redis = Resp::connect(self.port)?;
        *self.closer.lock().expect("no holder panics") = Some(redis.closer()?);
        while !self.stop.load(Ordering::SeqCst) {
            let taken = redis.try_cmd(&["BLPOP", &self.queue, "5"])?;
            let Value::Array(pair) = taken else { continue };
            let job = Job::parse(pair[1].bytes().expect("BLPOP returns the element"));
            let mut seen = self.seen.lock().expect("no holder panics");
            seen.push_back(job.id().to_owned());
            if seen.len() > REMEMBERED {
                seen.pop_front();
            }
            drop(seen);
            for message in answer(&job) {
                redis.try_cmd(&[b"RPUSH".as_ref(), job.reply_to().as_bytes(), &message])?;
            }
        }
        Ok(())
    }
}

/// Makes the raw workers startable, once a process; panics where a language is missing.
pub fn prepare_raw_workers() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let script = repository().join("examples/raw/prepare");
        let output = Command::new(&script).output().unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        let ready = |language: &&str| Path::new(&script).with_file_name(".build/ready").join(language).exists();
        let missing: Vec<_> = RAW_LANGUAGES.into_iter().filter(|language| !ready(language)).collect();
        assert!(missing.is_empty(), "not ready: {missing:?}\n{}", String::from_utf8_lossy(&output.stdout));
    });
}
