//! The worker processes of `tempest up` and `tempest supervise`: started, kept running, registered, replaced, stopped.
//!
//! A worker is any program. What it is told is in its environment; what it says goes into the log under its name. A
//! [`Workers`] has a group for each kind (`group`), a group has places (`place`), a place has a process (`member`). What
//! becomes of the jobs of a process that dies is not decided here: [`Hooks`] tells whoever does.

mod group;
mod hooks;
mod jobs;
mod limits;
mod member;
mod place;
mod program;
pub mod proxy;
mod reason;
mod roster;
mod scale;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempest_protocol::Keys;
use tokio::sync::watch as channel;
use tokio::task::JoinHandle;

use crate::config::{Processes, RedisUrl, Worker};
use crate::supervisor::which::which;
use group::{Group, Progress};

pub use hooks::{Hooks, NoHooks, Process};
pub use jobs::Jobs;
pub use roster::Roster;

/// What every worker is told.
#[derive(Clone, Debug)]
pub struct Told {
    /// The address of Redis, with its password.
    pub redis: RedisUrl,
    /// The names in it.
    pub keys: Keys,
    /// The folder of the configuration.
    pub base: PathBuf,
    /// This is a developer's machine: a worker may show a client what went wrong inside.
    pub development: bool,
    /// The executable that is called as `guard …`; None: this one.
    pub guard: Option<PathBuf>,
    /// Who takes part in the life of its processes.
    pub hooks: Arc<dyn Hooks>,
    /// Where it is said which jobs run, by whoever knows.
    pub jobs: Jobs,
}

/// What is asked of all groups.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    order: Order,
    /// How often a rolling restart was asked for.
    reloads: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
enum Order {
    #[default]
    Run,
    Stop,
    Hasten,
}

/// All workers of a run. Dropping it ends them by way of their guards.
#[derive(Debug, Default)]
pub struct Workers {
    orders: channel::Sender<Orders>,
    groups: Vec<JoinHandle<()>>,
    progress: Vec<channel::Receiver<Progress>>,
    /// Those that run: name and number of processes.
    pub running: Vec<(String, Processes)>,
    /// Those that cannot run here: name and the program they need.
    pub left_out: Vec<(String, String)>,
}

impl Workers {
    /// Starts what can run here. Needs a tokio runtime.
    pub fn start(workers: &[Worker], told: &Told, roster: &Roster) -> Self {
        let mut all = Self::default();
        for worker in workers {
            if let Some(missing) = missing(worker, &told.base) {
                tracing::warn!(from = %worker.name, "left out: it needs `{missing}`, which is not here");
                all.left_out.push((worker.name.clone(), missing));
                continue;
            }
            all.running.push((worker.name.clone(), worker.processes));
            let (progress, seen) = channel::channel(Progress::BEFORE);
            let group = Group::new(worker.clone(), told.clone(), roster.clone(), progress);
            all.progress.push(seen);
            all.groups.push(tokio::spawn(group.run(all.orders.subscribe())));
        }
        all
    }

    /// Replaces all processes, in each group one after the other: the new one is ready before the old one is asked to
    /// stop. Does not wait.
    pub fn reload(&self) {
        self.orders.send_modify(|orders| orders.reloads += 1);
    }

    /// Waits until each group has as many ready processes as it is to have and replaces none.
    pub async fn settled(&self) {
        let reloads = self.orders.borrow().reloads;
        let is_settled = |now: &Progress| now.ready >= now.target && !now.changing && now.reloads >= reloads;
        // Again and again: the first may have changed while the others were waited for.
        loop {
            for progress in &self.progress {
                // An error means that the group has ended: nothing is waited for then.
                let _ = progress.clone().wait_for(is_settled).await;
            }
            if self.progress.iter().all(|progress| is_settled(&progress.borrow()) || progress.has_changed().is_err()) {
                return;
            }
        }
    }

    /// Ready processes, and how many there are to be.
    pub fn ready(&self) -> (usize, usize) {
        let all = self.progress.iter().map(|progress| *progress.borrow());
        all.fold((0, 0), |(ready, target), group| (ready + group.ready, target + group.target))
    }

    /// Asks all of them to stop, waits for each as long as it may take, or until `hasten`.
    pub async fn stop(&mut self, hasten: impl Future<Output = ()>) {
        self.order(Order::Stop);
        let mut hasten = std::pin::pin!(hasten);
        let mut hastened = false;
        while let Some(group) = self.groups.last_mut() {
            tokio::select! {
                // Fails only if the runtime ends, and then the lifelines are cut.
                _ = group => drop(self.groups.pop()),
                () = &mut hasten, if !hastened => {
                    hastened = true;
                    self.order(Order::Hasten);
                }
            }
        }
    }

    fn order(&self, to: Order) {
        self.orders.send_modify(|orders| orders.order = to);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.groups.iter().for_each(JoinHandle::abort);
    }
}

fn missing(worker: &Worker, base: &Path) -> Option<String> {
    let needs = worker.needs.as_ref()?;
    let path = std::env::var_os("PATH");
    which(needs.as_ref(), base, path.as_deref()).is_none().then(|| needs.clone())
}
