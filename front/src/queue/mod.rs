//! Requests that wait for workers: pushed as jobs, matched with their answers, ended by their deadlines.
//!
//! Every request that gets in here has exactly one outcome: an answer, or a [`Failure`]. What is safe to push a
//! second time is decided here and nowhere else. This module must not know HTTP connections (it hands parts to an
//! [`Inbox`]) nor how commands reach Redis.

mod holds;
mod inbox;
mod keeper;
mod lane;
mod notes;
mod pending;
mod queues;
mod rate;
mod retry;
mod serial;
mod submit;
mod watch;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempest_protocol::{Answer, Death, Decoded, Reason, Rejected, decode_answer};
use tokio::sync::Notify;

use crate::broker::{Broker, NotTaken, Pushed, Withdraw};
use crate::config::{ClientGone, Limits, Priority};
use crate::error::Failure;
use crate::ident::ReactorId;
use crate::telemetry::{AnswerOutcome, Metrics, Problems, Refusal, Spans, What};

pub use holds::Holds;
pub use inbox::{Head, Inbox, Part};
pub use keeper::Keeper;
pub use lane::{Lane, QueueState};
pub use pending::is_hop_by_hop;
use pending::{Bounds, Pending, Sent, Taken};
use retry::{Left, Verdict, after_death};
use serial::BySerial;
pub use submit::{Request, Ticket};

/// How precisely deadlines are kept.
const TICK: Duration = Duration::from_millis(20);
/// An expired job is looked for from the head of its list, where it usually is, up to this depth.
const EXPIRED_DEPTH: u64 = 10_000;
/// A worker that runs a job past its deadline is told so for this long.
const TELL_LATE: Duration = Duration::from_secs(60);

/// Why nobody wants a job any more.
#[derive(Clone, Copy)]
enum Withdrawal {
    /// Its client left.
    Left,
    /// Its time is over.
    Late,
}

/// The table of one reactor's waiting requests.
pub struct Dispatch {
    broker: Rc<Broker>,
    reactor: ReactorId,
    reply_to: String,
    /// A reload changes them.
    limits: RefCell<Limits>,
    holds: RefCell<Holds>,
    metrics: Arc<Metrics>,
    problems: Arc<Problems>,
    spans: Spans,
    pending: RefCell<HashMap<u64, Pending, BuildHasherDefault<BySerial>>>,
    queues: RefCell<Vec<Weak<QueueState>>>,
    serial: Cell<u64>,
    /// Where jobs are written before their length is known.
    scratch: Cell<Vec<u8>>,
    /// Wakes the clock when the table stops being empty.
    busy: Notify,
    others: RefCell<Option<Others>>,
}

/// Takes a message that is no answer; false: it is not its either.
type Others = Box<dyn Fn(&[u8]) -> bool>;

impl Dispatch {
    /// An empty table whose answers come to `reply_to`.
    pub fn new(
        broker: Rc<Broker>,
        reactor: ReactorId,
        reply_to: String,
        limits: Limits,
        holds: Holds,
        (metrics, problems, spans): (Arc<Metrics>, Arc<Problems>, Spans),
    ) -> Rc<Self> {
        Rc::new(Self {
            broker,
            reactor,
            reply_to,
            limits: RefCell::new(limits),
            holds: RefCell::new(holds),
            metrics,
            problems,
            spans,
            pending: RefCell::default(),
            queues: RefCell::default(),
            serial: Cell::new(0),
            scratch: Cell::default(),
            busy: Notify::new(),
            others: RefCell::default(),
        })
    }

    /// Who gets the messages of kinds that mean nothing here.
    pub fn set_others(&self, take: impl Fn(&[u8]) -> bool + 'static) {
        *self.others.borrow_mut() = Some(Box::new(take));
    }

    /// Notes one that waits; true: it is the only one.
    fn enter(&self, serial: u64, pending: Pending) -> bool {
        self.waits(&pending.lane.queue, true);
        let mut table = self.pending.borrow_mut();
        table.insert(serial, pending);
        table.len() == 1
    }

    /// Takes out one that waits no more.
    fn remove(&self, serial: u64) -> Option<Pending> {
        let pending = self.pending.borrow_mut().remove(&serial)?;
        self.waits(&pending.lane.queue, false);
        Some(pending)
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
    }

    fn expire(&self, serial: u64) {
        let Some(pending) = self.remove(serial) else { return };
        self.metrics.timeouts.inc();
        self.withdraw(serial, &pending, Withdrawal::Late);
        pending.inbox.fail(match pending.sent {
            Sent::Unknown | Sent::Again => Failure::DeadlineUnknown,
            Sent::Buffered | Sent::Queued => Failure::Deadline,
        });
    }

    /// The client left: nobody waits for this request any more.
    fn leave(&self, serial: u64) {
        let Some(pending) = self.remove(serial) else { return };
        self.metrics.clients_gone.inc();
        self.withdraw(serial, &pending, Withdrawal::Left);
    }

    /// Takes the job out of its list, or notes that it is not to be started, and that whoever runs it may stop.
    fn withdraw(&self, serial: u64, pending: &Pending, why: Withdrawal) {
        let cancels = pending.lane.route.client_gone == ClientGone::Cancel;
        if pending.begun() && !cancels {
            return;
        }
        let now = self.broker.now_ms();
        let left = pending.deadline.saturating_duration_since(Instant::now());
        let (depth, from_head, until) = match why {
            Withdrawal::Late => (EXPIRED_DEPTH, true, TELL_LATE),
            Withdrawal::Left => (self.limits.borrow().withdraw_depth, false, left),
        };
        let queue = &pending.lane.queue;
        self.broker.withdraw(&Withdraw {
            lists: [&queue.lists[0], &queue.lists[1], &queue.lists[2]],
            withdrawn: &queue.withdrawn,
            job: &pending.job,
            id: self.reactor.request(serial).as_str(),
            until: if cancels { now + until.as_millis() as u64 } else { 0 },
            // A job whose answer has begun is in no list.
            depth: (!pending.begun()).then_some(depth),
            from_head,
            now,
            noted: self.limits.borrow().withdrawn,
        });
    }

    /// Fails everything that waits; for the end of a drain.
    pub fn fail_all(&self, failure: &Failure) {
        let all: Vec<u64> = self.pending.borrow().keys().copied().collect();
        for serial in all {
            let Some(pending) = self.remove(serial) else { continue };
            self.withdraw(serial, &pending, Withdrawal::Late);
            pending.inbox.fail(failure.clone());
        }
    }

    fn fail(&self, serial: u64, failure: Failure) {
        if let Some(pending) = self.remove(serial) {
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
                Pushed::TakenBack(true) => self.taken_back(serial),
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
        pending.lane.queue.note_depth(depth, Instant::now());
        // Refused only once it is certain that no worker has it.
        let over = depth > pending.lane.depth_limit && pending.attempt == 1 && !pending.begun();
        drop(table);
        if over {
            self.take_back(serial);
        }
    }

    /// Asks for the job back; [`Dispatch::taken_back`] hears whether nobody had it.
    fn take_back(&self, serial: u64) {
        let table = self.pending.borrow();
        let Some(pending) = table.get(&serial).filter(|pending| !pending.begun()) else { return };
        let Lane { queue, route, .. } = &*pending.lane;
        let lists = if route.priority == Priority::Normal { &queue.lists[..1] } else { &queue.lists[..] };
        self.broker.take_back(lists, &pending.job, serial);
    }

    fn taken_back(&self, serial: u64) {
        let Some(pending) = self.remove(serial) else { return };
        let (queue, now) = (&pending.lane.queue, Instant::now());
        pending.inbox.fail(if pending.untaken {
            self.metrics.refused.inc(Refusal::NoWorker);
            Failure::NoWorker
        } else {
            queue.found_full(now);
            self.metrics.refused.inc(Refusal::QueueFull);
            Failure::QueueFull(queue.retry_after(now))
        });
    }

    fn refused(&self, serial: u64, why: String) {
        self.note("broker-refused", serial, &why);
        // Where an attempt before may have been seen by somebody a refusal would be a lie: it waits for that, or for the
        // next connection.
        if let Some(pending) = self.pending.borrow_mut().get_mut(&serial).filter(|pending| pending.attempt > 1) {
            pending.sent = Sent::Again;
            return;
        }
        self.metrics.refused.inc(Refusal::RedisDown);
        self.fail(serial, Failure::BrokerRefused(why));
    }

    /// The job may be in the list, or not. What is safe to run twice is pushed again; the rest waits for an answer.
    fn unknown(&self, serial: u64) {
        let again = match self.pending.borrow_mut().get_mut(&serial) {
            Some(pending) if !pending.begun() => {
                pending.sent = Sent::Unknown;
                pending.repeatable && pending.attempt < self.limits.borrow().attempts
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
                self.metrics.retried.inc();
                pending.renew(Instant::now());
            }
            let taken = self.push(pending, serial);
            pending.sent = if taken.is_ok() { Sent::Buffered } else { Sent::Again };
            // A first attempt that never left is refused at once. Where an earlier one may have been seen a refusal
            // would be a lie: it waits for Redis, within the deadline.
            taken.err().filter(|_| pending.attempt == 1)
        };
        if let Some(why) = refused {
            self.fail(serial, self.not_taken(why));
        }
    }

    fn push(&self, pending: &Pending, serial: u64) -> Result<(), NotTaken> {
        let Lane { queue, route, .. } = &*pending.lane;
        match route.priority {
            Priority::Normal => self.broker.push(queue.keys.normal().as_bytes(), &pending.job, serial),
            Priority::High => self.broker.push_class(&queue.lists, "high", &pending.job, serial),
            Priority::Low => self.broker.push_class(&queue.lists, "low", &pending.job, serial),
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
                Sent::Queued | Sent::Unknown if forgot && p.repeatable && p.attempt < self.limits.borrow().attempts => {
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
            match decode_answer(message, self.limits.borrow().answer_bytes, false) {
                Decoded::Answer(answer) => self.answer(message, &answer),
                Decoded::Died(death) => self.died(&death),
                Decoded::Ignored { .. } if self.others.borrow().as_ref().is_some_and(|take| take(message)) => {}
                Decoded::Ignored { .. } => self.metrics.answers.inc(AnswerOutcome::Ignored),
                Decoded::Rejected(rejected) => self.rejected(message, &rejected),
            }
        }
    }

    fn answer(&self, message: &Bytes, answer: &Answer<'_>) {
        let serial = self.reactor.serial(&answer.id);
        let bounds = Bounds {
            buffer: self.limits.borrow().answer_buffer,
            reorder: self.limits.borrow().answer_reorder,
            may_hold: answer.hold.as_deref().is_none_or(|hold| self.holds.borrow().takes(hold)),
        };
        let taken = serial.and_then(|serial| {
            let mut table = self.pending.borrow_mut();
            let pending = table.get_mut(&serial)?;
            let (first, pushed) = (answer.n == 0, pending.pushed());
            let taken = pending.take(message, answer, bounds);
            let queue = &pending.lane.queue;
            if first && matches!(taken, Taken::More | Taken::Complete) {
                let now = Instant::now();
                queue.was_answered(now);
                let (after, took) = (now.saturating_duration_since(pushed), answer.took.map(Duration::from_micros));
                queue.series.answered(after, took);
                if let Some(trace) = pending.trace.as_ref().filter(|trace| self.spans.want(Some(trace))) {
                    let (queue, attempt) = (queue.name.to_string(), pending.attempt);
                    self.spans.send(trace, pushed, after, What::Job { queue, took, attempt });
                }
            }
            if taken == Taken::Complete {
                self.waits(queue, false);
                table.remove(&serial);
            }
            Some((serial, taken))
        });
        match taken {
            None => self.metrics.answers.inc(self.of_nobody(serial)),
            Some((_, Taken::More | Taken::Complete)) => self.metrics.answers.inc(AnswerOutcome::Answered),
            Some((_, Taken::Duplicate)) => self.metrics.answers.inc(AnswerOutcome::Duplicate),
            Some((_, Taken::Fenced)) => self.metrics.answers.inc(AnswerOutcome::Fenced),
            Some((serial, Taken::Malformed(reason))) => self.malformed(serial, reason),
            Some((serial, Taken::Overflow)) => self.overflow(serial),
        }
    }

    /// What an answer is that nobody waits for; `serial` is None where its id is none of this reactor's.
    fn of_nobody(&self, serial: Option<u64>) -> AnswerOutcome {
        match serial {
            Some(serial) if serial < self.serial.get() => AnswerOutcome::Late,
            _ => AnswerOutcome::Unknown,
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
        if let (true, Decoded::Answer(answer)) =
            (head_only, decode_answer(message, self.limits.borrow().answer_bytes, true))
        {
            self.answer(message, &answer);
            return;
        }
        self.malformed(serial, rejected.reason);
    }

    fn malformed(&self, serial: u64, reason: Reason) {
        if !self.pending.borrow().contains_key(&serial) {
            self.metrics.answers.inc(self.of_nobody(Some(serial)));
            return;
        }
        self.metrics.answers.inc(AnswerOutcome::Malformed);
        self.note("malformed-answer", serial, reason.code());
        self.fail(serial, Failure::Malformed(reason));
    }

    fn overflow(&self, serial: u64) {
        self.metrics.answers.inc(AnswerOutcome::Malformed);
        self.note("answer-overflow", serial, "more of the answer waited than limits.answer_buffer or answer_reorder");
        if let Some(pending) = self.remove(serial) {
            pending.inbox.cut(Failure::Malformed(Reason::TooLarge));
        }
    }

    // ---- deaths --------------------------------------------------------------------------------------------

    /// A worker is dead that had claimed a job. Told twice it does no harm: by then the attempt is another.
    fn died(&self, death: &Death) {
        let Some(serial) = self.reactor.serial(&death.id) else { return };
        let left = match self.pending.borrow().get(&serial) {
            Some(pending) if pending.attempt == death.attempt => Left {
                repeatable: pending.repeatable,
                attempt: pending.attempt,
                attempts: self.limits.borrow().attempts,
                begun: pending.begun(),
            },
            // It was answered before the end, or another worker has it by now.
            _ => return self.metrics.answers.inc(AnswerOutcome::Late),
        };
        self.metrics.deaths.inc();
        let words = if death.certain { "died" } else { "fell silent" };
        self.note("worker-died", serial, &format!("worker {} {words}, attempt {}", death.worker, death.attempt));
        match after_death(left, death) {
            Verdict::Again => self.push_again(serial, true),
            Verdict::Fail | Verdict::Cut => self.fail(serial, Failure::WorkerDied),
        }
    }
}

#[cfg(test)]
mod tests;
