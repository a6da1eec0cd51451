//! What a kind of worker is: what is run, how often, and when a process of it is replaced.
//!
//! Plain data; [`super::workers`] reads it.

use std::path::PathBuf;
use std::time::Duration;

use tempest_protocol::QueueName;

use super::Secret;

/// Workers of one kind.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The name in the configuration.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// How many processes.
    pub processes: Processes,
    /// The queue they are told to serve.
    pub queue: QueueName,
    /// A program (found on PATH, or a path relative to the configuration) without which they are left out.
    pub needs: Option<String>,
    /// Additional environment; the values may be secret.
    pub env: Vec<(String, Secret)>,
    /// Working folder, absolute.
    pub dir: PathBuf,
    /// From SIGTERM to SIGKILL.
    pub stop_time: Duration,
    /// A process that does not register itself counts as ready when it has run this long.
    pub ready_time: Duration,
    /// The queue must have been empty this long before one process of several is given up.
    pub idle_time: Duration,
    /// Bounds of the wait before a process that ended is started again.
    pub restart_wait: Waits,
    /// A process is replaced after this many jobs.
    pub max_jobs: Option<u64>,
    /// A process is replaced at this age.
    pub max_age: Option<Duration>,
    /// A process is replaced when it has more bytes of resident memory.
    pub max_rss: Option<u64>,
    /// A process is killed when one job runs longer.
    pub job_time: Option<Duration>,
    /// All are replaced, one after the other, when a file changes that one of these patterns names.
    pub watch: Vec<String>,
    /// What becomes of its jobs when it dies.
    pub claims: Claims,
}

/// How a worker takes jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Claims {
    /// As claims, which are given back when it dies; pops become claims on their way to Redis.
    #[default]
    Reliable,
    /// It pops, and what it holds when it dies is lost.
    Base,
}

/// How many processes, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processes {
    /// Always there.
    pub least: usize,
    /// Where there is much to do.
    pub most: usize,
}

/// Bounds of a wait that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Bounds the first wait.
    pub first: Duration,
    /// Bounds every later one.
    pub last: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), last: Duration::from_secs(30) }
    }
}
