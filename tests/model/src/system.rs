//! The whole: what it consists of, which steps are possible, and which rules of the contract are kept.

use crate::connection::{self, Connection};
use crate::front::{self, Front, Request};
use crate::keeper::{self, Keeper};
use crate::properties;
use crate::redis::{Job, Redis};
use crate::search::Model;
use crate::worker::{self, Worker};
use crate::{FRONTS, REQUESTS, WORKERS};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// May be tried again; its answer is a stream of two messages.
    Get,
    /// Must start once at most.
    Post,
    /// Has no `reply_to`.
    Background,
}

/// Rules of the contract that can be left out, to see that the model notices.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// `HDEL` of what was answered.
    pub acknowledge: bool,
    /// The answer goes before the acknowledgement.
    pub answer_first: bool,
    /// The front drops answers of older attempts.
    pub fence: bool,
    /// Only the holder of the lease reads and trims the lost jobs.
    pub lease: bool,
    /// A POST that was started is not tried again.
    pub start_once: bool,
    /// Whoever reaps, and whoever connects again, first ends the old connections with `CLIENT KILL`.
    pub end_connections: bool,
    /// A keeper takes another name for the lease after each loss of its connection.
    pub tenures: bool,
    /// A worker signs off when the reply to its last claim is there.
    pub wait_for_claim: bool,
}

impl Rules {
    /// The contract.
    pub const ALL: Self = Self {
        acknowledge: true,
        answer_first: true,
        fence: true,
        lease: true,
        start_once: true,
        end_connections: true,
        tenures: true,
        wait_for_claim: true,
    };
}

/// How often what may go wrong does, all in all.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Workers killed.
    pub kills: u8,
    /// Fronts killed.
    pub front_kills: u8,
    /// Workers stopped (SIGSTOP, a partition, a machine that hangs).
    pub stops: u8,
    /// Connections of workers that break.
    pub cuts: u8,
    /// Connections of fronts that break.
    pub front_cuts: u8,
    /// Leases that lapse though their holder lives.
    pub lapses: u8,
    /// Deadlines that pass.
    pub deadlines: u8,
    /// Dead workers started again under the same id.
    pub restarts: u8,
    /// Workers that sign off.
    pub departures: u8,
}

/// A system to search.
#[derive(Clone, Copy, Debug)]
pub struct System {
    /// Each request belongs to the front of its index, modulo the fronts.
    pub requests: &'static [Kind],
    /// 1 or 2.
    pub fronts: usize,
    /// 1 or 2.
    pub workers: usize,
    /// Jobs a claim.
    pub batch: u8,
    /// Each worker begins with the request of its index, started; for what comes after a death.
    pub begun: bool,
    /// A parent notices the death of its worker.
    pub parents: bool,
    /// Fronts look at connections.
    pub connections: bool,
    /// Fronts look at heartbeats.
    pub suspicion: bool,
    /// A stopped worker may go on.
    pub resumes: bool,
    /// Crashes after which a background job is dead.
    pub crash_limit: u8,
    /// What may go wrong.
    pub budget: Budget,
    /// The rules that are kept.
    pub rules: Rules,
}

impl System {
    /// One front, two workers with a job a claim, all ways to notice a death, nothing goes wrong.
    pub const fn new(requests: &'static [Kind]) -> Self {
        Self {
            requests,
            fronts: 1,
            workers: 2,
            batch: 1,
            begun: false,
            parents: true,
            connections: true,
            suspicion: true,
            resumes: true,
            crash_limit: 3,
            budget: Budget {
                kills: 0,
                front_kills: 0,
                stops: 0,
                cuts: 0,
                front_cuts: 0,
                lapses: 0,
                deadlines: 0,
                restarts: 0,
                departures: 0,
            },
            rules: Rules::ALL,
        }
    }

    pub(crate) fn kind(&self, job: Job) -> Kind {
        self.requests[usize::from(job.request)]
    }

    /// The front that owns a request.
    pub(crate) fn owner(&self, request: usize) -> usize {
        request % self.fronts
    }

    pub(crate) fn awaited(&self, job: Job) -> bool {
        self.kind(job) != Kind::Background
    }
}

/// All that can change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(crate) redis: Redis,
    pub(crate) workers: [Worker; WORKERS],
    /// Those that Redis has in `CLIENT LIST`, of workers only.
    pub(crate) connections: Vec<Connection>,
    pub(crate) fronts: [Front; FRONTS],
    pub(crate) keepers: [Keeper; FRONTS],
    pub(crate) requests: [Request; REQUESTS],
    pub(crate) left: Budget,
}

/// A step; numbers are indices of workers, fronts, requests and ids of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Of a worker, with its index.
    Worker(u8, worker::Step),
    /// Of a connection of a worker, with its id.
    Connection(u8, connection::Event),
    /// Of a front, with its index.
    Front(u8, front::Step),
    /// Of a request, with its index.
    Request(u8, front::Event),
    /// Of a front or a parent as one who looks after workers.
    Keeper(u8, keeper::Step),
}

impl Model for System {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        let mut state = State {
            redis: Redis::default(),
            workers: std::array::from_fn(|_| Worker::default()),
            connections: Vec::new(),
            fronts: std::array::from_fn(|_| Front::default()),
            keepers: std::array::from_fn(|_| Keeper::default()),
            requests: std::array::from_fn(|_| Request::default()),
            left: self.budget,
        };
        for worker in 0..self.workers {
            if self.begun {
                worker::begin_with_job(&mut state, worker);
            } else {
                worker::begin(&mut state, worker);
            }
        }
        state
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::with_capacity(16);
        front::actions(self, state, &mut actions);
        worker::actions(self, state, &mut actions);
        connection::actions(state, &mut actions);
        keeper::actions(self, state, &mut actions);
        actions
    }

    fn step(&self, state: &State, action: Action) -> State {
        let mut state = state.clone();
        match action {
            Action::Worker(worker, step) => worker::step(self, &mut state, usize::from(worker), step),
            Action::Connection(id, event) => connection::event(self, &mut state, id, event),
            Action::Front(front, step) => front::step(self, &mut state, usize::from(front), step),
            Action::Request(request, event) => front::event(self, &mut state, usize::from(request), event),
            Action::Keeper(who, step) => keeper::step(self, &mut state, usize::from(who), step),
        }
        state
    }

    fn fault(&self, state: &State, last: bool) -> Option<String> {
        properties::fault(self, state, last)
    }
}
