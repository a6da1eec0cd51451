//! One event loop on one thread, with everything that its requests and streams need.
//!
//! Nothing on the way of a request crosses threads: a reactor owns its connections, its table of waiting requests,
//! its hub, and its connections to Redis. What reactors share is counted in atomics.

use std::cell::Cell;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::auth::Auth;
use crate::broker::{self, Broker, Command, Pushed, Sink};
use crate::config::{Config, RedisUrl};
use crate::connection::Connections;
use crate::error::Failure;
use crate::http::{Context, Counts, Publishing, Router};
use crate::hub::{Census, Hub, Totals};
use crate::ident::{FrontId, ReactorId};
use crate::lifecycle::{Life, Phase};
use crate::queue::{Dispatch, Holds, Keeper};
use crate::registry::Registry;
use crate::session::{self, Sessions};
use crate::telemetry::{AccessLog, Metrics, Problems};

/// Time for the last command of an orderly end.
const SIGN_OFF: Duration = Duration::from_millis(200);

/// What all reactors of a process share.
pub struct Shared {
    /// All settings.
    pub config: Arc<Config>,
    /// Which Redis.
    pub redis: RedisUrl,
    /// This process.
    pub front: FrontId,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who may read and publish.
    pub auth: Arc<Auth>,
    /// What seals the cookies of sessions, where there are any.
    pub session_keys: Option<Arc<session::Keys>>,
    /// The access log.
    pub access: AccessLog,
    /// What went wrong lately.
    pub problems: Arc<Problems>,
    /// Streams and channels.
    pub totals: Arc<Totals>,
    /// Which channels are busy.
    pub census: Census,
    /// Bytes of request bodies held.
    pub body_memory: Arc<AtomicUsize>,
    /// Reactors whose way to Redis is open.
    pub connected: AtomicUsize,
    /// This machine's name.
    pub host: String,
    /// When the process started, in ms since the epoch.
    pub started: u64,
    /// The addresses listened on.
    pub listening: Vec<SocketAddr>,
    /// The address of the admin listener, once it is known.
    pub admin: OnceLock<SocketAddr>,
}

/// A reactor as its process sees it.
#[derive(Clone)]
pub struct Handle {
    sockets: mpsc::UnboundedSender<(StdTcpStream, Guard)>,
    open: Arc<AtomicUsize>,
}

/// Counts one connection while it lives.
pub struct Guard {
    open: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connections_open.dec();
    }
}

impl Handle {
    /// Open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Hands over an accepted socket. The number of sockets under way is bounded by the limit on connections, which
    /// whoever accepts has checked.
    pub fn give(&self, socket: StdTcpStream, metrics: &Arc<Metrics>) {
        self.open.fetch_add(1, Ordering::Relaxed);
        metrics.connections_open.inc();
        let guard = Guard { open: Arc::clone(&self.open), metrics: Arc::clone(metrics) };
        // A reactor that has ended drops it: the connection is closed.
        let _ = self.sockets.send((socket, guard));
    }
}

/// Starts the thread of reactor number `index`.
pub fn start(shared: Arc<Shared>, index: usize, life: Life) -> std::io::Result<Handle> {
    let (sockets, incoming) = mpsc::unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    let handle = Handle { sockets, open };
    // Built here, so that a failure is the caller's to report.
    std::thread::Builder::new().name(format!("reactor-{index}")).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(run(shared, index, life, incoming)),
            Err(error) => tracing::error!(index, "a reactor cannot start: {error}"),
        }
    })?;
    Ok(handle)
}

async fn run(
    shared: Arc<Shared>,
    index: usize,
    life: Life,
    mut incoming: mpsc::UnboundedReceiver<(StdTcpStream, Guard)>,
) {
    let reactor = Reactor::new(Arc::clone(&shared), index, &life);
    reactor.start(&shared, index, &life);
    let mut watch = life.clone();
    loop {
        tokio::select! {
            () = watch.reached(Phase::Draining) => break,
            socket = incoming.recv() => match socket {
                Some((socket, guard)) => reactor.serve(socket, guard),
                None => break,
            },
        }
    }
    reactor.drain(&mut incoming, watch).await;
}

struct Reactor {
    context: Rc<Context>,
    broker: Rc<Broker>,
    counts: Rc<Counts>,
    connections: Rc<Connections>,
    serving: Rc<Cell<usize>>,
}

impl Reactor {
    fn new(shared: Arc<Shared>, index: usize, life: &Life) -> Self {
        let config = Arc::clone(&shared.config);
        let id = ReactorId::new(&shared.front, index);
        let reply_to = config.redis.keys.reactor(id.as_str());
        let options = broker::Options {
            url: shared.redis.clone(),
            name: format!("tempest:{}", id.as_str()),
            answers_key: reply_to.clone(),
            stall: config.redis.stall,
            patience: config.redis.patience,
            outgoing_bytes: config.limits.outgoing_bytes,
        };
        let metrics = Arc::clone(&shared.metrics);
        let broker = Broker::new(options, Arc::clone(&metrics));
        let (router, queues) = Router::new(&config.routes, &config.redis.keys, config.limits.queue_depth);
        let (limits, problems) = (config.limits.clone(), Arc::clone(&shared.problems));
        let holds = Holds { keys: config.redis.keys.clone(), channels: config.channels.clone() };
        let dispatch = Dispatch::new(Rc::clone(&broker), id, reply_to, limits, holds, Arc::clone(&metrics), problems);
        queues.into_iter().for_each(|queue| dispatch.add_queue(queue));
        let totals = Arc::clone(&shared.totals);
        let (keys, channels) = (config.redis.keys.clone(), &config.channels);
        let hub = Hub::new(Rc::clone(&broker), channels.clone(), keys.clone(), totals, Arc::clone(&metrics));
        let counts =
            Counts::new(Rc::clone(&broker), Rc::clone(&hub), keys.clone(), &channels.prefix, channels.count_time);
        let told = Rc::clone(&counts);
        dispatch.set_others(move |message| told.told(message));
        let sessions = config.session.clone().zip(shared.session_keys.clone()).map(|(settings, sealing)| {
            Sessions::new(settings, sealing, (Rc::clone(&broker), keys.clone()), Arc::clone(&metrics))
        });
        let publishing = Publishing::new(Rc::clone(&broker), keys, Rc::clone(&counts));
        let body_memory = Arc::clone(&shared.body_memory);
        let (auth, access) = (Arc::clone(&shared.auth), shared.access.clone());
        let life = life.clone();
        let context =
            Context { config, router, dispatch, hub, publishing, auth, sessions, metrics, body_memory, access, life };
        let (connections, serving) = (Rc::default(), Rc::default());
        Self { context: Rc::new(context), broker, counts, connections, serving }
    }

    fn start(&self, shared: &Arc<Shared>, index: usize, life: &Life) {
        let (dispatch, hub) = (Rc::clone(&self.context.dispatch), Rc::clone(&self.context.hub));
        let ears = Ears { dispatch: Rc::clone(&dispatch), hub: Rc::clone(&hub), counts: Rc::clone(&self.counts) };
        self.counts.listen();
        self.broker.start(Rc::new(ears), life);
        for keeper in Keeper::all(&dispatch) {
            until_the_end(life, keeper.keep());
        }
        until_the_end(life, dispatch.keep_time());
        until_the_end(life, Rc::clone(&hub).fan_out());
        until_the_end(life, hub.keep_alive());
        let (connections, context) = (Rc::clone(&self.connections), Rc::clone(&self.context));
        until_the_end(life, async move { connections.keep_time(&context).await });
        let (broker, hub) = (Rc::clone(&self.broker), Rc::clone(&self.context.hub));
        let registry = Registry::new(Arc::clone(shared), index, broker, hub);
        until_the_end(life, registry.beat());
    }

    fn serve(&self, socket: StdTcpStream, guard: Guard) {
        let Ok(socket) = TcpStream::from_std(socket) else { return };
        let (context, connections) = (Rc::clone(&self.context), Rc::clone(&self.connections));
        let serving = Serving::new(&self.serving);
        tokio::task::spawn_local(async move {
            let _serving = serving;
            connections.serve(context, socket, guard).await;
        });
    }

    /// Goodbye to the streams, answers to what is in flight, refusals when the time is over.
    async fn drain(&self, incoming: &mut mpsc::UnboundedReceiver<(StdTcpStream, Guard)>, mut life: Life) {
        let hub = &self.context.hub;
        hub.drain();
        // The last reader to be told needs time to take it.
        let goodbye = self.context.config.channels.goodbye.min(self.context.config.front.grace / 2);
        until_the_end(&life, Rc::clone(hub).say_goodbye(goodbye));
        let streams = &self.context.metrics.streams_open;
        let quiet = async {
            // Not closed from this side: whoever accepts may be about to hand over a socket, and would drop it. The end
            // comes when all of them have gone.
            while let Some((socket, guard)) = incoming.recv().await {
                self.serve(socket, guard);
            }
            // Polled, since it is for the last moments of a process only.
            while self.serving.get() > 0 || streams.get() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = quiet => {}
            () = life.reached(Phase::Stopping) => {
                self.context.dispatch.fail_all(&Failure::Draining);
                // The refusals are answers too: they get a moment to be written.
                tokio::time::sleep(Duration::from_millis(100)).await;
                return;
            }
        }
        self.sign_off().await;
    }

    /// Takes this reactor's answer list out of Redis; others would have to after it is declared dead.
    async fn sign_off(&self) {
        let list = self.broker.answers_key().to_owned();
        let unlinked = self.broker.call(Command::new(&[b"UNLINK", list.as_bytes()]));
        let _ = tokio::time::timeout(SIGN_OFF, unlinked).await;
    }
}

fn until_the_end(life: &Life, work: impl Future<Output = ()> + 'static) {
    let mut life = life.clone();
    tokio::task::spawn_local(async move {
        tokio::select! {
            () = work => {}
            () = life.reached(Phase::Stopping) => {}
        }
    });
}

/// Counts HTTP connections being served; streams are counted by the hub.
struct Serving(Rc<Cell<usize>>);

impl Serving {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Passes on what the broker hears.
struct Ears {
    dispatch: Rc<Dispatch>,
    hub: Rc<Hub>,
    counts: Rc<Counts>,
}

impl Sink for Ears {
    fn pushed(&self, results: &mut Vec<(u64, Pushed)>) {
        self.dispatch.pushed(results);
    }

    fn answers(&self, messages: Vec<Bytes>) {
        self.dispatch.answers(&messages);
    }

    fn connected(&self, forgot: bool) {
        self.dispatch.connected(forgot);
    }

    fn published(&self, channel: &str, payload: &[u8]) {
        if !self.counts.heard(channel, payload) {
            self.hub.published(channel, payload);
        }
    }

    fn published_to_pattern(&self, pattern: &str, channel: &str, payload: &[u8]) {
        self.hub.published_to_pattern(pattern, channel, payload);
    }

    fn subscribed(&self, up: bool) {
        self.hub.subscribed(up);
    }

    fn lagged(&self, messages: u64) {
        self.hub.lagged(messages);
    }
}
