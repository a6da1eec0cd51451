//! What a worker is started with and known by: its environment, its id, its entry in the registry, its lines in the log.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{Process, Told};
use crate::backoff::random_unit;
use crate::broker::control::Presence;
use crate::config::{Claims, Worker};
use crate::supervisor::child::{Lines, Program, Stream};
use crate::up::state::now_ms;

/// Longest time from SIGTERM to SIGKILL for a worker whose supervisor died: its Redis is about to be gone as well.
const ORPHAN_TIME: Duration = Duration::from_secs(5);

/// Another process in a place. Each start is another worker: what the last one left unfinished is not this one's.
pub(super) fn fresh(worker: &Worker, place: &str) -> Process {
    let Worker { name, queue, claims, .. } = worker;
    let (group, place) = (name.clone(), place.to_owned());
    Process { id: fresh_id(&place), queue: queue.clone(), group, place, claims: *claims }
}

/// What is started; `more` comes from the hooks.
pub(super) fn program(worker: &Worker, told: &Told, process: &Process, more: Vec<(OsString, OsString)>) -> Program {
    let mut words = worker.command.iter().map(OsString::from);
    Program {
        program: words.next().unwrap_or_default(),
        args: words.collect(),
        env: environment(worker, told, &process.id, more),
        dir: Some(worker.dir.clone()),
        grace: worker.stop_time.min(ORPHAN_TIME),
        lock: None,
        guard: told.guard.clone(),
        sockets: Vec::new(),
    }
}

fn environment(worker: &Worker, told: &Told, id: &str, more: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let ours = [
        ("REDIS_URL", told.redis.with_password()),
        // An SDK that claims by itself goes to Redis itself, whatever a hook makes of the other.
        ("TEMPEST_REDIS_URL", told.redis.with_password()),
        ("TEMPEST_CLAIMS", if worker.claims == Claims::Base { "base" } else { "reliable" }.to_owned()),
        ("TEMPEST_QUEUE", told.keys.queue(worker.queue.as_str())),
        ("TEMPEST_WORKER_ID", id.to_owned()),
        // Else Python keeps what is printed until 8 KiB have come together.
        ("PYTHONUNBUFFERED", "1".to_owned()),
    ];
    let place = told.development.then(|| ("TEMPEST_ENV", "development".to_owned()));
    let own = worker.env.iter().map(|(name, value)| (name.into(), value.expose().into()));
    ours.into_iter().chain(place).map(|(name, value)| (name.into(), value.into())).chain(more).chain(own).collect()
}

/// What is known of a program that does not register itself; whether it is busy is not.
pub(super) fn presence(worker: &Worker, id: String, pid: i32) -> Presence {
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

/// Where the lines of a place go.
pub(super) fn lines(place: String) -> Lines {
    Arc::new(move |stream, line| match stream {
        Stream::Stdout => tracing::info!(from = %place, stream = "stdout", "{line}"),
        Stream::Stderr => tracing::info!(from = %place, stream = "stderr", "{line}"),
    })
}

/// An id that begins with `place`.
pub(super) fn fresh_id(place: &str) -> String {
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tempest_protocol::{Keys, QueueName};

    use super::*;
    use crate::config::{Processes, Waits};
    use crate::workers::{Jobs, NoHooks};

    fn worker(command: &[&str]) -> Worker {
        Worker {
            name: "w".into(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            processes: Processes { least: 1, most: 1 },
            queue: QueueName::new("mail").expect("a name"),
            needs: None,
            env: vec![("PYTHONUNBUFFERED".into(), crate::config::Secret::new("0"))],
            dir: "/".into(),
            stop_time: Duration::from_secs(1),
            ready_time: Duration::from_secs(1),
            idle_time: Duration::from_secs(1),
            restart_wait: Waits::default(),
            max_jobs: None,
            max_age: None,
            max_rss: None,
            job_time: None,
            watch: Vec::new(),
            claims: Claims::Reliable,
        }
    }

    #[test]
    fn a_worker_is_told_its_redis_and_its_queue() {
        let redis = "rediss://u:p%40w@h:1/2".parse().expect("a URL");
        let (hooks, jobs) = (Arc::new(NoHooks), Jobs::default());
        let told =
            Told { redis, keys: Keys::new("shop"), base: "/".into(), development: true, guard: None, hooks, jobs };
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
