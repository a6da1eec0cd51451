//! One test's world: a folder, a Redis, a front and what the test adds; at the end it asserts that nothing is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use serde_json::{Value as Json, json};

use crate::command::{Ran, tempest};
use crate::front::{Front, Metrics};
use crate::http::{Http, close_ours, ours_open};
use crate::process::{GOING, Process, kill, processes_of};
use crate::redis::Redis;
use crate::wait::{wait_until, within};
use crate::worker::{Job, Reply, TestWorker, prepare_raw_workers, raw_worker, sdk_worker};

/// A new folder of a test's own and the mark its processes carry. The folder's path is short, as unix sockets need.
pub fn scratch() -> (PathBuf, String) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mark = format!("tempest-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(&mark);
    fs::create_dir_all(&dir).expect("the folder for temporary files is writable");
    (dir, mark)
}

/// A folder of a test that needs no world; removed at its end unless the test fails.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one.
    #[allow(clippy::new_without_default, reason = "making a folder is no default")]
    pub fn new() -> Self {
        Self(scratch().0)
    }
}

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Settings of a world; begins with [`World::builder`].
#[derive(Debug, Default)]
pub struct WorldBuilder {
    settings: String,
    tables: String,
}

impl WorldBuilder {
    /// Adds top-level settings in dotted form: `limits.queue_depth = 2`.
    #[must_use]
    pub fn set(mut self, line: &str) -> Self {
        self.settings += line;
        self.settings.push('\n');
        self
    }

    /// Adds tables: `[[route]]` and its lines.
    #[must_use]
    pub fn table(mut self, text: &str) -> Self {
        self.tables += text;
        self.tables.push('\n');
        self
    }

    /// Starts Redis and front.
    pub fn start(self) -> World {
        let (dir, mark) = scratch();
        let redis = Redis::start(&dir.join("redis"), &mark);
        let front = Front::start(&dir.join("front"), &mark, &self.config(&redis));
        front.wait_ready();
        World { front, redis, dir, mark, workers: Vec::new(), helpers: Vec::new(), finished: false }
    }

    fn config(&self, redis: &Redis) -> String {
        let mut text = format!("redis.url = \"{}\"\n", redis.url());
        for (key, value) in [
            ("front.listen", "[\"127.0.0.1:0\"]"),
            ("front.admin", "\"127.0.0.1:0\""),
            ("channels.public", "[\"*\"]"),
            ("log.format", "\"json\""),
        ] {
            if !self.settings.lines().any(|line| line.starts_with(key)) {
                text += &format!("{key} = {value}\n");
            }
        }
        text + &self.settings + &self.tables
    }
}

/// A Redis and a front that uses it.
#[derive(Debug)]
pub struct World {
    /// The front.
    pub front: Front,
    /// The Redis.
    pub redis: Redis,
    dir: PathBuf,
    mark: String,
    workers: Vec<Process>,
    helpers: Vec<TestWorker>,
    finished: bool,
}

impl World {
    /// A front without settings of its own: `/sub/{channel}` subscribes, the rest goes to queue `web`.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A world with settings.
    pub fn builder() -> WorldBuilder {
        WorldBuilder::default()
    }

    /// The folder of this test.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The mark of this test's processes.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// The front's configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("front/tempest.toml")
    }

    /// Changes the front's configuration file, which the front does not notice by itself.
    pub fn configure(&self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.config_file()).expect("the configuration is there");
        fs::write(self.config_file(), change(text)).expect("it can be written");
    }

    /// SIGHUP, and waits until the configuration was read anew; true: it holds.
    #[track_caller]
    pub fn hang_up(&mut self) -> bool {
        let from = self.front.process.log.len();
        self.front.process.signal(Signal::HUP);
        self.front.process.log.wait_from(from, "a reload", |line| match line {
            line if line.contains("was read anew and holds") => Some(true),
            line if line.contains("the configuration is refused") => Some(false),
            _ => None,
        })
    }

    /// `tempest reload` of the front.
    pub fn reload(&self) -> Ran {
        tempest(&self.dir, &["reload", "--admin", &self.front.admin_address().to_string()], &[], "")
    }

    /// A new connection to the front.
    pub fn http(&self) -> Http {
        self.front.http()
    }

    /// Starts a worker in this process on queue `web`; it ends with the world.
    pub fn worker(&mut self, answer: impl Fn(&Job) -> Reply + Send + 'static) -> &TestWorker {
        self.helpers.push(TestWorker::start(&self.redis, "tempest:web", answer));
        self.helpers.last().expect("just pushed")
    }

    /// Starts a raw worker on queue `web`; it ends with the world.
    pub fn raw_worker(&mut self, language: &str) -> &mut Process {
        prepare_raw_workers();
        self.adopt(raw_worker(language, "tempest:web", &self.redis, &self.mark))
    }

    /// Starts the hello worker of an SDK on queue `web`; it ends with the world.
    pub fn sdk_worker(&mut self, language: &str) -> &mut Process {
        self.adopt(sdk_worker(language, "tempest:web", &self.redis, &self.dir, &self.mark))
    }

    /// Kills Redis, starts it again empty, and waits until the front has found its way to the new one: it registers
    /// there, and says that it is ready.
    #[track_caller]
    pub fn restart_redis(&mut self) {
        self.redis.restart();
        wait_until("the front to register again", || self.redis.cmd(&["ZCARD", "tempest:@fronts"]).int() > 0);
        self.front.wait_ready();
    }

    /// Ends a process with the world.
    pub fn adopt(&mut self, process: Process) -> &mut Process {
        self.workers.push(process);
        self.workers.last_mut().expect("just pushed")
    }

    /// Ends all workers, those in this process too.
    pub fn stop_workers(&mut self) {
        self.helpers.clear();
        for mut worker in std::mem::take(&mut self.workers) {
            worker.terminate();
        }
    }

    /// Takes the next job of queue `web`, as a worker would.
    #[track_caller]
    pub fn take(&mut self) -> Job {
        self.take_from("tempest:web")
    }

    /// Takes the next job of a list.
    #[track_caller]
    pub fn take_from(&mut self, key: &str) -> Job {
        let taken = self.redis.cmd(&["BLPOP", key, "20"]);
        let pair = taken.list();
        assert!(!pair.is_empty(), "no job in {key} within 20 s");
        Job::parse(pair[1].bytes().expect("BLPOP returns the element"))
    }

    /// Answers a job with `fields` and a raw body.
    #[track_caller]
    pub fn answer(&mut self, job: &Job, fields: Json, body: impl AsRef<[u8]>) {
        self.push(job, job.answer(fields, body.as_ref()));
    }

    /// Answers a job with 200 and this text.
    #[track_caller]
    pub fn ok(&mut self, job: &Job, body: &str) {
        self.answer(job, json!({"status": 200}), body);
    }

    /// Pushes any bytes to where a job's answers go.
    #[track_caller]
    pub fn push(&mut self, job: &Job, message: impl AsRef<[u8]>) {
        self.redis.cmd(&[b"RPUSH".as_ref(), job.reply_to().as_bytes(), message.as_ref()]);
    }

    /// The metrics at this moment.
    pub fn metrics(&self) -> Metrics {
        self.front.metrics()
    }

    /// Asserts that requests and streams left nothing, ends everything in order, asserts that no process is left.
    #[track_caller]
    pub fn finish(mut self) {
        self.stop_workers();
        self.assert_nothing_left();
        self.front.addresses().into_iter().for_each(close_ours);
        let status = self.front.terminate();
        assert!(status.success(), "the front ended with {status}");
        self.finish_without_front();
    }

    /// The same where the test has ended the front in an orderly way.
    #[track_caller]
    pub fn finish_without_front(mut self) {
        self.stop_workers();
        self.assert_front_signed_off();
        self.finish_after_crash();
    }

    /// Asserts only that no process is left: for tests that killed the front.
    #[track_caller]
    pub fn finish_after_crash(mut self) {
        self.stop_workers();
        self.redis.kill();
        assert_no_process(&self.mark);
        let _ = fs::remove_dir_all(&self.dir);
        self.finished = true;
    }

    /// No pending request, no stream, no open connection, no key but registries that expire.
    #[track_caller]
    pub fn assert_nothing_left(&mut self) {
        wait_until("no request to be in flight", || self.gauge("tempest_http_requests_in_flight") == 0);
        wait_until("no stream to be open", || self.gauge("tempest_streams_open") == 0);
        let address = self.front.address();
        wait_until("every connection but ours to be closed", || self.front.open_connections() <= ours_open(address));
        wait_until("no subscription to be held", || self.redis.cmd(&["PUBSUB", "CHANNELS"]).list().iter().all(is_ours));
        assert_eq!(self.unexpected_keys(), Vec::<String>::new(), "keys left in Redis");
    }

    /// A gauge's value at this moment.
    #[track_caller]
    pub fn gauge(&self, name: &str) -> i64 {
        self.count(name, &[])
    }

    /// The sum of a metric's series that carry all of `labels`, as a whole number.
    #[track_caller]
    #[allow(clippy::cast_possible_truncation, reason = "counts are far below 2^53")]
    pub fn count(&self, name: &str, labels: &[&str]) -> i64 {
        self.metrics().sum(name, labels) as i64
    }

    /// A front that drained leaves no answer list; its reactors stay in the registry and age.
    #[track_caller]
    fn assert_front_signed_off(&mut self) {
        assert_eq!(self.redis.cmd(&["KEYS", "tempest:@*.*"]).list().len(), 0, "its answer lists");
        assert_eq!(self.unexpected_keys(), Vec::<String>::new(), "keys left in Redis after the drain");
    }

    /// Keys that are neither a registry nor expire.
    fn unexpected_keys(&mut self) -> Vec<String> {
        let keys: Vec<_> = self.redis.cmd(&["KEYS", "*"]).list().iter().map(crate::resp::Value::text).collect();
        let registries = ["tempest:@fronts", "tempest:@queues"];
        let unnamed = keys.into_iter().filter(|key| !registries.contains(&key.as_str()));
        unnamed.filter(|key| self.redis.cmd(&["PTTL", key]).int() == -1).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        for (pid, _) in processes_of(&self.mark) {
            kill(pid, Signal::KILL);
        }
        assert!(std::thread::panicking(), "a test ended without World::finish");
    }
}

/// A subscription that a front holds for itself: the channel on which it is answered.
fn is_ours(channel: &crate::resp::Value) -> bool {
    channel.text().starts_with("tempest:@")
}

/// Asserts that no process of a test lives on.
#[track_caller]
pub fn assert_no_process(mark: &str) {
    if !within(GOING, || processes_of(mark).is_empty()) {
        panic!("processes left: {:?}", processes_of(mark));
    }
}
