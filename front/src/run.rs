//! `tempest front`: a front on its own, until it is told to end.
//!
//! Signals end here: the first that asks for the end drains, the second hastens, and SIGHUP reads the configuration anew.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::admin::{Admin, Asks, Reloads, Report, Subject, reloads};
use crate::config::{Loaded, Mode, RedisUrl};
use crate::lifecycle::Phase;
use crate::listener::{Listeners, Passed, addresses};
use crate::notify::{Notifier, State};
use crate::reload::Reloading;
use crate::server::{self, Running, StartError, View};
use crate::telemetry::AccessLog;
use crate::telemetry::logging::Logging;
use crate::up::signals::Signals;

/// How often the count of dropped log lines is brought up to date.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// How often it is looked whether the front is ready, at first and later.
const LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// Runs a front until SIGTERM or SIGINT and drains it; `passed` are the sockets that it was given.
///
/// # Errors
/// What kept it from starting.
pub fn front(loaded: Loaded, passed: Vec<Passed>, logging: &Logging) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::listen()?;
        let config = Arc::new(loaded.config.clone());
        let access = AccessLog::start(config.log.access);
        let redis = config.redis.url.clone().unwrap_or_else(RedisUrl::usual);
        let listeners = Listeners::open(&config.front, passed)?;
        let running = server::start(config, (listeners.http, listeners.patience), redis, access.clone())?;
        tracing::info!(http = addresses(running.entrances()), "listening");
        let (reloads, asks) = reloads();
        // It answers until the drain is over: «not ready» is an answer too.
        let _admin = listeners.admin.map(|listener| admin(&running, listener, reloads)).transpose()?;
        let notify = Notifier::from_env();
        let _watchdog = notify.watchdog();
        let telling = tokio::spawn(tell(notify.clone(), running.view()));
        let front = Front { running, reloading: Reloading::new(Mode::Front, loaded), logging, access, notify };
        let Front { running, notify, .. } = front.serve(&signals, asks).await;
        telling.abort();
        notify.send(&State::Stopping);
        let hasten = running.hasten();
        tokio::spawn({
            let signals = signals.clone();
            async move {
                signals.reached(2).await;
                hasten.advance(Phase::Stopping);
            }
        });
        let mut hangups = signals.reloads();
        tokio::select! {
            () = running.drain() => {}
            () = ignore(&mut hangups) => {}
        }
        tracing::info!("drained");
        Ok(())
    })
}

/// Says that it is too late for a reload, for ever.
async fn ignore(hangups: &mut watch::Receiver<u32>) {
    while hangups.changed().await.is_ok() {
        tracing::warn!("SIGHUP: not reloaded, since this front is draining");
    }
    std::future::pending().await
}

/// A front that serves.
struct Front<'a> {
    running: Running,
    reloading: Reloading,
    logging: &'a Logging,
    access: AccessLog,
    notify: Notifier,
}

impl Front<'_> {
    /// Until it is to end: reads the configuration anew when somebody asks, and keeps counts up to date.
    async fn serve(mut self, signals: &Signals, mut asks: Asks) -> Self {
        let (view, mut hangups) = (self.running.view(), signals.reloads());
        let mut counting = tokio::time::interval(COUNT_EVERY);
        loop {
            tokio::select! {
                name = signals.stopped() => {
                    tracing::info!("{name}: draining");
                    return self;
                }
                // The sender lives as long as the runtime.
                _ = hangups.changed() => {
                    tracing::info!("SIGHUP: reading the configuration anew");
                    self.reload().await;
                }
                ask = asks.next() => {
                    let report = self.reload().await;
                    let _ = ask.send(report);
                }
                _ = counting.tick() => self.logging.count_dropped(view.metrics(), &self.access),
            }
        }
    }

    async fn reload(&mut self) -> Report {
        self.notify.reloading("reading the configuration anew");
        let report = match self.try_reload().await {
            Ok(report) => report,
            Err(problems) => {
                let (report, problem) = Reloading::refused(problems);
                self.running.view().note(problem);
                report
            }
        };
        self.notify.reloaded(report.reloaded);
        let not_ready = self.running.view().not_ready();
        self.notify.send(&not_ready.map_or(State::Ready, |why| State::NotReady(why.to_owned())));
        report
    }

    async fn try_reload(&mut self) -> Result<Report, Vec<String>> {
        let next = self.reloading.read().await?;
        let config = Arc::new(next.loaded.config.clone());
        self.running.reload(config).await.map_err(|error| vec![error.to_string()])?;
        Ok(self.reloading.taken(next, self.logging))
    }
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
pub fn admin(running: &Running, listener: TcpListener, reloads: Reloads) -> Result<Admin, StartError> {
    let admin = Admin::start(listener, Arc::new(running.view()), Some(reloads))?;
    running.set_admin(admin.address());
    tracing::info!(admin = %admin.address(), "listening for operators");
    Ok(admin)
}

impl Subject for View {
    fn not_ready(&self) -> Vec<String> {
        View::not_ready(self).map(str::to_owned).into_iter().collect()
    }

    fn not_alive(&self) -> Vec<String> {
        self.stuck().into_iter().map(|index| format!("reactor {index} does nothing any more")).collect()
    }

    fn health(&self) -> Map<String, Value> {
        let (reactors, connected) = self.reactors();
        let in_flight = View::metrics(self).requests_in_flight.get();
        let all = [
            ("phase", Value::from(self.phase())),
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("started", self.started().into()),
            ("reactors", reactors.into()),
            ("reactors_connected", connected.into()),
            ("reactors_stuck", self.stuck().into()),
            ("requests_in_flight", in_flight.into()),
        ];
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn metrics(&self) -> String {
        View::metrics(self).render()
    }

    fn status(&self) -> Vec<u8> {
        self.record()
    }
}
