//! Turning a request into a job, and the ticket that its task holds while it waits.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tempest_protocol::{JobHead, JobWriter};

use super::inbox::{Head, Inbox, Part};
use super::pending::{Pending, connection_names, is_hop_by_hop};
use super::{Dispatch, QueueState};
use crate::error::Failure;
use crate::ident::RequestId;
use crate::telemetry::Refusal;

/// Room for the JSON around a request's own bytes.
const HEAD_ROOM: usize = 768;

/// A job that may become longer than this is written where it stays.
const SCRATCH_BYTES: usize = 16 * 1024;

/// A request on its way to a queue.
pub struct Request<'a> {
    /// Where it goes.
    pub queue: &'a Rc<QueueState>,
    /// Its method.
    pub method: &'a Method,
    /// Path and query as sent.
    pub uri: &'a http::Uri,
    /// The host the client named.
    pub host: Option<&'a str>,
    /// HTTP version: `1.0`, `1.1`.
    pub http: &'a str,
    /// The client's address.
    pub peer: &'a str,
    /// The address it reached.
    pub server: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its whole body.
    pub body: &'a [u8],
    /// Until the first message of the answer.
    pub timeout: Duration,
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
        if self.waiting() >= self.limits.pending {
            self.metrics.refused.inc(Refusal::TooManyPending);
            return Err(Failure::Overload("too many requests are waiting"));
        }
        if request.queue.is_full() {
            self.metrics.refused.inc(Refusal::QueueFull);
            return Err(Failure::QueueFull(request.queue.retry_after()));
        }
        let serial = id.serial();
        let job = self.encode(request, id.as_str());
        let inbox = Inbox::new();
        let mut pending = Pending::new(Rc::clone(request.queue), job, request.timeout, Rc::clone(&inbox));
        pending.idempotent = request.method.is_idempotent() && *request.method != Method::TRACE;
        pending.head_only = *request.method == Method::HEAD;
        self.broker.push(request.queue.key.as_bytes(), &pending.job, serial).map_err(|why| self.not_taken(why))?;
        let was_empty = {
            let mut table = self.pending.borrow_mut();
            table.insert(serial, pending);
            table.len() == 1
        };
        if was_empty {
            self.busy.notify_one();
        }
        Ok(Ticket { dispatch: Rc::clone(self), serial, inbox })
    }

    /// A fresh request id.
    pub fn next_id(&self) -> RequestId {
        let serial = self.serial.get();
        self.serial.set(serial + 1);
        self.reactor.request(serial)
    }

    fn encode(&self, request: &Request<'_>, id: &str) -> Bytes {
        let now = self.broker.now_ms();
        let timeout_ms = request.timeout.as_millis() as u64;
        let path = request.uri.path();
        let room = HEAD_ROOM + path.len() + request.headers.len() * 48 + request.body.len();
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
            queue: request.queue.name.as_str(),
            method: request.method.as_str(),
            path,
            query: request.uri.query(),
            host: request.host,
            scheme: "http",
            http: request.http,
            peer: request.peer,
            server: request.server,
            enqueued: now,
        };
        let mut writer = JobWriter::new(out, &head);
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
            } else {
                writer.header(name.as_str(), values);
            }
        }
        writer.finish(request.body);
        let job = if small { Bytes::copy_from_slice(&scratch) } else { fresh.into() };
        self.scratch.set(scratch);
        job
    }
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
