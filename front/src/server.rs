//! The front as a whole: listeners, reactors, and their orderly end.
//!
//! [`start`] builds everything from a configuration; [`Running::drain`] ends it in order: not ready, no new
//! connections, goodbye to streams, requests in flight, refusals for the rest, Redis connections. Signals and
//! processes are the callers'.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::config::{Config, RedisUrl};
use crate::connection::{Arrival, Handed};
use crate::http::early_response;
use crate::hub::Census;
use crate::ident::FrontId;
use crate::lifecycle::{Life, Lifecycle, Phase, PhaseSetter, Signs};
use crate::listener::{
    Accepted, Acceptor, BACKLOG, Certificates, Change, Entrance, ListenError, Listening, Shortage, Way,
};
use crate::reactor::{self, Handle, Settings, SettingsError, Shared};
use crate::registry::wall_ms;
use crate::telemetry::{AccessLog, Metrics, Problem, Problems, Refusal, Spans};

/// Time between two looks whether the way to Redis is open; there is no event for it across threads.
const CONNECTED_LOOK: Duration = Duration::from_millis(5);
/// Time between two looks whether certificates have changed.
const CERTIFICATES_LOOK: Duration = Duration::from_secs(1);
/// After the grace period, this long for the refusals and the rest.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

/// Why the front could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no socket to listen on.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// Something that the configuration names cannot be used.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// A thread or runtime could not be made.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// A front that runs.
pub struct Running {
    shared: Arc<Shared>,
    lifecycle: Lifecycle,
    /// What holds now.
    settings: Settings,
    reactors: Vec<Handle>,
    acceptors: Vec<JoinHandle<()>>,
    /// Looks after the certificates until the end.
    _keepers: JoinSet<()>,
}

/// A view of a running front, for the admin listener.
#[derive(Clone)]
pub struct View {
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
}

/// Starts a front that accepts from `listeners`, after its way to Redis is open or `patience` has passed. Connecting to
/// Redis goes on behind it.
///
/// Must be called within a tokio runtime, on which the listeners run.
pub fn start(
    config: Arc<Config>,
    (listeners, patience): (Vec<Listening>, Duration),
    redis: RedisUrl,
    access: AccessLog,
) -> Result<Running, StartError> {
    let listening: Vec<_> = listeners.iter().map(|listening| Arc::clone(&listening.entrance)).collect();
    let lifecycle = Lifecycle::new();
    let metrics = Arc::new(Metrics::new());
    let spans = Spans::start(&config.telemetry, &metrics)?;
    let settings = Settings::open(config, None, access, &metrics)?;
    let config = &settings.config;
    let shared = Arc::new(Shared {
        redis,
        front: FrontId::random(),
        host: host_name(),
        started: wall_ms(),
        listening,
        metrics,
        spans,
        problems: Arc::new(Problems::default()),
        totals: Arc::default(),
        census: Census::default(),
        body_memory: Arc::default(),
        connected: AtomicUsize::new(0),
        signs: Signs::new(config.front.reactors.max(1)),
        admin: std::sync::OnceLock::new(),
        reactors: config.front.reactors.max(1),
        most_connections: AtomicUsize::new(config.limits.connections),
        at_start: settings.clone(),
    });
    let mut keepers = JoinSet::new();
    keepers.spawn(keep_certificates(&shared));
    let reactors = (0..shared.reactors).map(|index| reactor::start(Arc::clone(&shared), index, lifecycle.life()));
    let reactors = reactors.collect::<io::Result<Vec<_>>>()?;
    let acceptors = listeners.into_iter().map(|listener| {
        let (reactors, shared, mut life) = (reactors.clone(), Arc::clone(&shared), lifecycle.life());
        tokio::spawn(async move {
            tokio::select! {
                () = connected(&shared, patience) => accept(listener, reactors, shared, life).await,
                // What waits is left to those who share the socket.
                () = life.reached(Phase::Draining) => {}
            }
        })
    });
    let acceptors = acceptors.collect();
    lifecycle.setter().advance(Phase::Ready);
    Ok(Running { shared, lifecycle, settings, reactors, acceptors, _keepers: keepers })
}

/// Looks after the certificates, in a task of this runtime that reads files elsewhere.
fn keep_certificates(shared: &Arc<Shared>) -> impl Future<Output = ()> + Send + use<> {
    let mut all: Vec<Arc<Certificates>> = Vec::new();
    for entrance in &shared.listening {
        if let Way::Tls(tls) = &entrance.way
            && !all.iter().any(|known| Arc::ptr_eq(known, &tls.certificates))
        {
            all.push(Arc::clone(&tls.certificates));
        }
    }
    let shared = Arc::clone(shared);
    async move {
        while !all.is_empty() {
            sleep(CERTIFICATES_LOOK).await;
            for certificates in &all {
                let certificates = Arc::clone(certificates);
                let changes = tokio::task::spawn_blocking(move || certificates.look()).await;
                changes.into_iter().flatten().for_each(|change| tell_of(&shared, change));
            }
        }
    }
}

fn tell_of(shared: &Shared, change: Change) {
    match change {
        Change::Replaced(file) => {
            shared.metrics.certificates_replaced.inc();
            tracing::info!(file = %file.display(), "a newer certificate is shown");
        }
        Change::Broken(why) => {
            shared.metrics.certificate_failures.inc();
            tracing::error!("a newer certificate cannot be used, the old one stays: {why}");
            let (queue, request) = Default::default();
            shared.problems.note(Problem { at: wall_ms(), what: "certificate", queue, request, detail: why });
        }
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Waits until every reactor has its way to Redis, at most for `patience`.
async fn connected(shared: &Shared, patience: Duration) {
    let connected = async {
        while shared.connected.load(Ordering::Relaxed) < shared.reactors {
            sleep(CONNECTED_LOOK).await;
        }
    };
    let _ = timeout(patience, connected).await;
}

async fn accept(listening: Listening, reactors: Vec<Handle>, shared: Arc<Shared>, mut life: Life) {
    let Listening { socket, entrance } = listening;
    let Ok(listener) = Acceptor::new(socket) else { return };
    let mut shortage = Shortage::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = life.reached(Phase::Draining) => return take_waiting(listener, &entrance, &reactors, &shared),
        };
        match accepted {
            Ok(socket) => {
                shortage.accepted();
                hand_over(Arrival { socket, entrance: Arc::clone(&entrance) }, &reactors, &shared);
            }
            Err(error) => {
                let Some(wait) = shortage.failed(&error) else { continue };
                shared.metrics.accept_failures.inc();
                tokio::select! {
                    () = sleep(wait) => {}
                    () = life.reached(Phase::Draining) => {}
                }
            }
        }
    }
}

/// Takes what the kernel has accepted already: if this process is the last that holds the socket, its end would reset
/// those connections. Where others share it, they would have been served there, and are served here as well.
fn take_waiting(listener: Acceptor, entrance: &Arc<Entrance>, reactors: &[Handle], shared: &Shared) {
    let Ok(listener) = listener.into_bound() else { return };
    // Under a load of new connections there would be no end.
    for _ in 0..BACKLOG {
        let Ok(socket) = listener.accept_waiting() else { return };
        hand_over(Arrival { socket, entrance: Arc::clone(entrance) }, reactors, shared);
    }
}

/// To the reactor with the fewest connections.
fn hand_over(arrival: Arrival, reactors: &[Handle], shared: &Shared) {
    shared.metrics.connections_accepted.inc();
    let open: usize = reactors.iter().map(Handle::open).sum();
    if open >= shared.most_connections.load(Ordering::Relaxed) {
        shared.metrics.refused.inc(Refusal::Connections);
        refuse(arrival);
        return;
    }
    if let Accepted::Tcp(socket) = &arrival.socket {
        let _ = socket.set_nodelay(true);
    }
    if let Some(reactor) = reactors.iter().min_by_key(|reactor| reactor.open()) {
        reactor.give(arrival, &shared.metrics);
    }
}

/// One try to say why, without waiting for anybody. Before the greeting of TLS nothing would be understood.
fn refuse(mut arrival: Arrival) {
    if matches!(arrival.entrance.way, Way::Tls(_)) {
        return;
    }
    let words = early_response(
        StatusCode::SERVICE_UNAVAILABLE,
        "too many connections are open; try again later",
        Some(Duration::from_secs(1)),
    );
    let _ = arrival.socket.write_once(&words);
}

/// Where the application that this front is a part of hands requests over.
#[derive(Clone)]
pub struct Door {
    /// None of them: the front is ending.
    reactors: Arc<RwLock<Vec<Handle>>>,
    shared: Arc<Shared>,
}

impl Door {
    /// To the reactor with the fewest connections, of which a request counts as one.
    ///
    /// # Errors
    /// Nobody takes it; what the client is to be told.
    pub fn hand_over(&self, request: Box<Handed>) -> Result<(), &'static str> {
        let reactors = self.reactors.read().expect("nobody panics with it");
        let open: usize = reactors.iter().map(Handle::open).sum();
        let reactor = reactors.iter().min_by_key(|reactor| reactor.open()).ok_or("this server is shutting down")?;
        if open >= self.shared.most_connections.load(Ordering::Relaxed) {
            self.shared.metrics.refused.inc(Refusal::Connections);
            return Err("too many requests are being handled; try again later");
        }
        reactor.give_request(request, &self.shared.metrics);
        Ok(())
    }

    /// Lets nothing more in. The reactors end when nobody can give them anything.
    pub fn close(&self) {
        self.reactors.write().expect("nobody panics with it").clear();
    }
}

impl Running {
    /// A way in without a socket. It has to be closed before the front is drained.
    pub fn door(&self) -> Door {
        Door { reactors: Arc::new(RwLock::new(self.reactors.clone())), shared: Arc::clone(&self.shared) }
    }

    /// Resolves when the way to Redis is open, or after `patience`.
    pub async fn connected(&self, patience: Duration) {
        connected(&self.shared, patience).await;
    }

    /// Where browsers come in.
    pub fn entrances(&self) -> &[Arc<Entrance>] {
        &self.shared.listening
    }

    /// What the admin listener shows.
    pub fn view(&self) -> View {
        View { shared: Arc::clone(&self.shared), phase: self.lifecycle.watch() }
    }

    /// Notes the address of the admin listener for the front's record.
    pub fn set_admin(&self, address: SocketAddr) {
        let _ = self.shared.admin.set(address);
    }

    /// Has this configuration hold for every request that begins from now on, without an end of any connection or
    /// stream; what begun before goes on as it is. What cannot change while it runs stays as it was at the start
    /// ([`crate::config::Changes::fixed`] tells what that is).
    ///
    /// # Errors
    /// Something that it names cannot be used; nothing has changed then.
    pub async fn reload(&mut self, config: Arc<Config>) -> Result<(), SettingsError> {
        let (before, metrics) = (self.settings.clone(), Arc::clone(&self.shared.metrics));
        let access = before.access.in_format(config.log.access);
        // It reads files.
        let opened = tokio::task::spawn_blocking(move || Settings::open(config, Some(&before), access, &metrics));
        self.settings = opened.await.expect("reading keys does not panic")?;
        let most = self.settings.config.limits.connections;
        self.shared.most_connections.store(most, Ordering::Relaxed);
        let applied: Vec<_> = self.reactors.iter().map(|reactor| reactor.apply(self.settings.clone())).collect();
        for applied in applied {
            // An error means that the reactor is ending.
            let _ = applied.await;
        }
        Ok(())
    }

    /// A handle that hastens a drain.
    pub fn hasten(&self) -> PhaseSetter {
        self.lifecycle.setter()
    }

    /// Ends the front in order, within the grace period.
    pub async fn drain(self) {
        let setter = self.lifecycle.setter();
        setter.advance(Phase::Draining);
        let grace = self.settings.config.front.grace;
        // While somebody may give them something the reactors do not end.
        drop(self.reactors);
        let last_call = tokio::spawn({
            let setter = setter.clone();
            async move {
                sleep(grace).await;
                setter.advance(Phase::Stopping);
            }
        });
        for acceptor in self.acceptors {
            let _ = acceptor.await;
        }
        let _ = timeout(grace + LAST_MOMENTS, self.lifecycle.ended()).await;
        last_call.abort();
        setter.advance(Phase::Stopping);
        self.shared.spans.finish(LAST_MOMENTS).await;
    }
}

impl View {
    /// None: ready for requests; else why not.
    pub fn not_ready(&self) -> Option<&'static str> {
        let reactors = self.shared.reactors;
        match *self.phase.borrow() {
            Phase::Starting => Some("starting"),
            Phase::Draining | Phase::Stopping => Some("shutting down"),
            Phase::Ready if self.shared.connected.load(Ordering::Relaxed) < reactors => Some("no connection to Redis"),
            Phase::Ready => None,
        }
    }

    /// Reactors that have done nothing for so long that they will not go on.
    pub fn stuck(&self) -> Vec<usize> {
        // Towards the end they stop one after the other, as they should.
        if *self.phase.borrow() >= Phase::Draining { Vec::new() } else { self.shared.signs.missing() }
    }

    /// The phase, in a word.
    pub fn phase(&self) -> &'static str {
        match *self.phase.borrow() {
            Phase::Starting => "starting",
            Phase::Ready => "running",
            Phase::Draining => "draining",
            Phase::Stopping => "stopping",
        }
    }

    /// Reactors, and how many of them have their way to Redis.
    pub fn reactors(&self) -> (usize, usize) {
        (self.shared.reactors, self.shared.connected.load(Ordering::Relaxed))
    }

    /// When the process started, in ms since 1970.
    pub fn started(&self) -> u64 {
        self.shared.started
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Notes what went wrong, for the front's record.
    pub fn note(&self, problem: Problem) {
        self.shared.problems.note(problem);
    }

    /// The front's record, as JSON.
    pub fn record(&self) -> Vec<u8> {
        crate::registry::record(&self.shared)
    }
}
