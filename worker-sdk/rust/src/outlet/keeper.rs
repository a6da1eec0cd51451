//! What the second connection does for jobs while the loop is held up.
//!
//! Jobs that wait behind one that takes long are given back, so that another worker can have them; jobs that run for
//! long are called off when their clients have left. It must not start or answer jobs.

use std::sync::Arc;
use std::time::Duration;

use tempest_protocol::JobText;

use crate::cancel::Cancellation;
use crate::connection::{Pipeline, Reply};
use crate::membership::WorkerKeys;
use crate::scripts::{Loaded, Script};
use crate::status::Status;
use crate::waiting::Waiting;

/// Time between looks at what waits.
pub(super) const LOOK: Duration = Duration::from_millis(15);
/// Looks without any start after which what waits is given back: a job that holds the others up for 30 to 45 ms.
const STILL_LOOKS: u32 = 2;
/// Looks with nothing waiting after which nobody looks any more.
const QUIET_LOOKS: u32 = 200;
/// Time between looks at what is withdrawn.
pub(super) const WITHDRAWN_LOOK: Duration = Duration::from_millis(200);
/// Jobs that have been running for less than this are not worth a look.
const LONG: Duration = Duration::from_millis(200);
/// Jobs looked for at a time, at most.
const LOOKED_FOR: usize = 1024;

pub(super) struct Keeper {
    waiting: Arc<Waiting>,
    /// Numbers of claims to give back.
    returning: Vec<u64>,
    watching: bool,
    taken: u64,
    turns: u64,
    still: u32,
    stuck: u32,
    quiet: u32,
    /// The loop is held up, and may hold claims whose arrival it has not noticed.
    ask_due: bool,
}

/// Running jobs that Redis was asked about.
pub(super) type LookedFor = Vec<(JobText, Arc<Cancellation>)>;

impl Keeper {
    pub(super) fn new(waiting: Arc<Waiting>) -> Self {
        Self {
            waiting,
            returning: Vec::new(),
            watching: false,
            taken: 0,
            turns: 0,
            still: 0,
            stuck: 0,
            quiet: 0,
            ask_due: false,
        }
    }

    pub(super) fn is_watching(&self) -> bool {
        self.watching
    }

    pub(super) fn is_empty(&self) -> bool {
        self.returning.is_empty()
    }

    pub(super) fn watch(&mut self) {
        self.watching = true;
        self.quiet = 0;
        self.still = 0;
        self.taken = self.waiting.taken();
    }

    /// Notes claims to give back.
    pub(super) fn give_back(&mut self, numbers: Vec<u64>) {
        self.returning.extend(numbers);
    }

    /// Claims that are gone need not be given back.
    pub(super) fn forget(&mut self, to: u64) {
        self.returning.retain(|&number| number > to);
    }

    /// Looks whether jobs wait in vain. `may_return`: there is a way to give them back.
    pub(super) fn look(&mut self, may_return: bool) {
        let turns = self.waiting.turns();
        if std::mem::replace(&mut self.turns, turns) == turns && self.waiting.is_at_work() {
            self.stuck += 1;
            self.quiet = 0;
            self.ask_due = may_return && self.stuck.is_multiple_of(STILL_LOOKS);
        } else {
            self.stuck = 0;
        }
        if self.waiting.is_empty() {
            self.still = 0;
            self.quiet += 1;
            if self.quiet >= QUIET_LOOKS {
                self.waiting.unwatch();
                // Some may have come just before that, and nobody said so.
                self.watching = !self.waiting.is_empty() && self.waiting.watch();
                self.quiet = 0;
            }
            return;
        }
        self.quiet = 0;
        let taken = self.waiting.taken();
        if taken != self.taken {
            self.taken = taken;
            self.still = 0;
            return;
        }
        self.still += 1;
        if self.still >= STILL_LOOKS && may_return {
            let numbers = self.waiting.take_claimed();
            tracing::debug!(jobs = numbers.len(), "gave back jobs that waited behind a long one");
            self.give_back(numbers);
        }
    }

    /// Appends what is to be given back; its numbers, where a reply is due.
    pub(super) fn write(&mut self, out: &mut Pipeline, loaded: &Loaded, keys: &WorkerKeys) -> Option<Vec<u64>> {
        if self.returning.is_empty() {
            return None;
        }
        self.returning.sort_unstable();
        let numbers: Vec<String> = self.returning.iter().map(ToString::to_string).collect();
        let arguments: Vec<&[u8]> = numbers.iter().map(String::as_bytes).collect();
        loaded.call(out, Script::GiveBack, &[&keys.claimed, &keys.normal, &keys.withdrawn, &keys.batch], &arguments);
        Some(std::mem::take(&mut self.returning))
    }

    /// Appends the question for claims that the loop may not know of; true: a reply is due.
    pub(super) fn write_ask(&mut self, out: &mut Pipeline, keys: &WorkerKeys) -> bool {
        let due = std::mem::take(&mut self.ask_due);
        if due {
            out.command(&[b"HKEYS", keys.claimed.as_bytes()]);
        }
        due
    }

    pub(super) fn on_asked(&mut self, reply: Reply) {
        // A user without the right to ask: then these wait for the loop.
        let Reply::List(names) = reply else { return };
        let number = |name| match name {
            Reply::Text(name) => std::str::from_utf8(&name).ok()?.parse().ok(),
            _ => None,
        };
        let unheard = self.waiting.take_unheard(names.into_iter().filter_map(number).collect());
        if !unheard.is_empty() {
            tracing::debug!(jobs = unheard.len(), "gave back jobs that came while a long one held up the worker");
            self.give_back(unheard);
        }
    }

    /// Appends the question which of the running jobs nobody wants any more.
    pub(super) fn write_look(out: &mut Pipeline, status: &Status, keys: &WorkerKeys) -> Option<LookedFor> {
        let running = status.long_running(LONG, LOOKED_FOR);
        if running.is_empty() {
            return None;
        }
        out.begin(2 + running.len());
        out.part(b"ZMSCORE");
        out.part(keys.withdrawn.as_bytes());
        running.iter().for_each(|(id, _)| out.part(id.as_bytes()));
        Some(running)
    }

    pub(super) fn on_looked(asked: &LookedFor, reply: Reply) {
        // A user without the right to look: then nothing is ever called off.
        let Reply::List(scores) = reply else { return };
        for ((_, cancellation), score) in asked.iter().zip(scores) {
            if score != Reply::Nil {
                cancellation.cancel();
            }
        }
    }
}
