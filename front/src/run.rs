//! `tempest front`: a front on its own, until it is told to end.
//!
//! Signals end here: the first drains, the second hastens.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{Admin, Subject};
use crate::config::{Config, Listen, RedisUrl};
use crate::lifecycle::Phase;
use crate::notify::Notifier;
use crate::server::{self, Running, StartError, View};
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
        let admin_at = config.front.admin.clone();
        let running = server::start(Arc::new(config), redis, access.clone())?;
        let http: Vec<String> = running.addresses().iter().map(ToString::to_string).collect();
        tracing::info!(http = http.join(","), "listening");
        let view = running.view();
        // It answers until the drain is over: «not ready» is an answer too.
        let _admin = admin(&running, admin_at).await?;
        let mut stop = Stop::new()?;
        let notifier = Notifier::from_env();
        let _watchdog = notifier.watchdog();
        notifier.ready(&format!("listening on {}", http.join(", ")));
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
        notifier.stopping();
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

/// Starts the admin listener of a front, where there is to be one.
///
/// # Errors
/// When its address cannot be listened on.
pub async fn admin(running: &Running, at: Option<Listen>) -> Result<Option<Admin>, StartError> {
    let Some(Listen::Tcp(address)) = at else { return Ok(None) };
    let admin = Admin::start(address, Arc::new(running.view())).await;
    let admin = admin.map_err(|error| StartError::Listen(address, error))?;
    running.set_admin(admin.address());
    tracing::info!(admin = %admin.address(), "listening for operators");
    Ok(Some(admin))
}

impl Subject for View {
    fn not_ready(&self) -> Vec<String> {
        View::not_ready(self).map(str::to_owned).into_iter().collect()
    }

    fn metrics(&self) -> String {
        View::metrics(self).render()
    }

    fn status(&self) -> Vec<u8> {
        self.record()
    }
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
