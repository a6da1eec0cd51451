//! One request that waits: its job, which try it is on, and the order of its answer's messages.
//!
//! The rules about sequence, attempt and limits live here, away from Redis and from the table of all requests.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use tempest_protocol::{Answer, Headers, Reason, rewrite_job};

use super::inbox::{Head, Inbox, Part};
use super::lane::Lane;
use crate::telemetry::Trace;

/// What the front knows of a request's job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Appended to the buffer; Redis has not said anything.
    Buffered,
    /// In the list, or already taken.
    Queued,
    /// It may be in the list, or not: the connection broke before Redis said anything.
    Unknown,
    /// To be pushed once Redis is there again.
    Again,
}

/// A request that waits.
pub(super) struct Pending {
    pub(super) lane: Rc<Lane>,
    pub(super) job: Bytes,
    pub(super) attempt: u32,
    pub(super) sent: Sent,
    /// It may be given to a second worker.
    pub(super) repeatable: bool,
    /// It was pushed although no worker is known, and is to be refused if none takes it.
    pub(super) untaken: bool,
    /// The client asked for the head alone.
    pub(super) head_only: bool,
    /// When it fails if nothing comes.
    pub(super) deadline: Instant,
    /// How far each message moves the deadline of a stream.
    pub(super) timeout: Duration,
    pub(super) inbox: Rc<Inbox>,
    /// The trace it belongs to.
    pub(super) trace: Option<Rc<Trace>>,
    /// The message that comes next.
    next: u64,
    early: BTreeMap<u64, Early>,
    early_bytes: usize,
}

struct Early {
    body: Bytes,
    last: bool,
    head: Option<Head>,
}

/// Bounds on what one answer may keep waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) buffer: usize,
    pub(super) reorder: usize,
    /// What the answer asks to hold, if anything, may be held.
    pub(super) may_hold: bool,
}

/// What an answer message did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was put in its place; the answer goes on.
    More,
    /// The answer is complete.
    Complete,
    /// Its place had been taken before.
    Duplicate,
    /// It belongs to an attempt that has been replaced.
    Fenced,
    /// It cannot become a response.
    Malformed(Reason),
    /// More is waiting than may.
    Overflow,
}

impl Pending {
    pub(super) fn new(lane: Rc<Lane>, job: Bytes, inbox: Rc<Inbox>, now: Instant) -> Self {
        let timeout = lane.route.timeout;
        Self {
            lane,
            job,
            attempt: 1,
            sent: Sent::Buffered,
            repeatable: false,
            untaken: false,
            head_only: false,
            deadline: now + timeout,
            timeout,
            inbox,
            trace: None,
            next: 0,
            early: BTreeMap::new(),
            early_bytes: 0,
        }
    }

    /// When the request came in. Known until its answer begins, which moves the deadline.
    pub(super) fn pushed(&self) -> Instant {
        self.deadline.checked_sub(self.timeout).unwrap_or(self.deadline)
    }

    /// True once a byte may have gone to the client; from then on no other attempt may answer.
    pub(super) fn begun(&self) -> bool {
        self.next > 0
    }

    /// Makes it the next attempt: what came of the one before and could not be delivered yet is dropped.
    pub(super) fn renew(&mut self, now: Instant) {
        self.attempt += 1;
        let left = self.deadline.saturating_duration_since(now);
        self.job = rewrite_job(&self.job, self.attempt, left.as_millis() as u64).into();
        self.early.clear();
        self.early_bytes = 0;
    }

    /// Puts one message in its place.
    pub(super) fn take(&mut self, message: &Bytes, answer: &Answer<'_>, bounds: Bounds) -> Taken {
        if answer.attempt.is_some_and(|attempt| attempt != self.attempt) {
            return Taken::Fenced;
        }
        if answer.n < self.next || self.early.contains_key(&answer.n) {
            return Taken::Duplicate;
        }
        if !bounds.may_hold {
            return Taken::Malformed(Reason::BadHold);
        }
        let head = match head_of(message, answer) {
            Ok(head) => head,
            Err(reason) => return Taken::Malformed(reason),
        };
        let message = Early { body: detach(&answer.body), last: !answer.more, head };
        if answer.n > self.next {
            return self.keep_early(answer.n, message, bounds);
        }
        self.deliver(message, bounds)
    }

    fn keep_early(&mut self, n: u64, message: Early, bounds: Bounds) -> Taken {
        self.early_bytes += message.body.len();
        let too_far = n - self.next > bounds.reorder as u64;
        if too_far || self.early_bytes > bounds.buffer {
            return Taken::Overflow;
        }
        self.early.insert(n, message);
        Taken::More
    }

    fn deliver(&mut self, first: Early, bounds: Bounds) -> Taken {
        let mut next = Some(first);
        while let Some(message) = next {
            self.next += 1;
            let part = Part { body: message.body, last: message.last };
            match message.head {
                Some(head) => self.inbox.begin(head, part),
                None => self.inbox.push(part),
            }
            if message.last {
                return Taken::Complete;
            }
            next = self.early.remove(&self.next);
            if let Some(early) = &next {
                self.early_bytes -= early.body.len();
            }
        }
        self.deadline = Instant::now() + self.timeout;
        if self.inbox.bytes() > bounds.buffer { Taken::Overflow } else { Taken::More }
    }
}

/// Only the first message has a head; later ones must not change it.
fn head_of(message: &Bytes, answer: &Answer<'_>) -> Result<Option<Head>, Reason> {
    if answer.n > 0 {
        return Ok(None);
    }
    let status = StatusCode::from_u16(answer.status).map_err(|_| Reason::BadStatus)?;
    // Where the connection is held its head may stay for long, and must not keep the whole read buffer alive.
    let standing_in = answer.hold.is_none().then_some(message);
    let (headers, file) = to_header_map(standing_in, &answer.headers)?;
    Ok(Some(Head { status, headers, hold: answer.hold.clone(), session: answer.session.clone(), file }))
}

/// A small slice would keep the whole read buffer alive for as long as a slow client takes.
fn detach(body: &Bytes) -> Bytes {
    const WORTH_SHARING: usize = 16 * 1024;
    if body.len() < WORTH_SHARING { Bytes::copy_from_slice(body) } else { body.clone() }
}

/// Headers of one connection, which must not pass it (RFC 9110, section 7.6.1).
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    const PROXY_CONNECTION: &str = "proxy-connection";
    const KEEP_ALIVE: &str = "keep-alive";
    matches!(*name, header::CONNECTION | header::TE | header::TRAILER | header::TRANSFER_ENCODING | header::UPGRADE)
        || matches!(*name, header::PROXY_AUTHENTICATE | header::PROXY_AUTHORIZATION)
        || name.as_str() == KEEP_ALIVE
        || name.as_str() == PROXY_CONNECTION
}

/// Headers that a `Connection` header names belong to that connection alone.
pub(super) fn connection_names(value: &str) -> impl Iterator<Item = HeaderName> {
    value.split(',').filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
}

/// Headers that name a file for the front to send; for it alone.
fn names_a_file(name: &HeaderName) -> bool {
    matches!(name.as_str(), "x-accel-redirect" | "x-sendfile")
}

/// The headers for the client, and the file that they name.
fn to_header_map(message: Option<&Bytes>, headers: &Headers<'_>) -> Result<(HeaderMap, Option<Box<str>>), Reason> {
    // Room for those that every response gets, too.
    let mut map = HeaderMap::with_capacity(headers.len() + 3);
    let (mut named, mut file) = (Vec::new(), None);
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Reason::BadHeaderName)?;
        if name == header::CONNECTION {
            named.extend(connection_names(value));
        } else if names_a_file(&name) {
            file = Some(Box::from(&**value));
        } else if !is_hop_by_hop(&name) {
            let stands = matches!(value, Cow::Borrowed(_));
            map.append(name, to_value(message.filter(|_| stands), value)?);
        }
    }
    for name in named {
        map.remove(name);
    }
    Ok((map, file))
}

/// Code points up to U+00FF are the bytes of that number. A value that stands as it is in a message shares its memory:
/// a response's head is written out as soon as it is there, so it keeps nothing for long.
fn to_value(standing_in: Option<&Bytes>, text: &str) -> Result<HeaderValue, Reason> {
    let value = match standing_in.filter(|_| text.is_ascii()) {
        Some(message) => HeaderValue::from_maybe_shared(message.slice_ref(text.as_bytes())),
        None => {
            let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
            HeaderValue::from_bytes(&bytes.map_err(|_| Reason::BadHeaderValue)?)
        }
    };
    value.map_err(|_| Reason::BadHeaderValue)
}
