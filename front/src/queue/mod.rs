//! Requests that wait for workers: pushed as jobs, matched with their answers, ended by their deadlines.
//!
//! Every request that gets in here has exactly one outcome: an answer, or a [`Failure`]. What is safe to push a
//! second time is decided here and nowhere else. This module must not know HTTP connections (it hands parts to an
//! [`Inbox`]) nor how commands reach Redis.

mod inbox;
mod pending;
mod submit;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempest_protocol::{Answer, Decoded, Reason, Rejected, decode_answer, rewrite_job};
use tokio::sync::Notify;

use crate::broker::{Broker, NotTaken, Pushed};
use crate::config::Limits;
use crate::error::Failure;
use crate::ident::ReactorId;
use crate::telemetry::{AnswerOutcome, Metrics, Problem, Problems, Refusal};

pub use inbox::{Head, Inbox, Part};
pub use pending::is_hop_by_hop;
use pending::{Bounds, Pending, Sent, Taken};
pub use submit::{Request, Ticket};

/// How precisely deadlines are kept.
const TICK: Duration = Duration::from_millis(20);
/// A request that is safe to run twice is pushed at most this often.
const MAX_ATTEMPTS: u32 = 3;
/// An expired job is looked for from the head of its list, where it usually is, up to this depth.
const EXPIRED_DEPTH: u64 = 10_000;
/// After a queue was found full, requests for it are refused this long without asking Redis.
const FULL_PAUSE: Duration = Duration::from_millis(100);
/// Bounds of `Retry-After`, in seconds.
const RETRY_AFTER: (f64, f64) = (1.0, 60.0);

/// One queue as this reactor sees it.
pub struct QueueState {
    /// Its name.
    pub name: tempest_protocol::QueueName,
    /// Its list in Redis.
    pub key: String,
    answered: Cell<u64>,
    /// As the last push found it.
    depth: Cell<u64>,
    full_until: Cell<Option<Instant>>,
    /// Answers per second, a moving average.
    rate: Cell<f64>,
}

impl QueueState {
    /// A queue with the list `key`.
    pub fn new(name: tempest_protocol::QueueName, key: String) -> Rc<Self> {
        Rc::new(Self {
            name,
            key,
            answered: Cell::new(0),
            depth: Cell::new(0),
            full_until: Cell::new(None),
            rate: Cell::new(0.0),
        })
    }

    /// To be called once a second.
    fn measure(&self) {
        let fresh = self.answered.replace(0) as f64;
        self.rate.set(self.rate.get() * 0.7 + fresh * 0.3);
    }

    /// True for a moment after the queue was found full: then nothing is pushed to find out again.
    fn is_full(&self) -> bool {
        let full = self.full_until.get().is_some_and(|until| Instant::now() < until);
        if !full {
            self.full_until.set(None);
        }
        full
    }

    fn retry_after(&self) -> Duration {
        let seconds = self.depth.get() as f64 / self.rate.get().max(0.01);
        Duration::from_secs_f64(seconds.clamp(RETRY_AFTER.0, RETRY_AFTER.1).ceil())
    }
}

/// Hashes serial numbers, which are ours and count upwards: nobody can choose them, so they need no defence against
/// chosen collisions. Multiplied so that neighbours differ in the top bits, too, which the table tells entries by
/// (Fibonacci hashing: 2^64 divided by the golden ratio).
#[derive(Default)]
struct BySerial(u64);

impl Hasher for BySerial {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// The table of one reactor's waiting requests.
pub struct Dispatch {
    broker: Rc<Broker>,
    reactor: ReactorId,
    reply_to: String,
    limits: Limits,
    metrics: Arc<Metrics>,
    problems: Arc<Problems>,
    pending: RefCell<HashMap<u64, Pending, BuildHasherDefault<BySerial>>>,
    queues: RefCell<Vec<Rc<QueueState>>>,
    serial: Cell<u64>,
    /// Where jobs are written before their length is known.
    scratch: Cell<Vec<u8>>,
    /// Wakes the clock when the table stops being empty.
    busy: Notify,
    slow_tick: Cell<u32>,
}

impl Dispatch {
    /// An empty table whose answers come to `reply_to`.
    pub fn new(
        broker: Rc<Broker>,
        reactor: ReactorId,
        reply_to: String,
        limits: Limits,
        metrics: Arc<Metrics>,
        problems: Arc<Problems>,
    ) -> Rc<Self> {
        Rc::new(Self {
            broker,
            reactor,
            reply_to,
            limits,
            metrics,
            problems,
            pending: RefCell::default(),
            queues: RefCell::default(),
            serial: Cell::new(0),
            scratch: Cell::default(),
            busy: Notify::new(),
            slow_tick: Cell::new(0),
        })
    }

    /// Takes part in the measuring of service rates.
    pub fn add_queue(&self, queue: Rc<QueueState>) {
        self.queues.borrow_mut().push(queue);
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.pending.borrow().len()
    }

    /// Keeps deadlines until dropped; sleeps while nothing waits.
    pub async fn keep_time(self: Rc<Self>) {
        loop {
            if self.pending.borrow().is_empty() {
                self.busy.notified().await;
            }
            tokio::time::sleep(TICK).await;
            self.tick(Instant::now());
        }
    }

    fn tick(&self, now: Instant) {
        self.broker.tick(now);
        let expired: Vec<u64> = {
            let pending = self.pending.borrow();
            pending.iter().filter(|(_, p)| p.deadline <= now).map(|(serial, _)| *serial).collect()
        };
        for serial in expired {
            self.expire(serial);
        }
        let ticks = self.slow_tick.get() + 1;
        self.slow_tick.set(ticks % 50);
        if ticks == 50 {
            self.queues.borrow().iter().for_each(|queue| queue.measure());
        }
    }

    fn expire(&self, serial: u64) {
        let Some(pending) = self.pending.borrow_mut().remove(&serial) else { return };
        self.metrics.timeouts.inc();
        if !pending.begun() {
            self.broker.withdraw(pending.queue.key.as_bytes(), &pending.job, EXPIRED_DEPTH, true);
        }
        pending.inbox.fail(match pending.sent {
            Sent::Queued => Failure::Deadline,
            // Redis has not said that it has the job, or an earlier attempt may have been seen.
            Sent::Buffered | Sent::Unknown | Sent::Again => Failure::DeadlineUnknown,
        });
    }

    /// The client left: nobody waits for this request any more.
    fn leave(&self, serial: u64) {
        let Some(pending) = self.pending.borrow_mut().remove(&serial) else { return };
        self.metrics.clients_gone.inc();
        if !pending.begun() {
            let depth = self.limits.withdraw_depth;
            self.broker.withdraw(pending.queue.key.as_bytes(), &pending.job, depth, false);
        }
    }

    /// Fails everything that waits; for the end of a drain.
    pub fn fail_all(&self, failure: &Failure) {
        let all: Vec<Pending> = self.pending.borrow_mut().drain().map(|(_, pending)| pending).collect();
        for pending in all {
            if !pending.begun() {
                self.broker.withdraw(pending.queue.key.as_bytes(), &pending.job, EXPIRED_DEPTH, true);
            }
            pending.inbox.fail(failure.clone());
        }
    }

    fn fail(&self, serial: u64, failure: Failure) {
        let pending = self.pending.borrow_mut().remove(&serial);
        if let Some(pending) = pending {
            pending.inbox.fail(failure);
        }
    }

    // ---- what became of pushes -----------------------------------------------------------------------------

    /// To be called with what the broker tells of pushes.
    pub fn pushed(&self, results: &mut Vec<(u64, Pushed)>) {
        for (serial, result) in results.drain(..) {
            match result {
                Pushed::Depth(depth) => self.queued(serial, depth),
                Pushed::Refused(why) => self.refused(serial, why),
                Pushed::Unwritten => self.push_again(serial, false),
                Pushed::Unknown => self.unknown(serial),
                Pushed::TakenBack(true) => self.queue_full(serial),
                // A worker has it: the request waits for its answer like any other.
                Pushed::TakenBack(false) => {}
            }
        }
    }

    fn queued(&self, serial: u64, depth: u64) {
        self.metrics.jobs_pushed.inc();
        let mut table = self.pending.borrow_mut();
        let Some(pending) = table.get_mut(&serial) else { return };
        pending.sent = Sent::Queued;
        pending.queue.depth.set(depth);
        // Refused only once it is certain that no worker has it.
        if depth > self.limits.queue_depth && !pending.begun() {
            self.broker.take_back(pending.queue.key.as_bytes(), &pending.job, serial);
        }
    }

    fn queue_full(&self, serial: u64) {
        let queue = self.pending.borrow().get(&serial).map(|pending| Rc::clone(&pending.queue));
        let Some(queue) = queue else { return };
        queue.full_until.set(Some(Instant::now() + FULL_PAUSE));
        self.metrics.refused.inc(Refusal::QueueFull);
        self.fail(serial, Failure::QueueFull(queue.retry_after()));
    }

    fn refused(&self, serial: u64, why: String) {
        self.note("broker-refused", serial, &why);
        self.metrics.refused.inc(Refusal::RedisDown);
        self.fail(serial, Failure::BrokerRefused(why));
    }

    /// The job may be in the list, or not. What is safe to run twice is pushed again; the rest waits for an answer.
    fn unknown(&self, serial: u64) {
        let again = match self.pending.borrow_mut().get_mut(&serial) {
            Some(pending) if !pending.begun() => {
                pending.sent = Sent::Unknown;
                pending.idempotent && pending.attempt < MAX_ATTEMPTS
            }
            _ => false,
        };
        if again {
            self.push_again(serial, true);
        }
    }

    /// Pushes a job another time; `new_attempt` where the one before may have been seen by somebody.
    fn push_again(&self, serial: u64, new_attempt: bool) {
        let refused = {
            let mut table = self.pending.borrow_mut();
            let Some(pending) = table.get_mut(&serial) else { return };
            if new_attempt {
                pending.attempt += 1;
                let left = pending.deadline.saturating_duration_since(Instant::now());
                pending.job = rewrite_job(&pending.job, pending.attempt, left.as_millis() as u64).into();
            }
            let taken = self.broker.push(pending.queue.key.as_bytes(), &pending.job, serial);
            pending.sent = if taken.is_ok() { Sent::Buffered } else { Sent::Again };
            // A first attempt that never left is refused at once. Where an earlier one may have been seen a refusal
            // would be a lie: it waits for Redis, within the deadline.
            taken.err().filter(|_| pending.attempt == 1)
        };
        if let Some(why) = refused {
            self.fail(serial, self.not_taken(why));
        }
    }

    fn not_taken(&self, why: NotTaken) -> Failure {
        self.metrics.refused.inc(Refusal::RedisDown);
        match why {
            NotTaken::Down => Failure::BrokerDown,
            NotTaken::Full => Failure::Overload("the way to the workers is congested"),
        }
    }

    /// Redis is there again; `forgot`: with no memory of what was pushed before.
    pub fn connected(&self, forgot: bool) {
        let again: Vec<(u64, bool)> = {
            let mut table = self.pending.borrow_mut();
            let open = table.iter_mut().filter(|(_, p)| !p.begun());
            open.filter_map(|(serial, p)| match p.sent {
                Sent::Again => Some((*serial, false)),
                Sent::Queued | Sent::Unknown if forgot && p.idempotent && p.attempt < MAX_ATTEMPTS => {
                    Some((*serial, true))
                }
                Sent::Queued if forgot => {
                    p.sent = Sent::Unknown;
                    None
                }
                _ => None,
            })
            .collect()
        };
        for (serial, new_attempt) in again {
            self.push_again(serial, new_attempt);
        }
    }

    // ---- answers -------------------------------------------------------------------------------------------

    /// To be called with messages from the answer list or channel, in order.
    pub fn answers(&self, messages: &[Bytes]) {
        for message in messages {
            match decode_answer(message, self.limits.answer_bytes, false) {
                Decoded::Answer(answer) => self.answer(message, &answer),
                Decoded::Ignored { .. } => self.metrics.answers.inc(AnswerOutcome::Ignored),
                Decoded::Rejected(rejected) => self.rejected(message, &rejected),
            }
        }
    }

    fn answer(&self, message: &Bytes, answer: &Answer<'_>) {
        let serial = self.reactor.serial(&answer.id);
        let bounds = Bounds { buffer: self.limits.answer_buffer, reorder: self.limits.answer_reorder };
        let taken = serial.and_then(|serial| {
            let mut table = self.pending.borrow_mut();
            let pending = table.get_mut(&serial)?;
            let first = answer.n == 0;
            let taken = pending.take(message, answer, bounds);
            if first && matches!(taken, Taken::More | Taken::Complete) {
                pending.queue.answered.set(pending.queue.answered.get() + 1);
            }
            if taken == Taken::Complete {
                table.remove(&serial);
            }
            Some((serial, taken))
        });
        match taken {
            None => self.metrics.answers.inc(AnswerOutcome::Late),
            Some((_, Taken::More | Taken::Complete)) => self.metrics.answers.inc(AnswerOutcome::Answered),
            Some((_, Taken::Duplicate)) => self.metrics.answers.inc(AnswerOutcome::Duplicate),
            Some((_, Taken::Fenced)) => self.metrics.answers.inc(AnswerOutcome::Fenced),
            Some((serial, Taken::Malformed(reason))) => self.malformed(serial, reason),
            Some((serial, Taken::Overflow)) => self.overflow(serial),
        }
    }

    fn rejected(&self, message: &Bytes, rejected: &Rejected) {
        let serial = rejected.id.as_deref().and_then(|id| self.reactor.serial(id));
        let Some(serial) = serial else {
            self.metrics.answers.inc(AnswerOutcome::Malformed);
            tracing::warn!(reason = rejected.reason.code(), bytes = message.len(), "a malformed answer of nobody's");
            return;
        };
        let head_only = self.pending.borrow().get(&serial).is_some_and(|pending| pending.head_only);
        // Where only the head was asked for, the length is that of a body that is not there.
        if let (true, Decoded::Answer(answer)) = (head_only, decode_answer(message, self.limits.answer_bytes, true)) {
            self.answer(message, &answer);
            return;
        }
        self.malformed(serial, rejected.reason);
    }

    fn malformed(&self, serial: u64, reason: Reason) {
        if !self.pending.borrow().contains_key(&serial) {
            self.metrics.answers.inc(AnswerOutcome::Late);
            return;
        }
        self.metrics.answers.inc(AnswerOutcome::Malformed);
        self.note("malformed-answer", serial, reason.code());
        self.fail(serial, Failure::Malformed(reason));
    }

    fn overflow(&self, serial: u64) {
        self.metrics.answers.inc(AnswerOutcome::Malformed);
        self.note("answer-overflow", serial, "more of the answer waited than limits.answer_buffer or answer_reorder");
        let pending = self.pending.borrow_mut().remove(&serial);
        if let Some(pending) = pending {
            pending.inbox.cut(Failure::Malformed(Reason::TooLarge));
        }
    }

    fn note(&self, what: &'static str, serial: u64, detail: &str) {
        let queue = self.pending.borrow().get(&serial).map(|p| p.queue.name.to_string()).unwrap_or_default();
        let request = self.reactor.request(serial);
        tracing::warn!(what, %queue, %request, "{detail}");
        let (request, detail) = (request.to_string(), detail.to_owned());
        self.problems.note(Problem { at: self.broker.now_ms(), what, queue, request, detail });
    }
}
