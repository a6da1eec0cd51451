//! What a measurement needs: a Redis, a front in its release build, workers; and how all of it ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempest_tests::{Process, World, repository, target_folder};

/// A front and a Redis of a measurement's own.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Front and Redis.
    pub(crate) world: World,
}

impl Stage {
    /// Starts both; the front serves as many clients as this program can be.
    pub(crate) fn start(title: &str) -> Self {
        crate::report::title(title);
        Self { world: World::builder().set("limits.connections = 16384").set("limits.pending = 16384").start() }
    }

    /// Where the front listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.world.front.address()
    }

    /// Resident memory of the front in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.world.front.process.rss_bytes()
    }

    /// Starts the hello worker of an SDK.
    pub(crate) fn worker(&mut self, language: &str) {
        let mut command = match language {
            "rust" => Command::new(example()),
            _ => python(),
        };
        command.env("REDIS_URL", self.world.redis.url()).env("TEMPEST_QUEUE", "tempest:web");
        let process = Process::start(language, self.world.mark(), command);
        self.world.adopt(process);
    }

    /// Ends all of it and asserts that nothing is left.
    pub(crate) fn end(self) {
        self.world.finish();
    }
}

fn example() -> PathBuf {
    let program = target_folder().join("release/examples/hello");
    assert!(program.exists(), "no {}: cargo build --release -p tempest-worker --example hello", program.display());
    program
}

fn python() -> Command {
    let program = target_folder().join("python/bin/python");
    assert!(program.exists(), "no {}: a virtual environment with worker-sdk/python installed", program.display());
    let mut command = Command::new(program);
    command.args(["-m", "tempest_worker", "hello:app"]).current_dir(repository().join("tests/load"));
    command
}

/// Raises the soft limit on open files to the hard one, but not above `most`.
pub(crate) fn raise_file_limit(most: u64) {
    let limit = getrlimit(Resource::Nofile);
    let raised = limit.maximum.unwrap_or(most).min(most);
    if limit.current.is_some_and(|current| current < raised) {
        let wanted = Rlimit { current: Some(raised), maximum: limit.maximum };
        setrlimit(Resource::Nofile, wanted).expect("a limit may be raised up to the hard one");
    }
}
