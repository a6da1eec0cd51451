//! Which worker processes live at this moment: their registration in Redis, and what they say there of themselves.
//!
//! The registration is for those who look (`tempest status`); nothing waits for it and its failures are one log line.
//! What workers write in their own records is read here, once a second for all of them, and asked for by the groups. It
//! must not decide anything.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use tempest_protocol::Keys;
use tokio::sync::{Notify, watch};

use crate::backoff::Backoff;
use crate::broker::control::{Control, ControlError, Presence, Waiting};
use crate::config::RedisUrl;
use crate::telemetry::{Problem, Problems};
use crate::up::state::now_ms;

/// Time between two beats; a record lives three times as long.
const BEAT: Duration = Duration::from_secs(1);
/// The same while a process is starting, whose own record is waited for.
const EAGER_BEAT: Duration = Duration::from_millis(100);
/// Least time between two, however often something changes.
const LEAST_BEAT: Duration = Duration::from_millis(10);
/// Bounds of the wait before Redis is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long the end waits to take the workers out.
const LEAVE_TIME: Duration = Duration::from_millis(500);
/// Processes that have ended and could not be taken out, because Redis is away; older ones expire by themselves.
const GONE: usize = 1024;
/// What was seen this long ago says nothing about jobs that run: Redis is away, and they may have ended.
const STALE: Duration = Duration::from_secs(3);
/// Jobs of one worker that are timed.
const JOBS: usize = 1024;

/// A handle; clones share the roster.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
    looked: watch::Sender<()>,
    /// What went wrong lately.
    problems: Problems,
    /// The name of this supervisor among others.
    id: String,
    started: u64,
}

impl Default for Inner {
    fn default() -> Self {
        let id = super::program::fresh_id("s");
        let (state, problems, changed, looked) =
            (Mutex::default(), Problems::default(), Notify::new(), watch::Sender::new(()));
        Self { state, problems, changed, looked, id, started: now_ms() }
    }
}

#[derive(Debug, Default)]
struct State {
    /// By worker id.
    live: BTreeMap<String, Live>,
    gone: Vec<Presence>,
    /// What the groups say of their places, by the names of the groups.
    places: BTreeMap<String, Vec<Value>>,
    /// Queues whose depth somebody wants to know.
    queues: BTreeSet<String>,
    waiting: HashMap<String, (Waiting, Instant)>,
    /// When records were read last.
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Live {
    presence: Presence,
    /// It does nothing, so nobody says that it lives: its record expires.
    held: bool,
    /// Its own record is waited for.
    starting: bool,
    look: Look,
}

/// What a worker says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// It has written a record of its own.
    pub(super) registered: bool,
    /// It runs a job.
    pub(super) busy: bool,
    /// Jobs it has done.
    pub(super) done: u64,
    /// Its running jobs, and since when they are seen.
    running: BTreeMap<String, Instant>,
}

impl Look {
    /// Since when the oldest of its running jobs is seen.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.running.values().min().copied()
    }

    fn take(&mut self, record: &[u8]) {
        // A worker may write anything there; what is no record says that it is there, and no more.
        let said: Said = serde_json::from_slice(record).unwrap_or_default();
        self.registered = true;
        self.done = said.done;
        self.busy = said.state.as_deref() == Some("busy") || !said.current.is_empty();
        self.running.retain(|job, _| said.current.contains(job));
        for job in said.current.into_iter().take(JOBS) {
            self.running.entry(job).or_insert_with(Instant::now);
        }
    }
}

/// What counts of a worker's record.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    state: Option<String>,
    current: Vec<String>,
    done: u64,
}

impl Roster {
    /// A worker lives. Until [`Roster::settle`] its own record is looked for often.
    pub(super) fn enter(&self, presence: Presence) {
        let live = Live { held: false, starting: true, look: Look::default(), presence };
        self.with(|state| drop(state.live.insert(live.presence.id.clone(), live)));
        self.0.changed.notify_one();
    }

    /// It is ready, or never will be.
    pub(super) fn settle(&self, id: &str) {
        self.with(|state| state.live.get_mut(id).into_iter().for_each(|live| live.starting = false));
    }

    /// It is stopped and does nothing, or goes on.
    pub(super) fn hold(&self, id: &str, held: bool) {
        self.with(|state| state.live.get_mut(id).into_iter().for_each(|live| live.held = held));
        self.0.changed.notify_one();
    }

    /// It has ended.
    pub(super) fn leave(&self, id: &str) {
        self.with(|state| {
            state.gone.extend(state.live.remove(id).map(|live| live.presence));
            let surplus = state.gone.len().saturating_sub(GONE);
            state.gone.drain(..surplus);
        });
        self.0.changed.notify_one();
    }

    /// What it says of itself, at the last look. A worker that has fallen silent is taken at its last word; while Redis is
    /// away nobody is taken to run a job.
    pub(super) fn look(&self, id: &str) -> Look {
        self.with(|state| {
            let mut look = state.live.get(id).map(|live| live.look.clone()).unwrap_or_default();
            if state.looked.is_none_or(|at| at.elapsed() >= STALE) {
                look.running.clear();
                look.busy = false;
            }
            look
        })
    }

    /// Is told after each look.
    pub(super) fn looks(&self) -> watch::Receiver<()> {
        self.0.looked.subscribe()
    }

    /// From now on looks at this queue, too.
    pub(super) fn look_at(&self, queue: &str) {
        self.with(|state| state.queues.insert(queue.to_owned()));
    }

    /// What waits in a queue, and when that was seen.
    pub(super) fn waiting(&self, queue: &str) -> Option<(Waiting, Instant)> {
        self.with(|state| state.waiting.get(queue).copied())
    }

    /// What a group says of its places now.
    pub(super) fn post(&self, group: &str, places: Vec<Value>) {
        let changed = self.with(|state| {
            let before = state.places.insert(group.to_owned(), places);
            before.as_ref() != state.places.get(group)
        });
        if changed {
            self.0.changed.notify_one();
        }
    }

    /// Notes what went wrong, for this supervisor's record.
    pub(crate) fn note(&self, problem: Problem) {
        self.0.problems.note(problem);
        self.0.changed.notify_one();
    }

    /// Registers them, for ever.
    pub async fn beat(self, redis: RedisUrl, keys: Keys) {
        let mut waits = Backoff::new(RETRY.0, RETRY.1);
        let mut silent = false;
        loop {
            let Err(error) = self.beat_while_connected(&redis, &keys, &mut waits).await;
            if !silent {
                tracing::debug!("workers are not registered at the moment: {error}");
            }
            silent = true;
            tokio::time::sleep(waits.next_wait()).await;
        }
    }

    async fn beat_while_connected(
        &self,
        redis: &RedisUrl,
        keys: &Keys,
        waits: &mut Backoff,
    ) -> Result<std::convert::Infallible, ControlError> {
        let mut control = Control::connect(redis, "tempest-supervisor").await?;
        loop {
            self.beat_once(&mut control, keys).await?;
            waits.reset();
            let eager = self.with(|state| state.live.values().any(|live| live.starting));
            tokio::time::sleep(LEAST_BEAT).await;
            // A change is seen at once, but bursts of them are not.
            let _ = tokio::time::timeout(if eager { EAGER_BEAT } else { BEAT }, self.0.changed.notified()).await;
        }
    }

    async fn beat_once(&self, control: &mut Control, keys: &Keys) -> Result<(), ControlError> {
        let (live, gone, queues) = self.with(|state| {
            let live = state.live.values().filter(|live| !live.held).map(|live| live.presence.clone());
            (live.collect::<Vec<_>>(), state.gone.clone(), state.queues.iter().cloned().collect::<Vec<_>>())
        });
        control.leave(keys, &gone).await?;
        self.with(|state| state.gone.retain(|worker| !gone.contains(worker)));
        let records = control.beat(keys, &live).await?;
        let waiting = control.waiting(keys, &queues).await?;
        self.with(|state| {
            state.looked = Some(Instant::now());
            for (worker, record) in live.iter().zip(&records) {
                if let (Some(live), Some(record)) = (state.live.get_mut(&worker.id), record) {
                    live.look.take(record);
                }
            }
            let seen = queues.into_iter().zip(waiting.into_iter().map(|waiting| (waiting, Instant::now())));
            state.waiting.extend(seen);
        });
        self.0.looked.send_replace(());
        control.announce_supervisor(keys, &self.0.id, &self.record()).await
    }

    /// What this supervisor says of itself.
    fn record(&self) -> String {
        let places: Vec<Value> = self.with(|state| state.places.values().flatten().cloned().collect());
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let Inner { id, started, problems, .. } = &*self.0;
        let (pid, problems) = (std::process::id(), problems.recent());
        json!({"id": id, "host": host, "pid": pid, "started": started, "processes": places, "problems": problems})
            .to_string()
    }

    /// Takes out those that have ended, once more, and this supervisor.
    pub async fn close(&self, redis: &RedisUrl, keys: &Keys) {
        let gone = self.with(|state| std::mem::take(&mut state.gone));
        let work = async {
            let mut control = Control::connect(redis, "tempest-supervisor").await?;
            control.leave(keys, &gone).await?;
            control.dismiss_supervisor(keys, &self.0.id).await
        };
        // What fails here expires by itself.
        let _ = tokio::time::timeout(LEAVE_TIME, work).await;
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_timed_from_when_it_is_first_seen_until_it_is_not() {
        let mut look = Look::default();
        look.take(br#"{"state":"busy","current":["a"],"done":3}"#);
        let first = look.oldest().expect("a runs");
        look.take(br#"{"state":"busy","current":["a","b"],"done":3}"#);
        assert_eq!((look.oldest(), look.busy, look.done), (Some(first), true, 3));
        look.take(br#"{"state":"busy","current":["b"],"done":4}"#);
        assert!(look.oldest().expect("b runs") > first);
        look.take(b"nonsense");
        assert!(look.registered && !look.busy && look.oldest().is_none());
    }

    #[test]
    fn those_that_could_not_be_taken_out_are_bounded() {
        let roster = Roster::default();
        for number in 0..=GONE {
            let id = number.to_string();
            roster.enter(Presence { queue: "web".into(), id: id.clone(), record: "{}".into() });
            roster.leave(&id);
        }
        assert_eq!(roster.with(|state| (state.gone.len(), state.gone[0].id.clone())), (GONE, "1".to_owned()));
    }
}
