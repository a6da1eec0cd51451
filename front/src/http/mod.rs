//! HTTP: from a parsed request to a response, by route.
//!
//! Nothing here reads or writes a socket; the connection does. Errors become responses in [`respond`] and nowhere
//! else.

mod accept;
mod around;
mod body;
mod client;
mod compress;
mod cors;
mod current;
mod files;
mod forwarded;
#[doc(hidden)]
pub mod fuzz;
mod hold;
mod incoming;
mod pages;
mod peer;
mod proxy;
mod publish;
mod redirect;
mod request_reply;
mod respond;
mod router;
mod send_file;
mod session;
mod sse;
mod subscribe;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use http::{HeaderValue, Method, Request, Response, Version};
use http_body::Body as _;

use crate::auth::Auth;
use crate::config::Config;
use crate::error::Failure;
use crate::hub::Hub;
use crate::lifecycle::Life;
use crate::listener::{Mount, Way};
use crate::places::{Holder, Place, Places};
use crate::queue::Dispatch;
use crate::session::Sessions;
use crate::telemetry::{AccessLog, Metrics, Refusal, Spans, Trace, Traces, What};

pub use around::Around;
pub use body::Body;
pub use client::Client;
pub use current::Current;
pub use incoming::{BoxError, Incoming};
pub use pages::{PageError, Pages};
pub use peer::{Activity, Detach, Peer};
pub use publish::{Counts, Publishing};
use respond::Asker;
pub use respond::early_response;
pub use router::{Found, Router, Target};

/// What the requests of one reactor need. A reload makes another one ([`Current`]): whatever of it is not the
/// configuration's is shared between them.
pub struct Context {
    /// All settings.
    pub config: Arc<Config>,
    /// The routes.
    pub router: Router,
    /// Requests that wait for workers.
    pub dispatch: Rc<Dispatch>,
    /// Browser channels.
    pub hub: Rc<Hub>,
    /// Publishing on them over HTTP.
    pub publishing: Rc<Publishing>,
    /// Who may read and publish.
    pub auth: Arc<Auth>,
    /// Clients' sessions, where there are any.
    pub sessions: Option<Sessions>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Places under the limits of addresses and routes.
    pub places: Arc<Places>,
    /// Bytes of request bodies held by the whole process.
    pub body_memory: Arc<AtomicUsize>,
    /// The access log.
    pub access: AccessLog,
    /// Which requests are traced.
    pub traces: Traces,
    /// What was done for them.
    pub spans: Spans,
    /// The phase of the process.
    pub life: Life,
}

/// What the access log and a trace will say of one request, once its answer is over.
#[derive(Clone, Debug)]
pub struct Entry {
    log: AccessLog,
    spans: Spans,
    trace: Option<Rc<Trace>>,
    route: Arc<str>,
    peer: SocketAddr,
    method: Method,
    target: String,
    version: &'static str,
    started: Instant,
    referer: Option<HeaderValue>,
    agent: Option<HeaderValue>,
}

impl Entry {
    /// None where no access log is kept and no trace is exported: then nothing of this is needed.
    fn of(context: &Context, client: &Client<'_>, request: &Request<Incoming>, asker: Asker<'_>) -> Option<Box<Self>> {
        let Asker { trace, series, started, .. } = asker;
        let header = |name| request.headers().get(name).cloned();
        let wanted = context.access.is_on() || context.spans.want(trace);
        // Boxed, since most requests have none and would carry its room along.
        wanted.then(|| {
            Box::new(Self {
                log: context.access.clone(),
                spans: context.spans.clone(),
                trace: trace.cloned(),
                route: Arc::clone(series.path()),
                peer: client.address(),
                method: request.method().clone(),
                target: request.uri().path_and_query().map_or_else(|| "*".to_owned(), ToString::to_string),
                version: request_reply::version_of(request.version()),
                started,
                referer: header(http::header::REFERER),
                agent: header(http::header::USER_AGENT),
            })
        })
    }

    /// Writes the line and hands over the span.
    pub fn write(&self, id: &str, status: u16, bytes: u64) {
        if let Some(trace) = self.trace.as_ref().filter(|trace| self.spans.want(Some(trace))) {
            self.spans.send(trace, self.started, self.started.elapsed(), self.span(id, status, bytes));
        }
        self.log.write(&crate::telemetry::Entry {
            id,
            trace: self.trace.as_ref().map(|trace| trace.id()),
            peer: self.peer,
            method: self.method.as_str(),
            target: &self.target,
            version: self.version,
            status,
            bytes,
            took: self.started.elapsed(),
            referer: self.referer.as_ref().map(HeaderValue::as_bytes),
            agent: self.agent.as_ref().map(HeaderValue::as_bytes),
        });
    }
}

impl Entry {
    fn span(&self, id: &str, status: u16, bytes: u64) -> What {
        What::Request {
            id: id.to_owned(),
            method: self.method.to_string(),
            route: self.route.to_string(),
            // What follows the `?` may hold secrets, and a trace goes far.
            path: self.target.split('?').next().unwrap_or_default().to_owned(),
            status,
            bytes,
            peer: self.peer.to_string(),
        }
    }
}

/// Handles one request. Never fails: what goes wrong becomes a response.
#[allow(clippy::manual_async_fn, reason = "the future of an `async fn` has room for the request twice")]
pub fn handle(
    context: Rc<Context>,
    peer: Rc<Peer>,
    mut request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Body>, Infallible>> {
    async move {
        peer.turn_to(Activity::Busy);
        let _flying = Flying::new(&context.metrics);
        let started = Instant::now();
        let client = Client::of(&context, &peer, request.headers());
        let trace = context.traces.of(request.headers());
        let id = context.dispatch.next_id();
        let json = respond::wants_json(request.headers());
        let (target, series, around) = match route(&context, &client, &request) {
            Ok(Found { target, series, around }) => (Ok(target), series, around),
            Err(failure) => (Err(failure), context.router.none(), context.router.otherwise()),
        };
        let asked = around.map(|around| around.ask(&request, client.is_secure()));
        let asker = Asker { json, id: &id, trace: trace.as_ref(), series, started };
        let entry = Entry::of(&context, &client, &request, asker);
        let mut place = Place::default();
        let target = target.and_then(|target| {
            place = admit(&context, &client, &target)?;
            Ok(target)
        });
        let outcome = match target {
            Ok(Target::Queue(lane, _)) => {
                request_reply::answer(&context, &client, &mut request, lane, (asker, entry.as_deref())).await
            }
            Ok(Target::Subscribe { channel }) => {
                // Boxed, since most requests never get here and would carry its state along.
                Box::pin(sse::answer(&context, &client, request, &channel, (asker, entry.as_deref()))).await
            }
            Ok(Target::Granted(names)) => {
                Box::pin(sse::granted(&context, &client, request, &names, (asker, entry.as_deref()))).await
            }
            Ok(Target::Publish { route, channel }) => {
                Ok(Box::pin(publish::answer(&context, &client, request, route, channel.as_deref(), asker)).await)
            }
            Ok(Target::Preflight(cors)) => Ok(cors.preflight(request.headers().get(http::header::ORIGIN))),
            Ok(Target::Proxy(pool)) => Box::pin(proxy::answer(&context, &client, request, pool, asker)).await,
            Ok(Target::Files { route, rest }) => {
                let (method, headers, query) = (request.method(), request.headers(), request.uri().query());
                let asked = files::Asked { method, headers, query };
                Box::pin(files::serve(route, &rest, asked)).await.map(|response| response.map(Body::boxed))
            }
            Ok(Target::Redirect(port)) => redirect::answer(&request, port),
            Err(failure) => Err(failure),
        };
        let mut response = outcome.unwrap_or_else(|failure| respond::page(&context, &failure, asker));
        if let (Some(around), Some(asked)) = (around, asked) {
            around.finish(&asked, &mut response);
        }
        respond::finish(&context, &peer, &mut response, asker, (entry, place));
        Ok(response)
    }
}

/// A place for one more request of its client's address and of its route, kept until its answer is over.
fn admit(context: &Context, client: &Client<'_>, target: &Target<'_>) -> Result<Place, Failure> {
    let most = context.config.limits.requests_per_address;
    let Some(place) = context.places.take(Holder::Requests(client.address().ip()), most) else {
        context.metrics.refused.inc(Refusal::RequestsPerAddress);
        return Err(Failure::TooMany("too many requests of this address are being handled"));
    };
    let Target::Queue(lane, holder) = target else { return Ok(place) };
    let Some(of_route) = context.places.take(*holder, lane.route.max_requests.unwrap_or_default()) else {
        context.metrics.refused.inc(Refusal::RequestsPerRoute);
        return Err(Failure::Overload("too many requests for this path are being handled; try again later"));
    };
    Ok(place.and(of_route))
}

fn route<'c>(context: &'c Context, client: &Client<'_>, request: &Request<Incoming>) -> Result<Found<'c>, Failure> {
    match &client.peer().entrance.way {
        Way::Redirect(port) => {
            let (series, around) = (context.router.none(), context.router.otherwise());
            return Ok(Found { target: Target::Redirect(*port), series, around });
        }
        Way::Mounted { what, .. } if *what != Mount::Routes => {
            client.host(request)?;
            check_shape(request)?;
            return context.router.mounted(what, request.uri().path());
        }
        _ => {}
    }
    if *request.method() == Method::CONNECT {
        return Err(Failure::BadRequest("CONNECT is not served here"));
    }
    let host = client.host(request)?;
    check_shape(request)?;
    if request.version() == Version::HTTP_2 && request.headers().len() > context.config.limits.headers {
        return Err(Failure::HeadTooLarge);
    }
    let path = request.uri().path();
    if let Some(asked) = cors::asked_for(request)
        && let Ok(Found { series, around: Some(around), .. }) = context.router.find(&asked, host, path)
        && let Some(cors) = around.cors()
    {
        return Ok(Found { target: Target::Preflight(cors), series, around: Some(around) });
    }
    context.router.find(request.method(), host, path)
}

/// Shapes that hyper lets pass and that another server on the way might read differently.
fn check_shape(request: &Request<Incoming>) -> Result<(), Failure> {
    // A body whose end is known has no coding that would say where it is.
    if !request.body().is_end_stream() {
        let mut codings = request.headers().get_all(http::header::TRANSFER_ENCODING).iter();
        let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
        if codings.next().is_some_and(|only| !chunked(only)) || codings.next().is_some() {
            return Err(Failure::BadRequest("the only transfer-encoding taken here is chunked, once"));
        }
    }
    let path = request.uri().path();
    if !path.starts_with('/') && path != "*" {
        return Err(Failure::BadRequest("the request's target is not a path"));
    }
    match request.headers().get(http::header::EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Err(Failure::Expectation),
        _ => Ok(()),
    }
}

/// The host that the client named: of an absolute URI, else of the one Host header that HTTP/1.1 demands
/// (RFC 9112, section 3.2).
pub(crate) fn host_of<B>(request: &Request<B>) -> Result<Option<&str>, Failure> {
    let mut values = request.headers().get_all(http::header::HOST).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Failure::BadRequest("there is more than one Host header"));
    }
    if first.is_none() && request.version() == Version::HTTP_11 {
        return Err(Failure::BadRequest("the Host header is missing"));
    }
    if let Some(authority) = request.uri().authority() {
        let differs = first.is_some_and(|host| host.as_bytes() != authority.as_str().as_bytes());
        if request.version() == Version::HTTP_2 && differs {
            // RFC 9113, section 8.3.1.
            return Err(Failure::BadRequest("the Host header is not the authority"));
        }
        return Ok(Some(authority.as_str()));
    }
    match first.map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok(host)) if is_host(host) || host.is_empty() => Ok(Some(host)),
        Some(_) => Err(Failure::BadRequest("the Host header is not a host")),
    }
}

/// True where the text may be a host and a port; which ones there are is not looked at.
fn is_host(text: &str) -> bool {
    !text.is_empty() && !text.bytes().any(|byte| byte.is_ascii_control() || b"/@ \\?#".contains(&byte))
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
