//! A request for a channel's stream: what is refused, and how a stream begins.
//!
//! Once everything is settled the connection is taken out of HTTP: the head is written here as bytes, and the hub
//! owns the socket from then on.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};

use super::cors::{Allowed, preflight};
use super::respond::Asker;
use super::subscribe::Ask;
use super::{Body, Client, Context, Detach, Entry, Incoming, respond, session, subscribe};
use crate::config::Channels;
use crate::error::Failure;
use crate::hub::{self, Opening, Refused, Wanted, Wire};
use crate::telemetry::{Refusal, ResumeOutcome};

/// A stream that could not begin ends with this hint, in ms.
const RETRY_AWAY_MS: u32 = 2000;

/// The methods of a route to channels.
const METHODS: &str = "GET, HEAD, OPTIONS";

pub(super) async fn answer(
    context: &Rc<Context>,
    client: &Client<'_>,
    request: Request<Incoming>,
    channel: &str,
    (asker, entry): (Asker<'_>, Option<&Entry>),
) -> Result<Response<Body>, Failure> {
    let cors = Allowed::of(&context.config.channels, request.headers());
    match (open(context, client, request, channel, cors.clone(), (asker, entry)).await, cors) {
        // A script of another origin may know why, too.
        (Err(failure), Some(cors)) => {
            let mut response = respond::failure(&failure, asker);
            cors.add_to(response.headers_mut());
            Ok(response)
        }
        (outcome, _) => outcome,
    }
}

async fn open(
    context: &Rc<Context>,
    client: &Client<'_>,
    request: Request<Incoming>,
    channel: &str,
    cors: Option<Allowed>,
    (asker, entry): (Asker<'_>, Option<&Entry>),
) -> Result<Response<Body>, Failure> {
    let allowed = [Method::GET, Method::HEAD, Method::OPTIONS];
    if !allowed.contains(request.method()) {
        return Err(Failure::Method(allowed.to_vec()));
    }
    let channels = &context.config.channels;
    let ask = subscribe::read(&request, channel, channels)?;
    if *request.method() == Method::OPTIONS {
        return Ok(preflight(cors.as_ref(), METHODS));
    }
    let (query, host) = (request.uri().query(), client.host_of_routed(&request));
    let session = match session::voucher(context, request.headers()).await {
        // An EventSource that got an error now would never come back, whatever its session says then.
        Err(Failure::SessionAway) if *request.method() == Method::GET => {
            let mut own = HeaderMap::new();
            if let Some(origin) = cors {
                origin.add_to(&mut own);
            }
            return Ok(come_back_later("the sessions cannot be reached now", own));
        }
        session => session?,
    };
    let rights = context.auth.rights(request.headers(), query, host, session).await?;
    for Wanted { name, pattern, .. } in &ask.wanted {
        if *pattern { rights.may_read_pattern(name)? } else { rights.may_subscribe(name)? }
    }
    if ask.wanted.iter().all(|wanted| is_gone(channels, wanted)) {
        return Ok(nothing_more(cors));
    }
    if !accepts_events(request.headers()) {
        return Err(Failure::NotAcceptable("this path gives text/event-stream"));
    }
    if *request.method() == Method::HEAD {
        let mut response = Response::new(Body::whole(""));
        add_headers(response.headers_mut());
        if let Some(origin) = cors {
            origin.add_to(response.headers_mut());
        }
        return Ok(response);
    }
    let mut own = HeaderMap::new();
    if let Some(origin) = cors {
        origin.add_to(&mut own);
        own.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    // Of several channels the first that may be read no longer ends the stream.
    let expires = ask.wanted.iter().filter_map(|Wanted { name, pattern, .. }| rights.expires_for(name, *pattern)).min();
    let version = request.version();
    let user = rights.user();
    let start = Start { own, first: String::new(), until: None, expires, user, asker, entry, version };
    stream(context, client, &ask, start).await
}

/// A stream of channels of which the application that the front is a part of has decided that they may be read.
pub(super) async fn granted(
    context: &Context,
    client: &Client<'_>,
    request: Request<Incoming>,
    names: &[String],
    (asker, entry): (Asker<'_>, Option<&Entry>),
) -> Result<Response<Body>, Failure> {
    let allowed = [Method::GET, Method::HEAD];
    if !allowed.contains(request.method()) {
        return Err(Failure::Method(allowed.to_vec()));
    }
    let ask = subscribe::granted(&request, names, &context.config.channels)?;
    if !accepts_events(request.headers()) {
        return Err(Failure::NotAcceptable("this path gives text/event-stream"));
    }
    if *request.method() == Method::HEAD {
        let mut response = Response::new(Body::whole(""));
        add_headers(response.headers_mut());
        return Ok(response);
    }
    let (own, first, version) = (HeaderMap::new(), String::new(), request.version());
    let start = Start { own, first, until: None, expires: None, user: None, asker, entry, version };
    stream(context, client, &ask, start).await
}

/// Whose stream begins, and how.
pub(super) struct Start<'a> {
    /// Its headers besides those of every stream, which they go before.
    pub(super) own: HeaderMap,
    /// What stands behind its first lines.
    pub(super) first: String,
    /// When it ends, if nothing else ends it.
    pub(super) until: Option<Duration>,
    /// When the right to read ends.
    pub(super) expires: Option<Instant>,
    /// Whose streams are counted with it.
    pub(super) user: Option<&'a str>,
    pub(super) asker: Asker<'a>,
    pub(super) entry: Option<&'a Entry>,
    pub(super) version: Version,
}

/// Opens a stream and gives it the connection, or, in HTTP/2, the body of its response.
pub(super) async fn stream(
    context: &Context,
    client: &Client<'_>,
    ask: &Ask,
    Start { own, first, until, expires, user, asker, entry, version }: Start<'_>,
) -> Result<Response<Body>, Failure> {
    let taken = match context.hub.place(client.address().ip(), user) {
        Ok(place) => context.hub.open(&ask.wanted, ask.tell).await.map(|opened| (place, opened)),
        Err(refused) => Err(refused),
    };
    let (place, opened) = match taken {
        Ok(both) => both,
        // An EventSource that gets any other status never comes back; so this one is told when to.
        Err(Refused::Away) => return Ok(come_back_later("the publishers cannot be reached now", own)),
        Err(Refused::Draining) => return Ok(come_back_later("this server is going away", own)),
        Err(Refused::Changing) => return Ok(come_back_later("what holds for this channel is being changed", own)),
        Err(refused) => return Err(no_room(context, refused)),
    };
    let resumed = ask.resumes.then(|| if opened.is_lossy() { ResumeOutcome::Lost } else { ResumeOutcome::Complete });
    let resumed = resumed.filter(|_| opened.start_id().is_some());
    if let Some(outcome) = resumed {
        context.metrics.stream_resumes.inc(outcome);
    }
    let start = opened.start_id();
    let headers = stream_headers(own, start.as_deref(), resumed);
    let first = first_lines(&context.config.channels, start.as_deref()) + &first;
    if !client.peer().may_detach(version) {
        let opening = Opening { head: Bytes::new(), first, chunked: false, expires, until };
        let peer = Rc::clone(client.peer());
        let (wire, body) = hub::pipe(move || peer.expire());
        hub::start(Wire::Pipe(wire), opened, &opening, None, place);
        let mut response = Response::new(Body::events(body));
        *response.headers_mut() = headers;
        return Ok(response);
    }
    let chunked = version == Version::HTTP_11;
    let opening = Opening { head: head(chunked, &headers).into(), first, chunked, expires, until };
    asker.count(&context.metrics, StatusCode::OK);
    let (peer, id, entry) = (client.peer(), *asker.id, entry.cloned().map(Box::new));
    *peer.detach.borrow_mut() = Some(Box::new(Detach { opened, place, opening, id, entry }));
    peer.wake();
    // The connection ends this future when it takes the socket.
    std::future::pending().await
}

/// True where the channel's rule says that there is nothing to read any more.
fn is_gone(channels: &Channels, wanted: &Wanted) -> bool {
    !wanted.pattern && channels.rule(&wanted.name).is_some_and(|rule| rule.gone)
}

/// 204 ends an EventSource for good, without an error that a page would have to tell from others.
fn nothing_more(cors: Option<Allowed>) -> Response<Body> {
    let mut response = Response::new(Body::whole(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    // A cache may keep a 204 otherwise, and the channel may be there again after a change of the configuration.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(origin) = cors {
        origin.add_to(response.headers_mut());
    }
    response
}

/// Counts a stream that finds no room, and says which limit it met.
pub(super) fn no_room(context: &Context, refused: Refused) -> Failure {
    let (reason, failure) = match refused {
        Refused::Channels => (Refusal::Channels, Failure::Overload("too many channels are subscribed")),
        Refused::Address => {
            (Refusal::StreamsPerAddress, Failure::TooMany("too many streams are open from this address"))
        }
        Refused::User => (Refusal::StreamsPerUser, Failure::TooMany("too many streams are open for this user")),
        Refused::Streams | Refused::Away | Refused::Draining | Refused::Changing => {
            (Refusal::Streams, Failure::Overload("too many streams are open"))
        }
    };
    context.metrics.refused.inc(reason);
    failure
}

/// True where `Accept` is missing or has a range that event streams fall into.
pub(super) fn accepts_events(headers: &HeaderMap) -> bool {
    let mut named = false;
    for value in headers.get_all(header::ACCEPT) {
        for range in String::from_utf8_lossy(value.as_bytes()).split(',') {
            named = true;
            let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
            let kind = parts.next().unwrap_or_default();
            let refused = parts.any(|p| p.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0f32)));
            if matches!(kind.as_str(), "text/event-stream" | "text/*" | "*/*") && !refused {
                return true;
            }
        }
    }
    !named
}

const STREAM_HEADERS: [(&str, &str); 3] = [
    ("content-type", "text/event-stream"),
    // Nothing on the way may keep, change or hold back a stream; the last line is nginx's own switch for that.
    ("cache-control", "no-cache, no-transform"),
    ("x-accel-buffering", "no"),
];

/// Adds the headers of every stream, where there is none of that name.
pub(super) fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in STREAM_HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// Where the stream really starts, and what became of what the client has missed.
const STARTS: &str = "tempest-last-event-id";
const RESUMED: &str = "tempest-resume";
/// Both, for pages of other origins.
const EXPOSED: &str = "tempest-last-event-id, tempest-resume";

/// `start`: the id from which the stream really goes on; `resumed`: what became of what the client has missed.
fn stream_headers(mut headers: HeaderMap, start: Option<&str>, resumed: Option<ResumeOutcome>) -> HeaderMap {
    add_headers(&mut headers);
    let words = |outcome| if outcome == ResumeOutcome::Lost { "lost" } else { "complete" };
    // What these two say is ours to know.
    for (name, said) in [(STARTS, start), (RESUMED, resumed.map(words))] {
        let name = HeaderName::from_static(name);
        match said.and_then(|said| HeaderValue::from_str(said).ok()) {
            Some(said) => drop(headers.insert(name, said)),
            None => drop(headers.remove(name)),
        }
    }
    headers
}

/// The head of a stream that leaves HTTP.
fn head(chunked: bool, headers: &HeaderMap) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);
    head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    let mut line = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            head.extend_from_slice(part);
        }
    };
    headers.iter().for_each(|(name, value)| line(name.as_str(), value.as_bytes()));
    if !headers.contains_key(header::DATE) {
        line("date", httpdate::fmt_http_date(std::time::SystemTime::now()).as_bytes());
    }
    let (name, value): (&str, &[u8]) =
        if chunked { ("transfer-encoding", b"chunked") } else { ("connection", b"close") };
    line(name, value);
    head.extend_from_slice(b"\r\n");
    head
}

/// A client that gets nothing more before it is cut off comes back with the id `start`.
fn first_lines(channels: &Channels, start: Option<&str>) -> String {
    let id = start.map(|start| format!("id: {start}\n")).unwrap_or_default();
    format!(": tempest\nretry: {}\n{id}\n", channels.retry.as_millis())
}

fn come_back_later(why: &str, headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::whole(format!(": {why}, try again\nretry: {RETRY_AWAY_MS}\n\n")));
    *response.headers_mut() = headers;
    add_headers(response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_decides() {
        let accepts =
            |value| accepts_events(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]));
        assert!(accepts_events(&HeaderMap::new()));
        assert!(accepts("text/event-stream") && accepts("text/html, */*;q=0.1") && accepts("Text/*"));
        assert!(!accepts("application/json") && !accepts("text/event-stream;q=0"));
    }
}
