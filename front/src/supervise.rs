//! `tempest supervise`: workers alone, for a front and a Redis that run elsewhere.
//!
//! The same workers as those of `tempest up`, and the same code; only who else runs here differs.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;

use crate::config::{Config, Loaded, Mode, RedisUrl};
use crate::notify::Notifier;
use crate::reload::Reloading;
use crate::supervisor::which::which;
use crate::telemetry::logging::Logging;
use crate::up::signals::Signals;
use crate::workers::proxy::Proxy;
use crate::workers::{Jobs, Roster, Told, Workers};

/// How long the first processes are waited for before the service manager is told that this runs all the same.
const READY_TIME: Duration = Duration::from_secs(30);

/// Why nothing runs; the text says what to do.
#[derive(Debug, thiserror::Error)]
enum SuperviseError {
    #[error("cannot {0}: {1}")]
    System(&'static str, std::io::Error),
    #[error("nothing can run here: there is no program {0}. Is it installed, on PATH, and spelled right?")]
    NoProgram(String),
}

/// Runs the workers until Ctrl-C or SIGTERM has ended them in order; blocks. A second signal hastens the end, SIGHUP
/// reads the configuration anew and restarts the workers one after the other.
pub fn run(loaded: &Loaded, logging: Logging) -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(supervise(loaded, &logging)),
        Err(error) => Err(SuperviseError::System("start", error)),
    };
    if let Err(error) = &ended {
        tracing::error!("{error}");
    }
    // Writes what is still waiting.
    drop(logging);
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn supervise(loaded: &Loaded, logging: &Logging) -> Result<(), SuperviseError> {
    let config = &loaded.config;
    check_programs(config)?;
    let signals = Signals::listen().map_err(|error| SuperviseError::System("listen to signals", error))?;
    let redis = config.redis.url.clone().unwrap_or_else(RedisUrl::usual);
    let jobs = Jobs::default();
    let (hooks, proxy) = Proxy::start(redis.clone(), redis.clone(), config, jobs.clone());
    let told = Told {
        redis: redis.clone(),
        keys: config.redis.keys.clone(),
        base: config.base.clone(),
        development: false,
        guard: None,
        hooks: Arc::new(hooks),
        jobs,
    };
    let (notifier, roster) = (Notifier::from_env(), Roster::default());
    let watchdog = notifier.watchdog();
    let mut workers = Workers::start(&config.workers, &told, &roster);
    let names: Vec<&str> = workers.running.iter().map(|(name, _)| name.as_str()).collect();
    tracing::info!(workers = names.join(","), redis = %redis, "supervising");
    let beat = tokio::task::spawn_local(roster.clone().beat(redis.clone(), told.keys.clone()));
    let reloading = (Reloading::new(Mode::Supervise, loaded.clone()), &roster);
    serve(&workers, reloading, &signals, (&notifier, logging)).await;
    tracing::info!("stopping; once more to hasten");
    notifier.stopping();
    workers.stop(signals.reached(2)).await;
    proxy.close().await;
    beat.abort();
    roster.close(&redis, &told.keys).await;
    drop(watchdog);
    tracing::info!("stopped");
    Ok(())
}

/// Until it is to stop: says when the workers are ready, and restarts them when somebody asks.
async fn serve(
    workers: &Workers,
    (mut reloading, roster): (Reloading, &Roster),
    signals: &Signals,
    (notifier, logging): (&Notifier, &Logging),
) {
    tokio::select! {
        () = workers.settled() => {}
        () = tokio::time::sleep(READY_TIME) => tracing::warn!("{}; going on all the same", status(workers)),
        () = signals.reached(1) => return,
    }
    tracing::info!("{}", status(workers));
    notifier.ready(&status(workers));
    tokio::select! {
        () = signals.reached(1) => {}
        () = restart_on_demand(workers, (&mut reloading, roster), signals, (notifier, logging)) => {}
    }
}

/// Reads the configuration anew for each SIGHUP, for ever, and replaces all workers where nothing is wrong with it. The
/// service manager hears when that begins and when it is done.
async fn restart_on_demand(
    workers: &Workers,
    (reloading, roster): (&mut Reloading, &Roster),
    signals: &Signals,
    (notifier, logging): (&Notifier, &Logging),
) {
    let mut hangups = signals.reloads();
    // The sender lives as long as the runtime.
    while hangups.changed().await.is_ok() {
        notifier.reloading("rolling restart");
        match reloading.read().await {
            Ok(next) => {
                reloading.taken(next, logging);
                restart(workers, &mut hangups).await;
            }
            Err(problems) => roster.note(Reloading::refused(problems).1),
        }
        notifier.ready(&status(workers));
    }
    std::future::pending().await
}

/// Replaces all workers, one after the other; each further SIGHUP begins anew.
pub(crate) async fn restart(workers: &Workers, hangups: &mut watch::Receiver<u32>) {
    tracing::info!("SIGHUP: rolling restart");
    workers.reload();
    loop {
        tokio::select! {
            () = workers.settled() => break,
            // What has just been started may be old again.
            _ = hangups.changed() => workers.reload(),
        }
    }
    tracing::info!("rolling restart done: {}", status(workers));
}

/// For people and for the service manager.
pub(crate) fn status(workers: &Workers) -> String {
    let (ready, target) = workers.ready();
    format!("{ready} of {target} worker processes ready")
}

/// A fault where none of the programs is there: then it is the command that is wrong, not this machine.
fn check_programs(config: &Config) -> Result<(), SuperviseError> {
    let path = std::env::var_os("PATH");
    let mut missing = Vec::new();
    for worker in &config.workers {
        let program = worker.command.first().map(String::as_str).unwrap_or_default();
        if which(program.as_ref(), &worker.dir, path.as_deref()).is_some() {
            return Ok(());
        }
        missing.push(format!("`{program}`"));
    }
    Err(SuperviseError::NoProgram(missing.join(", ")))
}
