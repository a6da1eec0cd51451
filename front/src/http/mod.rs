//! HTTP: from a parsed request to a response, by route.
//!
//! Nothing here reads or writes a socket; the connection does. Errors become responses in [`respond`] and nowhere
//! else.

mod body;
mod request_reply;
mod respond;
mod router;
mod sse;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Waker;
use std::time::Instant;

use http::{Method, Request, Response, Version};
use hyper::body::Incoming;

use crate::config::Config;
use crate::error::Failure;
use crate::hub::{Hub, Opening, Seat};
use crate::lifecycle::{Life, Phase};
use crate::queue::Dispatch;
use crate::telemetry::Metrics;

pub use body::Body;
pub use respond::{early_response, log_request};
pub use router::{Router, Target};

/// What the requests of one reactor need.
pub struct Context {
    /// All settings.
    pub config: Arc<Config>,
    /// The routes.
    pub router: Router,
    /// Requests that wait for workers.
    pub dispatch: Rc<Dispatch>,
    /// Browser channels.
    pub hub: Rc<Hub>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Bytes of request bodies held by the whole process.
    pub body_memory: Arc<AtomicUsize>,
    /// The phase of the process.
    pub life: Life,
}

/// What a connection is doing, for its time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Nothing was asked yet, or everything asked is answered.
    Idle,
    /// A part of a head has come.
    Head,
    /// A request is being handled.
    Busy,
}

/// What a connection and its requests share.
pub struct Peer {
    /// The client's address as `ip:port`.
    pub address: String,
    /// The address it reached.
    pub server: String,
    /// What the connection is doing, and since when (or when it last made progress).
    pub activity: Cell<(Activity, Instant)>,
    /// True once a request has been answered: the next one may take its time.
    pub answered: Cell<bool>,
    /// The stream that this connection becomes.
    pub detach: RefCell<Option<Detach>>,
    /// The connection is to end now.
    pub expired: Cell<bool>,
    /// Wakes the connection's task.
    pub waker: RefCell<Option<Waker>>,
}

/// A connection that stops being HTTP.
pub struct Detach {
    /// Its place among the channel's readers.
    pub seat: Seat,
    /// How it begins.
    pub opening: Opening,
    /// For the access log.
    pub entry: Entry,
}

impl Peer {
    /// A fresh connection.
    pub fn new(address: String, server: String) -> Rc<Self> {
        Rc::new(Self {
            address,
            server,
            activity: Cell::new((Activity::Idle, Instant::now())),
            answered: Cell::new(false),
            detach: RefCell::new(None),
            expired: Cell::new(false),
            waker: RefCell::new(None),
        })
    }

    /// Changes what the connection is doing.
    pub fn turn_to(&self, activity: Activity) {
        self.activity.set((activity, Instant::now()));
    }

    /// Wakes the connection's task.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// What the access log says of one request; filled as it becomes known.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The request's id; empty where it got none.
    pub id: String,
    /// The client's address.
    pub peer: String,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// The version.
    pub version: Version,
    /// When it arrived.
    pub started: Instant,
    /// Where the client says it came from.
    pub referer: Option<String>,
    /// What the client says it is.
    pub agent: Option<String>,
}

impl Entry {
    fn of(request: &Request<Incoming>, peer: &Peer) -> Self {
        let text = |name| request.headers().get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        Self {
            id: String::new(),
            peer: peer.address.clone(),
            method: request.method().clone(),
            target: request.uri().path_and_query().map_or_else(|| "*".to_owned(), ToString::to_string),
            version: request.version(),
            started: Instant::now(),
            referer: text(http::header::REFERER),
            agent: text(http::header::USER_AGENT),
        }
    }
}

/// Handles one request. Never fails: what goes wrong becomes a response.
pub async fn handle(context: Rc<Context>, peer: Rc<Peer>, request: Request<Incoming>) -> Response<Body> {
    peer.turn_to(Activity::Busy);
    let _flying = Flying::new(&context.metrics);
    let entry = Entry::of(&request, &peer);
    let wants_json = respond::wants_json(request.headers());
    let is_head = *request.method() == Method::HEAD;
    let id = context.dispatch.next_id();
    let outcome = match route(&context, &request) {
        Ok(Target::Queue(route)) => request_reply::answer(&context, &peer, request, route, &id).await,
        Ok(Target::Subscribe { channel }) => sse::answer(&context, &peer, request, &channel, &entry).await,
        Ok(Target::Files { dir, rest }) => body::files(dir, &rest, request).await,
        Err(failure) => Err(failure),
    };
    let mut response = outcome.unwrap_or_else(|failure| respond::failure(&failure, wants_json));
    let draining = context.life.phase() >= Phase::Draining;
    respond::finish(&context, &peer, &mut response, entry, id.0, draining, is_head);
    response
}

fn route<'c>(context: &'c Context, request: &Request<Incoming>) -> Result<Target<'c>, Failure> {
    if *request.method() == Method::CONNECT {
        return Err(Failure::BadRequest("CONNECT is not served here"));
    }
    let host = host_of(request)?;
    context.router.find(request.method(), host, request.uri().path())
}

/// The host that the client named: of an absolute URI, else of the one Host header that HTTP/1.1 demands
/// (RFC 9112, section 3.2).
pub(crate) fn host_of(request: &Request<Incoming>) -> Result<Option<&str>, Failure> {
    let mut values = request.headers().get_all(http::header::HOST).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Failure::BadRequest("there is more than one Host header"));
    }
    if first.is_none() && request.version() == Version::HTTP_11 {
        return Err(Failure::BadRequest("the Host header is missing"));
    }
    if let Some(authority) = request.uri().authority() {
        return Ok(Some(authority.as_str()));
    }
    match first.map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok(host)) if !host.contains(['/', '@', ' ', '\\', '?', '#']) => Ok(Some(host)),
        Some(_) => Err(Failure::BadRequest("the Host header is not a host")),
    }
}

/// Counts a request as being handled for as long as it lives.
struct Flying(Arc<Metrics>);

impl Flying {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.requests_in_flight.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.0.requests_in_flight.dec();
    }
}
