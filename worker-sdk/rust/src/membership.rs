//! Where a worker stands with Redis: whether it may claim, under which name, and which claims are its own no more.
//!
//! The second connection registers the worker, the loop claims; they run on different threads, and this is all that
//! they tell each other about it. No I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempest_protocol::QueueKeys;
use tokio::sync::watch;

use crate::answer::Answer;

/// The keys that a worker with this id uses.
#[derive(Debug)]
pub(crate) struct WorkerKeys {
    pub(crate) worker: String,
    pub(crate) claimers: String,
    pub(crate) claimed: String,
    pub(crate) landing: String,
    pub(crate) batch: String,
    pub(crate) normal: String,
    pub(crate) high: String,
    pub(crate) low: String,
    pub(crate) withdrawn: String,
    pub(crate) attempts: String,
    pub(crate) stats: String,
}

impl WorkerKeys {
    pub(crate) fn new(queue: &QueueKeys, worker: &str) -> Self {
        Self {
            worker: worker.to_owned(),
            claimers: queue.claimers(),
            claimed: queue.claimed(worker),
            landing: queue.landing(worker),
            batch: queue.batch(worker),
            normal: queue.normal().to_owned(),
            high: queue.high(),
            low: queue.low(),
            withdrawn: queue.withdrawn(),
            attempts: queue.attempts(),
            stats: queue.stats(),
        }
    }
}

/// How the worker takes jobs now.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// Not registered yet.
    Unknown,
    Registered(Registration),
    /// By popping them.
    Base,
}

#[derive(Clone, Debug)]
pub(crate) struct Registration {
    /// Goes up when the claims of before are gone.
    pub(crate) epoch: u64,
    /// Id of the connection for claims that was registered.
    pub(crate) claims_connection: i64,
    pub(crate) keys: Arc<WorkerKeys>,
}

/// What becomes of claims that are the worker's own no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Somebody else has them: they are answered no more.
    TakenAway,
    /// Redis has forgotten them: answers are still good for something, acknowledgements are not.
    Forgotten,
}

/// Shared by the loop and the second connection.
#[derive(Debug)]
pub(crate) struct Membership {
    standing: watch::Sender<Standing>,
    /// The highest number of a claim so far.
    highest: AtomicU64,
    /// Claims up to here were taken away.
    taken_away: AtomicU64,
    /// Claims up to here are in Redis no more.
    gone: AtomicU64,
}

impl Membership {
    pub(crate) fn new(standing: Standing) -> Arc<Self> {
        let standing = watch::Sender::new(standing);
        Arc::new(Self { standing, highest: AtomicU64::new(0), taken_away: AtomicU64::new(0), gone: AtomicU64::new(0) })
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    pub(crate) fn is_base(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Base)
    }

    pub(crate) fn register(&self, registration: Registration) {
        self.standing.send_modify(|standing| {
            if !matches!(standing, Standing::Base) {
                *standing = Standing::Registered(registration);
            }
        });
    }

    /// Falls back to base mode, for good.
    pub(crate) fn use_base(&self, why: &str) {
        self.standing.send_if_modified(|standing| {
            if matches!(standing, Standing::Base) {
                return false;
            }
            tracing::warn!(why, "no reliable mode here: jobs are popped, and lost when this worker dies");
            *standing = Standing::Base;
            true
        });
    }

    pub(crate) fn claimed(&self, number: u64) {
        self.highest.store(number, Ordering::Release);
    }

    /// Gives up all claims made so far.
    pub(crate) fn lose(&self, loss: Loss) {
        let to = self.highest.load(Ordering::Acquire);
        if loss == Loss::TakenAway {
            self.taken_away.fetch_max(to, Ordering::AcqRel);
        }
        self.gone.fetch_max(to, Ordering::AcqRel);
    }

    /// Adjusts an answer to what has become of its claim; false: it is not to be sent.
    pub(crate) fn settle(&self, answer: &mut Answer) -> bool {
        if answer.claim == 0 || answer.claim > self.gone() {
            return true;
        }
        answer.acknowledges = None;
        if answer.claim <= self.taken_away() {
            answer.close_stream();
            return false;
        }
        !answer.is_none()
    }

    /// Claims up to this number were taken away.
    pub(crate) fn taken_away(&self) -> u64 {
        self.taken_away.load(Ordering::Acquire)
    }

    /// Claims up to this number are in Redis no more.
    pub(crate) fn gone(&self) -> u64 {
        self.gone.load(Ordering::Acquire)
    }
}
