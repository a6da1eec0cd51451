//! What must hold: in every state, and in every state where nothing more can happen. It changes nothing.

use crate::front::{End, Push};
use crate::redis::{Job, Lost, Message};
use crate::system::{Kind, State, System};
use crate::worker::Life;

/// The first fault of a state.
pub(crate) fn fault(system: &System, state: &State, last: bool) -> Option<String> {
    always(system, state).or_else(|| if last { at_the_end(system, state) } else { None })
}

fn always(system: &System, state: &State) -> Option<String> {
    for (index, kind) in system.requests.iter().enumerate() {
        let request = &state.requests[index];
        if request.ends > 1 {
            return Some(format!("I1: request {index} has {} outcomes", request.ends));
        }
        if request.mixed {
            return Some(format!("I2: a byte of an older attempt of request {index} was sent behind one of a newer"));
        }
        if *kind == Kind::Post && request.starts > 1 {
            return Some(format!("I4: POST {index} has started {} times", request.starts));
        }
        if *kind == Kind::Background && request.push == Push::Done {
            let places = places(state, index);
            if places > 1 || (places == 0 && !request.done) {
                return Some(format!("I5: background job {index} is in {places} places, done: {}", request.done));
            }
        }
    }
    for (front, inbox) in state.redis.inbox.iter().enumerate() {
        for message in inbox {
            let (Message::Answer(job, _) | Message::Died(Lost { job, .. })) = message;
            if system.owner(usize::from(job.request)) != front {
                return Some(format!("I3: front {front} got {message:?}"));
            }
        }
    }
    None
}

/// Where a job lies in Redis.
fn places(state: &State, request: usize) -> usize {
    let is = |job: &&Job| usize::from(job.request) == request;
    let redis = &state.redis;
    let claimed = redis.claims.iter().flatten().map(|claim| &claim.1);
    let landing = redis.landing.iter().flatten();
    let lost = redis.lost.iter().map(|lost| &lost.job);
    redis.queue.iter().chain(&redis.dead).chain(claimed).chain(landing).chain(lost).filter(is).count()
}

fn at_the_end(system: &System, state: &State) -> Option<String> {
    let redis = &state.redis;
    let keepers = (0..system.fronts).any(|front| !state.fronts[front].dead);
    for worker in 0..system.workers {
        let life = state.workers[worker].life;
        // With nobody left who looks after workers, what the dead hold waits for the next front.
        let looked_after = keepers || (system.parents && life != Life::Stopped);
        if looked_after && !(redis.claims[worker].is_empty() && redis.landing[worker].is_empty()) {
            let (claims, landing) = (&redis.claims[worker], &redis.landing[worker]);
            return Some(format!("worker {worker} ({life:?}) keeps claims {claims:?} and in landing {landing:?}"));
        }
    }
    if keepers && !redis.lost.is_empty() {
        return Some(format!("lost jobs were not handed over: {:?}", redis.lost));
    }
    // "With no worker at all, jobs wait in the list until their deadline."
    let workers = (0..system.workers).any(|worker| state.workers[worker].life == Life::Running);
    for (index, kind) in system.requests.iter().enumerate() {
        let request = &state.requests[index];
        let current = Job { request: u8::try_from(index).expect("a few"), attempt: request.attempt() };
        if !workers && redis.queue.contains(&current) {
            continue;
        }
        let owned = !state.fronts[system.owner(index)].dead;
        match kind {
            Kind::Background if keepers && !request.done && redis.dead.is_empty() => {
                return Some(format!("background job {index} was never done"));
            }
            Kind::Background => {}
            // "Connection lost before the acknowledgement": a POST waits for its deadline.
            Kind::Post if request.push_lost => {}
            _ if owned && request.end.is_none() => {
                return Some(format!("I1: request {index} has no outcome but its deadline"));
            }
            Kind::Post if request.end == Some(End::Answered) && request.starts != 1 => {
                return Some(format!("I4: POST {index} was answered and started {} times", request.starts));
            }
            _ => {}
        }
    }
    None
}
