//! The scripts of the contract in a real server: what each branch gives, and all that it leaves in Redis.
//!
//! They run on every server that the contract names: `./dev test` runs them with each (`TEMPEST_TEST_REDIS`). The texts
//! are read from their files, since the harness shares no code with what it tests.

mod batches;
mod claims;
mod death;
mod keepers;
mod msgpack;
mod publish;
mod queues;
mod races;

use std::fs;

use serde_json::Value as Json;
use tempest_tests::{Folder, Redis, Value, repository};

/// Claims, in the order of `claim.lua`.
const CLAIM: [&str; 9] =
    ["claimers", "claimed:w", "landing:w", "normal", "high", "low", "withdrawn", "attempts", "stats"];
/// Keys of `reap.lua`.
const REAP: [&str; 11] = [
    "claimers",
    "claimed:w",
    "landing:w",
    "worker:w",
    "workers",
    "normal",
    "lost",
    "attempts",
    "dead",
    "stats",
    "batch:w",
];

/// The keys of the queue `web` in a server of the test's own.
struct Queue {
    redis: Redis,
    // Behind the server: it is removed when that has ended.
    _folder: Folder,
}

impl Queue {
    fn start() -> Self {
        let folder = Folder::new();
        let mark = folder.file_name().expect("a folder has a name").to_string_lossy().into_owned();
        Self { redis: Redis::start(&folder.join("redis"), &mark), _folder: folder }
    }

    /// With the worker `w` registered.
    fn with_worker() -> Self {
        let mut queue = Self::start();
        queue.cmd(&["HSET", &key("claimers"), "w", "run 1 2"]);
        queue
    }

    fn cmd(&mut self, args: &[&str]) -> Value {
        self.redis.cmd(args)
    }

    /// Runs a script; an error reply is given like any other.
    fn run(&mut self, script: &str, keys: &[&str], args: &[&str]) -> Value {
        let keys: Vec<_> = keys.iter().map(|name| key(name)).collect();
        let (text, count) = (text(script), keys.len().to_string());
        let mut command = vec!["EVAL", &text, &count];
        command.extend(keys.iter().map(String::as_str));
        command.extend(args);
        self.redis.client().try_cmd(&command).expect("the server answers")
    }

    /// Pushes jobs that somebody waits for to a list, by their ids.
    fn push(&mut self, list: &str, ids: &[&str]) {
        for id in ids {
            self.cmd(&["RPUSH", &key(list), &job(id)]);
        }
    }

    /// Claims of `w`, as `<number>=<id>`, and up to which they count as started; 0: no such field.
    fn claims(&mut self, claims: &[(&str, String)], started: &str) {
        for (number, job) in claims {
            self.cmd(&["HSET", &key("claimed:w"), number, job]);
        }
        if started != "0" {
            self.cmd(&["HSET", &key("claimed:w"), "started", started]);
        }
    }

    /// All that is in Redis, a line a key: its name and what it holds, jobs by their ids.
    fn left(&mut self) -> Vec<String> {
        let keys = self.cmd(&["KEYS", "*"]);
        let mut lines: Vec<_> = keys.list().iter().map(|key| self.line(&key.text())).collect();
        lines.sort();
        lines
    }

    fn line(&mut self, key: &str) -> String {
        let kind = self.cmd(&["TYPE", key]).text();
        let command: &[&str] = match kind.as_str() {
            "list" => &["LRANGE", key, "0", "-1"],
            "hash" => &["HGETALL", key],
            "zset" => &["ZRANGE", key, "0", "-1", "WITHSCORES"],
            _ => &["GET", key],
        };
        let held = match self.cmd(command) {
            Value::Array(values) => values.iter().map(|value| shown(&value.text())).collect(),
            value => vec![shown(&value.text())],
        };
        let mut held = match kind.as_str() {
            "hash" | "zset" => held.chunks(2).map(|pair| pair.join("=")).collect(),
            _ => held,
        };
        if kind == "hash" {
            held.sort();
        }
        let name = key.strip_prefix("{tempest:web}:").unwrap_or("normal");
        format!("{name}: {}", held.join(" "))
    }

    /// What is left of the life of a key in ms.
    fn life(&mut self, name: &str) -> i64 {
        self.cmd(&["PTTL", &key(name)]).int()
    }
}

/// The text of a script.
fn text(script: &str) -> String {
    let path = repository().join("worker-sdk/protocol/scripts").join(format!("{script}.lua"));
    fs::read_to_string(path).expect("the contract has the script")
}

fn key(name: &str) -> String {
    if name == "normal" { "tempest:web".to_owned() } else { format!("{{tempest:web}}:{name}") }
}

/// A job that somebody waits for.
fn job(id: &str) -> String {
    format!(r#"{{"v":1,"id":"{id}","attempt":2,"reply_to":"tempest:@r.0","queue":"web","action":"http"}}"#) + "\nbody"
}

/// A job that nobody waits for.
fn background(id: &str) -> String {
    format!(r#"{{"v":1,"id":"{id}","attempt":1,"queue":"web","action":"mail.send"}}"#) + "\n"
}

/// A job as its id, another JSON object in the order of its names, else the text.
fn shown(text: &str) -> String {
    let Ok(mut json) = serde_json::from_str::<Json>(text.lines().next().unwrap_or_default()) else {
        return text.to_owned();
    };
    // A script writes the members of an object in no order.
    json.sort_all_objects();
    match (json.get("v"), json.get("id")) {
        (Some(_), Some(Json::String(id))) => id.clone(),
        _ => json.to_string(),
    }
}

/// A reply as text: numbers, ids of jobs, errors by their first word, lists in brackets.
fn told(reply: &Value) -> String {
    match reply {
        Value::Array(values) => format!("[{}]", values.iter().map(told).collect::<Vec<_>>().join(" ")),
        Value::Int(number) => number.to_string(),
        Value::Error(error) => error.split(' ').next().unwrap_or_default().to_owned(),
        other => shown(&other.text()),
    }
}
