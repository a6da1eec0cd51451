//! What a worker knows about itself: counters and running jobs.
//!
//! Written by the loop, read by the heartbeat, which may be on another thread. It must not do I/O.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempest_protocol::JobText;
use tokio::task::Id;

use crate::cancel::Cancellation;

/// Shared by all parts of a worker.
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
    /// Claims that were taken away before they were acknowledged.
    pub(crate) lost: AtomicU64,
}

#[derive(Debug)]
struct Running {
    id: JobText,
    since: Instant,
    claim: u64,
    cancellation: Arc<Cancellation>,
}

/// A job that has begun to wait for something.
pub(crate) struct Begun {
    pub(crate) id: JobText,
    /// Number of its claim.
    pub(crate) claim: u64,
    pub(crate) cancellation: Arc<Cancellation>,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Status {
    pub(crate) fn started(&self, task: Id, job: Begun, since: Instant) {
        let Begun { id, claim, cancellation } = job;
        self.running().insert(task, Running { id, since, claim, cancellation });
    }

    /// Jobs that have been running for longer than this and are still wanted, as far as known; not more than asked for.
    pub(crate) fn long_running(&self, longer: Duration, most: usize) -> Vec<(JobText, Arc<Cancellation>)> {
        let long = |job: &&Running| job.since.elapsed() > longer && !job.cancellation.is_cancelled();
        let running = self.running();
        running.values().filter(long).take(most).map(|job| (job.id.clone(), job.cancellation.clone())).collect()
    }

    /// Calls off the jobs of claims up to this one.
    pub(crate) fn cancel_claims(&self, to: u64) {
        self.running().values().filter(|job| (1..=to).contains(&job.claim)).for_each(|job| job.cancellation.cancel());
    }

    /// When this job was started.
    pub(crate) fn ended(&self, task: Id) -> Option<Instant> {
        self.running().remove(&task).map(|job| job.since)
    }

    /// Ids of running jobs, not more than asked for.
    pub(crate) fn current(&self, most: usize) -> Vec<String> {
        self.running().values().take(most).map(|job| job.id.to_string()).collect()
    }

    // A poisoned map is still a map: nothing in these few lines can leave it half-written.
    fn running(&self) -> MutexGuard<'_, HashMap<Id, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
