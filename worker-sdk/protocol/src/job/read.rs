//! Reading jobs, for workers.
//!
//! A worker reads a job for every request and a handler looks at few of its fields, so a [`Job`] keeps all text in
//! one piece and its fields as places in it. Jobs of another writer than ours go through `serde_json`, which also
//! says what is wrong with a message. No I/O here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::span::{JobText, Span};
use super::usual::usual;
use crate::pack::{self, Codec, Unreadable};
use crate::session::Session;

/// A job as a worker sees it. [`JobFields`] makes one.
#[derive(Clone, Default)]
pub struct Job {
    /// What the places below are places in.
    pub(super) text: Arc<str>,
    pub(super) id: Span,
    pub(super) attempt: u32,
    pub(super) deadline: u64,
    pub(super) timeout_ms: u64,
    pub(super) reply_to: Option<Span>,
    pub(super) queue: Span,
    pub(super) action: Span,
    pub(super) method: Span,
    pub(super) path: Span,
    pub(super) query: Option<Span>,
    pub(super) host: Option<Span>,
    pub(super) scheme: Span,
    pub(super) http: Span,
    pub(super) peer: Span,
    pub(super) server: Span,
    pub(super) headers: Vec<(Span, Span)>,
    pub(super) enqueued: u64,
    pub(super) session: Option<Span>,
    pub(super) session_max: Option<u64>,
    pub(super) traceparent: Option<Span>,
    pub(super) tracestate: Option<Span>,
    pub(super) body: Bytes,
    pub(super) codec: Codec,
}

/// The fields of a job, each by itself: to make a [`Job`] of, as tests of handlers do.
///
/// ```
/// use tempest_protocol::{Job, JobFields};
///
/// let job = Job::from(JobFields { method: "GET".into(), path: "/".into(), ..JobFields::default() });
/// assert_eq!(job.method(), "GET");
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct JobFields {
    /// Request id.
    pub id: String,
    /// 1 for the first try.
    pub attempt: u32,
    /// Milliseconds since the epoch by the clock of Redis; 0: none.
    pub deadline: u64,
    /// What was left of the deadline when the job was written, in milliseconds; 0: no deadline.
    pub timeout_ms: u64,
    /// Where answers go; None: nobody waits.
    pub reply_to: Option<String>,
    /// The queue's name.
    pub queue: String,
    /// `http`, or an application's own.
    pub action: String,
    /// The method as sent.
    pub method: String,
    /// The path, percent-encoding untouched.
    pub path: String,
    /// None: no `?`; an empty text: a bare `?`.
    pub query: Option<String>,
    /// The host the client named.
    pub host: Option<String>,
    /// `http` or `https`.
    pub scheme: String,
    /// HTTP version.
    pub http: String,
    /// The client's address.
    pub peer: String,
    /// The address it reached.
    pub server: String,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// When the front wrote the job, in milliseconds since the epoch by the clock of Redis.
    pub enqueued: u64,
    /// The client's session as JSON; None: the front keeps none.
    #[serde(deserialize_with = "object")]
    pub session: Option<Box<RawValue>>,
    /// Bytes of JSON that the session may have.
    pub session_max: Option<u64>,
    /// W3C trace context, as the front states it.
    pub traceparent: Option<String>,
    /// What the trace's vendors carry along.
    pub tracestate: Option<String>,
    /// What followed the first line feed, or stood in the field `body` of a map.
    #[serde(skip)]
    pub body: Bytes,
    /// How the message was spelled; its answers are spelled alike.
    #[serde(skip)]
    pub codec: Codec,
    /// Version of the contract, looked at only where a message is read.
    pub v: u64,
}

/// An object as its text, or null.
fn object<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    let value = Option::<Box<RawValue>>::deserialize(deserializer)?;
    match &value {
        Some(value) if !value.get().starts_with('{') => Err(serde::de::Error::custom("the session is no object")),
        _ => Ok(value),
    }
}

/// Why a message is not a job of this version.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The first line is not the JSON object of a job, or a field is of the wrong type.
    #[error("not a job: {0}")]
    Json(#[from] serde_json::Error),
    /// The message begins like a MessagePack map and is none, or more than one.
    #[error("not a MessagePack map: {0}")]
    MsgPack(String),
    /// The field `body` of a map holds no bytes.
    #[error("not a job: its `body` is neither bin nor str")]
    Body,
    /// The first line is not UTF-8.
    #[error("the first line is not UTF-8")]
    NotUtf8,
    /// The first line is JSON of another shape; a decoder of structures would take a list for one.
    #[error("the first line is not a JSON object")]
    NotObject,
    /// The job has no id or an empty one.
    #[error("the job has no id")]
    NoId,
    /// Written by a later version of the contract.
    #[error("the job is of version {0}, this worker speaks {version}", version = crate::VERSION)]
    Version(u64),
}

/// Reads a job; its body shares the message's memory, its text does not.
pub fn decode_job(message: &Bytes) -> Result<Job, JobError> {
    if Codec::of(message) == Codec::MsgPack {
        return packed(message);
    }
    let (head, body) = match memchr::memchr(b'\n', message) {
        Some(at) if at + 1 < message.len() => (&message[..at], message.slice(at + 1..)),
        Some(at) => (&message[..at], Bytes::new()),
        None => (&message[..], Bytes::new()),
    };
    // Checked once for the whole line, which is quicker than once for each string.
    let Ok(head) = std::str::from_utf8(head) else {
        let list = head.trim_ascii_start().first() == Some(&b'[');
        return Err(if list { JobError::NotObject } else { JobError::NotUtf8 });
    };
    match usual(head, &body) {
        Some(job) => Ok(job),
        None => careful(head, body),
    }
}

/// The second pass: whatever is JSON.
pub(super) fn careful(head: &str, body: Bytes) -> Result<Job, JobError> {
    if head.trim_ascii_start().starts_with('[') {
        return Err(JobError::NotObject);
    }
    // A structure takes no name twice, and a tree no number that is too large for it.
    let fields = serde_json::from_str(head).or_else(|error| {
        let tree: Option<Value> = serde_json::from_str(head).ok();
        tree.and_then(|tree| serde_json::from_value(tree).ok()).ok_or(error)
    })?;
    checked(JobFields { body, ..fields })
}

/// One map, and nothing behind it; its fields go through the same structure.
fn packed(message: &Bytes) -> Result<Job, JobError> {
    let read = pack::read(message).map_err(|why: Unreadable| JobError::MsgPack(why.to_string()))?;
    if !read.rest.is_empty() {
        return Err(JobError::MsgPack("bytes follow its map".to_owned()));
    }
    if read.fields.contains_key("body") {
        return Err(JobError::Body);
    }
    let body = read.body.map_or_else(Bytes::new, |body| message.slice_ref(body));
    checked(JobFields { body, codec: Codec::MsgPack, ..serde_json::from_value(Value::Object(read.fields))? })
}

fn checked(fields: JobFields) -> Result<Job, JobError> {
    if fields.id.is_empty() {
        return Err(JobError::NoId);
    }
    if fields.v != crate::VERSION {
        return Err(JobError::Version(fields.v));
    }
    Ok(fields.into())
}

impl From<JobFields> for Job {
    /// # Panics
    /// Where the texts together are longer than 4 GiB.
    fn from(fields: JobFields) -> Self {
        let mut text = String::new();
        let mut add = |part: &str| {
            let start = text.len();
            text.push_str(part);
            Span::new(start, text.len()).expect("a job of less than 4 GiB")
        };
        let mut job = Self {
            text: Arc::default(),
            id: add(&fields.id),
            attempt: fields.attempt,
            deadline: fields.deadline,
            timeout_ms: fields.timeout_ms,
            reply_to: fields.reply_to.as_deref().map(&mut add),
            queue: add(&fields.queue),
            action: add(&fields.action),
            method: add(&fields.method),
            path: add(&fields.path),
            query: fields.query.as_deref().map(&mut add),
            host: fields.host.as_deref().map(&mut add),
            scheme: add(&fields.scheme),
            http: add(&fields.http),
            peer: add(&fields.peer),
            server: add(&fields.server),
            headers: fields.headers.iter().map(|(name, value)| (add(name), add(value))).collect(),
            enqueued: fields.enqueued,
            session: fields.session.as_ref().map(|session| add(session.get())),
            session_max: fields.session_max,
            traceparent: fields.traceparent.as_deref().map(&mut add),
            tracestate: fields.tracestate.as_deref().map(&mut add),
            body: fields.body,
            codec: fields.codec,
        };
        job.text = text.into();
        job
    }
}

impl Job {
    fn at(&self, span: Span) -> &str {
        span.of(&self.text)
    }

    /// Request id.
    pub fn id(&self) -> &str {
        self.at(self.id)
    }

    /// The same, to be kept.
    pub fn shared_id(&self) -> JobText {
        JobText { text: self.text.clone(), span: self.id }
    }

    /// 1 for the first try.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Milliseconds since the epoch by the clock of Redis; 0: none.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// What was left of the deadline when the job was written, in milliseconds; 0: no deadline.
    pub fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    /// Where answers go; None: nobody waits.
    pub fn reply_to(&self) -> Option<&str> {
        self.reply_to.map(|span| self.at(span))
    }

    /// The queue's name.
    pub fn queue(&self) -> &str {
        self.at(self.queue)
    }

    /// `http`, or an application's own.
    pub fn action(&self) -> &str {
        self.at(self.action)
    }

    /// The method as sent.
    pub fn method(&self) -> &str {
        self.at(self.method)
    }

    /// The path, percent-encoding untouched.
    pub fn path(&self) -> &str {
        self.at(self.path)
    }

    /// None: no `?`; an empty text: a bare `?`.
    pub fn query(&self) -> Option<&str> {
        self.query.map(|span| self.at(span))
    }

    /// The host the client named.
    pub fn host(&self) -> Option<&str> {
        self.host.map(|span| self.at(span))
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        self.at(self.scheme)
    }

    /// HTTP version.
    pub fn http(&self) -> &str {
        self.at(self.http)
    }

    /// The client's address.
    pub fn peer(&self) -> &str {
        self.at(self.peer)
    }

    /// The address it reached.
    pub fn server(&self) -> &str {
        self.at(self.server)
    }

    /// A header's value by lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Names, in lower case and each once, and values; in no certain order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|&(name, value)| (self.at(name), self.at(value)))
    }

    /// When the front wrote the job, in milliseconds since the epoch by the clock of Redis.
    pub fn enqueued(&self) -> u64 {
        self.enqueued
    }

    /// The client's session as the front wrote it; None: it keeps none.
    pub fn session_text(&self) -> Option<&str> {
        self.session.map(|span| self.at(span))
    }

    /// The same, to be kept.
    pub fn shared_session(&self) -> Option<JobText> {
        self.session.map(|span| JobText { text: self.text.clone(), span })
    }

    /// The client's session, parsed; empty where there is none, and where it is no object.
    pub fn session(&self) -> Session {
        self.session_text().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Bytes of JSON without white space that the session may have; None: no session is kept.
    pub fn session_max(&self) -> Option<u64> {
        self.session_max
    }

    /// W3C trace context of what a handler does for this job, as the front states it: to be passed on with whatever the
    /// handler asks of others. None: this request is not traced. The client's own header may say anything.
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.map(|span| self.at(span))
    }

    /// What the trace's vendors carry along; to be passed on beside [`Job::traceparent`].
    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.map(|span| self.at(span))
    }

    /// How the message was spelled; its answers are to be spelled alike.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The body, in bytes as the client sent it.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body as text, invalid UTF-8 replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id())
            .field("attempt", &self.attempt)
            .field("deadline", &self.deadline)
            .field("timeout_ms", &self.timeout_ms)
            .field("reply_to", &self.reply_to())
            .field("queue", &self.queue())
            .field("action", &self.action())
            .field("method", &self.method())
            .field("path", &self.path())
            .field("query", &self.query())
            .field("host", &self.host())
            .field("scheme", &self.scheme())
            .field("http", &self.http())
            .field("peer", &self.peer())
            .field("server", &self.server())
            .field("headers", &self.headers().collect::<BTreeMap<_, _>>())
            .field("enqueued", &self.enqueued)
            .field("session", &self.session_text())
            .field("session_max", &self.session_max)
            .field("traceparent", &self.traceparent())
            .field("tracestate", &self.tracestate())
            .field("body", &self.body)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_no_job() {
        for message in [r#"[1,"a",1,0,0,"tempest:@f.0"]"#.as_bytes(), b" [\"\xff\"]"] {
            assert!(matches!(decode_job(&Bytes::from_static(message)), Err(JobError::NotObject)));
        }
    }

    #[test]
    fn another_writer_is_read_as_well() {
        let message = Bytes::from_static(
            b"{ \"headers\": {\"b\": \"2\", \"a\": \"\\\"\"}, \"id\": \"\\u0061\", \"v\": 1, \
              \"path\": \"/\\u00fc\" }\nbody",
        );
        let job = decode_job(&message).expect("a job");
        assert_eq!((job.id(), job.path(), job.method(), job.query()), ("a", "/\u{fc}", "", None));
        assert_eq!((job.header("a"), job.header("b"), job.headers().count()), (Some("\""), Some("2"), 2));
        assert_eq!((&job.body()[..], job.reply_to()), (b"body".as_slice(), None));
    }

    #[test]
    fn the_last_of_two_fields_counts() {
        let message = Bytes::from_static(b"{\"v\":1,\"id\":\"a\",\"id\":\"b\",\"headers\":{\"x\":\"1\",\"x\":\"2\"}}");
        let job = decode_job(&message).expect("a job");
        assert_eq!((job.id(), job.header("x")), ("b", Some("2")));
        let list = Bytes::from_static(b"{\"v\":1,\"id\":\"a\",\"id\":7}");
        assert!(decode_job(&list).is_err());
    }
}
