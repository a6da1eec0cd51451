//! Jobs: what the front writes and a worker reads.
//!
//! One line of JSON, a line feed, the raw body; or one MessagePack map with the same fields and the body (`packed`). The
//! first six fields come in a fixed order so that a shell script can cut them out with an expression anchored at the start. The writer appends to the caller's buffer and never
//! builds a tree; the reader (`read`) takes this writer's own shape in one pass (`usual`). No I/O, no HTTP types.

mod packed;
mod peek;
mod read;
mod span;
mod usual;

pub use packed::PackedJobWriter;
pub use peek::{Peek, peek_job, pushed_ms};
pub use read::{Job, JobError, JobFields, decode_job};
pub use span::JobText;

use crate::json::{write_json_string, write_latin1_escaped, write_number};
use crate::pack::Codec;

/// The facts that the front states about a request; headers and body follow through [`JobWriter`]. What the front has
/// made itself is written as it is: it must not hold quotes, backslashes or control characters. These are `id`,
/// `reply_to`, `queue`, `method` (a token), `scheme`, `http`, `peer`, `server` and `traceparent`.
#[derive(Clone, Copy, Debug)]
pub struct JobHead<'a> {
    /// Request id, unique among all fronts.
    pub id: &'a str,
    /// 1 for the first try.
    pub attempt: u32,
    /// Milliseconds since the epoch by the clock of Redis.
    pub deadline: u64,
    /// What was left of the deadline when the job was written, in milliseconds.
    pub timeout_ms: u64,
    /// Where answers go (`tempest:@<reactor>`).
    pub reply_to: &'a str,
    /// The queue's name without prefix.
    pub queue: &'a str,
    /// The method as sent.
    pub method: &'a str,
    /// The path, percent-encoding untouched.
    pub path: &'a str,
    /// None: no `?`; an empty text: a bare `?`.
    pub query: Option<&'a str>,
    /// The host the client named, if any.
    pub host: Option<&'a str>,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// HTTP version: `1.0`, `1.1`, `2`.
    pub http: &'a str,
    /// The client's address as `ip:port`.
    pub peer: &'a str,
    /// The address it reached, as `ip:port`.
    pub server: &'a str,
    /// When the front wrote the job, in milliseconds since the epoch by the clock of Redis.
    pub enqueued: u64,
    /// W3C trace context, as the front states it; None: this request is not traced.
    pub traceparent: Option<&'a str>,
    /// What the trace's vendors carry along, as the client sent it; only where its trace is continued.
    pub tracestate: Option<&'a str>,
}

/// What writes a job once its head is written: headers, each name once, then the body.
pub trait WriteJob {
    /// Appends one header. Several values are joined by `, `, cookies by `; ` (RFC 9110, 5.3; RFC 6265, 5.4).
    fn header<'v>(&mut self, name: &str, values: impl Iterator<Item = &'v [u8]>);

    /// Appends the session, an object as JSON on one line, and how many bytes of JSON it may become. No header can follow.
    fn session(&mut self, session: &str, max: u64);

    /// Ends the message with its body.
    fn finish(self, body: &[u8]);
}

/// What stands between several values of one header.
fn joint(name: &str) -> &'static [u8] {
    if name == "cookie" { b"; " } else { b", " }
}

/// Writes one job message as JSON in a fixed order: head, then headers, then the session, then the body.
pub struct JobWriter<'o> {
    out: &'o mut Vec<u8>,
    headers: usize,
    /// The headers have ended.
    ended: bool,
}

impl<'o> JobWriter<'o> {
    /// Appends the head to `out`.
    pub fn new(out: &'o mut Vec<u8>, head: &JobHead<'_>) -> Self {
        own(out, b"{\"v\":1,\"id\":\"", head.id);
        number(out, b",\"attempt\":", head.attempt.into());
        number(out, b",\"deadline\":", head.deadline);
        number(out, b",\"timeout_ms\":", head.timeout_ms);
        own(out, b",\"reply_to\":\"", head.reply_to);
        own(out, b",\"queue\":\"", head.queue);
        own(out, b",\"action\":\"http\",\"method\":\"", head.method);
        text(out, b",\"path\":", head.path);
        optional(out, b",\"query\":", head.query);
        optional(out, b",\"host\":", head.host);
        own(out, b",\"scheme\":\"", head.scheme);
        own(out, b",\"http\":\"", head.http);
        own(out, b",\"peer\":\"", head.peer);
        own(out, b",\"server\":\"", head.server);
        number(out, b",\"enqueued\":", head.enqueued);
        if let Some(traceparent) = head.traceparent {
            own(out, b",\"traceparent\":\"", traceparent);
        }
        if let Some(tracestate) = head.tracestate {
            text(out, b",\"tracestate\":", tracestate);
        }
        out.extend_from_slice(b",\"headers\":{");
        Self { out, headers: 0, ended: false }
    }
}

impl WriteJob for JobWriter<'_> {
    fn header<'v>(&mut self, name: &str, values: impl Iterator<Item = &'v [u8]>) {
        if self.headers > 0 {
            self.out.push(b',');
        }
        self.headers += 1;
        write_json_string(self.out, name);
        self.out.extend_from_slice(b":\"");
        let joint = joint(name);
        for (at, value) in values.enumerate() {
            if at > 0 {
                self.out.extend_from_slice(joint);
            }
            write_latin1_escaped(self.out, value);
        }
        self.out.push(b'"');
    }

    fn session(&mut self, session: &str, max: u64) {
        self.out.extend_from_slice(b"},\"session\":");
        self.out.extend_from_slice(session.as_bytes());
        number(self.out, b",\"session_max\":", max);
        self.ended = true;
    }

    fn finish(self, body: &[u8]) {
        let end: &[u8] = if self.ended { b"}\n" } else { b"}}\n" };
        self.out.extend_from_slice(end);
        self.out.extend_from_slice(body);
    }
}

// Keys come with their comma and colon, so that each is one copy.

fn text(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.extend_from_slice(key);
    write_json_string(out, value);
}

/// Text of the front's own, which needs no escaping.
fn own(out: &mut Vec<u8>, key: &[u8], value: &str) {
    debug_assert_eq!(crate::json::plain_prefix(value.as_bytes()), value.len(), "{value:?} is not the front's own");
    out.extend_from_slice(key);
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    write_number(out, value);
}

fn optional(out: &mut Vec<u8>, key: &[u8], value: Option<&str>) {
    out.extend_from_slice(key);
    match value {
        Some(value) => write_json_string(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

/// The same job for another attempt: a new number, and what is left of the time now. Relies on the order of the first
/// fields, which the writers here keep; a job that somebody else wrote comes back unchanged.
pub fn rewrite_job(job: &[u8], attempt: u32, timeout_ms: u64) -> Vec<u8> {
    if Codec::of(job) == Codec::MsgPack {
        return packed::rewrite(job, attempt, timeout_ms).unwrap_or_else(|| job.to_vec());
    }
    let mut out = Vec::with_capacity(job.len() + 8);
    let rewritten = (|| {
        let after_attempt = replace_number(&mut out, job, b",\"attempt\":", attempt.into())?;
        let rest = replace_number(&mut out, after_attempt, b",\"timeout_ms\":", timeout_ms)?;
        out.extend_from_slice(rest);
        Some(())
    })();
    if rewritten.is_some() { out } else { job.to_vec() }
}

/// Copies up to and with the first `label`, then the number instead of the digits there; gives what follows them.
/// The first occurrence is the field: before it stands nothing but an id of the front's own and other numbers.
fn replace_number<'j>(out: &mut Vec<u8>, from: &'j [u8], label: &[u8], number: u64) -> Option<&'j [u8]> {
    let at = memchr::memmem::find(from, label)? + label.len();
    out.extend_from_slice(&from[..at]);
    write_number(out, number);
    let digits = from[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    Some(&from[at + digits..])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    pub(super) fn head() -> JobHead<'static> {
        JobHead {
            id: "f.0-1",
            attempt: 1,
            deadline: 1_795_000_030_000,
            timeout_ms: 30_000,
            reply_to: "tempest:@f.0",
            queue: "web",
            method: "POST",
            path: "/a%20b/\"id\":\"x\"",
            query: Some(""),
            host: None,
            scheme: "http",
            http: "1.1",
            peer: "127.0.0.1:5000",
            server: "127.0.0.1:1337",
            enqueued: 1_795_000_000_000,
            traceparent: None,
            tracestate: None,
        }
    }

    #[test]
    fn a_written_job_reads_back() {
        let mut out = Vec::new();
        let mut writer = JobWriter::new(&mut out, &head());
        writer.header("accept", [b"a/b".as_slice(), b"c/d"].into_iter());
        writer.header("cookie", [b"a=1".as_slice(), b"b=2"].into_iter());
        writer.header("x-latin", [b"caf\xe9".as_slice()].into_iter());
        writer.session("{\"user\":{\"name\":\"}\\n\"}}", 3000);
        writer.finish(b"line\nline\0\xff");
        let job = decode_job(&Bytes::from(out)).expect("a job");
        assert_eq!(job.path(), head().path);
        assert_eq!((job.query(), job.host()), (Some(""), None));
        assert_eq!(job.header("accept"), Some("a/b, c/d"));
        assert_eq!(job.header("cookie"), Some("a=1; b=2"));
        assert_eq!(job.header("x-latin"), Some("caf\u{e9}"));
        assert_eq!(&job.body()[..], b"line\nline\0\xff");
        assert_eq!((job.session_text(), job.session_max()), (Some(r#"{"user":{"name":"}\n"}}"#), Some(3000)));
        assert_eq!(job.session()["user"]["name"], "}\n");
    }

    #[test]
    fn a_trace_context_stands_before_what_a_client_sent() {
        let mut out = Vec::new();
        let head = JobHead { traceparent: Some("00-a-b-01"), tracestate: Some("c=\"1\""), ..head() };
        let mut writer = JobWriter::new(&mut out, &head);
        writer.header("traceparent", std::iter::once(b"forged".as_slice()));
        writer.finish(b"");
        let job = decode_job(&Bytes::from(out)).expect("a job");
        assert_eq!((job.traceparent(), job.tracestate()), (head.traceparent, head.tracestate));
        assert_eq!(job.header("traceparent"), Some("forged"));
    }

    #[test]
    fn another_attempt_changes_two_numbers_and_nothing_else() {
        let mut out = Vec::new();
        JobWriter::new(&mut out, &head()).finish(b"body,\"attempt\":1");
        let again = Bytes::from(rewrite_job(&out, 2, 1234));
        let job = decode_job(&again).expect("a job");
        assert_eq!((job.attempt(), job.timeout_ms(), job.deadline()), (2, 1234, head().deadline));
        assert_eq!(&job.body()[..], b"body,\"attempt\":1");
        assert_eq!(rewrite_job(b"{}", 2, 1), b"{}");
    }

    #[test]
    fn the_first_six_fields_come_in_the_promised_order() {
        let mut out = Vec::new();
        JobWriter::new(&mut out, &head()).finish(b"");
        let start = br#"{"v":1,"id":"f.0-1","attempt":1,"deadline":1795000030000,"timeout_ms":30000,"reply_to":"tempest:@f.0","#;
        assert!(out.starts_with(start), "{}", String::from_utf8_lossy(&out));
        assert!(out.ends_with(b"\n"));
    }
}
