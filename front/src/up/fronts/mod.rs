//! The front processes of `tempest up`: they share its listening sockets and are replaced one after another.
//!
//! The sockets are opened once and kept here, so nothing that waits in them is lost when a process goes: the others
//! accept it, or the next one. A process is replaced by starting another, waiting until that is ready, and only then
//! telling the old one to drain; so there is one process more than configured for a while, and never one less. What
//! cannot become ready (a wrong configuration, a broken program) replaces nothing.

mod board;
mod process;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::state::Place;
use crate::admin::Subject;
use crate::config::{Config, Loaded, LogFormat, Pattern, RedisUrl};
use crate::listener::{Entrance, HTTP, HTTPS, Listening, REDIRECT, Way};
use crate::supervisor::child::Socket;
use crate::telemetry::AccessLog;
use crate::telemetry::logging::Logging;
use board::Board;
use process::{Process, Setup};

/// Longest time from SIGTERM to SIGKILL for a front whose supervisor died: its Redis is about to be gone as well.
const ORPHAN_TIME: Duration = Duration::from_secs(5);
/// What a process may take for its end beyond the grace period before it is killed.
const LAST_MOMENTS: Duration = Duration::from_secs(3);
/// Flags that the processes are not given as they were given to us, since what they say is decided here.
const DECIDED: [&str; 3] = ["admin", "redis", "log-format"];

/// All front processes of a run.
#[derive(Debug)]
pub(super) struct Fronts {
    setup: Arc<Setup>,
    board: Arc<Board>,
    places: Vec<Process>,
    /// The one that is not ready yet, or has been replaced and has not ended yet.
    passing: Option<Process>,
    entrances: Vec<Arc<Entrance>>,
    ready_time: Duration,
    /// Processes kept so far, those replaced included.
    count: u64,
}

impl Fronts {
    /// Starts as many as are configured, accepting from `sockets`.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(super) fn start(
        loaded: &Loaded,
        sockets: Vec<Listening>,
        redis: &RedisUrl,
        place: &Place,
        (logging, access): (&Logging, &AccessLog),
    ) -> io::Result<Self> {
        let entrances = sockets.iter().map(|listening| Arc::clone(&listening.entrance)).collect();
        let passed = sockets.iter().map(passed).collect::<io::Result<_>>()?;
        let grace = loaded.config.front.grace;
        let setup = Setup {
            program: program(),
            args: arguments(loaded, logging.format()),
            // Not an argument: it may hold a password, and arguments can be seen by everybody.
            env: vec![("TEMPEST_REDIS".into(), redis.with_password().into())],
            sockets: Mutex::new((passed, sockets)),
            place: place.clone(),
            stop_time: grace + LAST_MOMENTS,
            orphan_time: grace.min(ORPHAN_TIME),
            relay: logging.relay(),
            json: logging.format() == LogFormat::Json,
            access: access.clone(),
        };
        let mut fronts = Self {
            setup: Arc::new(setup),
            board: Arc::default(),
            places: Vec::new(),
            passing: None,
            entrances,
            ready_time: loaded.config.front.ready_time,
            count: 0,
        };
        for at in 0..loaded.config.front.processes {
            let process = fronts.spawn(at)?;
            fronts.board.set(at, process.name(), process.state());
            fronts.places.push(process);
        }
        Ok(fronts)
    }

    fn spawn(&mut self, at: usize) -> io::Result<Process> {
        self.count += 1;
        Process::start(&self.setup, format!("front.{}", at + 1), self.count)
    }

    /// Where browsers come in.
    pub(super) fn entrances(&self) -> &[Arc<Entrance>] {
        &self.entrances
    }

    /// What the admin listener shows.
    pub(super) fn subject(&self) -> Arc<dyn Subject> {
        Arc::clone(&self.board) as Arc<dyn Subject>
    }

    /// Why no front takes requests; None: one does.
    pub(super) fn not_ready(&self) -> Option<String> {
        self.board.not_ready().into_iter().next()
    }

    /// Has all of them read the configuration anew, as they are.
    ///
    /// # Errors
    /// Those that did not take it, each with a line.
    pub(super) async fn reload(&mut self) -> Result<(), Vec<String>> {
        let time = self.ready_time;
        let asked = futures::future::join_all(self.places.iter_mut().map(|process| process.reload(time))).await;
        let failed: Vec<String> = asked.into_iter().filter_map(Result::err).collect();
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    /// Replaces all of them, one after another. When it is dropped half-way, what is under way is there for
    /// [`Fronts::stop`].
    pub(super) async fn replace(&mut self) {
        tracing::info!("replacing {} fronts", self.places.len());
        for at in 0..self.places.len() {
            if let Err(why) = self.replace_one(at).await {
                tracing::error!(from = self.places[at].name(), "not replaced: {why}; those not yet replaced stay");
                return;
            }
        }
        tracing::info!(starts = self.count, "all fronts are replaced");
    }

    async fn replace_one(&mut self, at: usize) -> Result<(), String> {
        let fresh = self.spawn(at).map_err(|error| format!("cannot start another: {error}"))?;
        let ready = self.passing.insert(fresh).ready(self.ready_time).await;
        if let (Ok(pid), Some(fresh)) = (&ready, self.passing.take_if(|_| ready.is_ok())) {
            self.board.set(at, fresh.name(), fresh.state());
            let old = std::mem::replace(&mut self.places[at], fresh);
            tracing::info!(from = old.name(), pid, old = old.pid(), "replaced; the old one drains");
            self.passing = Some(old);
        }
        if let Some(leaving) = &mut self.passing {
            leaving.stop();
            leaving.stopped().await;
            self.passing = None;
        }
        ready.map(drop)
    }

    /// Lets all of them finish what they have accepted; from here on nothing more is. Once `hasten` completes they are
    /// killed.
    pub(super) async fn stop(mut self, hasten: impl Future<Output = ()>) {
        self.setup.close_sockets();
        let mut all: Vec<Process> = self.passing.into_iter().chain(self.places.drain(..)).collect();
        all.iter().for_each(Process::stop);
        let ended = async {
            for process in &mut all {
                process.stopped().await;
            }
        };
        let hastened = tokio::select! {
            () = ended => false,
            () = hasten => true,
        };
        if hastened {
            all.iter().for_each(Process::hasten);
            for process in &mut all {
                process.stopped().await;
            }
        }
    }
}

/// A socket as the processes get it.
fn passed(listening: &Listening) -> io::Result<Socket> {
    let name = match listening.entrance.way {
        Way::Plain | Way::Mounted { .. } => HTTP,
        Way::Tls(_) => HTTPS,
        Way::Redirect(_) => REDIRECT,
    };
    Ok(Socket { name, listener: Arc::new(listening.socket.descriptor()?) })
}

/// This program by its path: where the file is replaced meanwhile, the next process is the new version.
fn program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| crate::supervisor::guard::this_executable())
}

/// The arguments of a front that is configured as we are. It reads the file anew, so that a restart takes up changes.
fn arguments(loaded: &Loaded, format: LogFormat) -> Vec<OsString> {
    let given = loaded.flags.settings.iter().filter(|(setting, _)| !DECIDED.contains(&setting.flag));
    let mut flags: Vec<(&str, String)> = given.map(|(setting, text)| (setting.flag, text.clone())).collect();
    flags.push(("admin", admin(&loaded.config).map_or_else(|| "off".to_owned(), |at| at.to_string())));
    flags.push(("log-format", if format == LogFormat::Json { "json" } else { "text" }.to_owned()));
    // What is assumed for `tempest up` without a file, but not for a front alone.
    let channels = &loaded.config.channels;
    for (name, patterns) in [("public-channels", &channels.public), ("publish-channels", &channels.publish)] {
        if loaded.file.is_none() && *patterns == [Pattern::new("*")] {
            flags.retain(|(flag, _)| *flag != name);
            flags.push((name, "*".to_owned()));
        }
    }
    let words = flags.into_iter().map(|(flag, text)| format!("--{flag}={text}").into());
    std::iter::once("front".into()).chain(words).collect()
}

/// A port of its own beside ours; `tempest status` shows it.
fn admin(config: &Config) -> Option<SocketAddr> {
    Some(SocketAddr::new(config.front.admin?.ip(), 0))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Flags, Mode, load, options};

    fn words(flags: &[(&str, &str)]) -> Vec<String> {
        let setting = |name: &str| options::ALL.iter().find(|setting| setting.flag == name).expect("a flag");
        let settings = flags.iter().map(|(name, text)| (setting(name), (*text).to_owned())).collect();
        let loaded = load(Mode::Up, &Flags { settings, ..Flags::default() }, &|_| None, Path::new("/nowhere"))
            .expect("it is right");
        let words = arguments(&loaded, LogFormat::Json).into_iter();
        words.map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_front_is_told_what_we_were() {
        let listen = ("listen", "127.0.0.1:0,127.0.0.2:0");
        let words = words(&[listen, ("admin", "127.0.0.3:9"), ("redis", "redis://u:p@h"), ("log-format", "text")]);
        assert_eq!(
            words,
            [
                "front",
                "--listen=127.0.0.1:0,127.0.0.2:0",
                "--admin=127.0.0.3:0",
                "--log-format=json",
                "--public-channels=*",
                "--publish-channels=*"
            ]
        );
    }

    #[test]
    fn no_admin_listener_means_none_for_them() {
        assert!(words(&[("admin", "off"), ("public-channels", "a")]).contains(&"--admin=off".to_owned()));
        assert!(words(&[("public-channels", "a")]).contains(&"--public-channels=a".to_owned()));
    }
}
