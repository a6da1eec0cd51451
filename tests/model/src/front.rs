//! The front as the owner of requests: pushes, answers, `died`, deadlines. Looking after workers is `keeper`'s.

use crate::redis::{Job, Lost, Message};
use crate::system::{Action, Kind, State, System};

/// Tries of one request at most (`limits.attempts`).
const MOST_ATTEMPTS: u8 = 3;

/// A front.
#[derive(Clone, Default, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Front {
    pub(crate) dead: bool,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Answered,
    /// 502: its worker died and it must not be tried again.
    Refused,
    /// The connection was cut behind the first byte.
    Cut,
    /// 504.
    Late,
}

/// Where the push of the current attempt is.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Push {
    #[default]
    Due,
    Done,
    /// Written, and the connection broke: it may still arrive.
    Unknown,
}

/// A request; of a background job `end` and what is sent stay empty.
#[derive(Clone, Default, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    /// Attempts before the current one.
    pub(crate) before: u8,
    pub(crate) push: Push,
    /// Pushes of a broken connection that may still arrive, by attempt.
    pub(crate) late: Vec<u8>,
    /// A push of the current attempt never arrived, and nobody may repeat it.
    pub(crate) push_lost: bool,
    /// Messages of the answer that were sent to the client.
    pub(crate) sent: u8,
    /// The attempt that the last byte sent was of.
    pub(crate) sent_of: u8,
    /// A byte was sent of another attempt than the ones before it.
    pub(crate) mixed: bool,
    pub(crate) end: Option<End>,
    /// Outcomes, to see that there is one.
    pub(crate) ends: u8,
    /// Times that a handler has begun.
    pub(crate) starts: u8,
    /// A handler has come to its end.
    pub(crate) done: bool,
}

impl Request {
    pub(crate) fn attempt(&self) -> u8 {
        self.before + 1
    }

    fn finish(&mut self, end: End) {
        self.end = Some(end);
        self.ends += 1;
    }
}

/// A step of a front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `LTRIM`, `BLMOVE`, `LRANGE` of its answer list: handles the message at the head.
    Read,
    /// The same, and the connection breaks before `LTRIM`: the message will be read again.
    ReadAndLoseConnection,
    /// kill -9.
    Die,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `RPUSH tempest:web`.
    Push,
    /// The same, and the connection breaks before the reply.
    PushAndLoseConnection,
    /// Such a push arrives after all.
    LatePush,
    /// Such a push never arrives.
    PushLost,
    /// The deadline passes.
    Deadline,
}

/// Messages of an answer.
pub(crate) fn parts(kind: Kind) -> u8 {
    match kind {
        Kind::Get => 2,
        Kind::Post => 1,
        Kind::Background => 0,
    }
}

pub(crate) fn actions(system: &System, state: &State, actions: &mut Vec<Action>) {
    for index in 0..system.requests.len() {
        let request = &state.requests[index];
        let awaited = system.requests[index] != Kind::Background;
        let mut offer = |event| actions.push(Action::Request(number(index), event));
        let alive = !state.fronts[system.owner(index)].dead && request.end.is_none();
        // A background job is pushed by an application, which does not die here.
        if request.push == Push::Due && (alive || !awaited) {
            offer(Event::Push);
            if awaited && state.left.front_cuts > 0 {
                offer(Event::PushAndLoseConnection);
            }
        }
        if !request.late.is_empty() {
            offer(Event::LatePush);
            offer(Event::PushLost);
        }
        if alive && awaited && request.sent == 0 && state.left.deadlines > 0 {
            offer(Event::Deadline);
        }
    }
    for front in (0..system.fronts).filter(|front| !state.fronts[*front].dead) {
        let mut offer = |step| actions.push(Action::Front(number(front), step));
        if !state.redis.inbox[front].is_empty() {
            offer(Step::Read);
            if state.left.front_cuts > 0 {
                offer(Step::ReadAndLoseConnection);
            }
        }
        if state.left.front_kills > 0 {
            offer(Step::Die);
        }
    }
}

fn number(index: usize) -> u8 {
    u8::try_from(index).expect("there are a few of each")
}

/// A request is pushed, pushed again after an unknown outcome (`protocol.md`, "Unknown outcome"), or late.
pub(crate) fn event(system: &System, state: &mut State, index: usize, event: Event) {
    let request = &mut state.requests[index];
    let mut job = Job { request: number(index), attempt: request.attempt() };
    match event {
        Event::Push => {
            request.push = Push::Done;
            state.redis.queue.push(job);
        }
        Event::PushAndLoseConnection => {
            state.left.front_cuts -= 1;
            request.late.push(job.attempt);
            if system.requests[index] == Kind::Get {
                request.before += 1;
            } else {
                request.push = Push::Unknown;
            }
        }
        Event::LatePush => {
            job.attempt = request.late.remove(0);
            state.redis.queue.push(job);
        }
        Event::PushLost => {
            let attempt = request.late.remove(0);
            request.push_lost |= attempt == request.attempt() && request.push == Push::Unknown;
        }
        Event::Deadline => {
            state.left.deadlines -= 1;
            request.finish(End::Late);
        }
    }
}

pub(crate) fn step(system: &System, state: &mut State, front: usize, step: Step) {
    match step {
        Step::Read => {
            let message = state.redis.inbox[front].remove(0);
            handle(system, state, message);
        }
        Step::ReadAndLoseConnection => {
            state.left.front_cuts -= 1;
            let message = state.redis.inbox[front][0];
            handle(system, state, message);
        }
        Step::Die => {
            state.left.front_kills -= 1;
            state.fronts[front].dead = true;
            state.keepers[front] = Default::default();
            // Unlinked by another front; what comes later is dropped where it is pushed.
            state.redis.inbox[front].clear();
        }
    }
}

/// `RPUSH` to an answer list; that of a dead front is unlinked again and again.
pub(crate) fn deliver(system: &System, state: &mut State, message: Message) {
    let (Message::Answer(job, _) | Message::Died(Lost { job, .. })) = message;
    let front = system.owner(usize::from(job.request));
    if !state.fronts[front].dead {
        state.redis.inbox[front].push(message);
    }
}

/// What a front does with a message, by id, attempt and `n`.
fn handle(system: &System, state: &mut State, message: Message) {
    let (Message::Answer(job, _) | Message::Died(Lost { job, .. })) = message;
    let request = &mut state.requests[usize::from(job.request)];
    if request.end.is_some() {
        return;
    }
    match message {
        Message::Answer(job, n) => answer(system, request, job, n),
        Message::Died(lost) if job.attempt == request.attempt() => died(system, request, lost),
        Message::Died(_) => {}
    }
}

fn answer(system: &System, request: &mut Request, job: Job, n: u8) {
    if (system.rules.fence && job.attempt != request.attempt()) || n != request.sent {
        return;
    }
    request.mixed |= request.sent > 0 && request.sent_of != job.attempt;
    request.sent += 1;
    request.sent_of = job.attempt;
    if request.sent == parts(system.kind(job)) {
        request.finish(End::Answered);
    }
}

/// "What the front does then": the table.
fn died(system: &System, request: &mut Request, lost: Lost) {
    let again = match system.kind(lost.job) {
        Kind::Post => (lost.certain && !lost.started) || !system.rules.start_once,
        _ => true,
    };
    if request.sent > 0 {
        request.finish(End::Cut);
    } else if again && request.attempt() < MOST_ATTEMPTS {
        request.before += 1;
        request.push = Push::Due;
    } else {
        request.finish(End::Refused);
    }
}
