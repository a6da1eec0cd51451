//! One place of a group: the process that holds it, the one that is to follow, those that leave.
//!
//! A place is looked at again and again; each look does what is due and waits for nothing. When a process is replaced is
//! the group's decision, since only one of its places may change at a time.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::member::{Around, Member};
use super::reason::{OomCount, Reason};
use crate::backoff::Backoff;
use crate::supervisor::child::Exit;
use crate::up::state::now_ms;

/// A process that lived this long is taken for sound: the next wait is the first again.
const SOUND: Duration = Duration::from_secs(10);
/// Processes that leave a place at once at most; a new one waits for them.
const LEAVING: usize = 4;
/// The number of SIGKILL.
const KILL: i32 = 9;

/// A place.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) current: Option<Member>,
    /// Starts while `current` still works, and takes its place when it is ready.
    pub(super) next: Option<Member>,
    leaving: Vec<Member>,
    /// Not before this is another started: one has just failed.
    restart_at: Option<Instant>,
    restart_ms: u64,
    waits: Backoff,
    restarts: u64,
    last_exit: Option<(String, u64)>,
    /// Why `current` is to be replaced.
    pub(super) replace: Option<Reason>,
    /// Nothing is started here any more.
    pub(super) retired: bool,
}

impl Place {
    pub(super) fn new(name: String, around: &Around) -> Self {
        let waits = around.worker.restart_wait;
        Self {
            name,
            current: None,
            next: None,
            leaving: Vec::new(),
            restart_at: None,
            restart_ms: 0,
            waits: Backoff::new(waits.first, waits.last),
            restarts: 0,
            last_exit: None,
            replace: None,
            retired: false,
        }
    }

    /// Does what is due.
    pub(super) fn look(&mut self, around: &Around, oom: &mut OomCount, registers: bool) {
        self.bury(around, oom);
        if let Some(current) = &mut self.current {
            current.look_ready(around, registers);
            current.enforce_job_time(around);
        } else if self.may_start() {
            self.current = Some(Member::start(around, &self.name));
        }
        if let Some(next) = &mut self.next {
            next.look_ready(around, registers);
        }
        let ready = self.current.as_ref().filter(|current| current.ready && current.why.is_none());
        if self.replace.is_none() {
            self.replace = ready.and_then(|current| current.limit(around));
        }
    }

    /// Notes who has died and takes them out of the way.
    fn bury(&mut self, around: &Around, oom: &mut OomCount) {
        for at in (0..self.leaving.len()).rev() {
            let member = &mut self.leaving[at];
            let state = member.state();
            if state.exit.is_none() {
                member.ask_to_stop(around, Reason::Stop);
            } else if state.gone {
                self.leaving.remove(at);
            }
        }
        if let Some(next) = self.next.take_if(|next| next.state().exit.is_some()) {
            self.failed(next, around, oom);
        }
        if let Some(current) = self.current.take_if(|current| current.state().exit.is_some()) {
            self.failed(current, around, oom);
            self.replace = None;
            // It is not ready yet, but better than nothing.
            self.current = self.next.take();
        }
    }

    /// One has ended that nobody had asked to, or was killed.
    fn failed(&mut self, member: Member, around: &Around, oom: &mut OomCount) {
        if member.started.elapsed() >= SOUND {
            self.waits.reset();
        }
        let wait = self.waits.next_wait();
        self.restart_at = Some(Instant::now() + wait);
        self.restart_ms = now_ms() + wait.as_millis() as u64;
        let exit = member.state().exit.unwrap_or(Exit::GuardDied);
        let reason = match &member.why {
            Some(why) => why.clone(),
            None if exit == Exit::Signal(KILL) && oom.rose() => Reason::OutOfMemory,
            None => Reason::Exit(exit.clone()),
        };
        let text = match reason {
            Reason::OutOfMemory => "was killed by the kernel: out of memory".to_owned(),
            _ => exit.to_string(),
        };
        if !self.retired {
            let seconds = wait.as_secs_f64();
            tracing::warn!(from = %self.name, reason = %reason, "{text}; next start in {seconds:.1} s");
        }
        self.note(&reason);
        if !member.state().gone {
            self.leaving.push(member);
        }
        let _ = around;
    }

    fn note(&mut self, reason: &Reason) {
        self.last_exit = Some((reason.to_string(), now_ms()));
        self.restarts += 1;
    }

    /// True where another may be started now.
    pub(super) fn may_start(&self) -> bool {
        let due = self.restart_at.is_none_or(|at| at <= Instant::now());
        due && !self.retired && self.leaving.len() < LEAVING
    }

    /// Starts the one that is to follow.
    pub(super) fn start_next(&mut self, around: &Around) {
        self.next = Some(Member::start(around, &self.name));
    }

    /// The one that is to follow takes over; the other leaves.
    pub(super) fn promote(&mut self, around: &Around) {
        let Some(next) = self.next.take() else { return };
        let why = self.replace.take().unwrap_or(Reason::Reload);
        self.waits.reset();
        self.restart_at = None;
        tracing::info!(from = %self.name, "replaced: {why}");
        self.note(&why);
        if let Some(old) = self.current.replace(next) {
            self.send_away(old, around, why);
        }
    }

    /// What runs here is out of date: it is to be replaced, and what waits is to wait no longer.
    pub(super) fn outdate(&mut self, around: &Around, why: Reason) {
        self.restart_at = None;
        self.waits.reset();
        if let Some(next) = self.next.take() {
            self.send_away(next, around, Reason::Outdated);
        }
        if self.current.is_some() {
            self.replace = Some(why);
        }
    }

    /// Gives the place up.
    pub(super) fn retire(&mut self, around: &Around) {
        self.retired = true;
        self.replace = None;
        for member in [self.current.take(), self.next.take()].into_iter().flatten() {
            self.send_away(member, around, Reason::ScaledDown);
        }
    }

    fn send_away(&mut self, mut member: Member, around: &Around, why: Reason) {
        member.ask_to_stop(around, why);
        self.leaving.push(member);
    }

    /// Asks everybody to stop, now; nothing is started any more.
    pub(super) fn stop(&mut self) {
        self.retired = true;
        self.members().for_each(|member| member.stop(Reason::Stop));
    }

    /// Kills everybody.
    pub(super) fn kill(&mut self) {
        self.members().for_each(|member| member.kill(Reason::Stop));
    }

    fn members(&mut self) -> impl Iterator<Item = &mut Member> {
        self.current.iter_mut().chain(&mut self.next).chain(&mut self.leaving)
    }

    /// True once nothing runs here.
    pub(super) fn is_empty(&mut self) -> bool {
        self.members().all(|member| member.state().gone)
    }

    /// True while somebody is on the way out.
    pub(super) fn is_emptying(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// How those ended who are still here when all has stopped.
    pub(super) fn exits(&mut self) -> Vec<Exit> {
        self.members().filter_map(|member| member.state().exit).collect()
    }

    /// The next time at which something may be due here; events apart.
    pub(super) fn next_look(&self, around: &Around) -> Option<Instant> {
        let members = self.current.iter().chain(&self.next);
        let ready = members.filter_map(|member| member.ready_at(around));
        let restart = self.restart_at.filter(|_| self.current.is_none() || self.next.is_none());
        ready.chain(restart).min()
    }

    /// What `tempest status` shows: a row for each process, and one for a place without.
    pub(super) fn rows(&self, around: &Around) -> Vec<Value> {
        let row = |member: Option<&Member>, state: &str, until: Option<u64>| {
            json!({
                "place": self.name, "group": around.worker.name, "queue": around.worker.queue.as_str(),
                "worker": member.map(|member| &member.process.id), "pid": member.and_then(|member| member.state().pid),
                "state": state, "until": until, "restarts": self.restarts,
                "last_exit": self.last_exit.as_ref().map(|(reason, _)| reason),
                "last_exit_at": self.last_exit.as_ref().map(|(_, at)| at),
            })
        };
        let mut rows = Vec::new();
        match &self.current {
            Some(current) => rows.push(row(Some(current), state_of(current, around), None)),
            None if !self.retired => rows.push(row(None, "waiting", Some(self.restart_ms))),
            None => {}
        }
        rows.extend(self.next.iter().map(|next| row(Some(next), state_of(next, around), None)));
        let leaving = self.leaving.iter().filter(|member| member.state().exit.is_none());
        rows.extend(leaving.map(|member| row(Some(member), "stopping", None)));
        rows
    }
}

fn state_of(member: &Member, around: &Around) -> &'static str {
    if member.state().stopped {
        return "stopped";
    }
    let (look, _, oldest) = member.work(around);
    match (member.why.is_some(), member.ready, look.busy || oldest.is_some()) {
        (true, ..) => "stopping",
        (_, false, _) => "starting",
        (_, _, true) => "busy",
        _ => "ready",
    }
}
