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
    /// Number of the first claim of its batch; 0: it lies among the claims by itself.
    pub(crate) batch: u64,
    /// Workers that this job has crashed, where that is known.
    pub(crate) crashes: Option<u32>,
    /// It counts as started already.
    pub(crate) marked: bool,
    /// It was not claimed before this.
    pub(crate) since: Instant,
}

/// What is claimed and not started, and what can be seen of the loop from outside.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    claims: Mutex<Claims>,
    /// Goes up whenever a job is taken to be started.
    taken: AtomicU64,
    /// Goes up with each turn of the loop.
    turns: AtomicU64,
    /// The loop's thread is at work, as its runtime says; where that says nothing, never.
    at_work: AtomicBool,
    /// Somebody looks after what waits.
    watched: AtomicBool,
}

#[derive(Debug, Default)]
struct Claims {
    /// In the order in which they are to start.
    jobs: VecDeque<Claimed>,
    /// The highest number of a claim that the loop has heard of.
    heard: u64,
    /// Claims up to this number that the loop has not heard of are given back, and nothing to it.
    void: u64,
}

impl Waiting {
    pub(crate) fn len(&self) -> usize {
        self.claims().jobs.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.claims().jobs.is_empty()
    }

    pub(crate) fn extend(&self, claimed: Vec<Claimed>) {
        let mut claims = self.claims();
        let (void, last) = (claims.void, claimed.last().map_or(0, |claimed| claimed.number));
        claims.heard = claims.heard.max(last);
        claims.jobs.extend(claimed.into_iter().filter(|claimed| claimed.number == 0 || claimed.number > void));
    }

    pub(crate) fn pop(&self) -> Option<Claimed> {
        let claimed = self.claims().jobs.pop_front()?;
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(claimed)
    }

    /// Puts one back that is not to be started yet.
    pub(crate) fn put_back(&self, claimed: Claimed) {
        self.claims().jobs.push_front(claimed);
    }

    /// The number of the last of the first `count` jobs.
    pub(crate) fn number_of(&self, count: usize) -> Option<u64> {
        let claims = self.claims();
        let last = count.min(claims.jobs.len()).checked_sub(1)?;
        Some(claims.jobs[last].number)
    }

    /// Takes out all that have been claimed; gives their numbers. What was popped stays: nobody else can have it.
    pub(crate) fn take_claimed(&self) -> Vec<u64> {
        let jobs = &mut self.claims().jobs;
        let numbers = jobs.iter().map(|claimed| claimed.number).filter(|&number| number > 0).collect();
        jobs.retain(|claimed| claimed.number == 0);
        numbers
    }

    /// Of these claims takes those whose arrival the loop has not noticed yet: it will not start them.
    pub(crate) fn take_unheard(&self, mut numbers: Vec<u64>) -> Vec<u64> {
        let mut claims = self.claims();
        let known = claims.heard.max(claims.void);
        numbers.retain(|&number| number > known);
        claims.void = numbers.iter().copied().fold(claims.void, u64::max);
        numbers
    }

    /// Forgets claims up to this number.
    pub(crate) fn forget(&self, to: u64) {
        self.claims().jobs.retain(|claimed| claimed.number > to);
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The loop goes round.
    pub(crate) fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// The loop's thread begins or ends to wait for something.
    pub(crate) fn set_at_work(&self, at_work: bool) {
        self.at_work.store(at_work, Ordering::Relaxed);
    }

    pub(crate) fn is_at_work(&self) -> bool {
        self.at_work.load(Ordering::Relaxed)
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
    fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(number: u64) -> Claimed {
        Claimed { message: Bytes::new(), number, batch: 0, crashes: Some(0), marked: false, since: Instant::now() }
    }

    #[test]
    fn claims_that_nobody_noticed_are_given_back_once() {
        let waiting = Waiting::default();
        waiting.extend(vec![claimed(1), claimed(2)]);
        assert_eq!(waiting.take_unheard(vec![1, 2, 3, 4]), [3, 4]);
        assert_eq!(waiting.take_unheard(vec![3, 4]), [0; 0]);
        waiting.extend(vec![claimed(3), claimed(4)]);
        assert_eq!(waiting.len(), 2, "the loop hears of them too late");
        waiting.extend(vec![claimed(5), claimed(0)]);
        assert_eq!(waiting.take_claimed(), [1, 2, 5]);
        assert_eq!(waiting.pop().map(|claimed| claimed.number), Some(0), "what was popped stays");
    }
}
