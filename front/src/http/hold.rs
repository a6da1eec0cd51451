//! A held connection: the worker's answer has named channels, and from there on the client belongs to them.
//!
//! Nothing here knows of the request's queue any more: for it the request was complete when the answer was read. An event
//! stream leaves HTTP like any other; raw streams and answers of one message stay in it, being few and of any type.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Version, header};
use tempest_protocol::{Event, Hold, HoldMode, ONCE_MS, Payload, frame_sse};
use tokio::time::{Sleep, sleep, timeout};

use super::respond::Asker;
use super::{Body, Client, Context, Entry, Incoming, respond, sse, subscribe};
use crate::error::Failure;
use crate::hub::{Refused, Tap};
use crate::places::Place;
use crate::telemetry::Held;

/// Made once: a name that is a text is read anew at every look.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What of the request is needed when its answer holds it.
pub(super) struct Asked {
    is_head: bool,
    version: Version,
    last_event_id: Option<Box<str>>,
}

impl Asked {
    pub(super) fn of(request: &Request<Incoming>) -> Self {
        let seen = request.headers().get(LAST_EVENT_ID);
        Self {
            is_head: *request.method() == Method::HEAD,
            version: request.version(),
            last_event_id: seen.map(|seen| String::from_utf8_lossy(seen.as_bytes()).into()),
        }
    }

    pub(super) fn is_head(&self) -> bool {
        self.is_head
    }
}

/// What the answer says.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) hold: Hold,
}

pub(super) async fn answer(
    context: &Rc<Context>,
    client: &Client<'_>,
    asked: &Asked,
    answer: Answer,
    (asker, entry): (Asker<'_>, Option<&Entry>),
) -> Result<Response<Body>, Failure> {
    let Answer { status, mut headers, hold } = answer;
    // Of a body that there is none of.
    headers.remove(header::CONTENT_LENGTH);
    let held = kind(&hold, &headers);
    if asked.is_head {
        let mut response = respond_with(status, headers, Body::whole(""));
        if held == Held::Events {
            sse::add_headers(response.headers_mut());
        }
        return Ok(response);
    }
    context.metrics.holds.inc(held);
    if held == Held::Events {
        return events(context, client, asked, Answer { status, headers, hold }, (asker, entry)).await;
    }
    let peer = client.peer();
    let place = context.hub.place(client.address().ip(), None).map_err(|why| refused(context, why))?;
    let tap = context.hub.tap(unique(hold.channels), held == Held::Once).await.map_err(|why| refused(context, why))?;
    // Nothing is sent while nothing is published, so whether the client is still there is asked beneath HTTP.
    peer.keep_alive(context.config.channels.heartbeat);
    if held == Held::Once {
        let time = Duration::from_millis(hold.timeout.unwrap_or(ONCE_MS));
        return Ok(match timeout(time, poll_fn(|cx| tap.poll_next(cx))).await {
            Ok(Ok(Some(data))) => respond_with(status, headers, Body::whole(data)),
            _ => respond_with(StatusCode::NO_CONTENT, headers, Body::whole("")),
        });
    }
    let client = Rc::clone(peer);
    tap.on_cut(move || client.expire());
    let raw = Raw {
        first: hold.first.filter(|first| !first.is_empty()).map(Bytes::from),
        tap,
        _place: place,
        until: hold.timeout.map(|ms| Box::pin(sleep(Duration::from_millis(ms)))),
    };
    Ok(respond_with(status, headers, Body::held(raw)))
}

/// What becomes of a hold.
fn kind(hold: &Hold, headers: &HeaderMap) -> Held {
    if hold.mode == HoldMode::Once {
        return Held::Once;
    }
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Held::Events };
    let kind = given.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    if kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream") { Held::Events } else { Held::Raw }
}

/// Each name once, in their order.
fn unique(names: Vec<String>) -> Vec<String> {
    let mut unique = Vec::with_capacity(names.len());
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

fn refused(context: &Context, why: Refused) -> Failure {
    match why {
        Refused::Away => Failure::Overload("the publishers cannot be reached now; try again"),
        Refused::Draining => Failure::Draining,
        Refused::Changing => Failure::Overload("what holds for this channel is being changed; try again"),
        refused => sse::no_room(context, refused),
    }
}

async fn events(
    context: &Context,
    client: &Client<'_>,
    asked: &Asked,
    Answer { mut headers, hold, .. }: Answer,
    (asker, entry): (Asker<'_>, Option<&Entry>),
) -> Result<Response<Body>, Failure> {
    headers.insert(respond::REQUEST_ID, respond::request_id(asker.id));
    let mut first = Vec::new();
    if let Some(data) = hold.first {
        frame_sse(&mut first, &Payload::Event(Event { name: None, data: data.into() }));
    }
    let channels = &context.config.channels;
    let ask = subscribe::held(channels, unique(hold.channels), hold.history.as_deref(), asked.last_event_id.as_deref());
    let start = sse::Start {
        own: headers,
        first: String::from_utf8_lossy(&first).into_owned(),
        until: hold.timeout.map(Duration::from_millis),
        expires: None,
        user: None,
        asker,
        entry,
        version: asked.version,
    };
    sse::stream(context, client, &ask, start).await
}

fn respond_with(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The body of a raw stream.
pub(super) struct Raw {
    first: Option<Bytes>,
    tap: Tap,
    _place: Place,
    until: Option<Pin<Box<Sleep>>>,
}

impl Raw {
    /// The data of the next message; None: the end.
    pub(super) fn poll_data(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(Some(first)));
        }
        loop {
            match self.tap.poll_next(cx) {
                // A chunk without bytes would be the last one.
                Poll::Ready(Ok(Some(data))) if data.is_empty() => {}
                Poll::Ready(Ok(data)) => return Poll::Ready(Ok(data)),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(io::Error::other("the reader is too slow"))),
                Poll::Pending => break,
            }
        }
        match &mut self.until {
            Some(until) => until.as_mut().poll(cx).map(|()| Ok(None)),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_content_type_decides() {
        let of = |value: &'static str| {
            kind(&Hold::of(["a"]), &HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]))
        };
        assert_eq!(kind(&Hold::of(["a"]), &HeaderMap::new()), Held::Events);
        for value in ["text/event-stream", "Text/Event-Stream", "text/event-stream ; charset=utf-8"] {
            assert_eq!(of(value), Held::Events, "{value}");
        }
        for value in ["text/plain", "application/x-ndjson", "text/event-streams", ""] {
            assert_eq!(of(value), Held::Raw, "{value}");
        }
        assert_eq!(kind(&Hold { mode: HoldMode::Once, ..Hold::of(["a"]) }, &HeaderMap::new()), Held::Once);
    }

    #[test]
    fn a_name_that_comes_twice_counts_once() {
        let names = ["b", "a", "b", "a"].map(str::to_owned).to_vec();
        assert_eq!(unique(names), ["b", "a"]);
    }
}
