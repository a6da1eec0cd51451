//! What a worker says about itself: counters, running jobs, and the record of them in Redis.
//!
//! The record is for people and for `tempest status`; nothing decides by it in base mode. It must not do I/O.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use tokio::task::Id;

/// Ids of running jobs named in a record, at most.
const NAMED_JOBS: usize = 64;

/// Shared by the loop, which writes it, and the heartbeat, which reads it.
#[derive(Debug, Default)]
pub(crate) struct Status {
    /// Jobs that are waiting for something inside; those that run through at once never get here.
    running: Mutex<HashMap<Id, Running>>,
    pub(crate) stopping: AtomicBool,
    pub(crate) done: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) undelivered: AtomicU64,
}

#[derive(Debug)]
struct Running {
    id: String,
    since: Instant,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Status {
    pub(crate) fn started(&self, task: Id, id: String, since: Instant) {
        self.running().insert(task, Running { id, since });
    }

    /// When this job was started.
    pub(crate) fn ended(&self, task: Id) -> Option<Instant> {
        self.running().remove(&task).map(|job| job.since)
    }

    // A poisoned map is still a map: nothing in these few lines can leave it half-written.
    fn running(&self) -> MutexGuard<'_, HashMap<Id, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What never changes in a worker's record.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) queue: String,
    pub(crate) host: String,
    pub(crate) pid: u32,
}

/// Writes a worker's record; remembers what the last one said.
#[derive(Debug)]
pub(crate) struct Recorder {
    identity: Identity,
    /// In ms by the clock of Redis; 0: not known yet.
    started: u64,
    done_before: u64,
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
    current: Vec<&'a str>,
    done: u64,
    failed: u64,
    expired: u64,
    malformed: u64,
    undelivered: u64,
}

impl Recorder {
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity, started: 0, done_before: 0 }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The record as JSON.
    pub(crate) fn record(&mut self, status: &Status, now_ms: u64) -> Vec<u8> {
        if self.started == 0 {
            self.started = now_ms;
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let running = status.running();
        let done = read(&status.done);
        // Quick jobs are never seen running, but they were there.
        let busy = !running.is_empty() || done != self.done_before;
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
            state: if status.stopping.load(Ordering::Relaxed) {
                "quiet"
            } else if busy {
                "busy"
            } else {
                "idle"
            },
            current: running.values().take(NAMED_JOBS).map(|job| job.id.as_str()).collect(),
            done,
            failed: read(&status.failed),
            expired: read(&status.expired),
            malformed: read(&status.malformed),
            undelivered: read(&status.undelivered),
        };
        serde_json::to_vec(&record).expect("a record of numbers and strings is always JSON")
    }
}
