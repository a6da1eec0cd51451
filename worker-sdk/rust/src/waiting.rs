//! Jobs that are claimed and not started.
//!
//! The loop puts them here and takes them to start them. When a handler holds up the loop, its other thread takes
//! them instead and gives them back: a claimed job that waits can go to no other worker. This module is what the two
//! share, and must not decide when either happens.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;

/// A job as it came from Redis; decoded only when it starts, since a batch of decoded jobs would not fit into the
/// allocator's and the processor's caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) message: Bytes,
    /// Number of the claim; 0: it was popped, nobody can have it back.
    pub(crate) number: u64,
    /// Workers that this job has crashed, where that is known.
    pub(crate) crashes: Option<u32>,
    /// It counts as started already.
    pub(crate) marked: bool,
    /// It was not claimed before this.
    pub(crate) since: Instant,
}

/// In the order in which they are to start.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    jobs: Mutex<VecDeque<Claimed>>,
    /// Goes up whenever a job is taken to be started.
    taken: AtomicU64,
    /// Somebody looks after what waits.
    watched: AtomicBool,
}

impl Waiting {
    pub(crate) fn len(&self) -> usize {
        self.jobs().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs().is_empty()
    }

    pub(crate) fn extend(&self, claimed: Vec<Claimed>) {
        self.jobs().extend(claimed);
    }

    pub(crate) fn pop(&self) -> Option<Claimed> {
        let claimed = self.jobs().pop_front()?;
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(claimed)
    }

    /// Puts one back that is not to be started yet.
    pub(crate) fn put_back(&self, claimed: Claimed) {
        self.jobs().push_front(claimed);
    }

    /// The number of the last of the first `count` jobs.
    pub(crate) fn number_of(&self, count: usize) -> Option<u64> {
        let jobs = self.jobs();
        let last = count.min(jobs.len()).checked_sub(1)?;
        Some(jobs[last].number)
    }

    /// Takes out all that have been claimed; gives their numbers. What was popped stays: nobody else can have it.
    pub(crate) fn take_claimed(&self) -> Vec<u64> {
        let mut jobs = self.jobs();
        let numbers = jobs.iter().map(|claimed| claimed.number).filter(|&number| number > 0).collect();
        jobs.retain(|claimed| claimed.number == 0);
        numbers
    }

    /// Forgets claims up to this number.
    pub(crate) fn forget(&self, to: u64) {
        self.jobs().retain(|claimed| claimed.number > to);
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// True: nobody watched until now.
    pub(crate) fn watch(&self) -> bool {
        // Read first: it is nearly always set, and a store would take the line from the other thread.
        !self.watched.load(Ordering::SeqCst) && !self.watched.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn unwatch(&self) {
        self.watched.store(false, Ordering::SeqCst);
    }

    // A poisoned queue is still a queue: nothing in these few lines can leave it half-written.
    fn jobs(&self) -> MutexGuard<'_, VecDeque<Claimed>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
