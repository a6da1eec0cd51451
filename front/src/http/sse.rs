//! A request for a channel's stream: what is refused, and how a stream begins.
//!
//! Once everything is settled the connection is taken out of HTTP: the head is written here as bytes, and the hub
//! owns the socket from then on.

use std::fmt::Write;
use std::rc::Rc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use super::cors::{Allowed, preflight};
use super::{Body, Context, Detach, Entry, Peer, host_of, respond};
use crate::config::Channels;
use crate::error::Failure;
use crate::hub::{Opening, Refused};
use crate::ident::RequestId;
use crate::telemetry::Refusal;

/// A stream that could not begin ends with this hint, in ms.
const RETRY_AWAY_MS: u32 = 2000;

/// The methods of a route to channels.
const METHODS: &str = "GET, HEAD, OPTIONS";

pub(super) async fn answer(
    context: &Rc<Context>,
    peer: &Peer,
    request: Request<Incoming>,
    channel: &str,
    about: (RequestId, Option<&Entry>),
) -> Result<Response<Body>, Failure> {
    let cors = Allowed::of(&context.config.channels, request.headers());
    let wants_json = respond::wants_json(request.headers());
    match (open(context, peer, request, channel, cors.clone(), about).await, cors) {
        // A script of another origin may know why, too.
        (Err(failure), Some(cors)) => {
            let mut response = respond::failure(&failure, wants_json);
            cors.add_to(response.headers_mut());
            Ok(response)
        }
        (outcome, _) => outcome,
    }
}

async fn open(
    context: &Rc<Context>,
    peer: &Peer,
    request: Request<Incoming>,
    channel: &str,
    cors: Option<Allowed>,
    (id, entry): (RequestId, Option<&Entry>),
) -> Result<Response<Body>, Failure> {
    let allowed = [Method::GET, Method::HEAD, Method::OPTIONS];
    if !allowed.contains(request.method()) {
        return Err(Failure::Method(allowed.to_vec()));
    }
    let channels = &context.config.channels;
    let name = channel_name(channel, channels.name_bytes)?;
    if *request.method() == Method::OPTIONS {
        return Ok(preflight(cors.as_ref(), METHODS));
    }
    let (query, host) = (request.uri().query(), host_of(&request)?);
    let rights = context.auth.rights(request.headers(), query, host).await?;
    rights.may_subscribe(&name)?;
    if !accepts_events(request.headers()) {
        return Err(Failure::NotAcceptable("this path gives text/event-stream"));
    }
    if *request.method() == Method::HEAD {
        return Ok(with_headers(Response::new(Body::whole("")), cors));
    }
    let seat = match context.hub.seat(&name).await {
        Ok(seat) => seat,
        // An EventSource that gets any other status never comes back; so this one is told when to.
        Err(Refused::Away) => return Ok(with_headers(come_back_later("the publishers cannot be reached now"), cors)),
        Err(Refused::Draining) => return Ok(with_headers(come_back_later("this server is going away"), cors)),
        Err(Refused::Streams | Refused::Channels) => {
            context.metrics.refused.inc(Refusal::TooManyPending);
            return Err(Failure::Overload("too many streams are open"));
        }
    };
    let chunked = request.version() == Version::HTTP_11;
    let (head, first, expires) = (head(chunked, cors).into(), first_lines(channels), rights.expires_for(&name));
    let opening = Opening { head, first, chunked, expires };
    context.metrics.requests.inc(StatusCode::OK.as_u16());
    *peer.detach.borrow_mut() = Some(Box::new(Detach { seat, opening, id, entry: entry.cloned() }));
    peer.wake();
    // The connection ends this future when it takes the socket.
    std::future::pending().await
}

/// The name in the path, decoded; a message about it never repeats it.
fn channel_name(encoded: &str, limit: usize) -> Result<String, Failure> {
    if has_broken_percent(encoded) {
        return Err(Failure::BadRequest("the channel's name has a broken percent-encoding"));
    }
    let name = percent_decode_str(encoded)
        .decode_utf8()
        .map_err(|_| Failure::BadRequest("the channel's name is not UTF-8"))?;
    if name.is_empty() {
        return Err(Failure::BadRequest("the path names no channel"));
    }
    if name.len() > limit {
        return Err(Failure::BadRequest("the channel's name is too long"));
    }
    if name.chars().any(char::is_control) {
        return Err(Failure::BadRequest("the channel's name has a control character"));
    }
    Ok(name.into_owned())
}

fn has_broken_percent(encoded: &str) -> bool {
    let mut rest = encoded.as_bytes();
    while let Some(at) = memchr::memchr(b'%', rest) {
        match rest.get(at + 1..at + 3) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => rest = &rest[at + 3..],
            _ => return true,
        }
    }
    false
}

/// True where `Accept` is missing or has a range that event streams fall into.
fn accepts_events(headers: &HeaderMap) -> bool {
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

fn with_headers(mut response: Response<Body>, cors: Option<Allowed>) -> Response<Body> {
    let headers = response.headers_mut();
    for (name, value) in STREAM_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(origin) = cors {
        origin.add_to(headers);
    }
    response
}

fn head(chunked: bool, cors: Option<Allowed>) -> Vec<u8> {
    let mut headers = HeaderMap::new();
    if let Some(origin) = cors {
        origin.add_to(&mut headers);
    }
    let mut head = String::with_capacity(256);
    head.push_str("HTTP/1.1 200 OK\r\n");
    for (name, value) in STREAM_HEADERS {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    for (name, value) in &headers {
        let _ = write!(head, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let framing = if chunked { "transfer-encoding: chunked" } else { "connection: close" };
    let _ = write!(head, "date: {date}\r\n{framing}\r\n\r\n");
    head.into_bytes()
}

fn first_lines(channels: &Channels) -> String {
    format!(": tempest\nretry: {}\n\n", channels.retry.as_millis())
}

fn come_back_later(why: &str) -> Response<Body> {
    let words = format!(": {why}, try again\nretry: {RETRY_AWAY_MS}\n\n");
    Response::new(Body::whole(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_once_and_checked() {
        assert_eq!(channel_name("a%2Fb%20c", 64).as_deref(), Ok("a/b c"));
        assert_eq!(channel_name("%C3%BC*", 64).as_deref(), Ok("ü*"));
        assert_eq!(channel_name("%2525", 64).as_deref(), Ok("%25"));
        for bad in ["", "%", "%zz", "%ff", "a%0Ab", "%00", &"a".repeat(65)] {
            assert!(channel_name(bad, 64).is_err(), "{bad}");
        }
        assert!(channel_name(&"a".repeat(64), 64).is_ok());
    }

    #[test]
    fn accept_decides() {
        let accepts =
            |value| accepts_events(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]));
        assert!(accepts_events(&HeaderMap::new()));
        assert!(accepts("text/event-stream") && accepts("text/html, */*;q=0.1") && accepts("Text/*"));
        assert!(!accepts("application/json") && !accepts("text/event-stream;q=0"));
    }
}
