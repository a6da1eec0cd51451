//! A group of workers: as many processes of one program as its queue needs, replaced one at a time.
//!
//! One task a group. It wakes when something happens to a process, when an order comes and when something is due, looks
//! at all its places and does what follows; so nothing depends on the order in which things happen.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::member::Around;
use super::place::Place;
use super::reason::{OomCount, Reason};
use super::roster::Roster;
use super::scale::{Scale, Size, Step};
use super::watch::Watch;
use super::{Order, Orders, Told};
use crate::config::Worker;

/// Longest time without a look: ages, memory and jobs are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How far a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Processes it is to have.
    pub(super) target: usize,
    /// Of them, those that are ready.
    pub(super) ready: usize,
    /// It replaces its processes.
    pub(super) changing: bool,
    /// How many orders for a rolling restart it has seen.
    pub(super) reloads: u64,
}

impl Progress {
    /// Before its first look at itself.
    pub(super) const BEFORE: Self = Self { target: 0, ready: 0, changing: true, reloads: 0 };
}

/// A group.
pub(super) struct Group {
    around: Around,
    places: BTreeMap<usize, Place>,
    /// The one place whose process is being replaced.
    changing: Option<usize>,
    scale: Scale,
    oom: OomCount,
    /// Some process of this group has registered itself, so its successors are expected to.
    registers: bool,
    /// Orders for a rolling restart that were seen.
    reloads: u64,
    progress: watch::Sender<Progress>,
}

impl Group {
    pub(super) fn new(worker: Worker, told: Told, roster: Roster, progress: watch::Sender<Progress>) -> Self {
        let around = Around { worker, told, roster, changed: Arc::new(Notify::new()) };
        let processes = around.worker.processes;
        if processes.least != processes.most {
            around.roster.look_at(around.worker.queue.as_str());
        }
        let mut group = Self {
            around,
            places: BTreeMap::new(),
            changing: None,
            scale: Scale::default(),
            oom: OomCount::new(),
            registers: false,
            reloads: 0,
            progress,
        };
        (0..processes.least).for_each(|_| group.add_place());
        group
    }

    /// Keeps it running until it is told to stop, and then until nothing of it is left.
    pub(super) async fn run(mut self, mut orders: watch::Receiver<Orders>) {
        let Worker { watch, dir, name, .. } = &self.around.worker;
        let mut files = Watch::start(watch, dir, name);
        let mut looks = self.around.roster.looks();
        let changed = Arc::clone(&self.around.changed);
        while orders.borrow_and_update().order == Order::Run {
            let asked = orders.borrow().reloads;
            if asked != self.reloads {
                self.reloads = asked;
                self.outdate(&Reason::Reload);
            }
            self.look();
            tokio::select! {
                () = changed.notified() => {}
                _ = looks.changed() => {}
                path = next_file(&mut files) => {
                    tracing::info!(from = %self.around.worker.name, "{} changed", path.display());
                    self.outdate(&Reason::FileChanged);
                }
                () = tokio::time::sleep_until(self.next_look().into()) => {}
                gone = orders.changed() => if gone.is_err() { break },
            }
        }
        self.stop(orders, &changed).await;
    }

    async fn stop(&mut self, mut orders: watch::Receiver<Orders>, changed: &Notify) {
        self.places.values_mut().for_each(Place::stop);
        self.post();
        while !self.places.values_mut().all(Place::is_empty) {
            tokio::select! {
                () = changed.notified() => self.post(),
                hasten = orders.wait_for(|orders| orders.order == Order::Hasten) => {
                    let _ = hasten;
                    self.places.values_mut().for_each(Place::kill);
                    break;
                }
            }
        }
        while !self.places.values_mut().all(Place::is_empty) {
            changed.notified().await;
        }
        for place in self.places.values_mut() {
            for exit in place.exits() {
                tracing::debug!(from = %place.name, "stopped: {exit}");
            }
        }
        self.around.roster.post(&self.around.worker.name, Vec::new());
    }

    fn add_place(&mut self) {
        let number = (1..).find(|number| !self.places.contains_key(number)).unwrap_or(1);
        let Worker { name, processes, .. } = &self.around.worker;
        let name = if processes.most == 1 { name.clone() } else { format!("{name}.{number}") };
        self.places.insert(number, Place::new(name, &self.around));
    }

    /// Everything that runs is to be replaced.
    fn outdate(&mut self, why: &Reason) {
        let around = &self.around;
        self.places.values_mut().filter(|place| !place.retired).for_each(|place| place.outdate(around, why.clone()));
    }

    /// Looks at everything and does what is due.
    fn look(&mut self) {
        let roster = &self.around.roster;
        let members = || self.places.values().filter_map(|place| place.current.as_ref());
        self.registers |= members().any(|member| roster.look(&member.process.id).registered);
        for place in self.places.values_mut() {
            place.look(&self.around, &mut self.oom, self.registers);
        }
        self.places.retain(|_, place| !(place.retired && place.is_empty()));
        self.change_over();
        self.scale();
        self.post();
    }

    /// Replaces one process after the other: first the new one is ready, then the old one is asked to stop, and the next
    /// place is not touched before it is gone.
    fn change_over(&mut self) {
        let around = &self.around;
        if let Some(place) = self.changing.and_then(|number| self.places.get_mut(&number)) {
            if place.next.as_ref().is_some_and(|next| next.ready) {
                place.promote(around);
            } else if place.next.is_none() && place.replace.is_some() && place.may_start() {
                place.start_next(around);
            }
            if place.next.is_some() || place.replace.is_some() || place.is_emptying() {
                return;
            }
        }
        self.changing = None;
        let waits = |place: &Place| place.replace.is_some() && place.current.is_some() && place.may_start();
        if let Some((number, place)) = self.places.iter_mut().find(|(_, place)| waits(place)) {
            place.start_next(around);
            self.changing = Some(*number);
        }
    }

    fn size(&self) -> Size {
        let there = || self.places.values().filter(|place| !place.retired);
        let current = || there().filter_map(|place| place.current.as_ref());
        let is_busy = |member: &&super::member::Member| {
            let (look, _, oldest) = member.work(&self.around);
            look.busy || oldest.is_some()
        };
        Size {
            target: there().count(),
            ready: current().filter(|member| member.ready && member.state().exit.is_none()).count(),
            busy: current().filter(is_busy).count(),
        }
    }

    fn scale(&mut self) {
        let Worker { processes, queue, idle_time, name, .. } = &self.around.worker;
        if processes.least == processes.most {
            return;
        }
        let (size, seen) = (self.size(), self.around.roster.waiting(queue.as_str()));
        match self.scale.step(Instant::now(), size, seen, *processes, *idle_time) {
            Some(Step::Grow) => {
                tracing::info!(from = %name, "jobs wait: {} processes", size.target + 1);
                self.add_place();
                self.around.changed.notify_one();
            }
            Some(Step::Shrink) => {
                tracing::info!(from = %name, "nothing to do: {} processes", size.target - 1);
                let last = self.places.values_mut().rev().find(|place| !place.retired);
                last.into_iter().for_each(|place| place.retire(&self.around));
            }
            None => {}
        }
    }

    fn post(&self) {
        let rows = self.places.values().flat_map(|place| place.rows(&self.around)).collect();
        self.around.roster.post(&self.around.worker.name, rows);
        let Size { target, ready, .. } = self.size();
        let changing = self.changing.is_some() || self.places.values().any(|place| place.replace.is_some());
        let now = Progress { target, ready, changing, reloads: self.reloads };
        self.progress.send_if_modified(|before| std::mem::replace(before, now) != now);
    }

    fn next_look(&self) -> Instant {
        let now = Instant::now();
        let places = self.places.values().filter_map(|place| place.next_look(&self.around));
        // What was due and could not be done waits for an event.
        places.filter(|at| *at > now).chain([now + LOOK_EVERY]).min().unwrap_or(now)
    }
}

async fn next_file(files: &mut Option<Watch>) -> PathBuf {
    match files {
        Some(files) => files.next().await,
        None => std::future::pending().await,
    }
}
