//! The worker's record in Redis: that it is there, and what it does.
//!
//! The record is for people and for `tempest status`; in reliable mode a worker without one is dead. This module
//! spells the commands and must not send them.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tempest_protocol::{Keys, QueueKeys};

use crate::connection::{Pipeline, Reply};
use crate::status::Status;

/// Life of a record without a beat, in ms.
const RECORD_LIFE_MS: &[u8] = b"3000";
/// Life of the list of workers without any beat, in ms.
const WORKERS_LIFE_MS: &[u8] = b"3600000";
/// Ids of running jobs named in a record, at most.
const NAMED_JOBS: usize = 64;

/// What never changes in a worker's record.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) queue: String,
    pub(crate) host: String,
    pub(crate) pid: u32,
}

/// Writes the record; remembers what the last one said.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    identity: Identity,
    keys: QueueKeys,
    workers_key: String,
    record_key: String,
    /// In ms by the clock of Redis; 0: not known yet.
    started: u64,
    done_before: u64,
    /// Said once, or it would be said each second.
    refusal_logged: bool,
}

#[derive(Serialize)]
struct Record<'a> {
    id: &'a str,
    queue: &'a str,
    host: &'a str,
    pid: u32,
    language: &'static str,
    sdk: &'static str,
    version: &'static str,
    started: u64,
    state: &'static str,
    current: Vec<String>,
    done: u64,
    failed: u64,
    expired: u64,
    malformed: u64,
    undelivered: u64,
    lost: u64,
}

impl Heartbeat {
    pub(crate) fn new(identity: Identity, keys: &Keys) -> Self {
        let keys = keys.of_queue(&identity.queue);
        let (workers_key, record_key) = (keys.workers(), keys.worker(&identity.id));
        Self { identity, keys, workers_key, record_key, started: 0, done_before: 0, refusal_logged: false }
    }

    /// Goes on under another id.
    pub(crate) fn rename(&mut self, id: &str) {
        id.clone_into(&mut self.identity.id);
        self.record_key = self.keys.worker(id);
    }

    pub(crate) fn id(&self) -> &str {
        &self.identity.id
    }

    pub(crate) fn queue_keys(&self) -> &QueueKeys {
        &self.keys
    }

    /// Appends one beat; returns how many replies are due.
    pub(crate) fn write(&mut self, out: &mut Pipeline, status: &Status, now_ms: u64) -> usize {
        let record = self.record(status, now_ms);
        let (workers, id) = (self.workers_key.as_bytes(), self.identity.id.as_bytes());
        out.command(&[b"SET", self.record_key.as_bytes(), &record, b"PX", RECORD_LIFE_MS]);
        out.command(&[b"ZADD", workers, now_ms.to_string().as_bytes(), id]);
        out.command(&[b"PEXPIRE", workers, WORKERS_LIFE_MS]);
        3
    }

    pub(crate) fn on_reply(&mut self, reply: Reply) {
        if let Reply::Error(error) = reply
            && !std::mem::replace(&mut self.refusal_logged, true)
        {
            tracing::warn!(error, "Redis refuses the heartbeat; the worker is not listed");
        }
    }

    /// Appends the removal of the record; returns how many replies are due.
    pub(crate) fn write_farewell(&self, out: &mut Pipeline) -> usize {
        out.command(&[b"DEL", self.record_key.as_bytes()]);
        out.command(&[b"ZREM", self.workers_key.as_bytes(), self.identity.id.as_bytes()]);
        2
    }

    fn record(&mut self, status: &Status, now_ms: u64) -> Vec<u8> {
        if self.started == 0 {
            self.started = now_ms;
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (done, current) = (read(&status.done), status.current(NAMED_JOBS));
        let state = if status.stopping.load(Ordering::Relaxed) {
            "quiet"
        } else if done != self.done_before || !current.is_empty() {
            // Quick jobs are never seen running, but they were there.
            "busy"
        } else {
            "idle"
        };
        self.done_before = done;
        let record = Record {
            id: &self.identity.id,
            queue: &self.identity.queue,
            host: &self.identity.host,
            pid: self.identity.pid,
            language: "rust",
            sdk: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            started: self.started,
            state,
            current,
            done,
            failed: read(&status.failed),
            expired: read(&status.expired),
            malformed: read(&status.malformed),
            undelivered: read(&status.undelivered),
            lost: read(&status.lost),
        };
        serde_json::to_vec(&record).expect("a record of numbers and strings is always JSON")
    }
}
