//! One process of a group: started with its hooks, watched, asked to stop between two jobs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::limits::Limits;
use super::reason::Reason;
use super::roster::{Look, Roster};
use super::{Process, Told, program};
use crate::config::Worker;
use crate::supervisor::run::{Event, Events, Run, State};

/// Where processes of this group register themselves, one that does not counts as ready after this time all the same.
const REGISTER_TIME: Duration = Duration::from_secs(30);
/// A process that is to be replaced and says that it is busy is left alone so long; then it is asked to stop, which to
/// a worker with an SDK means: after this job.
const BETWEEN_JOBS: Duration = Duration::from_secs(5);

/// What the members of a group share.
#[derive(Clone, Debug)]
pub(super) struct Around {
    pub(super) worker: Worker,
    pub(super) told: Told,
    pub(super) roster: Roster,
    /// Is told when something happens to a member.
    pub(super) changed: Arc<Notify>,
}

/// A process.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) process: Process,
    pub(super) started: Instant,
    /// What its supervisor has decided: why it is to end.
    pub(super) why: Option<Reason>,
    pub(super) ready: bool,
    run: Run,
    limits: Limits,
    asked: Option<Instant>,
    told: bool,
}

impl Member {
    pub(super) fn start(around: &Around, place: &str) -> Self {
        let Around { worker, told, .. } = around;
        let process = program::fresh(worker, place);
        told.jobs.enter(&process.id);
        let more = told.hooks.starting(&process);
        let program = program::program(worker, told, &process, more);
        let lines = program::lines(place.to_owned());
        let run = Run::start(&program, lines, worker.stop_time, events(around, &process));
        let limits = Limits::draw(worker);
        Self { process, started: Instant::now(), why: None, ready: false, run, limits, asked: None, told: false }
    }

    pub(super) fn state(&self) -> State {
        self.run.state()
    }

    /// What is known of its work, from its record or from whoever hands it jobs.
    pub(super) fn work(&self, around: &Around) -> (Look, u64, Option<Instant>) {
        let (look, told) = (around.roster.look(&self.process.id), around.told.jobs.of(&self.process.id));
        let (done, oldest) = (look.done.max(told.done), [look.oldest(), told.oldest()].into_iter().flatten().min());
        (look, done, oldest)
    }

    /// True from when it is ready on: it has registered, or has run for its time where none of its group registers.
    pub(super) fn look_ready(&mut self, around: &Around, group_registers: bool) -> bool {
        let state = self.state();
        if self.ready || state.pid.is_none() || state.exit.is_some() {
            return self.ready;
        }
        let time = if group_registers { around.worker.ready_time.max(REGISTER_TIME) } else { around.worker.ready_time };
        self.ready = around.roster.look(&self.process.id).registered || self.started.elapsed() >= time;
        if self.ready {
            around.roster.settle(&self.process.id);
            tracing::debug!(from = %self.process.place, "ready");
        }
        self.ready
    }

    /// When it is ready if it never registers.
    pub(super) fn ready_at(&self, around: &Around) -> Option<Instant> {
        (!self.ready).then(|| self.started + around.worker.ready_time)
    }

    /// Kills it if one of its jobs runs too long.
    pub(super) fn enforce_job_time(&mut self, around: &Around) {
        let Some(most) = around.worker.job_time else { return };
        let (_, _, oldest) = self.work(around);
        // One that is stopped does not work; somebody looks at it.
        let state = self.state();
        if oldest.is_some_and(|since| since.elapsed() >= most) && state.exit.is_none() && !state.stopped {
            tracing::warn!(from = %self.process.place, "a job runs longer than job_time: killed");
            self.kill(Reason::JobTime);
        }
    }

    /// The limit it has reached.
    pub(super) fn limit(&self, around: &Around) -> Option<Reason> {
        let (_, done, _) = self.work(around);
        self.limits.reached(done, self.started.elapsed(), self.state().pid)
    }

    /// Asks it to stop, between two jobs if it says when that is.
    pub(super) fn ask_to_stop(&mut self, around: &Around, why: Reason) {
        self.why.get_or_insert(why);
        let asked = *self.asked.get_or_insert_with(Instant::now);
        let busy = self.work(around).0.busy;
        if !self.told && (!busy || asked.elapsed() >= BETWEEN_JOBS) {
            self.told = true;
            self.run.stop();
        }
    }

    /// Asks it to stop, now.
    pub(super) fn stop(&mut self, why: Reason) {
        self.why.get_or_insert(why);
        self.told = true;
        self.run.stop();
    }

    /// Kills it and what it has started.
    pub(super) fn kill(&mut self, why: Reason) {
        self.why.get_or_insert(why);
        self.told = true;
        self.run.kill();
    }
}

/// Hooks first: somebody may be waiting for what a dead process held.
fn events(around: &Around, process: &Process) -> Events {
    let (around, process) = (around.clone(), process.clone());
    Box::new(move |event| {
        let Around { worker, told, roster, changed } = &around;
        let (hooks, place) = (&told.hooks, &process.place);
        match event {
            Event::Started(pid) => {
                hooks.started(&process, pid);
                tracing::debug!(from = %place, pid, "started");
                roster.enter(program::presence(worker, process.id.clone(), pid));
            }
            Event::Stopped => {
                hooks.stopped(&process);
                roster.hold(&process.id, true);
                tracing::warn!(from = %place, "was stopped by a signal; it works on once it gets SIGCONT");
            }
            Event::Continued => {
                hooks.continued(&process);
                roster.hold(&process.id, false);
                tracing::info!(from = %place, "goes on");
            }
            Event::Died(exit) => {
                hooks.died(&process, &exit);
                told.jobs.leave(&process.id);
                roster.leave(&process.id);
            }
            Event::Gone => {}
        }
        changed.notify_one();
    })
}
