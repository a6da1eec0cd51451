//! `tempest up` as a whole: the order of its end, and that nothing survives it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{DEADLINE, Folder, TEMPEST, await_gone, kill9, parent};

/// A worker of the barest kind: it answers once the file `release` is there, and notes what it does in `order`.
const WORKER: &str = r#"
trap 'echo worker ended >> order; exit 0' TERM
echo up
while :; do
  job=$(redis-cli -u "$REDIS_URL" BLPOP "$TEMPEST_QUEUE" 1 | sed -n 2p)
  [ -n "$job" ] || continue
  echo taken
  while [ ! -e release ]; do sleep 0.01; done
  id=$(printf %s "$job" | sed 's/.*"id":"\([^"]*\)".*/\1/')
  to=$(printf %s "$job" | sed 's/.*"reply_to":"\([^"]*\)".*/\1/')
  echo answered >> order
  redis-cli -u "$REDIS_URL" RPUSH "$to" "{\"id\":\"$id\",\"body\":\"done\"}"
done
"#;

/// A Redis that notes in `order` that it has ended as it was told.
const REDIS: &str = r#"#!/bin/sh
redis-server "$@" &
trap 'told=yes; kill $!' TERM
while kill -0 $! 2> /dev/null; do wait $!; done
[ -z "$told" ] || echo redis ended >> ORDER
"#;

/// A run, and its log as it comes.
struct Up {
    process: Child,
    log: Receiver<Value>,
    seen: Vec<Value>,
    folder: PathBuf,
}

impl Up {
    /// Starts with this configuration below the listeners, and waits until everything runs.
    fn start(folder: &Path, config: &str) -> (Self, Value) {
        let mut up = Self::spawn(folder, config);
        let ready = up.await_line(|line| line["message"] == "ready" && line["http"].is_string());
        (up, ready)
    }

    fn spawn(folder: &Path, config: &str) -> Self {
        let listeners = "[front]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n";
        fs::write(folder.join("tempest.toml"), format!("{listeners}{config}")).expect("written");
        fs::write(folder.join("worker.sh"), WORKER).expect("written");
        let redis = folder.join("redis.sh");
        fs::write(&redis, REDIS.replace("ORDER", &folder.join("order").display().to_string())).expect("written");
        fs::set_permissions(&redis, PermissionsExt::from_mode(0o755)).expect("executable");
        let mut process = tempest(folder)
            .arg("up")
            .env("TEMPEST_REDIS_SERVER", redis)
            .env("TEMPEST_REDIS_PORT", "0")
            .env("TEMPEST_LOG_LEVEL", "debug")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let (sender, log) = channel();
        let stderr = BufReader::new(process.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                let _ = sender.send(line);
            }
        });
        Self { process, log, seen: Vec::new(), folder: folder.to_owned() }
    }

    /// The first line that was not waited for before and is as `wanted`.
    fn await_line(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
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

    fn await_word(&mut self, from: &str, word: &str) {
        self.await_line(|line| line["from"] == from && line["message"] == word);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("the process is there");
    }

    fn wait(&mut self) -> ExitStatus {
        let pid = i32::try_from(self.process.id()).expect("a process id");
        await_gone(pid);
        self.process.wait().expect("reaped")
    }

    fn order(&self) -> String {
        fs::read_to_string(self.folder.join("order")).unwrap_or_default()
    }

    /// Everything below the process: guards, programs, their children.
    fn descendants(&self) -> Vec<i32> {
        let root = i32::try_from(self.process.id()).expect("a process id");
        let entries = fs::read_dir("/proc").expect("a /proc").flatten();
        let pids: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        let mut family = vec![root];
        let parents: Vec<(i32, i32)> = pids.into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
        let mut at = 0;
        while at < family.len() {
            let member = family[at];
            family.extend(parents.iter().filter(|(_, parent)| *parent == member).map(|(pid, _)| *pid));
            at += 1;
        }
        family.split_off(1)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Only where a test has failed; the guards end the rest.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The binary in this folder, with its state there too.
fn tempest(folder: &Path) -> Command {
    let mut command = Command::new(TEMPEST);
    command
        .current_dir(folder)
        .env("XDG_RUNTIME_DIR", folder)
        .env("XDG_STATE_HOME", folder.join("state"))
        .env_remove("REDIS_URL")
        .stdin(Stdio::null());
    command
}

fn output(mut command: Command) -> (bool, String) {
    let output = command.output().expect("the binary runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("text"))
}

fn worker(more: &str) -> String {
    format!("[workers.bare]\ncommand = [\"sh\", \"worker.sh\"]\n{more}\n")
}

fn connect(ready: &Value) -> TcpStream {
    let address = ready["http"].as_str().expect("an address");
    let stream = TcpStream::connect(address).expect("the front listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    stream
}

#[test]
fn the_end_comes_in_order_and_loses_nothing_accepted() {
    let folder = Folder::new();
    // A machine that is busy with other tests must not make the front take its Redis for stalled.
    let patient = "[redis]\nstall = \"20s\"\npatience = \"20s\"\n";
    let (mut up, ready) = Up::start(folder.path(), &format!("{patient}{}", worker("")));
    let family = up.descendants();
    let mut stream = connect(&ready);
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("a request");
    up.await_word("bare", "taken");
    up.signal(Signal::INT);
    up.await_line(|line| line["message"].as_str().is_some_and(|text| text.starts_with("stopping")));
    fs::write(folder.path().join("release"), "").expect("written");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with("\r\n\r\ndone"), "{response}");
    assert!(up.wait().success());
    assert_eq!(up.order(), "answered\nworker ended\nredis ended\n");
    family.into_iter().for_each(await_gone);
    let left = fs::read_dir(folder.path().join("tempest")).expect("the folder of the state").count();
    assert_eq!(left, 0, "state file and socket are gone");
}

#[test]
fn a_second_signal_hastens_and_keeps_the_order() {
    let folder = Folder::new();
    let deaf = "[workers.deaf]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; echo up; while :; do sleep 1; done\"]\n\
                stop_time = \"1h\"\n";
    let (mut up, _) = Up::start(folder.path(), deaf);
    up.await_word("deaf", "up");
    let family = up.descendants();
    up.signal(Signal::TERM);
    up.await_line(|line| line["message"] == "the front has ended");
    up.signal(Signal::TERM);
    up.await_line(|line| line["message"].as_str().is_some_and(|text| text.starts_with("stopped: was ended by")));
    assert!(up.wait().success());
    assert_eq!(up.order(), "redis ended\n", "it was let to end by itself");
    family.into_iter().for_each(await_gone);
}

#[test]
fn nothing_survives_sigkill_and_the_next_run_finds_the_data() {
    let folder = Folder::new();
    let nest = "[workers.nest]\ncommand = [\"sh\", \"-c\", \"sleep 1000 & echo up; sleep 1000\"]\n";
    let (mut up, ready) = Up::start(folder.path(), nest);
    up.await_word("nest", "up");
    let redis = ready["redis"].as_str().expect("a URL").to_owned();
    let (done, _) = output({
        let mut command = Command::new("redis-cli");
        command.args(["-u", &redis, "set", "kept", "yes"]);
        command
    });
    assert!(done);
    let family = up.descendants();
    assert!(family.len() >= 6, "two guards, two programs, their children: {family:?}");
    up.signal(Signal::KILL);
    up.wait();
    // At once: the old Redis may be there for a moment.
    let (mut next, ready) = Up::start(folder.path(), "");
    family.into_iter().for_each(await_gone);
    let redis = ready["redis"].as_str().expect("a URL").to_owned();
    let mut command = Command::new("redis-cli");
    command.args(["-u", &redis, "get", "kept"]);
    assert_eq!(output(command).1.trim(), "yes");
    next.signal(Signal::INT);
    assert!(next.wait().success());
}

#[test]
fn a_worker_that_is_killed_is_another_one_when_it_is_back() {
    let folder = Folder::new();
    let (mut up, _) = Up::start(folder.path(), &worker("queue = \"web\""));
    up.await_word("bare", "up");
    let first = registered(folder.path());
    kill9(i32::try_from(first["pid"].as_i64().expect("a process id")).expect("a process id"));
    up.await_line(|line| line["from"] == "bare" && line["level"] == "WARN");
    up.await_word("bare", "up");
    let second = registered(folder.path());
    assert_ne!(first["id"], second["id"]);
    assert_eq!((&second["language"], &second["queue"]), (&"sh".into(), &"web".into()));
    up.signal(Signal::INT);
    assert!(up.wait().success());
}

/// The one worker that `tempest status` knows of, once it is exactly one and its own record has replaced the one that stood
/// in for it.
fn registered(folder: &Path) -> Value {
    let workers = |text: &str| {
        let picture: Value = serde_json::from_str(text).expect("JSON");
        picture["queues"][0]["workers"].as_array().cloned().unwrap_or_default()
    };
    let known = |text: &str| matches!(&workers(text)[..], [only] if only["pid"].is_i64());
    let text = await_status(folder, &["--json"], known);
    workers(&text).remove(0)
}

/// What `tempest status` says once it is as `wanted`; fronts and workers register within their first second.
fn await_status(folder: &Path, flags: &[&str], wanted: impl Fn(&str) -> bool) -> String {
    let start = Instant::now();
    loop {
        let mut command = tempest(folder);
        command.arg("status").args(flags);
        let (done, text) = output(command);
        assert!(done, "{text}");
        if wanted(&text) {
            return text;
        }
        assert!(start.elapsed() < DEADLINE, "{text}");
    }
}

#[test]
fn commands_find_the_run_and_a_second_run_is_refused() {
    let folder = Folder::new();
    let public = "[channels]\npublic = [\"*\"]\n";
    let (mut up, ready) = Up::start(folder.path(), public);
    let mut stream = BufReader::new(connect(&ready));
    stream.get_mut().write_all(b"GET /sub/news HTTP/1.1\r\nHost: test\r\n\r\n").expect("a request");
    // The head is sent once the subscription is there.
    let mut line = String::new();
    stream.read_line(&mut line).expect("a status line");
    assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
    let mut publish = tempest(folder.path());
    publish.args(["publish", "news", "hello", "--event", "tick"]);
    assert_eq!(output(publish), (true, "1 subscriber (front)\n".to_owned()));
    while line.trim_end() != "event: tick" {
        line.clear();
        assert!(stream.read_line(&mut line).expect("a line") > 0, "the stream has ended");
    }
    line.clear();
    stream.read_line(&mut line).expect("a line");
    assert_eq!(line, "data: hello\n");
    let pid = up.process.id().to_string();
    let text = await_status(folder.path(), &[], |text| text.contains(&pid));
    assert!(text.contains("none has registered"), "{text}");
    let mut second = Up::spawn(folder.path(), public);
    let refusal = second.await_line(|line| line["level"] == "ERROR");
    assert!(refusal["message"].as_str().is_some_and(|text| text.contains(&format!("(process {pid})"))), "{refusal}");
    assert_eq!(second.wait().code(), Some(1));
    up.signal(Signal::INT);
    assert!(up.wait().success());
}

#[test]
fn without_a_redis_a_command_says_what_to_do() {
    let folder = Folder::new();
    let mut publish = tempest(folder.path());
    publish.args(["publish", "news", "hello", "--redis", "redis://:secret@127.0.0.1:1/0"]);
    let (done, text) = output(publish);
    assert!(!done && text.contains("cannot reach Redis at redis://:***@127.0.0.1:1/0"), "{text}");
    assert!(text.contains("tempest up") && !text.contains("secret"), "{text}");
}
