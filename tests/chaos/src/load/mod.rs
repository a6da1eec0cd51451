//! The load: a bounded number of clients and pushers, each a thread, each with its own pace, all writing one ledger.
//!
//! Half of the clients ask for what is quick, the others for what takes its time. Each waits for an outcome before it
//! asks again, so nothing piles up, and a front that answers nobody is seen and not covered up.

mod client;
mod pusher;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tempest_chaos::ledger::Writer;

/// Clients that ask for what is quick.
const QUICK: usize = 16;
/// Clients that ask for what takes its time.
const SLOW: usize = 24;
/// Background jobs a second.
const PUSHES: u64 = 30;
/// The most a client waits for anything. Above the deadline of every request.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// Where a front listens, and which in the row of its incarnations it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) generation: u32,
}

/// What clients and those who direct them share.
#[derive(Debug)]
pub(crate) struct Shared {
    places: Mutex<Vec<Place>>,
    stop: AtomicBool,
    /// Quick requests a second by all clients; 0: as many as they can.
    rate: AtomicU64,
    /// Outcomes of quick requests.
    answered: AtomicU64,
    ledger: PathBuf,
    seed: u64,
}

impl Shared {
    pub(crate) fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn writer(&self, name: &str) -> Writer {
        Writer::open(&self.ledger.join(format!("{name}.jsonl"))).expect("the folder of ledgers is there")
    }

    /// The mean pause between two quick requests of one client.
    fn pause(&self) -> Duration {
        match self.rate.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(QUICK as f64 / rate as f64),
        }
    }
}

/// A load that runs.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    redis: u16,
}

impl Load {
    /// Nobody asks yet.
    pub(crate) fn new(places: Vec<Place>, redis: u16, ledger: &Path, seed: u64) -> Self {
        let shared = Shared {
            places: Mutex::new(places),
            stop: AtomicBool::new(false),
            rate: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            ledger: ledger.to_owned(),
            seed,
        };
        Self { shared: Arc::new(shared), threads: Vec::new(), redis }
    }

    /// Starts the clients that ask for what is quick: as fast as they can, until a rate is set.
    pub(crate) fn start_quick(&mut self) {
        for number in 0..QUICK {
            let shared = Arc::clone(&self.shared);
            self.threads.push(std::thread::spawn(move || client::quick(&shared, number)));
        }
    }

    /// Starts the others.
    pub(crate) fn start_slow(&mut self) {
        for number in QUICK..QUICK + SLOW {
            let shared = Arc::clone(&self.shared);
            self.threads.push(std::thread::spawn(move || client::slow(&shared, number)));
        }
        let (shared, redis) = (Arc::clone(&self.shared), self.redis);
        self.threads.push(std::thread::spawn(move || pusher::run(&shared, redis, PUSHES)));
    }

    /// Quick requests a second from now on.
    pub(crate) fn set_rate(&self, rate: u64) {
        self.shared.rate.store(rate.max(1), Ordering::Relaxed);
    }

    /// Quick requests that have an outcome.
    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Nobody asks anew; returns when every request has its outcome.
    pub(crate) fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client notes faults and does not panic");
        }
    }
}
