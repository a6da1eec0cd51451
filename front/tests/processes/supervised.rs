//! A `tempest supervise` with a Redis of its own, as its users see it: its log, and what `tempest status` says.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;
use tempest::supervisor::redis::{PrivateRedis, Settings, find_server};

use crate::support::{DEADLINE, Folder, TEMPEST, await_gone, parent, signal};

/// A Redis server of one test.
pub(crate) struct Server {
    pub(crate) port: u16,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(folder: &Path) -> Self {
        let settings = Settings {
            server: find_server(None, folder).expect("a Redis server on PATH"),
            dir: folder.join("data"),
            socket: folder.join("redis.sock"),
            port: Some(0),
            verbose: false,
            lines: std::sync::Arc::new(|_, _| {}),
            events: Box::new(|_| {}),
            guard: Some(TEMPEST.into()),
        };
        let (port, started) = channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let redis = PrivateRedis::start(settings).await.expect("a private Redis");
                port.send(redis.port()).expect("the test waits");
                let _ = stopped.await;
                redis.stop().await;
            });
        });
        let port = started.recv_timeout(DEADLINE).expect("Redis starts");
        Self { port, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub(crate) fn cli(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-u", &self.url()]).args(words).output().expect("redis-cli runs");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The supervisor, its log as it comes, and its Redis.
pub(crate) struct Supervised {
    process: Child,
    log: Receiver<Value>,
    seen: Vec<Value>,
    pub(crate) redis: Server,
    pub(crate) folder: Folder,
}

impl Supervised {
    /// With this configuration; `extra` follows on the command line.
    pub(crate) fn start(config: &str, extra: &[&str]) -> Self {
        Self::start_with(config, extra, |_, _| {})
    }

    /// The same, and `prepare` is given the folder and the command before it runs.
    pub(crate) fn start_with(config: &str, extra: &[&str], prepare: impl FnOnce(&Path, &mut Command)) -> Self {
        let folder = Folder::new();
        let redis = Server::start(folder.path());
        fs::write(folder.path().join("tempest.toml"), config).expect("written");
        let mut command = tempest(folder.path());
        command.args(["supervise", "--redis", &redis.url(), "--log-level", "debug"]).args(extra);
        prepare(folder.path(), &mut command);
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
        let (sender, log) = channel();
        let stderr = process.stderr.take().expect("piped");
        std::thread::spawn(move || read(stderr, &sender));
        Self { process, log, seen: Vec::new(), redis, folder }
    }

    /// The first line that was not waited for before and is as `wanted`.
    #[track_caller]
    pub(crate) fn await_line(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.seen.iter().position(&wanted) {
            return self.seen.remove(at);
        }
        let deadline = Instant::now() + DEADLINE;
        while let Ok(line) = self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if wanted(&line) {
                return line;
            }
            self.seen.push(line);
        }
        let seen: Vec<String> = self.seen.iter().map(Value::to_string).collect();
        panic!("no such line within {DEADLINE:?}; what came:\n{}", seen.join("\n"));
    }

    /// A line of a place that contains this.
    #[track_caller]
    pub(crate) fn await_text(&mut self, from: &str, text: &str) {
        self.await_line(|line| line["from"] == from && line["message"].as_str().is_some_and(|it| it.contains(text)));
    }

    /// The rows of `tempest status` once they are as `wanted`.
    #[track_caller]
    pub(crate) fn await_rows(&mut self, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let rows = self.rows();
            if wanted(&rows) {
                return rows;
            }
            if start.elapsed() > DEADLINE {
                let log: Vec<String> =
                    self.seen.iter().chain(&self.log.try_iter().collect::<Vec<_>>()).map(Value::to_string).collect();
                panic!("{rows:#?}\n{}", log.join("\n"));
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Each process as `tempest status` says.
    pub(crate) fn rows(&self) -> Vec<Value> {
        let mut command = tempest(self.folder.path());
        let output =
            command.args(["status", "--json", "--redis", &self.redis.url()]).output().expect("the binary runs");
        let picture: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        picture["supervisors"][0]["processes"].as_array().cloned().unwrap_or_default()
    }

    /// The one process that is ready, once it is exactly one.
    #[track_caller]
    pub(crate) fn the_ready_one(&mut self) -> Value {
        self.await_rows(|rows| rows.len() == 1 && rows[0]["state"] == "ready").remove(0)
    }

    pub(crate) fn signal(&self, kind: Signal) {
        signal(i32::try_from(self.process.id()).expect("a process id"), kind);
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        await_gone(i32::try_from(self.process.id()).expect("a process id"));
        self.process.wait().expect("reaped")
    }

    /// SIGTERM; it ends in order, and everybody below it.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        let family = self.descendants();
        self.signal(Signal::TERM);
        assert!(self.wait().success());
        family.into_iter().for_each(await_gone);
    }

    pub(crate) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("written");
    }

    /// Everything below the process: guards, programs, their children.
    pub(crate) fn descendants(&self) -> Vec<i32> {
        let root = i32::try_from(self.process.id()).expect("a process id");
        let entries = fs::read_dir("/proc").expect("a /proc").flatten();
        let pids: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        let parents: Vec<(i32, i32)> = pids.into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
        let mut family = vec![root];
        let mut at = 0;
        while at < family.len() {
            let member = family[at];
            family.extend(parents.iter().filter(|(_, parent)| *parent == member).map(|(pid, _)| *pid));
            at += 1;
        }
        family.split_off(1)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // Only where a test has failed; the guards end the rest.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read(stderr: impl std::io::Read, sender: &Sender<Value>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
        let _ = sender.send(line);
    }
}

/// The binary in this folder, with its state there too.
pub(crate) fn tempest(folder: &Path) -> Command {
    let mut command = Command::new(TEMPEST);
    command
        .current_dir(folder)
        .env("XDG_RUNTIME_DIR", folder)
        .env("XDG_STATE_HOME", folder.join("state"))
        .env_remove("REDIS_URL")
        .stdin(Stdio::null());
    command
}

pub(crate) fn pid_of(row: &Value) -> i32 {
    i32::try_from(row["pid"].as_i64().expect("a process id")).expect("a process id")
}
