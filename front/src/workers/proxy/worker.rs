//! One worker that does not know of reliable mode: its claims, and what its connections have to agree on.
//!
//! State and nothing else; who claims and who registers is elsewhere. All of it lives on the supervisor's one thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use tempest_protocol::{Peek, QueueKeys, QueueName, peek_job};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::super::Jobs;
use super::pop::Names;
use crate::broker::claims::{Claimer, CrashLimits, Shas};
use crate::broker::control::stand_in;
use crate::config::RedisUrl;

/// What the one who registers and reaps is asked for.
pub(super) enum Order {
    /// Let it take claims, or let it again.
    Register(Rc<Worker>),
    /// It does nothing for the moment: nobody beats for it, and yet it is not to be taken for dead.
    Hold(Rc<Worker>),
    /// It is dead.
    Reap(Rc<Worker>),
    /// What dead workers held is to be handed over; so many more tries.
    Drain(Rc<Worker>, u32),
    /// Say when all that was ordered before is done.
    Close(oneshot::Sender<()>),
}

/// What all workers of a run share.
pub(super) struct Shared {
    /// Redis itself.
    pub(super) url: RedisUrl,
    /// By which names it knows the scripts; empty before the first connection.
    pub(super) shas: RefCell<Shas>,
    /// Those that live, by their ids.
    pub(super) workers: RefCell<HashMap<String, Rc<Worker>>>,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    /// Where it is said which jobs run.
    pub(super) jobs: Jobs,
    /// When a job is given up.
    pub(super) limits: CrashLimits,
}

impl Shared {
    pub(super) fn order(&self, order: Order) {
        // Fails only at the end of everything.
        let _ = self.orders.send(order);
    }
}

/// A job that the worker holds.
#[derive(Debug)]
struct Held {
    /// The job's id, or empty where it cannot be read.
    id: String,
    /// Nobody waits for an answer.
    background: bool,
    /// It has crashed workers before.
    crashed: bool,
}

/// One process.
pub(super) struct Worker {
    pub(super) claimer: Claimer,
    pub(super) names: Names,
    /// `KEYS` of `claim.lua`; the first three are those of `recover.lua`.
    pub(super) claim_keys: [String; 9],
    /// Its process and group, once it runs.
    pub(super) pid: Cell<Option<i32>>,
    /// Who claims does so alone: the list where a job lands is one, and so is the next number.
    pub(super) gate: Mutex<()>,
    /// The number of the next claim.
    pub(super) next: Cell<u64>,
    /// A connection broke before it was known what it had claimed; what it did begins with this number.
    pub(super) unsure: Cell<Option<u64>>,
    /// The lists may hold something: they did at the last look, or some were not looked at.
    pub(super) more: Cell<bool>,
    /// Its registration is ordered and not done yet.
    pub(super) ordered: Cell<bool>,
    /// It pops as anybody does: this Redis has no scripts for it.
    pub(super) base: Cell<bool>,
    /// It is stopped (SIGSTOP); counts the times, odd while it is.
    pub(super) stops: Cell<u64>,
    registered: watch::Sender<u64>,
    dead: watch::Sender<bool>,
    in_order: Cell<bool>,
    held: RefCell<HashMap<u64, Held>>,
    /// What connections took that are closed by now.
    orphans: RefCell<Vec<u64>>,
    jobs: Jobs,
}

impl Worker {
    pub(super) fn new(id: &str, queue: &QueueName, keys: QueueKeys, shared: &Shared) -> Rc<Self> {
        let record = stand_in(id, queue.as_str());
        let claim_keys = [
            keys.claimers(),
            keys.claimed(id),
            keys.landing(id),
            keys.normal().to_owned(),
            keys.high(),
            keys.low(),
            keys.withdrawn(),
            keys.attempts(),
            keys.stats(),
        ];
        Rc::new(Self {
            names: Names { normal: keys.normal().to_owned(), classes: [keys.high(), keys.low()] },
            claimer: Claimer { id: id.to_owned(), queue: keys, record },
            claim_keys,
            pid: Cell::new(None),
            gate: Mutex::new(()),
            next: Cell::new(1),
            unsure: Cell::new(None),
            more: Cell::new(true),
            ordered: Cell::new(false),
            base: Cell::new(false),
            stops: Cell::new(0),
            registered: watch::Sender::new(0),
            dead: watch::Sender::new(false),
            in_order: Cell::new(false),
            held: RefCell::default(),
            orphans: RefCell::default(),
            jobs: shared.jobs.clone(),
        })
    }

    /// How often it was registered; 0: never.
    pub(super) fn generation(&self) -> u64 {
        *self.registered.borrow()
    }

    /// It was registered once more, or declared a worker that pops as anybody does.
    pub(super) fn note_registered(&self) {
        self.registered.send_modify(|generation| *generation += 1);
    }

    /// Waits until it was registered more than `generation` times.
    pub(super) async fn registered_since(&self, generation: u64) {
        // The sender lives as long as the worker.
        let _ = self.registered.subscribe().wait_for(|now| *now > generation).await;
    }

    /// It was declared dead: its claims are somebody else's.
    pub(super) fn forget_claims(&self) {
        self.orphans.borrow_mut().clear();
        self.unsure.set(None);
        for (_, held) in self.held.borrow_mut().drain() {
            self.jobs.ended(&self.claimer.id, &held.id);
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    /// It is gone, by itself and content or not: what its connections have not passed on yet they do not.
    pub(super) fn die(&self, in_order: bool) {
        self.in_order.set(in_order);
        self.dead.send_replace(true);
    }

    /// Waits until it is gone.
    pub(super) async fn died(&self) {
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    /// It works through the pass-through: it has popped there.
    pub(super) fn claims(&self) -> bool {
        self.generation() > 0 && !self.base.get()
    }

    /// It is stopped.
    pub(super) fn is_held(&self) -> bool {
        self.stops.get() % 2 == 1
    }

    /// It gets a job, which it runs as soon as it has it.
    pub(super) fn take(&self, number: u64, job: &[u8], crashed: bool) {
        let Peek { id, awaited } = peek_job(job);
        self.jobs.began(&self.claimer.id, &id);
        self.held.borrow_mut().insert(number, Held { id, background: !awaited, crashed });
    }

    /// A connection that took these is closed.
    pub(super) fn orphan(&self, numbers: &mut Vec<u64>) {
        self.orphans.borrow_mut().append(numbers);
    }

    /// What connections took that are closed by now.
    pub(super) fn take_orphans(&self, numbers: &mut Vec<u64>) {
        numbers.append(&mut self.orphans.borrow_mut());
    }

    /// These are done with.
    pub(super) fn release(&self, numbers: &[u64]) {
        let mut held = self.held.borrow_mut();
        for done in numbers.iter().filter_map(|number| held.remove(number)) {
            self.jobs.ended(&self.claimer.id, &done.id);
        }
    }

    /// Those of them that have crashed workers before, with the ids of their jobs.
    pub(super) fn crashed_before(&self, numbers: &[u64]) -> Vec<(u64, String)> {
        let held = self.held.borrow();
        let crashed = |number: &u64| held.get(number).filter(|job| job.crashed).map(|job| (*number, job.id.clone()));
        numbers.iter().filter_map(crashed).collect()
    }

    /// The background jobs that it held and must have finished, by their numbers: a program that ends in order has no
    /// other way to say so. (For all others their fronts know.)
    pub(super) fn finished(&self) -> Vec<u64> {
        if !self.in_order.get() {
            return Vec::new();
        }
        self.held.borrow().iter().filter(|(_, held)| held.background).map(|(number, _)| *number).collect()
    }
}
