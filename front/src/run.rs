//! `tempest front`: a front on its own, until it is told to end.
//!
//! Signals end here: the first drains, the second hastens.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, RedisUrl};
use crate::lifecycle::Phase;
use crate::server::{self, StartError};
use crate::telemetry::AccessLog;
use crate::telemetry::logging::Logging;

/// How often the count of dropped log lines is brought up to date.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Runs a front until SIGTERM or SIGINT and drains it.
///
/// # Errors
/// What kept it from starting.
pub fn front(config: Config, logging: &Logging) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let access = AccessLog::start(config.log.access);
        let redis = config.redis.url.clone().unwrap_or_else(default_redis);
        let running = server::start(Arc::new(config), redis, access.clone())?;
        let http: Vec<String> = running.addresses().iter().map(ToString::to_string).collect();
        tracing::info!(http = http.join(","), "listening");
        let view = running.view();
        let mut stop = Stop::new()?;
        let mut counting = tokio::time::interval(COUNT_EVERY);
        loop {
            tokio::select! {
                name = stop.next() => {
                    tracing::info!("{name}: draining");
                    break;
                }
                _ = counting.tick() => logging.count_dropped(view.metrics(), &access),
            }
        }
        let hasten = running.hasten();
        tokio::spawn(async move {
            stop.next().await;
            hasten.advance(Phase::Stopping);
        });
        running.drain().await;
        tracing::info!("drained");
        Ok(())
    })
}

fn default_redis() -> RedisUrl {
    "redis://127.0.0.1:6379".parse().expect("a constant URL is well-formed")
}

/// The signals that end a process.
pub struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    /// Takes the signals over from their defaults.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
