//! What is on the wire between workers and Redis: commands that were written and not executed, replies, and how
//! connections end. What a worker decides is `worker`'s.
//!
//! A connection has two ends. The worker may have lost its own, or be dead, while Redis still reads what was written.

use crate::front;
use crate::redis::{Job, Message, Registration, Unregistered};
use crate::system::{Action, State, System};
use crate::worker::{self, Life};

/// A connection that Redis knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Connection {
    pub(crate) id: u8,
    pub(crate) worker: u8,
    /// The worker's end is open.
    pub(crate) held: bool,
    /// Written and not executed.
    pub(crate) out: Vec<Command>,
    /// The text that the last `BLMOVE` gave.
    pub(crate) text: Option<Job>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Command {
    Register(Registration, bool),
    Move,
    Claim { first: u8, wanted: u8 },
    Recover { next: u8 },
    Mark(u8),
    Answer(Job, u8),
    Acknowledge(u8),
    GiveBack(u8),
    SignOff,
    Delete,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Redis executes the next command.
    Execute,
    /// The wait of a `BLMOVE` is over.
    WaitOver,
    /// The worker sees it broken; Redis does not yet, and what was written may still arrive.
    Break,
    /// Redis sees its end.
    Close,
}

pub(crate) fn actions(state: &State, actions: &mut Vec<Action>) {
    for connection in &state.connections {
        let mut offer = |event| actions.push(Action::Connection(connection.id, event));
        let life = state.workers[usize::from(connection.worker)].life;
        match connection.out.first() {
            // A wait that ends without a job is followed by the same wait, except where the worker is to leave.
            Some(Command::Move) if state.redis.queue.is_empty() && life == Life::Leaving && connection.held => {
                offer(Event::WaitOver);
            }
            Some(Command::Move) if state.redis.queue.is_empty() => {}
            None => {}
            Some(_) => offer(Event::Execute),
        }
        if !connection.held {
            offer(Event::Close);
        } else if state.left.cuts > 0 && life != Life::Stopped {
            offer(Event::Break);
        }
    }
}

/// Redis has no more of a connection; its worker, if it is there, finds out.
pub(crate) fn end(state: &mut State, id: u8) {
    if let Some(at) = state.connections.iter().position(|connection| connection.id == id) {
        let connection = state.connections.remove(at);
        if connection.held {
            worker::lose(state, usize::from(connection.worker), id);
        }
    }
}

pub(crate) fn event(system: &System, state: &mut State, id: u8, event: Event) {
    let at =
        state.connections.iter().position(|connection| connection.id == id).expect("it was looked up for this step");
    let index = usize::from(state.connections[at].worker);
    match event {
        Event::Execute => {
            let command = state.connections[at].out.remove(0);
            execute(system, state, at, index, command);
        }
        Event::WaitOver => {
            state.connections[at].out.remove(0);
        }
        Event::Break => {
            state.left.cuts -= 1;
            state.connections[at].held = false;
            worker::lose(state, index, id);
        }
        Event::Close => {
            state.connections.remove(at);
        }
    }
}

/// Redis executes a command; its worker gets the reply if it still holds the connection.
fn execute(system: &System, state: &mut State, at: usize, index: usize, command: Command) {
    let held = state.connections[at].held;
    let mut unregistered = false;
    match command {
        Command::Register(registration, fresh) => {
            let done = state.redis.register(index, registration, fresh);
            state.redis.record[index] |= done;
            if held {
                worker::registered(state, index, registration, done, fresh);
            }
        }
        Command::Move => state.connections[at].text = Some(state.redis.land(index)),
        Command::Claim { first, wanted } => {
            let text = state.connections[at].text.take();
            match state.redis.claim(index, first, wanted, 1) {
                Ok((landed, claims)) if held => worker::claimed(state, index, landed.then_some(text), &claims),
                Ok(_) => {}
                Err(Unregistered) => unregistered = true,
            }
        }
        Command::Recover { next } => match state.redis.recover(index, next) {
            Ok((started, claims)) if held => worker::recovered(state, index, started, &claims),
            Ok(_) => {}
            Err(Unregistered) => unregistered = true,
        },
        Command::Mark(number) => {
            let there = state.redis.mark(index, number);
            if held {
                if there {
                    worker::marked(state, index, number);
                } else {
                    state.workers[index].forget(number);
                }
            }
        }
        Command::Answer(job, n) => front::deliver(system, state, Message::Answer(job, n)),
        Command::Acknowledge(number) => {
            state.redis.hdel(index, number);
            if held {
                state.workers[index].forget(number);
            }
        }
        Command::GiveBack(number) => {
            state.redis.give_back(index, number);
            if held {
                state.workers[index].forget(number);
            }
        }
        Command::SignOff => state.redis.claimers[index] = None,
        Command::Delete => {
            state.redis.claims[index].clear();
            state.redis.started[index] = 0;
            state.redis.landing[index].clear();
            state.redis.record[index] = false;
            if held {
                worker::die(state, index);
            }
        }
    }
    if unregistered && held {
        worker::begin_anew(state, index);
    }
}
