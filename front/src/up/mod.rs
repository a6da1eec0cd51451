//! `tempest up`: everything on one machine, started in order and ended in order.
//!
//! Up: the private Redis, the front, the workers. Down: the front first, while the workers still answer what it waits
//! for; then the workers; Redis last, since everybody writes to it. This module is the only one that knows that order,
//! and it knows nothing else. The front is in this process, or is several processes (`fronts`).

mod banner;
mod fronts;
pub(crate) mod signals;
pub mod state;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::task::JoinHandle;

use crate::admin::{Admin, Asks, Reloads, Report, reloads};
use crate::config::{Config, Loaded, Mode, RedisAddress, RedisUrl};
use crate::lifecycle::Phase;
use crate::listener::{Entrance, ListenError, Listeners, Passed, addresses};
use crate::notify::Notifier;
use crate::reactor;
use crate::reload::{Next, Reloading};
use crate::run;
use crate::server::{self, Running};
use crate::supervise;
use crate::supervisor::child::Lines;
use crate::supervisor::keep::Event;
use crate::supervisor::redis::{NoServer, PrivateRedis, Settings, StartError, default_folder, find_server};
use crate::telemetry::logging::Logging;
use crate::telemetry::{AccessLog, Metrics};
use crate::workers::proxy::{self, Proxy};
use crate::workers::{Jobs, Roster, Told, Workers};
use banner::Banner;
use fronts::Fronts;
use signals::Signals;
use state::{Place, Run, StateFile};

/// The name of the private Redis in the log.
const REDIS: &str = "redis";
/// How often the count of dropped log lines is brought up to date.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How long the front is waited for before it is said that it is not ready.
const READY_TIME: Duration = Duration::from_secs(5);
/// Time between two looks whether it is.
const READY_LOOK: Duration = Duration::from_millis(5);

/// Why nothing runs; the text says what to do.
#[derive(Debug, thiserror::Error)]
enum UpError {
    #[error("{0}")]
    NoServer(#[from] NoServer),
    #[error("{0}")]
    Redis(#[from] StartError),
    #[error("{0}")]
    Listen(#[from] ListenError),
    #[error("{0}")]
    Front(#[from] server::StartError),
    #[error("cannot {0}: {1}")]
    System(&'static str, std::io::Error),
}

/// Runs everything until Ctrl-C or SIGTERM has ended it in order; blocks. A second signal hastens the end.
/// `passed` are the sockets that it was given.
pub fn run(loaded: Loaded, passed: Vec<Passed>, logging: Logging) -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(up(&loaded, passed, &logging)),
        Err(error) => Err(UpError::System("start", error)),
    };
    if let Err(error) = &ended {
        tracing::error!("{error}");
    }
    // Writes what is still waiting.
    drop(logging);
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn up(loaded: &Loaded, passed: Vec<Passed>, logging: &Logging) -> Result<(), UpError> {
    let signals = Signals::listen().map_err(|error| UpError::System("listen to signals", error))?;
    let access = AccessLog::start(loaded.config.log.access);
    let mut all = All::default();
    let started = tokio::select! {
        started = all.start(loaded, passed, logging, &access) => started,
        () = signals.reached(1) => Ok(()),
    };
    let notifier = Notifier::from_env();
    let _watchdog = notifier.watchdog();
    if started.is_ok() {
        notifier.ready(&supervise::status(&all.workers));
        tokio::select! {
            () = signals.reached(1) => tracing::info!("stopping; once more to hasten"),
            () = all.tend(Reloading::new(Mode::Up, loaded.clone()), (logging, &access), &signals, &notifier) => {}
        }
        notifier.stopping();
    }
    all.stop(&signals).await;
    started
}

/// The front.
enum Front {
    /// In this process.
    Here(Running),
    /// In processes of its own.
    Beside(Fronts),
}

/// All that runs.
#[derive(Default)]
struct All {
    redis: Option<PrivateRedis>,
    front: Option<Front>,
    admin: Option<Admin>,
    asks: Option<Asks>,
    workers: Workers,
    roster: Roster,
    told: Option<Told>,
    beat: Option<JoinHandle<()>>,
    proxy: Option<proxy::Running>,
    state: Option<StateFile>,
}

impl All {
    /// Starts everything; what has started when it fails or is dropped is there for [`All::stop`].
    async fn start(
        &mut self,
        loaded: &Loaded,
        passed: Vec<Passed>,
        logging: &Logging,
        access: &AccessLog,
    ) -> Result<(), UpError> {
        let place = Place::find().map_err(|error| UpError::System("keep the state of this run", error))?;
        let config = &loaded.config;
        let (redis, direct) = match &config.redis.url {
            Some(url) => (url.clone(), url.clone()),
            None => {
                let private = self.redis.insert(PrivateRedis::start(settings(loaded, &place)?).await?);
                (RedisUrl::tcp("127.0.0.1", private.port()), by_socket(private))
            }
        };
        let listeners = Listeners::open(&config.front, passed)?;
        let front = if config.front.processes == 0 {
            let sockets = (listeners.http, listeners.patience);
            Front::Here(server::start(Arc::new(config.clone()), sockets, direct.clone(), access.clone())?)
        } else {
            let fronts = Fronts::start(loaded, listeners.http, &direct, &place, (logging, access));
            let fronts = fronts.map_err(|error| UpError::System("start fronts", error))?;
            tracing::info!(http = addresses(fronts.entrances()), processes = config.front.processes, "listening");
            Front::Beside(fronts)
        };
        let front = self.front.insert(front);
        // It answers until the drain is over: «not ready» is an answer too.
        let (reloads, asks) = reloads();
        self.asks = Some(asks);
        self.admin = listeners.admin.map(|listener| front.admin(listener, reloads)).transpose()?;
        let jobs = Jobs::default();
        let (hooks, proxy) = Proxy::start(direct, redis.clone(), config, jobs.clone());
        self.proxy = Some(proxy);
        let told = self.told.insert(Told {
            redis: redis.clone(),
            keys: config.redis.keys.clone(),
            base: config.base.clone(),
            development: true,
            guard: None,
            hooks: Arc::new(hooks),
            jobs,
        });
        self.workers = Workers::start(&config.workers, told, &self.roster);
        self.beat = Some(tokio::task::spawn_local(self.roster.clone().beat(redis.clone(), told.keys.clone())));
        front.await_ready().await;
        let run = describe(loaded, &redis, front.entrances(), self.admin.as_ref());
        self.state = Some(place.write(&run).map_err(|error| UpError::System("write the state of this run", error))?);
        let admin = self.admin.as_ref().map(Admin::address);
        let banner = Banner { http: front.entrances(), admin, redis: &redis, workers: &self.workers };
        banner::show(&banner, config.log.format);
        Ok(())
    }

    /// What is to be done while everything runs, for ever: keeps the count of dropped log lines up to date, reads the
    /// configuration anew when somebody asks, and on SIGHUP takes up new programs as well: fronts and workers are replaced.
    async fn tend(
        &mut self,
        mut reloading: Reloading,
        (logging, access): (&Logging, &AccessLog),
        signals: &Signals,
        notifier: &Notifier,
    ) {
        let (mut hangups, mut counting) = (signals.reloads(), tokio::time::interval(COUNT_EVERY));
        let Some(mut asks) = self.asks.take() else { return std::future::pending().await };
        loop {
            let ask = tokio::select! {
                _ = counting.tick() => {
                    self.count_dropped(logging, access);
                    continue;
                }
                // The sender lives as long as the runtime.
                _ = hangups.changed() => None,
                ask = asks.next() => Some(ask),
            };
            notifier.reloading("reading the configuration anew");
            let report = self.reload(&mut reloading, logging, ask.is_some()).await;
            if ask.is_none() && report.reloaded {
                if let Some(Front::Beside(fronts)) = &mut self.front {
                    fronts.replace().await;
                }
                supervise::restart(&self.workers, &mut hangups).await;
            }
            notifier.ready(&supervise::status(&self.workers));
            if let Some(ask) = ask {
                let _ = ask.send(report);
            }
        }
    }

    /// Reads the configuration anew and gives it to the front; to fronts that are processes only where `at_once`, since
    /// they are replaced otherwise.
    async fn reload(&mut self, reloading: &mut Reloading, logging: &Logging, at_once: bool) -> Report {
        let refused = match reloading.read().await {
            Err(problems) => problems,
            Ok(next) => match self.give(&next, at_once).await {
                Ok(()) => return reloading.taken(next, logging),
                Err(problems) => problems,
            },
        };
        let (report, problem) = Reloading::refused(refused);
        self.roster.note(problem);
        report
    }

    async fn give(&mut self, next: &Next, at_once: bool) -> Result<(), Vec<String>> {
        match &mut self.front {
            Some(Front::Here(front)) => {
                let config = Arc::new(next.loaded.config.clone());
                front.reload(config).await.map_err(|error| vec![error.to_string()])
            }
            Some(Front::Beside(fronts)) if at_once => {
                check_keys(Arc::new(next.loaded.config.clone())).await?;
                fronts.reload().await
            }
            _ => Ok(()),
        }
    }

    fn count_dropped(&self, logging: &Logging, access: &AccessLog) {
        if let Some(Front::Here(front)) = &self.front {
            logging.count_dropped(front.view().metrics(), access);
        }
    }

    /// Ends what runs, in order.
    async fn stop(mut self, signals: &Signals) {
        drop(self.state.take());
        if let Some(front) = self.front.take() {
            front.stop(signals).await;
            drop(self.admin.take());
            tracing::debug!("the front has ended");
        }
        self.workers.stop(signals.reached(2)).await;
        tracing::debug!("the workers have ended");
        if let Some(proxy) = self.proxy.take() {
            proxy.close().await;
        }
        if let (Some(beat), Some(told)) = (self.beat.take(), self.told.take()) {
            beat.abort();
            self.roster.close(&told.redis, &told.keys).await;
        }
        if let Some(redis) = self.redis.take() {
            redis.stop().await;
            tracing::debug!("Redis has ended");
        }
        tracing::info!("stopped");
    }
}

impl Front {
    fn entrances(&self) -> &[Arc<Entrance>] {
        match self {
            Self::Here(front) => front.entrances(),
            Self::Beside(fronts) => fronts.entrances(),
        }
    }

    fn admin(&self, listener: std::net::TcpListener, reloads: Reloads) -> Result<Admin, UpError> {
        match self {
            Self::Here(front) => Ok(run::admin(front, listener, reloads)?),
            Self::Beside(fronts) => {
                let admin = Admin::start(listener, fronts.subject(), Some(reloads));
                let admin = admin.map_err(|error| UpError::System("listen for operators", error))?;
                tracing::info!(admin = %admin.address(), "listening for operators");
                Ok(admin)
            }
        }
    }

    fn not_ready(&self) -> Option<String> {
        match self {
            Self::Here(front) => front.view().not_ready().map(str::to_owned),
            Self::Beside(fronts) => fronts.not_ready(),
        }
    }

    /// Waits until it takes requests, or says that it does not yet: somebody else's Redis may come later.
    async fn await_ready(&self) {
        let deadline = Instant::now() + READY_TIME;
        while let Some(reason) = self.not_ready() {
            if Instant::now() >= deadline {
                return tracing::warn!("the front is not ready yet: {reason}");
            }
            tokio::time::sleep(READY_LOOK).await;
        }
    }

    async fn stop(self, signals: &Signals) {
        match self {
            Self::Here(front) => drain(front, signals).await,
            Self::Beside(fronts) => fronts.stop(signals.reached(2)).await,
        }
    }
}

/// What the front processes would refuse, each for itself, refuses all of it beforehand.
async fn check_keys(config: Arc<Config>) -> Result<(), Vec<String>> {
    let (access, metrics) = (AccessLog::start(config.log.access), Arc::new(Metrics::new()));
    let opened = tokio::task::spawn_blocking(move || reactor::Settings::open(config, None, access, &metrics).map(drop));
    opened.await.expect("reading keys does not panic").map_err(|error| vec![error.to_string()])
}

/// Lets the front finish what it has accepted, with the workers still there; in haste it refuses the rest.
async fn drain(front: Running, signals: &Signals) {
    let hasten = front.hasten();
    let mut drained = std::pin::pin!(front.drain());
    tokio::select! {
        () = &mut drained => return,
        () = signals.reached(2) => hasten.advance(Phase::Stopping),
    }
    drained.await;
}

fn settings(loaded: &Loaded, place: &Place) -> Result<Settings, UpError> {
    let config = &loaded.config;
    let home = || default_folder(&state::absolute(loaded.file.as_deref().unwrap_or(&config.base)));
    Ok(Settings {
        server: find_server(config.redis.server.as_deref(), &config.base)?,
        dir: config.redis.dir.clone().unwrap_or_else(home),
        socket: place.socket(),
        port: config.redis.port,
        verbose: config.log.level.contains("debug") || config.log.level.contains("trace"),
        lines: redis_lines(),
        events: Box::new(redis_event),
        guard: None,
    })
}

fn redis_lines() -> Lines {
    Arc::new(|_, line| tracing::info!(from = REDIS, stream = "stdout", "{line}"))
}

fn redis_event(event: Event) {
    match event {
        Event::Started(pid) => tracing::debug!(from = REDIS, pid, "started"),
        Event::Ended(exit, wait) => {
            tracing::error!(from = REDIS, "{exit}; next start in {:.1} s, on the same port", wait.as_secs_f64());
        }
        Event::Stopped(exit) => tracing::debug!(from = REDIS, "stopped: {exit}"),
    }
}

/// The front is on the same machine, and a socket costs it less.
fn by_socket(redis: &PrivateRedis) -> RedisUrl {
    RedisUrl { address: RedisAddress::Unix(redis.socket().to_owned()), ..RedisUrl::tcp("", 0) }
}

fn describe(loaded: &Loaded, redis: &RedisUrl, http: &[Arc<Entrance>], admin: Option<&Admin>) -> Run {
    Run {
        pid: std::process::id(),
        started: state::now_ms(),
        file: loaded.file.as_deref().map(state::absolute),
        redis: redis.clone(),
        prefix: loaded.config.redis.keys.prefix().to_owned(),
        channel_prefix: loaded.config.channels.prefix.clone(),
        http: http.iter().map(ToString::to_string).collect(),
        admin: admin.map(|admin| admin.address().to_string()),
    }
}
