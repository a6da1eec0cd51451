//! What a measurement needs: a Redis, a front in its release build, workers; and how all of it ends.

use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempest_tests::World;

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
        self.world.sdk_worker(language);
    }

    /// Ends all of it and asserts that nothing is left.
    pub(crate) fn end(self) {
        self.world.finish();
    }
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
