//! Turning a request into a job, and the ticket that its task holds while it waits.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use redis_protocol::resp2::types::BytesFrame;
use tempest_protocol::{Codec, JobHead, JobWriter, PackedJobWriter, WriteJob};

use super::Dispatch;
use super::inbox::{Head, Inbox, Part};
use super::lane::{Closed, Lane, QueueState};
use super::pending::{Pending, connection_names, is_hop_by_hop};
use super::retry::is_repeatable;
use crate::broker::Command;
use crate::config::WhenNoWorker;
use crate::cookies::without;
use crate::error::Failure;
use crate::ident::RequestId;
use crate::telemetry::{Refusal, Trace};

/// Room for the JSON around a request's own bytes.
const HEAD_ROOM: usize = 768;

/// A job that may become longer than this is written where it stays.
const SCRATCH_BYTES: usize = 16 * 1024;

/// A request on its way to a queue.
pub struct Request<'a> {
    /// Where it goes, and what holds there.
    pub lane: &'a Rc<Lane>,
    /// Its method.
    pub method: &'a Method,
    /// Path and query as sent.
    pub uri: &'a http::Uri,
    /// The host the client named.
    pub host: Option<&'a str>,
    /// `http` or `https`, as the client has come.
    pub scheme: &'a str,
    /// HTTP version: `1.0`, `1.1`, `2`.
    pub http: &'a str,
    /// The client's address.
    pub peer: &'a str,
    /// The address it reached.
    pub server: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its whole body.
    pub body: &'a [u8],
    /// The client's session as JSON, and how many bytes it may have, where there is one.
    pub session: Option<(&'a str, usize)>,
    /// A cookie that is no worker's to see.
    pub own_cookie: Option<&'a str>,
    /// The trace it belongs to.
    pub trace: Option<&'a Rc<Trace>>,
}

/// One waiting request. Dropping it before the answer is complete means that the client left.
pub struct Ticket {
    dispatch: Rc<Dispatch>,
    serial: u64,
    inbox: Rc<Inbox>,
}

impl Dispatch {
    /// Pushes a request's job. The error says why it was not taken; nothing was written then.
    pub fn submit(self: &Rc<Self>, request: &Request<'_>, id: &RequestId) -> Result<Ticket, Failure> {
        // Of all reactors, so that the limit is the process's.
        if self.metrics.requests_waiting.get() >= self.limits.borrow().pending as i64 {
            self.metrics.refused.inc(Refusal::TooManyPending);
            return Err(Failure::Overload("too many requests are waiting"));
        }
        let now = Instant::now();
        if let Some(closed) = request.lane.closed(now) {
            return Err(self.closed(closed));
        }
        let serial = id.serial();
        let inbox = Inbox::new();
        let mut pending =
            Pending::new(Rc::clone(request.lane), self.encode(request, id.as_str()), Rc::clone(&inbox), now);
        let Lane { queue, route, .. } = &**request.lane;
        pending.repeatable = is_repeatable(route.retry, request.method, request.headers);
        pending.head_only = *request.method == Method::HEAD;
        pending.trace = request.trace.cloned();
        pending.untaken = route.when_no_worker == WhenNoWorker::Fail && !queue.has_worker(now);
        self.push(&pending, serial).map_err(|why| self.not_taken(why))?;
        if pending.untaken {
            self.look_whether_taken(serial, queue);
        }
        let was_empty = self.enter(serial, pending);
        if was_empty {
            self.busy.notify_one();
        }
        Ok(Ticket { dispatch: Rc::clone(self), serial, inbox })
    }

    /// One more waits, or one less: for its queue here, and for the limit of all reactors.
    pub(super) fn waits(&self, queue: &QueueState, more: bool) {
        queue.waits(more);
        self.metrics.requests_waiting.add(if more { 1 } else { -1 });
    }

    fn closed(&self, closed: Closed) -> Failure {
        match closed {
            Closed::Full(again) => {
                self.metrics.refused.inc(Refusal::QueueFull);
                Failure::QueueFull(again)
            }
            Closed::TooLong(again) => {
                self.metrics.refused.inc(Refusal::TooLong);
                Failure::TooLong(again)
            }
        }
    }

    /// Asks, right behind the push, whether the job still lies there: a worker that waited has taken it by then.
    fn look_whether_taken(self: &Rc<Self>, serial: u64, queue: &Rc<QueueState>) {
        let length = self.broker.call(Command::new(&[b"LLEN", queue.keys.normal().as_bytes()]));
        let dispatch = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if let Ok(BytesFrame::Integer(1..)) = length.await {
                dispatch.take_back(serial);
            }
        });
    }

    /// A fresh request id.
    pub fn next_id(&self) -> RequestId {
        let serial = self.serial.get();
        self.serial.set(serial + 1);
        self.reactor.request(serial)
    }

    fn encode(&self, request: &Request<'_>, id: &str) -> Bytes {
        let now = self.broker.now_ms();
        let timeout_ms = request.lane.route.timeout.as_millis() as u64;
        let path = request.uri.path();
        let room = HEAD_ROOM
            + path.len()
            + request.headers.len() * 48
            + request.body.len()
            + request.session.map_or(0, |(session, _)| session.len());
        let mut scratch = self.scratch.take();
        // Held by one request at a time and no larger than most jobs: what it gathers is copied out in its exact size.
        let small = room <= SCRATCH_BYTES;
        let mut fresh = Vec::new();
        let out = if small { &mut scratch } else { &mut fresh };
        out.clear();
        out.reserve(room);
        let head = JobHead {
            id,
            attempt: 1,
            deadline: now + timeout_ms,
            timeout_ms,
            reply_to: &self.reply_to,
            queue: request.lane.queue.name.as_str(),
            method: request.method.as_str(),
            path,
            query: request.uri.query(),
            host: request.host,
            scheme: request.scheme,
            http: request.http,
            peer: request.peer,
            server: request.server,
            enqueued: now,
            traceparent: request.trace.map(|trace| trace.as_str()),
            tracestate: request.trace.and_then(|trace| trace.state()),
        };
        match request.lane.route.codec {
            Codec::Json => write_rest(JobWriter::new(out, &head), request),
            Codec::MsgPack => write_rest(PackedJobWriter::new(out, &head), request),
        }
        let job = if small { Bytes::copy_from_slice(&scratch) } else { fresh.into() };
        self.scratch.set(scratch);
        job
    }
}

/// Headers, session and body of a job.
fn write_rest(mut writer: impl WriteJob, request: &Request<'_>) {
    let connections = request.headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> = connections.flat_map(connection_names).collect();
    // Values of one name come one behind the other, so no name is looked up.
    let mut headers = request.headers.iter().peekable();
    while let Some((name, value)) = headers.next() {
        let skipped = is_hop_by_hop(name) || *name == header::EXPECT || named.contains(name);
        let more = std::iter::from_fn(|| headers.next_if(|(next, _)| *next == name));
        let values = std::iter::once(value).chain(more.map(|(_, value)| value)).map(HeaderValue::as_bytes);
        if skipped {
            values.for_each(drop);
        } else if let (Some(own), true) = (request.own_cookie, *name == header::COOKIE) {
            let kept: Vec<Vec<u8>> = values.filter_map(|value| without(value, own)).collect();
            if !kept.is_empty() {
                writer.header(name.as_str(), kept.iter().map(Vec::as_slice));
            }
        } else {
            writer.header(name.as_str(), values);
        }
    }
    if let Some((session, most)) = request.session {
        writer.session(session, most as u64);
    }
    writer.finish(request.body);
}

impl Ticket {
    /// Waits for the head of the answer.
    pub async fn head(&self) -> Result<Head, Failure> {
        poll_fn(|cx| self.inbox.poll_head(cx)).await
    }

    /// The whole body, where it came in one message.
    pub fn take_whole(&self) -> Option<Bytes> {
        self.inbox.take_whole()
    }

    /// Calls `act` when so much waits that the client must be cut off; parts that wait are lost then.
    pub fn on_cut(&self, act: impl FnOnce() + 'static) {
        self.inbox.on_cut(Box::new(act));
    }

    /// The next part of the body.
    pub fn poll_part(&self, cx: &mut Context<'_>) -> Poll<Result<Part, Failure>> {
        self.inbox.poll_part(cx)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.dispatch.leave(self.serial);
    }
}
