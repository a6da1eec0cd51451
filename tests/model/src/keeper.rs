//! Those who look after workers: fronts with the lease, and parents. They find the dead, reap them, and hand over what
//! the dead held.

use crate::connection;
use crate::front;
use crate::redis::{Lost, Message, Registration, Tenure};
use crate::system::{Action, State, System};
use crate::worker::Life;

/// A death that was seen, and not acted on yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    worker: u8,
    registration: Registration,
    certain: bool,
    ended: bool,
}

/// What one front knows as a keeper.
#[derive(Clone, Default, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Keeper {
    /// It believes that it has the lease.
    holds: bool,
    /// Its name for the lease is front and this.
    tenure: u8,
    seen: Option<Seen>,
    /// Lost jobs it has read and not removed.
    read: Vec<Lost>,
    /// How many of them it has handed over.
    handed: u8,
    /// `trim.lua` of a broken connection that may still arrive.
    late: Option<(Tenure, u8)>,
}

/// A step of one who looks after workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `lease.lua`, at the beginning of a look.
    Lease,
    /// Both registered connections of a worker are gone from `CLIENT LIST`.
    SeeConnectionsGone(u8),
    /// A registered worker has no record.
    SeeSilence(u8),
    /// `CLIENT KILL` of the registered connections.
    EndConnections,
    /// `reap.lua` with the registration that was seen.
    Reap,
    /// `LRANGE {tempest:web}:lost`.
    Read,
    /// `RPUSH` of one `died` to its front.
    Hand,
    /// `trim.lua`.
    Trim,
    /// `trim.lua`, and the connection breaks before the reply.
    TrimAndLoseConnection,
    /// Such a `trim.lua` arrives after all.
    LateTrim,
    /// Such a `trim.lua` never arrives.
    TrimLost,
    /// The lease expires, though its holder lives.
    Lapse,
    /// The lease of a front that is dead, or has forgotten that it has it, expires.
    Expire,
    /// `waitpid` of a parent, and `reap.lua` without a registration; the number is the worker's.
    Wait,
    /// The record of a worker that does not beat expires; the number is the worker's.
    Silence,
}

pub(crate) fn actions(system: &System, state: &State, actions: &mut Vec<Action>) {
    for front in 0..system.fronts {
        let index = u8::try_from(front).expect("two");
        let mut offer = |step| actions.push(Action::Keeper(index, step));
        if state.redis.lease.is_some_and(|holder| holder.0 == index) {
            let keeper = &state.keepers[front];
            if state.fronts[front].dead || !keeper.holds || keeper.tenure != state.redis.lease.map_or(0, |it| it.1) {
                offer(Step::Expire);
            } else if state.left.lapses > 0 {
                offer(Step::Lapse);
            }
        }
        if state.keepers[front].late.is_some() {
            offer(Step::LateTrim);
            offer(Step::TrimLost);
        }
        if !state.fronts[front].dead {
            look(system, state, front, &mut offer);
        }
    }
    for worker in 0..system.workers {
        let index = u8::try_from(worker).expect("two");
        let life = state.workers[worker].life;
        if life == Life::Dead && system.parents && !state.workers[worker].awaited {
            actions.push(Action::Keeper(index, Step::Wait));
        }
        let listed = state.redis.claimers[worker].is_some();
        if system.suspicion && listed && state.redis.record[worker] && !state.workers[worker].beats() {
            actions.push(Action::Keeper(index, Step::Silence));
        }
    }
}

/// What a keeper may do next. One look is one sequence: it never asks for the lease while something it has read is not
/// removed.
fn look(system: &System, state: &State, front: usize, offer: &mut impl FnMut(Step)) {
    let keeper = &state.keepers[front];
    if let Some(seen) = keeper.seen {
        let first_end = !seen.ended && (!seen.certain || system.rules.end_connections);
        return offer(if first_end { Step::EndConnections } else { Step::Reap });
    }
    if !keeper.read.is_empty() {
        if usize::from(keeper.handed) < keeper.read.len() {
            return offer(Step::Hand);
        }
        offer(Step::Trim);
        if state.left.front_cuts > 0 {
            offer(Step::TrimAndLoseConnection);
        }
        return;
    }
    let gone: Vec<_> = (0..system.workers).filter(|worker| connections_gone(system, state, *worker)).collect();
    let silent: Vec<_> = (0..system.workers).filter(|worker| is_silent(system, state, *worker)).collect();
    if !state.redis.lost.is_empty() || !gone.is_empty() || !silent.is_empty() {
        let own = Some((u8::try_from(front).expect("two"), keeper.tenure));
        let lease = state.redis.lease;
        let would_change = if keeper.holds { lease != own } else { lease.is_none() || lease == own };
        // Asking when the answer changes nothing would only go round in a circle.
        if (system.rules.lease && would_change) || (!system.rules.lease && !keeper.holds) {
            offer(Step::Lease);
        }
    }
    if !keeper.holds {
        return;
    }
    if !state.redis.lost.is_empty() {
        offer(Step::Read);
    }
    for worker in gone {
        offer(Step::SeeConnectionsGone(u8::try_from(worker).expect("two")));
    }
    for worker in silent {
        offer(Step::SeeSilence(u8::try_from(worker).expect("two")));
    }
}

fn connections_gone(system: &System, state: &State, worker: usize) -> bool {
    let listed = |id| state.connections.iter().any(|connection| connection.id == id);
    system.connections && state.redis.claimers[worker].is_some_and(|(claims, other)| !listed(claims) && !listed(other))
}

fn is_silent(system: &System, state: &State, worker: usize) -> bool {
    system.suspicion && state.redis.claimers[worker].is_some() && !state.redis.record[worker]
}

pub(crate) fn step(system: &System, state: &mut State, who: usize, step: Step) {
    let index = u8::try_from(who).expect("two");
    match step {
        Step::Lease => {
            let tenure = (index, state.keepers[who].tenure);
            state.keepers[who].holds = state.redis.lease(tenure) || !system.rules.lease;
        }
        Step::SeeConnectionsGone(worker) => see(state, who, worker, true),
        Step::SeeSilence(worker) => see(state, who, worker, false),
        Step::EndConnections => {
            if let Some(seen) = &mut state.keepers[who].seen {
                seen.ended = true;
                let (claims, other) = seen.registration;
                connection::end(state, claims);
                connection::end(state, other);
            }
        }
        Step::Reap => {
            if let Some(seen) = state.keepers[who].seen.take() {
                let awaited = |job| system.awaited(job);
                let worker = usize::from(seen.worker);
                state.redis.reap(worker, Some(seen.registration), seen.certain, system.crash_limit, awaited);
            }
        }
        Step::Read => {
            state.keepers[who].read = state.redis.lost.clone();
            state.keepers[who].handed = 0;
        }
        Step::Hand => {
            let keeper = &mut state.keepers[who];
            let lost = keeper.read[usize::from(keeper.handed)];
            keeper.handed += 1;
            front::deliver(system, state, Message::Died(lost));
        }
        Step::Trim => {
            let count = std::mem::take(&mut state.keepers[who].read).len();
            let tenure = (index, state.keepers[who].tenure);
            // 0: the lease has passed on.
            state.keepers[who].holds = trim(system, state, tenure, count);
        }
        Step::TrimAndLoseConnection => {
            state.left.front_cuts -= 1;
            let keeper = &mut state.keepers[who];
            let count = std::mem::take(&mut keeper.read).len();
            keeper.late = Some(((index, keeper.tenure), u8::try_from(count).expect("a few")));
            keeper.holds = false;
            keeper.tenure += u8::from(system.rules.tenures);
        }
        Step::LateTrim => {
            if let Some((tenure, count)) = state.keepers[who].late.take() {
                trim(system, state, tenure, usize::from(count));
            }
        }
        Step::TrimLost => state.keepers[who].late = None,
        Step::Lapse => {
            state.left.lapses -= 1;
            state.redis.lease = None;
        }
        Step::Expire => state.redis.lease = None,
        Step::Wait => wait(system, state, who),
        Step::Silence => state.redis.record[who] = false,
    }
}

fn see(state: &mut State, who: usize, worker: u8, certain: bool) {
    let registration = state.redis.claimers[usize::from(worker)].expect("it was looked up in this step");
    state.keepers[who].seen = Some(Seen { worker, registration, certain, ended: false });
}

fn trim(system: &System, state: &mut State, who: Tenure, count: usize) -> bool {
    if system.rules.lease {
        return state.redis.trim(who, count);
    }
    state.redis.cut(count);
    true
}

/// A parent has waited for its child: it ends the child's connections, and reaps. Both are one step here, since the child
/// does nothing in between.
fn wait(system: &System, state: &mut State, worker: usize) {
    state.workers[worker].awaited = true;
    if let (true, Some((claims, other))) = (system.rules.end_connections, state.redis.claimers[worker]) {
        connection::end(state, claims);
        connection::end(state, other);
    }
    state.redis.reap(worker, None, true, system.crash_limit, |job| system.awaited(job));
}
