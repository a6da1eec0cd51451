//! The worker processes of `tempest up` and `tempest supervise`: started, kept running, registered, stopped.
//!
//! A worker is any program. What it is told is in its environment; what it says goes into the log under its name.

mod hooks;
mod jobs;
pub mod proxy;
mod roster;

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tempest_protocol::Keys;

use crate::backoff::random_unit;
use crate::broker::control::Presence;
use crate::config::{Claims, RedisUrl, Worker};
use crate::supervisor::child::{Lines, Program, Stream};
use crate::supervisor::keep::{Event, Keeper, Kept};
use crate::supervisor::which::which;
use crate::up::state::now_ms;

pub use hooks::{Hooks, NoHooks, Process};
pub use jobs::Jobs;
pub use roster::Roster;

/// Longest time from SIGTERM to SIGKILL for a worker whose supervisor died: its Redis is about to be gone as well.
const ORPHAN_TIME: Duration = Duration::from_secs(5);

/// What every worker is told.
#[derive(Clone, Debug)]
pub struct Told {
    /// The address of Redis, with its password.
    pub redis: RedisUrl,
    /// The names in it.
    pub keys: Keys,
    /// The folder of the configuration.
    pub base: std::path::PathBuf,
    /// Who takes part in the life of its processes.
    pub hooks: Arc<dyn Hooks>,
    /// Where it is said which jobs run, by whoever knows.
    pub jobs: Jobs,
}

/// All workers of a run.
#[derive(Debug, Default)]
pub struct Workers {
    keepers: Vec<Keeper>,
    /// Those that run: name and number of processes.
    pub running: Vec<(String, usize)>,
    /// Those that cannot run here: name and the program they need.
    pub left_out: Vec<(String, String)>,
}

impl Workers {
    /// Starts what can run here.
    pub fn start(workers: &[Worker], told: &Told, roster: &Roster) -> Self {
        let mut all = Self::default();
        for worker in workers {
            if let Some(missing) = missing(worker, &told.base) {
                tracing::warn!(from = %worker.name, "left out: it needs `{missing}`, which is not here");
                all.left_out.push((worker.name.clone(), missing));
                continue;
            }
            all.running.push((worker.name.clone(), worker.processes));
            all.keepers.extend((1..=worker.processes).map(|number| keep(worker, number, told, roster)));
        }
        all
    }

    /// Asks all of them to stop, waits for each as long as it may take, or until `hasten`.
    pub async fn stop(&mut self, hasten: impl Future<Output = ()>) {
        self.keepers.iter().for_each(Keeper::stop);
        let mut hasten = std::pin::pin!(hasten);
        for at in 0..self.keepers.len() {
            tokio::select! {
                () = self.keepers[at].stopped() => continue,
                () = &mut hasten => {}
            }
            self.keepers.iter().for_each(Keeper::hasten);
            for keeper in &mut self.keepers[at..] {
                keeper.stopped().await;
            }
            return;
        }
    }
}

fn missing(worker: &Worker, base: &Path) -> Option<String> {
    let needs = worker.needs.as_ref()?;
    let path = std::env::var_os("PATH");
    which(needs.as_ref(), base, path.as_deref()).is_none().then(|| needs.clone())
}

fn keep(worker: &Worker, number: usize, told: &Told, roster: &Roster) -> Keeper {
    let place = if worker.processes == 1 { worker.name.clone() } else { format!("{}.{number}", worker.name) };
    // Each start is another worker: what the last one left unfinished is not this one's.
    let process = Arc::new(Mutex::new(fresh(worker, &place)));
    let (program, events) = (program_of(worker, told, &process), events_of(worker, told, roster, &process));
    Keeper::start(Kept { program, lines: lines(place), events, stop_time: worker.stop_time }, None)
}

fn fresh(worker: &Worker, place: &str) -> Process {
    let Worker { name, queue, claims, .. } = worker;
    Process { id: fresh_id(place), queue: queue.clone(), group: name.clone(), place: place.to_owned(), claims: *claims }
}

fn program_of(worker: &Worker, told: &Told, process: &Arc<Mutex<Process>>) -> Box<dyn FnMut(u64) -> Program + Send> {
    let (worker, told, process) = (worker.clone(), told.clone(), Arc::clone(process));
    Box::new(move |_| {
        let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
        *process = fresh(&worker, &process.place);
        told.jobs.enter(&process.id);
        let more = told.hooks.starting(&process);
        let mut words = worker.command.iter().map(OsString::from);
        Program {
            program: words.next().unwrap_or_default(),
            args: words.collect(),
            env: environment(&worker, &told, &process.id, more),
            dir: Some(worker.dir.clone()),
            grace: worker.stop_time.min(ORPHAN_TIME),
            lock: None,
            guard: None,
        }
    })
}

fn environment(worker: &Worker, told: &Told, id: &str, more: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let ours = [
        ("REDIS_URL", told.redis.with_password()),
        // An SDK that claims by itself goes to Redis itself, whatever a hook makes of the other.
        ("TEMPEST_REDIS_URL", told.redis.with_password()),
        ("TEMPEST_CLAIMS", if worker.claims == Claims::Base { "base" } else { "reliable" }.to_owned()),
        ("TEMPEST_QUEUE", told.keys.queue(worker.queue.as_str())),
        ("TEMPEST_WORKER_ID", id.to_owned()),
        ("TEMPEST_ENV", "development".to_owned()),
        // Else Python keeps what is printed until 8 KiB have come together.
        ("PYTHONUNBUFFERED", "1".to_owned()),
    ];
    let own = worker.env.iter().map(|(name, value)| (name.into(), value.into()));
    ours.into_iter().map(|(name, value)| (name.into(), value.into())).chain(more).chain(own).collect()
}

fn events_of(
    worker: &Worker,
    told: &Told,
    roster: &Roster,
    process: &Arc<Mutex<Process>>,
) -> Box<dyn FnMut(Event) + Send> {
    let (worker, told, roster, process) = (worker.clone(), told.clone(), roster.clone(), Arc::clone(process));
    Box::new(move |event| {
        let process = process.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let place = &process.place;
        match event {
            Event::Started(pid) => {
                told.hooks.started(&process, pid);
                tracing::debug!(from = %place, pid, "started");
                roster.enter(place, presence(&worker, process.id, pid));
            }
            Event::Died(exit) => {
                told.hooks.died(&process, &exit);
                told.jobs.leave(&process.id);
                roster.leave(place);
            }
            Event::Held => {
                told.hooks.stopped(&process);
                roster.hold(place, true);
                tracing::warn!(from = %place, "was stopped by a signal; it works on once it gets SIGCONT");
            }
            Event::Resumed => {
                told.hooks.continued(&process);
                roster.hold(place, false);
                tracing::info!(from = %place, "goes on");
            }
            Event::Ended(exit, wait) => tracing::warn!(from = %place, "{exit}; next start in {}", seconds(wait)),
            Event::Stopped(exit) => tracing::debug!(from = %place, "stopped: {exit}"),
        }
    })
}

/// What is known of a program that does not register itself; whether it is busy is not.
fn presence(worker: &Worker, id: String, pid: i32) -> Presence {
    let queue = worker.queue.as_str().to_owned();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let record = json!({
        "id": id, "queue": queue, "host": host, "pid": pid, "language": language(worker), "sdk": null,
        "started": now_ms(),
    });
    Presence { queue, id, record: record.to_string() }
}

/// The program's name without a version, which for an interpreter is the language: `python3.12` is python.
fn language(worker: &Worker) -> String {
    let program = worker.command.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    let name = program.to_string_lossy();
    name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-')).to_owned()
}

fn lines(place: String) -> Lines {
    Arc::new(move |stream, line| match stream {
        Stream::Stdout => tracing::info!(from = %place, stream = "stdout", "{line}"),
        Stream::Stderr => tracing::info!(from = %place, stream = "stderr", "{line}"),
    })
}

fn fresh_id(place: &str) -> String {
    // 36^6: two of the few workers of one place do not meet.
    let mut rest = (random_unit() * 2_176_782_336.0) as u64;
    let digit = |_| {
        let digit = char::from_digit((rest % 36) as u32, 36).unwrap_or('0');
        rest /= 36;
        digit
    };
    let suffix: String = (0..6).map(digit).collect();
    format!("{place}-{suffix}")
}

fn seconds(wait: Duration) -> String {
    format!("{:.1} s", wait.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tempest_protocol::QueueName;

    use super::*;

    fn worker(command: &[&str]) -> Worker {
        Worker {
            name: "w".into(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            processes: 1,
            queue: QueueName::new("mail").expect("a name"),
            needs: None,
            env: vec![("PYTHONUNBUFFERED".into(), "0".into())],
            dir: "/".into(),
            stop_time: Duration::from_secs(1),
            claims: Claims::Reliable,
        }
    }

    #[test]
    fn a_worker_is_told_its_redis_and_its_queue() {
        let redis = "rediss://u:p%40w@h:1/2".parse().expect("a URL");
        let (hooks, jobs) = (Arc::new(NoHooks), Jobs::default());
        let told = Told { redis, keys: Keys::new("shop"), base: "/".into(), hooks, jobs };
        let more = vec![("TEMPEST_QUEUE".into(), "private".into()), ("PYTHONUNBUFFERED".into(), "2".into())];
        let env: HashMap<_, _> = environment(&worker(&["x"]), &told, "w-1", more).into_iter().collect();
        let said = |name: &str| env[&OsString::from(name)].to_string_lossy().into_owned();
        assert_eq!(said("REDIS_URL"), "rediss://u:p%40w@h:1/2");
        assert_eq!((said("TEMPEST_REDIS_URL"), said("TEMPEST_CLAIMS")), (said("REDIS_URL"), "reliable".to_owned()));
        assert_eq!(said("TEMPEST_QUEUE"), "private", "a hook's word is over ours");
        assert_eq!(said("TEMPEST_WORKER_ID"), "w-1");
        assert_eq!(said("PYTHONUNBUFFERED"), "0", "its own environment wins");
    }

    #[test]
    fn the_language_is_read_off_the_program() {
        for (program, name) in [("/usr/bin/python3.12", "python"), ("ruby", "ruby"), ("./worker.sh", "worker.sh")] {
            assert_eq!(language(&worker(&[program])), name);
        }
    }

    #[test]
    fn ids_differ_from_start_to_start() {
        assert_ne!(fresh_id("ruby.1"), fresh_id("ruby.1"));
        assert_eq!(fresh_id("ruby.1").len(), "ruby.1-123456".len());
    }
}
