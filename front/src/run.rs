//! `tempest front`: a front on its own, until it is told to end.
//!
//! Signals end here: the first drains, the second hastens. SIGHUP drains as well: a closed terminal sends it, and by
//! itself it would cut every connection.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{Admin, Subject};
use crate::config::{Config, RedisUrl};
use crate::lifecycle::Phase;
use crate::listener::{Listeners, Passed};
use crate::notify::{Notifier, State};
use crate::server::{self, Running, StartError, View};
use crate::telemetry::AccessLog;
use crate::telemetry::logging::Logging;

/// How often the count of dropped log lines is brought up to date.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// How often it is looked whether the front is ready, at first and later.
const LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// Runs a front until SIGTERM, SIGINT or SIGHUP and drains it; `passed` are the sockets that it was given.
///
/// # Errors
/// What kept it from starting.
pub fn front(config: Config, passed: Vec<Passed>, logging: &Logging) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let access = AccessLog::start(config.log.access);
        let redis = config.redis.url.clone().unwrap_or_else(default_redis);
        let listeners = Listeners::open(&config.front, passed)?;
        let running = server::start(Arc::new(config), (listeners.http, listeners.patience), redis, access.clone())?;
        let http: Vec<String> = running.addresses().iter().map(ToString::to_string).collect();
        tracing::info!(http = http.join(","), "listening");
        let view = running.view();
        // It answers until the drain is over: «not ready» is an answer too.
        let _admin = listeners.admin.map(|listener| admin(&running, listener)).transpose()?;
        let mut stop = Stop::new()?;
        let notify = Notifier::from_env();
        let _watchdog = notify.watchdog();
        let telling = tokio::spawn(tell(notify.clone(), running.view()));
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
        telling.abort();
        notify.send(&State::Stopping);
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

/// Tells whoever started this process whether the front is ready, whenever that changes, for ever.
async fn tell(notify: Notifier, view: View) {
    if !notify.is_on() {
        return;
    }
    // Nothing before the first readiness: a front that starts is expected not to be.
    let mut told = Some("starting");
    let mut look = LOOKS.0;
    loop {
        let now = view.not_ready();
        if now != told && (now.is_none() || look == LOOKS.1) {
            notify.send(&now.map_or(State::Ready, |why| State::NotReady(why.to_owned())));
            (told, look) = (now, LOOKS.1);
        }
        tokio::time::sleep(look).await;
    }
}

/// Starts the admin listener of a front.
///
/// # Errors
/// When the socket cannot be used.
pub fn admin(running: &Running, listener: TcpListener) -> Result<Admin, StartError> {
    let admin = Admin::start(listener, Arc::new(running.view()))?;
    running.set_admin(admin.address());
    tracing::info!(admin = %admin.address(), "listening for operators");
    Ok(admin)
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
    hangup: tokio::signal::unix::Signal,
}

impl Stop {
    /// Takes the signals over from their defaults.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn new() -> io::Result<Self> {
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Self { terminate: terminate?, interrupt: interrupt?, hangup: hangup? })
    }

    /// The name of the next one.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
