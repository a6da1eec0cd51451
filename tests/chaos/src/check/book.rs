//! The ledgers of a run, sorted by what they speak of.
//!
//! Answers questions about times: was Redis away, was somebody killed. What follows from that is the rules' affair.

use std::collections::{BTreeMap, HashMap};

use tempest_chaos::clock::SECOND;
use tempest_chaos::ledger::{Event, Kind, Line, Outcome, Persistence};

/// How long the effects of a disturbance may be felt: connections are made again with growing pauses.
pub(super) const SETTLE: u64 = 3 * SECOND;

/// What a Redis that writes to disk once a second may forget when it is killed.
pub(super) const FORGOTTEN: u64 = 5 * SECOND / 2;

/// A request as its client wrote it down.
#[derive(Debug)]
pub(crate) struct Request {
    pub(super) kind: Kind,
    pub(super) front: usize,
    pub(super) sent: u64,
    pub(super) got: Vec<Got>,
}

/// An outcome.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) t: u64,
    pub(super) outcome: Outcome,
    pub(super) status: u16,
    pub(super) body: String,
}

/// A start, and the end that belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(super) t: u64,
    pub(super) attempt: u32,
    pub(super) pid: u32,
    pub(super) job: String,
    pub(super) end: Option<u64>,
}

/// A background job as its pusher wrote it down.
#[derive(Debug, Default)]
pub(crate) struct Push {
    pub(super) pushed: Option<u64>,
}

/// A worker's process.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    pub(super) class: String,
    pub(super) up: u64,
    pub(super) killed: Option<u64>,
    /// From when to when it was stopped.
    pub(super) stops: Vec<(u64, u64)>,
}

impl Worker {
    /// When something happened to it from `from` on until `to`.
    pub(super) fn trouble(&self, from: u64, to: u64) -> Option<u64> {
        let stop = self.stops.iter().find(|(begin, end)| *begin <= to && *end >= from).map(|(begin, _)| *begin);
        self.killed.filter(|t| (from..=to).contains(t)).or(stop)
    }
}

/// A time without Redis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Away {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) killed: bool,
    pub(super) keeps: Persistence,
}

/// Everything that was written down.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(super) requests: BTreeMap<String, Request>,
    pub(super) starts: HashMap<String, Vec<Start>>,
    pub(super) pushes: BTreeMap<String, Push>,
    pub(super) workers: BTreeMap<u32, Worker>,
    /// Those before them with the same id: a machine gives the id of a dead process to another one before long.
    former: Vec<(u32, Worker)>,
    pub(super) away: Vec<Away>,
    pub(super) mixed: Vec<String>,
    /// Ids of background jobs among the dead letters at the end.
    pub(crate) dead: Vec<String>,
    fronts_down: Vec<(usize, u64, u64)>,
    disturbed: Vec<(u64, u64)>,
    supervisors_killed: Vec<u64>,
    phases: Vec<(u64, String)>,
}

impl Book {
    /// Sorts the lines, which must be in the order of time.
    pub(crate) fn new(lines: &[Line]) -> Self {
        let mut book = Self::default();
        for Line { t, event } in lines {
            book.add(*t, event.clone());
        }
        book
    }

    fn add(&mut self, t: u64, event: Event) {
        match event {
            Event::Sent { id, kind, front } => {
                self.requests.insert(id, Request { kind, front, sent: t, got: Vec::new() });
            }
            Event::Got { id, outcome, status, body } => {
                if let Some(request) = self.requests.get_mut(&id) {
                    request.got.push(Got { t, outcome, status, body });
                }
            }
            Event::Start { id, job, attempt, pid } => {
                self.starts.entry(id).or_default().push(Start { t, attempt, pid, job, end: None });
            }
            Event::End { id, attempt, pid } => {
                let starts = self.starts.entry(id).or_default();
                let open = starts.iter_mut().find(|s| s.pid == pid && s.attempt == attempt && s.end.is_none());
                if let Some(start) = open {
                    start.end = Some(t);
                }
            }
            Event::Mixed { what } => self.mixed.push(what),
            Event::Push { id } => _ = self.pushes.entry(id).or_default(),
            Event::Pushed { id } => self.pushes.entry(id).or_default().pushed = Some(t),
            Event::Unpushed { .. } => {}
            Event::Phase { name } => self.phases.push((t, name)),
            other => self.deed(t, other),
        }
    }

    fn deed(&mut self, t: u64, event: Event) {
        match event {
            Event::Up { pid, class } => {
                let before = self.workers.insert(pid, Worker { class, up: t, ..Worker::default() });
                self.former.extend(before.map(|worker| (pid, worker)));
            }
            Event::Kill { pid, class } if class.starts_with("supervisor") => {
                self.supervisors_killed.push(t);
                let theirs = class.trim_start_matches("supervisor-").to_owned();
                let _ = pid;
                let of_it = |worker: &&mut Worker| worker.class == theirs && worker.killed.is_none();
                self.workers.values_mut().filter(of_it).for_each(|worker| worker.killed = Some(t));
            }
            Event::Kill { pid, .. } => _ = self.workers.entry(pid).or_default().killed.get_or_insert(t),
            Event::Stop { pid, .. } => self.workers.entry(pid).or_default().stops.push((t, u64::MAX)),
            Event::Cont { pid } => close(&mut self.workers.entry(pid).or_default().stops, t),
            Event::FrontDown { front } => self.fronts_down.push((front, t, u64::MAX)),
            Event::FrontUp { front } => {
                if let Some(down) = self.fronts_down.iter_mut().rev().find(|down| down.0 == front) {
                    down.2 = t;
                }
            }
            Event::RedisDown { killed, keeps } => self.away.push(Away { from: t, to: u64::MAX, killed, keeps }),
            Event::RedisUp { .. } => {
                if let Some(away) = self.away.last_mut() {
                    away.to = t;
                }
            }
            Event::Disturb { .. } => self.disturbed.push((t, u64::MAX)),
            Event::Calm => close(&mut self.disturbed, t),
            _ => {}
        }
    }

    /// True where Redis was away, or connections to it were disturbed, or either was still felt.
    pub(super) fn redis_troubled(&self, from: u64, to: u64) -> bool {
        let away = self.away.iter().map(|away| (away.from, away.to));
        away.chain(self.disturbed.iter().copied()).any(|span| overlaps(span, SETTLE, from, to))
    }

    /// True where Redis and all ways to it were well from beginning to end.
    pub(super) fn redis_was_well(&self) -> bool {
        self.away.is_empty() && self.disturbed.is_empty()
    }

    /// True where this front was away.
    pub(super) fn front_down(&self, front: usize, from: u64, to: u64) -> bool {
        let its = self.fronts_down.iter().filter(|down| down.0 == front);
        its.map(|(_, down, up)| (*down, *up)).any(|span| overlaps(span, SECOND / 5, from, to))
    }

    /// How many workers were killed or stopped, or still felt that they had been.
    pub(super) fn worker_troubles(&self, from: u64, to: u64) -> usize {
        let early = from.saturating_sub(SECOND);
        let all = self.workers.values().chain(self.former.iter().map(|(_, worker)| worker));
        let workers = all.filter(|worker| worker.trouble(early, to).is_some()).count();
        workers + self.supervisors_killed.iter().filter(|t| (early..=to).contains(*t)).count()
    }

    /// Who had this id at a moment.
    pub(super) fn worker(&self, pid: u32, t: u64) -> Option<&Worker> {
        let now = self.workers.get(&pid)?;
        let mut former =
            self.former.iter().filter(|(id, worker)| *id == pid && worker.up <= t).map(|(_, worker)| worker);
        if now.up <= t { Some(now) } else { former.next_back().or(Some(now)) }
    }

    /// When something happened to a worker that did something at `from`, until `to`. A kill that was written down before
    /// `from` had not reached it then.
    pub(super) fn trouble_of(&self, pid: u32, from: u64, to: u64) -> Option<u64> {
        let worker = self.worker(pid, from)?;
        worker.killed.map(|t| t.max(from)).filter(|t| *t <= to).or_else(|| worker.trouble(from, to))
    }

    /// True where a Redis that writes to disk once a second was killed between the two, so soon after the first that
    /// it may have forgotten it.
    pub(super) fn rolled_back(&self, from: u64, to: u64) -> bool {
        let forgets = |away: &&Away| away.killed && away.keeps == Persistence::Everysec;
        let soon = from..=to.min(from + FORGOTTEN);
        self.away.iter().filter(forgets).any(|away| soon.contains(&away.from))
    }

    /// Of these processes the workers that have begun nothing since Redis came back the last time.
    pub(crate) fn idle_since_return(&self, pids: &[u32]) -> Vec<String> {
        let Some(back) = self.away.last().map(|away| away.to) else { return Vec::new() };
        let busy = |pid: &u32| self.starts.values().flatten().any(|start| start.pid == *pid && start.t > back);
        let old = |pid: &u32| self.workers.get(pid).filter(|worker| worker.up < back);
        pids.iter().filter(|pid| !busy(pid)).filter_map(|pid| Some(format!("{} {pid}", old(pid)?.class))).collect()
    }

    /// The name of the phase at a moment.
    pub(super) fn phase(&self, t: u64) -> &str {
        self.phases.iter().rev().find(|(begin, _)| *begin <= t).map_or("start", |(_, name)| name)
    }

    /// Starts of one request or job, in the order of time.
    pub(super) fn starts_of(&self, id: &str) -> &[Start] {
        self.starts.get(id).map_or(&[], Vec::as_slice)
    }
}

fn close(spans: &mut [(u64, u64)], t: u64) {
    if let Some(last) = spans.last_mut() {
        last.1 = t;
    }
}

fn overlaps((begin, end): (u64, u64), felt: u64, from: u64, to: u64) -> bool {
    begin <= to && end.saturating_add(felt) >= from
}
