//! One event loop on one thread, with everything that its requests and streams need.
//!
//! Nothing on the way of a request crosses threads: a reactor owns its connections, its table of waiting requests,
//! its hub, and its connections to Redis. What reactors share is counted in atomics. A reload comes as a message
//! (`reactor/reload.rs`).

mod reload;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::broker::{self, Broker, Command, Pushed, Sink};
use crate::config::RedisUrl;
use crate::connection::{Arrival, Connections, Handed};
use crate::error::Failure;
use crate::http::{Context, Counts, Current, Publishing, Router};
use crate::hub::{Census, Hub, Totals};
use crate::ident::{FrontId, ReactorId};
use crate::lifecycle::{Life, Phase, Signs};
use crate::listener::Entrance;
use crate::queue::{Dispatch, Holds, Keeper};
use crate::registry::Registry;
use crate::telemetry::{Metrics, Problems, Spans, Traces};

pub use reload::{Settings, SettingsError};

/// So many of what it is given a reactor takes at once; then others have their turn. Thousands of clients that come together
/// are begun together otherwise, and everybody else waits behind all of them.
const TAKEN_AT_ONCE: usize = 16;
/// Time for the last command of an orderly end.
const SIGN_OFF: Duration = Duration::from_millis(200);

/// What all reactors of a process share.
pub struct Shared {
    /// What a reload may change, as it was at the start. Each reactor has what holds now in its context.
    pub at_start: Settings,
    /// How many reactors there are.
    pub reactors: usize,
    /// Open connections in all; further ones are refused.
    pub most_connections: AtomicUsize,
    /// Which Redis.
    pub redis: RedisUrl,
    /// This process.
    pub front: FrontId,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What was done for requests that are traced.
    pub spans: Spans,
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
    /// When each reactor last did anything.
    pub signs: Signs,
    /// This machine's name.
    pub host: String,
    /// When the process started, in ms since the epoch.
    pub started: u64,
    /// Where browsers come in.
    pub listening: Vec<Arc<Entrance>>,
    /// The address of the admin listener, once it is known.
    pub admin: OnceLock<SocketAddr>,
}

/// A reactor as its process sees it.
#[derive(Clone)]
pub struct Handle {
    given: mpsc::UnboundedSender<Given>,
    open: Arc<AtomicUsize>,
}

/// What a reactor is given by its process.
enum Given {
    /// A connection to serve.
    Connection(Arrival, Guard),
    /// A request to answer.
    Request(Box<Handed>, Guard),
    /// Settings that hold from now on; the sender says when they do.
    Settings(Settings, oneshot::Sender<()>),
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
    pub fn give(&self, socket: Arrival, metrics: &Arc<Metrics>) {
        // A reactor that has ended drops it: the connection is closed.
        let _ = self.given.send(Given::Connection(socket, self.guard(metrics)));
    }

    /// Hands over a request, which counts as a connection while it lives; the same holds for it.
    pub fn give_request(&self, request: Box<Handed>, metrics: &Arc<Metrics>) {
        let _ = self.given.send(Given::Request(request, self.guard(metrics)));
    }

    fn guard(&self, metrics: &Arc<Metrics>) -> Guard {
        self.open.fetch_add(1, Ordering::Relaxed);
        metrics.connections_open.inc();
        Guard { open: Arc::clone(&self.open), metrics: Arc::clone(metrics) }
    }

    /// Has other settings hold; resolves when they do, with an error where the reactor is ending.
    pub fn apply(&self, settings: Settings) -> oneshot::Receiver<()> {
        let (done, applied) = oneshot::channel();
        let _ = self.given.send(Given::Settings(settings, done));
        applied
    }
}

/// Starts the thread of reactor number `index`.
pub fn start(shared: Arc<Shared>, index: usize, life: Life) -> std::io::Result<Handle> {
    let (given, incoming) = mpsc::unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    let handle = Handle { given, open };
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

async fn run(shared: Arc<Shared>, index: usize, life: Life, mut incoming: mpsc::UnboundedReceiver<Given>) {
    let reactor = Reactor::new(Arc::clone(&shared), index, &life);
    reactor.start(&shared, index, &life);
    let (mut watch, mut taken) = (life.clone(), 0);
    loop {
        if taken == TAKEN_AT_ONCE {
            taken = 0;
            tokio::task::yield_now().await;
        }
        tokio::select! {
            () = watch.reached(Phase::Draining) => break,
            given = incoming.recv() => {
                taken += 1;
                match given {
                    Some(Given::Connection(socket, guard)) => reactor.serve(socket, guard),
                    Some(Given::Request(request, guard)) => reactor.answer(*request, guard),
                    Some(Given::Settings(settings, done)) => {
                        reactor.apply(&settings, &life);
                        let _ = done.send(());
                    }
                    None => break,
                }
            }
        }
    }
    reactor.drain(&mut incoming, watch).await;
}

struct Reactor {
    index: usize,
    current: Rc<Current>,
    broker: Rc<Broker>,
    connections: Rc<Connections>,
    serving: Rc<Cell<usize>>,
}

impl Reactor {
    fn new(shared: Arc<Shared>, index: usize, life: &Life) -> Self {
        let Settings { config, auth, access, .. } = shared.at_start.clone();
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
        let (keys, channels) = (config.redis.keys.clone(), Rc::new(config.channels.clone()));
        let (limits, problems) = (config.limits.clone(), Arc::clone(&shared.problems));
        let holds = Holds { keys: keys.clone(), channels: Rc::clone(&channels) };
        let dispatch = Dispatch::new(
            Rc::clone(&broker),
            id,
            reply_to,
            limits,
            holds,
            (Arc::clone(&metrics), problems, shared.spans.clone()),
        );
        let (router, queues) = Router::new(&config.routes, &keys, config.limits.queue_depth, &[], &metrics);
        let router = router.with_around(&config, &shared.at_start.pages);
        queues.iter().for_each(|queue| dispatch.add_queue(queue));
        let totals = Arc::clone(&shared.totals);
        let (prefix, time) = (channels.prefix.clone(), channels.count_time);
        let hub = Hub::new(Rc::clone(&broker), channels, keys.clone(), totals, Arc::clone(&metrics));
        let counts = Counts::new(Rc::clone(&broker), Rc::clone(&hub), keys.clone(), &prefix, time);
        let told = Rc::clone(&counts);
        dispatch.set_others(move |message| told.told(message));
        let sessions = reload::sessions(&shared.at_start, &broker, &metrics);
        let publishing = Rc::new(Publishing::new(Rc::clone(&broker), keys, counts));
        let body_memory = Arc::clone(&shared.body_memory);
        let (life, places) = (life.clone(), Arc::clone(&shared.totals.places));
        let (traces, spans) = (Traces::new(&config.telemetry), shared.spans.clone());
        let context = Context {
            config,
            router,
            dispatch,
            hub,
            publishing,
            auth,
            sessions,
            metrics,
            places,
            body_memory,
            access,
            traces,
            spans,
            life,
        };
        let current = Rc::new(Current::new(context));
        Self { index, current, broker, connections: Rc::default(), serving: Rc::default() }
    }

    fn start(&self, shared: &Arc<Shared>, index: usize, life: &Life) {
        let context = self.current.get();
        let (dispatch, hub, counts) =
            (Rc::clone(&context.dispatch), Rc::clone(&context.hub), context.publishing.counts());
        counts.listen();
        let ears = Ears { dispatch: Rc::clone(&dispatch), hub: Rc::clone(&hub), counts };
        self.broker.start(Rc::new(ears), life);
        for keeper in Keeper::all(&dispatch) {
            until_the_end(life, keeper.keep());
        }
        until_the_end(life, dispatch.keep_time());
        until_the_end(life, Rc::clone(&hub).fan_out());
        until_the_end(life, hub.keep_alive());
        let (connections, current) = (Rc::clone(&self.connections), Rc::clone(&self.current));
        until_the_end(life, async move { connections.keep_time(&current).await });
        let registry = Registry::new(Arc::clone(shared), index, Rc::clone(&self.broker), Rc::clone(&self.current));
        until_the_end(life, registry.beat());
        let shared = Arc::clone(shared);
        until_the_end(life, async move { shared.signs.give(index).await });
    }

    fn serve(&self, socket: Arrival, guard: Guard) {
        let (current, connections) = (Rc::clone(&self.current), Rc::clone(&self.connections));
        let serving = Serving::new(&self.serving);
        tokio::task::spawn_local(async move {
            let _serving = serving;
            connections.serve(current, socket, guard).await;
        });
    }

    fn answer(&self, request: Handed, guard: Guard) {
        let (current, connections) = (Rc::clone(&self.current), Rc::clone(&self.connections));
        let serving = Serving::new(&self.serving);
        tokio::task::spawn_local(async move {
            let _counted = (serving, guard);
            connections.answer(&current, request).await;
        });
    }

    /// Goodbye to the streams, answers to what is in flight, refusals when the time is over.
    async fn drain(&self, incoming: &mut mpsc::UnboundedReceiver<Given>, mut life: Life) {
        let (goodbye, hub, dispatch, metrics) = {
            let context = self.current.get();
            // The last reader to be told needs time to take it.
            let goodbye = context.config.channels.goodbye.min(context.config.front.grace / 2);
            (goodbye, Rc::clone(&context.hub), Rc::clone(&context.dispatch), Arc::clone(&context.metrics))
        };
        hub.drain();
        until_the_end(&life, hub.say_goodbye(goodbye));
        let streams = &metrics.streams_open;
        let quiet = async {
            // Not closed from this side: whoever accepts may be about to hand over a socket, and would drop it. The end
            // comes when all of them have gone.
            while let Some(given) = incoming.recv().await {
                match given {
                    Given::Connection(socket, guard) => self.serve(socket, guard),
                    Given::Request(request, guard) => self.answer(*request, guard),
                    // What ends goes on as it is: the sender is dropped, which says so.
                    Given::Settings(..) => {}
                }
            }
            // Polled, since it is for the last moments of a process only.
            while self.serving.get() > 0 || streams.get() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = quiet => {}
            () = life.reached(Phase::Stopping) => {
                dispatch.fail_all(&Failure::Draining);
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
