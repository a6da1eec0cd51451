//! What a worker can be told: by its code, else by the environment, else by default.
//!
//! What the code says wins, so that a program means what it says; `tempest up` tells its workers by the environment.
//! All that is wrong is reported at once.

use std::time::Duration;

use tempest_protocol::{Keys, QueueName};

use crate::address::{Address, AddressError};
use crate::backoff::random;
use crate::claim::{ClaimCommand, Claims, MOST_CLAIMS};
use crate::router::PatternError;

/// Where Redis is, unless told otherwise.
const DEFAULT_REDIS: &str = "redis://127.0.0.1:6379";
/// The queue's list, unless told otherwise.
const DEFAULT_QUEUE: &str = "tempest:web";
/// Jobs at a time where all handlers are async: they mostly wait.
const ASYNC_CONCURRENCY: usize = 64;
/// Jobs at a time, at least, where handlers run on threads.
const THREAD_CONCURRENCY: usize = 8;
/// The same for each processor.
const THREADS_PER_PROCESSOR: usize = 4;
/// Jobs claimed at a time, at most. Larger batches save little, and they make front and worker wait for each other: 32
/// gave a tenth more requests a second than 64 with 64, 128 and 512 clients (batches of 24 as many, of 16 fewer). And
/// what was claimed can go to no other worker.
const DEFAULT_BATCH: usize = 32;
/// How long a pop waits in vain. Short enough to notice a dead connection, long enough to cost nothing.
const DEFAULT_CLAIM_WAIT: Duration = Duration::from_secs(5);
/// How long a stop waits for running jobs.
const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(30);

/// Characters of a worker's id, at most.
const LONGEST_ID: usize = 64;

/// As told by the code; None: ask the environment, or take the default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) redis: Option<String>,
    pub(crate) queue: Option<String>,
    pub(crate) worker_id: Option<String>,
    pub(crate) development: Option<bool>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) batch: Option<usize>,
    pub(crate) claim_wait: Option<Duration>,
    pub(crate) stop_grace: Option<Duration>,
    pub(crate) claim_command: ClaimCommand,
    pub(crate) claims: Option<Claims>,
    pub(crate) finish_cancelled: bool,
}

/// Complete and checked.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) address: Address,
    pub(crate) queue_key: String,
    pub(crate) keys: Keys,
    pub(crate) queue: QueueName,
    pub(crate) worker_id: String,
    pub(crate) host: String,
    pub(crate) development: bool,
    pub(crate) concurrency: usize,
    pub(crate) batch: usize,
    pub(crate) claim_wait: Duration,
    pub(crate) stop_grace: Duration,
    pub(crate) claim_command: ClaimCommand,
    pub(crate) claims: Claims,
    pub(crate) finish_cancelled: bool,
}

/// Everything that keeps a worker from starting.
#[derive(Debug)]
pub struct Error {
    /// One or more; the [`Display`](std::fmt::Display) text has a line for each.
    pub problems: Vec<Problem>,
}

/// One thing that keeps a worker from starting.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The Redis URL.
    #[error("TEMPEST_REDIS_URL, REDIS_URL: {0}")]
    Redis(#[from] AddressError),
    /// The queue's key.
    #[error("TEMPEST_QUEUE: `{0}` is not the key of a queue: write prefix:name, such as tempest:web")]
    Queue(String),
    /// The worker's id.
    #[error("TEMPEST_WORKER_ID: `{0}` is not a worker's id: use 1 to 64 of A-Z a-z 0-9 _ . -")]
    WorkerId(String),
    /// How jobs are taken.
    #[error("TEMPEST_CLAIMS: `{0}` is neither reliable nor base")]
    Claims(String),
    /// A route's path.
    #[error(transparent)]
    Route(#[from] PatternError),
    /// The system gave no threads, sockets or signals.
    #[error("the system: {0}")]
    System(#[from] std::io::Error),
}

impl Settings {
    /// Completes what the code says. `threads`: some handlers run on threads.
    pub(crate) fn resolve(self, threads: bool) -> Result<Resolved, Vec<Problem>> {
        // A script's `REDIS_URL` may lead to a supervisor that claims for it; this worker claims for itself.
        let told = || environment("TEMPEST_REDIS_URL").or_else(|| environment("REDIS_URL"));
        let redis = self.redis.or_else(told).unwrap_or_else(|| DEFAULT_REDIS.into());
        let queue_key = self.queue.or_else(|| environment("TEMPEST_QUEUE")).unwrap_or_else(|| DEFAULT_QUEUE.into());
        let mut problems = Vec::new();
        let address = Address::parse(&redis).map_err(|error| problems.push(error.into())).ok();
        let names = Keys::split_queue_key(&queue_key);
        if names.is_none() {
            problems.push(Problem::Queue(queue_key.clone()));
        }
        let worker_id = self.worker_id.or_else(|| environment("TEMPEST_WORKER_ID")).unwrap_or_else(new_id);
        if !is_worker_id(&worker_id) {
            problems.push(Problem::WorkerId(worker_id.clone()));
        }
        let claims = self.claims.map_or_else(|| told_claims(environment("TEMPEST_CLAIMS").as_deref()), Ok);
        let claims = claims.map_err(|problem| problems.push(problem)).unwrap_or_default();
        let (Some(address), Some((keys, queue)), true) = (address, names, problems.is_empty()) else {
            return Err(problems);
        };
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Resolved {
            address,
            queue_key,
            keys,
            queue,
            worker_id,
            host,
            development: self
                .development
                .unwrap_or_else(|| environment("TEMPEST_ENV").is_some_and(|env| env == "development")),
            concurrency: self.concurrency.unwrap_or_else(|| default_concurrency(threads)).max(1),
            batch: self.batch.unwrap_or(DEFAULT_BATCH).clamp(1, MOST_CLAIMS),
            claim_wait: self.claim_wait.unwrap_or(DEFAULT_CLAIM_WAIT),
            stop_grace: self.stop_grace.unwrap_or(DEFAULT_STOP_GRACE),
            claim_command: self.claim_command,
            claims,
            finish_cancelled: self.finish_cancelled,
        })
    }
}

/// A variable that is set to something.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn told_claims(told: Option<&str>) -> Result<Claims, Problem> {
    match told {
        None | Some("reliable") => Ok(Claims::Reliable),
        Some("base") => Ok(Claims::Base),
        Some(other) => Err(Problem::Claims(other.to_owned())),
    }
}

/// The same id with an ending of its own, for where the id is taken.
pub(crate) fn another_id(id: &str) -> String {
    const ENDING: usize = 6;
    // Ids are ASCII.
    format!("{}-{}", &id[..id.len().min(LONGEST_ID - ENDING - 1)], &new_id()[..ENDING])
}

fn is_worker_id(id: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(allowed)
}

fn default_concurrency(threads: bool) -> usize {
    if !threads {
        return ASYNC_CONCURRENCY;
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    THREAD_CONCURRENCY.max(THREADS_PER_PROCESSOR * processors)
}

/// Ten characters of `a-z0-9`, as all ids of the contract.
fn new_id() -> String {
    let mut rest = random();
    let mut digit = || {
        let digit = (rest % 36) as u8;
        rest /= 36;
        char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 })
    };
    (0..10).map(|_| digit()).collect()
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the worker cannot start")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self { problems: vec![error.into()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(redis: &str, queue: &str) -> Settings {
        Settings { redis: Some(redis.into()), queue: Some(queue.into()), ..Settings::default() }
    }

    #[test]
    fn prefix_and_queue_come_from_the_key() {
        let resolved = settings("redis://h", "my:app:web").resolve(false).expect("good settings");
        assert_eq!((resolved.keys.prefix(), resolved.queue.as_str()), ("my:app", "web"));
        assert_eq!(resolved.worker_id.len(), 10);
        assert_ne!(resolved.worker_id, new_id());
    }

    #[test]
    fn claims_are_reliable_unless_told_otherwise() {
        assert_eq!(told_claims(None).expect("a default"), Claims::Reliable);
        assert_eq!(told_claims(Some("base")).expect("known"), Claims::Base);
        assert!(told_claims(Some("Base")).is_err());
    }

    #[test]
    fn another_id_keeps_to_the_rule() {
        for id in ["w", &"x".repeat(LONGEST_ID)] {
            let other = another_id(id);
            assert!(is_worker_id(&other) && other != id && other[..1] == id[..1], "{other}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let mut wrong = settings("http://h", "web");
        wrong.worker_id = Some("a b".into());
        let problems = wrong.resolve(false).expect_err("bad settings");
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
