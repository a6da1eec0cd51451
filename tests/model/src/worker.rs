//! A worker and its two connections: "The worker's loop: reliable mode", point by point.
//!
//! A reply reaches its worker in the step that executes the command, where the worker still holds the connection. Replies
//! that arrive later, or after a stop, differ in nothing that anybody could see.

use crate::connection::{Command, Connection};
use crate::front;
use crate::redis::{Job, Registration};
use crate::system::{Action, Kind, State, System};

/// What kind of process is there.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    #[default]
    Running,
    /// Takes no more, and signs off.
    Leaving,
    Stopped,
    Dead,
}

/// What it believes to be among the claimers.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash)]
enum Standing {
    /// Nothing yet, or not any more: registers as fresh.
    #[default]
    New,
    /// One of its connections is another now.
    Changed,
    /// `register.lua` is on its way.
    Asking,
    Known,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Claimed,
    Marking,
    MayStart,
    Running,
    /// Answer and acknowledgement are to be sent (again).
    Finished,
    Answered,
    /// Is to be given back (again).
    Unwanted,
    GivenBack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Held {
    number: u8,
    job: Job,
    phase: Phase,
}

/// What one process knows.
#[derive(Clone, Default, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    pub(crate) life: Life,
    /// Its parent has seen its death.
    pub(crate) awaited: bool,
    claims: Option<u8>,
    other: Option<u8>,
    standing: Standing,
    /// A claim connection broke: replies may be missing.
    recover: bool,
    /// The lists were empty at the last claim.
    idle: bool,
    /// Number of its last claim.
    last: u8,
    held: Vec<Held>,
    /// Connections it has made, for their ids.
    made: u8,
}

impl Worker {
    /// It writes its record each second.
    pub(crate) fn beats(&self) -> bool {
        matches!(self.life, Life::Running | Life::Leaving) && self.other.is_some()
    }

    fn entry(&mut self, number: u8) -> Option<&mut Held> {
        self.held.iter_mut().find(|held| held.number == number)
    }

    pub(crate) fn forget(&mut self, number: u8) {
        self.held.retain(|held| held.number != number);
    }

    /// What was on its way over a broken connection is to be done again.
    fn take_back(&mut self) {
        for held in &mut self.held {
            held.phase = match held.phase {
                Phase::Marking => Phase::Claimed,
                Phase::Answered => Phase::Finished,
                Phase::GivenBack => Phase::Unwanted,
                other => other,
            };
        }
    }
}

/// A step of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Opens what is missing, ends what it had before, sends `register.lua`.
    Connect,
    /// Writes its record after a pause.
    Beat,
    /// `recover.lua`.
    Recover,
    /// `claim.lua`, behind `BLMOVE` where the lists were empty.
    Claim,
    /// `mark.lua` for the claim of this number.
    Mark(u8),
    /// The handler begins.
    Start(u8),
    /// The handler ends; answer and acknowledgement in one write.
    Answer(u8),
    /// The same write again, on a new connection.
    AnswerAgain(u8),
    /// `give_back.lua`.
    GiveBack(u8),
    /// Takes no more.
    Leave,
    /// `HDEL` from the claimers, `DEL` of its keys.
    SignOff,
    /// kill -9.
    Die,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Resume,
    /// The parent starts it again under the same id.
    Restart,
}

/// A worker that has started and registered.
pub(crate) fn begin(state: &mut State, index: usize) {
    state.workers[index].made = 0;
    let registration = open(state, index);
    state.redis.claimers[index] = Some(registration);
    state.redis.record[index] = true;
    state.workers[index].standing = Standing::Known;
    state.workers[index].idle = true;
}

/// The same, with a job that has just been started: the request of its own index.
pub(crate) fn begin_with_job(state: &mut State, index: usize) {
    begin(state, index);
    let job = Job { request: u8::try_from(index).expect("two"), attempt: 1 };
    state.redis.claims[index].push((1, job));
    state.redis.started[index] = 1;
    state.workers[index].last = 1;
    state.workers[index].held.push(Held { number: 1, job, phase: Phase::Running });
    state.requests[index].push = front::Push::Done;
    state.requests[index].starts = 1;
}

fn open(state: &mut State, index: usize) -> Registration {
    let worker = &mut state.workers[index];
    let number = u8::try_from(index).expect("two");
    let connections = &mut state.connections;
    let mut make = |made: &mut u8| {
        let id = number * 100 + *made;
        *made += 1;
        connections.push(Connection { id, worker: number, held: true, out: Vec::new(), text: None });
        id
    };
    let claims = worker.claims.unwrap_or_else(|| make(&mut worker.made));
    let other = worker.other.unwrap_or_else(|| make(&mut worker.made));
    (worker.claims, worker.other) = (Some(claims), Some(other));
    (claims, other)
}

/// The worker's view of a connection that broke.
pub(crate) fn lose(state: &mut State, index: usize, id: u8) {
    let worker = &mut state.workers[index];
    if worker.claims == Some(id) {
        worker.claims = None;
        worker.recover = worker.standing != Standing::New;
    }
    if worker.other == Some(id) {
        worker.other = None;
        worker.take_back();
    }
    if worker.standing != Standing::New {
        worker.standing = Standing::Changed;
    }
}

fn connection(state: &State, id: Option<u8>) -> Option<&Connection> {
    id.and_then(|id| state.connections.iter().find(|connection| connection.id == id))
}

fn quiet(state: &State, id: Option<u8>) -> bool {
    connection(state, id).is_some_and(|connection| connection.out.is_empty())
}

pub(crate) fn actions(system: &System, state: &State, actions: &mut Vec<Action>) {
    for index in 0..system.workers {
        let number = u8::try_from(index).expect("two");
        let mut offer = |step| actions.push(Action::Worker(number, step));
        let (worker, left) = (&state.workers[index], &state.left);
        match worker.life {
            Life::Dead if worker.awaited && left.restarts > 0 => offer(Step::Restart),
            Life::Dead => continue,
            Life::Stopped if system.resumes => offer(Step::Resume),
            Life::Stopped => {}
            Life::Running | Life::Leaving => running(system, state, index, &mut offer),
        }
        if worker.life != Life::Dead && left.kills > 0 {
            offer(Step::Die);
        }
        if worker.life == Life::Running && left.stops > 0 {
            offer(Step::Stop);
        }
    }
}

fn running(system: &System, state: &State, index: usize, offer: &mut impl FnMut(Step)) {
    let worker = &state.workers[index];
    let registered = state.redis.claimers[index].is_some();
    let free = worker.other.is_none() || quiet(state, worker.other);
    // A name that is taken stands for another name, which is none of this queue's concern.
    let may = worker.standing == Standing::Changed || (worker.standing == Standing::New && !registered);
    if may && free {
        offer(Step::Connect);
    }
    if worker.beats() && registered && !state.redis.record[index] {
        offer(Step::Beat);
    }
    let busy = worker.held.iter().any(|held| held.phase == Phase::Running);
    for held in &worker.held {
        let needs_mark = system.kind(held.job) != Kind::Get;
        if !busy && (held.phase == Phase::MayStart || (held.phase == Phase::Claimed && !needs_mark)) {
            offer(Step::Start(held.number));
        }
    }
    if worker.standing != Standing::Known || !quiet(state, worker.other) {
        return;
    }
    if worker.recover {
        return offer(Step::Recover);
    }
    for held in &worker.held {
        match held.phase {
            Phase::Running => offer(Step::Answer(held.number)),
            Phase::Finished => offer(Step::AnswerAgain(held.number)),
            Phase::Unwanted => offer(Step::GiveBack(held.number)),
            Phase::Claimed | Phase::MayStart if busy => offer(Step::GiveBack(held.number)),
            Phase::Claimed if system.kind(held.job) != Kind::Get => offer(Step::Mark(held.number)),
            _ => {}
        }
    }
    let nothing_asked = quiet(state, worker.claims);
    if worker.life == Life::Running && worker.held.is_empty() && nothing_asked {
        offer(Step::Claim);
    }
    if worker.life == Life::Running && state.left.departures > 0 {
        offer(Step::Leave);
    }
    if worker.life == Life::Leaving && worker.held.is_empty() && (nothing_asked || !system.rules.wait_for_claim) {
        offer(Step::SignOff);
    }
}

fn send(state: &mut State, id: Option<u8>, commands: &[Command]) {
    let connection = state.connections.iter_mut().find(|connection| Some(connection.id) == id);
    connection.expect("a step that sends is offered where there is a connection").out.extend(commands);
}

pub(crate) fn step(system: &System, state: &mut State, index: usize, step: Step) {
    let other = state.workers[index].other;
    match step {
        Step::Connect => connect(system, state, index),
        Step::Beat => state.redis.record[index] = true,
        Step::Recover => {
            let next = state.workers[index].last + 1;
            send(state, other, &[Command::Recover { next }]);
        }
        Step::Claim => {
            let worker = &state.workers[index];
            let (claims, first) = (worker.claims, worker.last + 1);
            if worker.idle {
                send(state, claims, &[Command::Move, Command::Claim { first, wanted: system.batch - 1 }]);
            } else {
                send(state, claims, &[Command::Claim { first, wanted: system.batch }]);
            }
        }
        Step::Mark(number) => {
            set(state, index, number, Phase::Marking);
            send(state, other, &[Command::Mark(number)]);
        }
        Step::Start(number) => {
            let job = set(state, index, number, Phase::Running);
            state.requests[usize::from(job.request)].starts += 1;
        }
        Step::Answer(number) | Step::AnswerAgain(number) => {
            let job = set(state, index, number, Phase::Answered);
            state.requests[usize::from(job.request)].done = true;
            let commands = answer(system, job, number);
            send(state, other, &commands);
            if !system.rules.acknowledge {
                state.workers[index].forget(number);
            }
        }
        Step::GiveBack(number) => {
            set(state, index, number, Phase::GivenBack);
            send(state, other, &[Command::GiveBack(number)]);
        }
        Step::Leave => {
            state.left.departures -= 1;
            state.workers[index].life = Life::Leaving;
        }
        Step::SignOff => send(state, other, &[Command::SignOff, Command::Delete]),
        Step::Die => {
            state.left.kills -= 1;
            die(state, index);
        }
        Step::Stop => {
            state.left.stops -= 1;
            state.workers[index].life = Life::Stopped;
        }
        Step::Resume => state.workers[index].life = Life::Running,
        Step::Restart => {
            state.left.restarts -= 1;
            let made = state.workers[index].made;
            state.workers[index] = Worker { made, idle: true, ..Worker::default() };
        }
    }
}

/// Answer first, then acknowledge; of a background job there is no answer.
fn answer(system: &System, job: Job, number: u8) -> Vec<Command> {
    let mut commands: Vec<_> = (0..front::parts(system.kind(job))).map(|n| Command::Answer(job, n)).collect();
    if system.rules.acknowledge {
        let at = if system.rules.answer_first { commands.len() } else { 0 };
        commands.insert(at, Command::Acknowledge(number));
    }
    commands
}

fn set(state: &mut State, index: usize, number: u8, phase: Phase) -> Job {
    let held = state.workers[index].entry(number).expect("a step is offered for what is held");
    held.phase = phase;
    held.job
}

fn connect(system: &System, state: &mut State, index: usize) {
    if system.rules.end_connections {
        let number = u8::try_from(index).expect("two");
        state.connections.retain(|connection| connection.worker != number || connection.held);
    }
    let fresh = state.workers[index].standing == Standing::New;
    let registration = open(state, index);
    state.workers[index].standing = Standing::Asking;
    send(state, Some(registration.1), &[Command::Register(registration, fresh)]);
}

/// A process ends: what it had written may still arrive.
pub(crate) fn die(state: &mut State, index: usize) {
    for connection in &mut state.connections {
        connection.held &= usize::from(connection.worker) != index;
    }
    let made = state.workers[index].made;
    state.workers[index] = Worker { made, life: Life::Dead, ..Worker::default() };
}

/// The reply of `register.lua`.
pub(crate) fn registered(state: &mut State, index: usize, registration: Registration, done: bool, fresh: bool) {
    let worker = &mut state.workers[index];
    if done {
        let same = (worker.claims, worker.other) == (Some(registration.0), Some(registration.1));
        worker.standing = if same { Standing::Known } else { Standing::Changed };
    } else if fresh {
        // The name is taken: it takes another one, that is, leaves this queue to the others until the name is free.
        worker.standing = Standing::New;
    } else {
        begin_anew(state, index);
    }
}

/// It was declared dead: its claims are somebody else's, and its numbers begin again.
pub(crate) fn begin_anew(state: &mut State, index: usize) {
    let worker = &mut state.workers[index];
    worker.standing = Standing::New;
    worker.recover = false;
    worker.idle = true;
    worker.last = 0;
    worker.held.clear();
}

/// The reply 1 of `mark.lua`.
pub(crate) fn marked(state: &mut State, index: usize, number: u8) {
    set(state, index, number, Phase::MayStart);
}

/// The reply of `claim.lua`: where the first claim came through landing, its text is what `BLMOVE` gave.
pub(crate) fn claimed(state: &mut State, index: usize, landed: Option<Option<Job>>, claims: &[(u8, Job)]) {
    let more = !state.redis.queue.is_empty();
    let worker = &mut state.workers[index];
    worker.idle = !more;
    for (at, (number, job)) in claims.iter().enumerate() {
        worker.last = *number;
        let text = if at == 0 { landed.unwrap_or(Some(*job)) } else { Some(*job) };
        // A claim without a text is one the worker cannot even answer.
        if let Some(job) = text {
            let phase = if at == 0 { Phase::MayStart } else { Phase::Claimed };
            worker.held.push(Held { number: *number, job, phase });
        }
    }
}

/// The reply of `recover.lua`.
pub(crate) fn recovered(state: &mut State, index: usize, started: u8, claims: &[(u8, Job)]) {
    let worker = &mut state.workers[index];
    worker.recover = false;
    for (number, job) in claims {
        worker.last = *number;
        let phase = if *number <= started { Phase::MayStart } else { Phase::Claimed };
        worker.held.push(Held { number: *number, job: *job, phase });
    }
}
