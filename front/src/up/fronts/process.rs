//! One front process: started, kept running, and listened to as it tells how it is.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::listener::Listening;
use crate::notify;
use crate::supervisor::child::{Lines, Program, Socket, Stream};
use crate::supervisor::keep::{Event, Keeper, Kept};
use crate::telemetry::AccessLog;
use crate::telemetry::logging::Relay;
use crate::up::state::Place;

/// Longest message about how a process is, in bytes.
const MESSAGE_BYTES: usize = 4096;

/// What all processes of a run are started with.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(OsString, OsString)>,
    /// What they accept from, and what we keep of it.
    pub(super) sockets: Mutex<(Vec<Socket>, Vec<Listening>)>,
    pub(super) place: Place,
    /// From SIGTERM to SIGKILL.
    pub(super) stop_time: Duration,
    /// The same where we have died.
    pub(super) orphan_time: Duration,
    /// Takes their logs.
    pub(super) relay: Relay,
    /// They log JSON.
    pub(super) json: bool,
    /// Takes their access logs.
    pub(super) access: AccessLog,
}

impl Setup {
    fn sockets(&self) -> Vec<Socket> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Gives up our share of the sockets: when the last process has closed its own, nobody listens any more.
    pub(super) fn close_sockets(&self) {
        *self.sockets.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
    }
}

/// How a process is.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Its id while it runs.
    pub(super) pid: Option<i32>,
    /// What was said last, and by which process: what the last one said does not hold for the next.
    said: Option<(i32, notify::State)>,
    /// How it ended, until it is started again.
    ended: Option<String>,
    /// Starts so far.
    pub(super) starts: u64,
    /// Reloads so far, and whether the last one holds.
    reloads: (u64, bool),
}

impl State {
    /// Why it does not take requests; None: it does.
    pub(super) fn not_ready(&self) -> Option<String> {
        match (&self.pid, &self.said, &self.ended) {
            (.., Some(how)) => Some(how.clone()),
            (Some(pid), Some((by, said)), None) if pid == by => match said {
                notify::State::Ready => None,
                notify::State::NotReady(why) => Some(why.clone()),
                notify::State::Stopping => Some("shutting down".to_owned()),
            },
            _ => Some("starting".to_owned()),
        }
    }
}

/// A front process that is kept running; dropping it ends it by way of its guard.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    keeper: Keeper,
    state: watch::Receiver<State>,
    ears: JoinHandle<()>,
    path: PathBuf,
}

impl Process {
    /// Starts it; `number` tells those of one run apart.
    ///
    /// # Errors
    /// When the socket on which it tells how it is cannot be made.
    pub(super) fn start(setup: &Arc<Setup>, name: String, number: u64) -> io::Result<Self> {
        let path = setup.place.notify_socket(number);
        let ears = UnixDatagram::bind(&path)?;
        let (sender, state) = watch::channel(State::default());
        let sender = Arc::new(sender);
        let ears = tokio::spawn(listen(ears, Arc::clone(&sender)));
        let (template, socket) = (Arc::clone(setup), path.clone());
        let kept = Kept {
            program: Box::new(move |_| program(&template, &socket)),
            lines: lines(setup, name.clone()),
            events: events(name.clone(), sender),
            stop_time: setup.stop_time,
        };
        Ok(Self { name, keeper: Keeper::start(kept, None), state, ears, path })
    }

    /// `front.1`, the name of its place.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How it is, now and later.
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Its id while it runs.
    pub(super) fn pid(&self) -> Option<i32> {
        self.state.borrow().pid
    }

    /// Waits until it takes requests; gives its id.
    ///
    /// # Errors
    /// It ended before, or `time` passed.
    pub(super) async fn ready(&mut self, time: Duration) -> Result<i32, String> {
        let settled = self.state.wait_for(|state| state.not_ready().is_none() || state.ended.is_some());
        match timeout(time, settled).await {
            Ok(Ok(state)) if state.ended.is_none() => return state.pid.ok_or_else(|| "it has no id".to_owned()),
            Ok(Ok(state)) => return Err(format!("the new process {}", state.ended.as_deref().unwrap_or_default())),
            // The sender lives as long as the keeper.
            Ok(Err(_)) => return Err("it is not watched any more".to_owned()),
            Err(_) => {}
        }
        let why = self.state.borrow().not_ready().unwrap_or_default();
        Err(format!("the new process was not ready within {} s: {why}", time.as_secs_f64()))
    }

    /// Has it read the configuration anew. One that is started meanwhile reads it anyway.
    ///
    /// # Errors
    /// A line that says why that is not known to hold.
    pub(super) async fn reload(&mut self, time: Duration) -> Result<(), String> {
        let (before, pid) = {
            let state = self.state.borrow();
            (state.reloads.0, state.pid)
        };
        let Some(process) = pid.and_then(Pid::from_raw) else { return Ok(()) };
        kill_process(process, Signal::HUP).map_err(|error| format!("{}: cannot be told: {error}", self.name))?;
        let settled = self.state.wait_for(|state| state.reloads.0 > before || state.pid != pid);
        match timeout(time, settled).await {
            Ok(Ok(state)) if state.pid == pid && !state.reloads.1 => {
                Err(format!("{}: it has refused what others may have taken; its log says why", self.name))
            }
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{}: it did not say within {} s whether it took it", self.name, time.as_secs_f64())),
        }
    }

    /// Asks it to drain and does not wait.
    pub(super) fn stop(&self) {
        self.keeper.stop();
    }

    /// Kills it where it has been asked to drain.
    pub(super) fn hasten(&self) {
        self.keeper.hasten();
    }

    /// Waits until it has ended; it must have been asked to.
    pub(super) async fn stopped(&mut self) {
        self.keeper.stopped().await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.ears.abort();
        // What stays is swept with what dead runs left.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn program(setup: &Setup, notify_socket: &std::path::Path) -> Program {
    let notify = (notify::SOCKET.into(), notify_socket.into());
    Program {
        program: setup.program.clone().into(),
        args: setup.args.clone(),
        env: setup.env.iter().cloned().chain([notify]).collect(),
        dir: None,
        grace: setup.orphan_time,
        lock: None,
        guard: None,
        sockets: setup.sockets(),
    }
}

/// What a front logs is a line of our own log already; anything else it says is not.
fn lines(setup: &Setup, name: String) -> Lines {
    let (relay, access, json) = (setup.relay.clone(), setup.access.clone(), setup.json);
    Arc::new(move |stream, line| match stream {
        Stream::Stdout => access.relay(line),
        Stream::Stderr if json && !line.starts_with('{') => tracing::warn!(from = %name, "{line}"),
        Stream::Stderr => relay.write(line),
    })
}

fn events(name: String, state: Arc<watch::Sender<State>>) -> Box<dyn FnMut(Event) + Send> {
    Box::new(move |event| match event {
        Event::Started(pid) => {
            tracing::debug!(from = %name, pid, "started");
            state.send_modify(|state| {
                (state.pid, state.ended, state.starts) = (Some(pid), None, state.starts + 1);
            });
        }
        Event::Ended(exit, wait) => {
            tracing::warn!(from = %name, "{exit}; next start in {:.1} s", wait.as_secs_f64());
            end(&state, exit.to_string());
        }
        Event::Stopped(exit) => {
            tracing::debug!(from = %name, "stopped: {exit}");
            end(&state, exit.to_string());
        }
    })
}

fn end(state: &watch::Sender<State>, how: String) {
    state.send_modify(|state| (state.pid, state.ended) = (None, Some(how)));
}

async fn listen(ears: UnixDatagram, state: Arc<watch::Sender<State>>) {
    let mut message = [0; MESSAGE_BYTES];
    // An error here is one of the socket itself, and there will be no better one.
    while let Ok(bytes) = ears.recv(&mut message).await {
        let text = String::from_utf8_lossy(&message[..bytes]);
        if let Some((_, holds)) = notify::parse_reloaded(&text) {
            state.send_modify(|state| state.reloads = (state.reloads.0 + 1, holds));
            continue;
        }
        let said = notify::State::parse(&text);
        if said.is_some() {
            state.send_modify(|state| state.said = said);
        }
    }
}
