//! The first pass over a job: exactly what [`JobWriter`](crate::JobWriter) writes, field by field in its order.
//!
//! It copies the head once and notes where in it each text stands, so a job is few allocations however many fields
//! and headers it has. Texts with escapes (browsers send headers with quotes) are read by themselves and put behind
//! the head. Another order or white space leave the job to the JSON reader behind; what passes here must mean the
//! same there.

use bytes::Bytes;

use super::read::Job;
use super::span::Span;
use crate::pack::Codec;
use crate::scan::Scan;

/// More headers than this are not usual: each name is compared with those before it.
const HEADERS: usize = 64;

/// None: not of this shape.
pub(super) fn usual(head: &str, body: &Bytes) -> Option<Job> {
    let mut scan = Scan::new(head);
    let mut behind = Behind { head, texts: String::new() };
    scan.literal(b"{\"v\":1,\"id\":")?;
    let id = text(&mut scan, &mut behind)?;
    scan.literal(b",\"attempt\":")?;
    let attempt = scan.number()?.try_into().ok()?;
    scan.literal(b",\"deadline\":")?;
    let deadline = scan.number()?;
    scan.literal(b",\"timeout_ms\":")?;
    let timeout_ms = scan.number()?;
    scan.literal(b",\"reply_to\":")?;
    let reply_to = Some(text(&mut scan, &mut behind)?);
    scan.literal(b",\"queue\":")?;
    let queue = text(&mut scan, &mut behind)?;
    scan.literal(b",\"action\":")?;
    let action = text(&mut scan, &mut behind)?;
    scan.literal(b",\"method\":")?;
    let method = text(&mut scan, &mut behind)?;
    scan.literal(b",\"path\":")?;
    let path = text(&mut scan, &mut behind)?;
    scan.literal(b",\"query\":")?;
    let query = optional(&mut scan, &mut behind)?;
    scan.literal(b",\"host\":")?;
    let host = optional(&mut scan, &mut behind)?;
    scan.literal(b",\"scheme\":")?;
    let scheme = text(&mut scan, &mut behind)?;
    scan.literal(b",\"http\":")?;
    let http = text(&mut scan, &mut behind)?;
    scan.literal(b",\"peer\":")?;
    let peer = text(&mut scan, &mut behind)?;
    scan.literal(b",\"server\":")?;
    let server = text(&mut scan, &mut behind)?;
    scan.literal(b",\"enqueued\":")?;
    let enqueued = scan.number()?;
    let traceparent = added(&mut scan, &mut behind, b",\"traceparent\":")?;
    let tracestate = added(&mut scan, &mut behind, b",\"tracestate\":")?;
    scan.literal(b",\"headers\":")?;
    let headers = headers(&mut scan, &mut behind)?;
    let (session, session_max) = session(&mut scan)?;
    scan.literal(b"}")?;
    // An empty id is for the reader behind to refuse.
    if scan.at() != head.len() || id.is_empty() {
        return None;
    }
    let text = if behind.texts.is_empty() { head.into() } else { [head, &behind.texts].concat().into() };
    let body = body.clone();
    Some(Job {
        text,
        id,
        attempt,
        deadline,
        timeout_ms,
        reply_to,
        queue,
        action,
        method,
        path,
        query,
        host,
        scheme,
        http,
        peer,
        server,
        headers,
        enqueued,
        session,
        session_max,
        traceparent,
        tracestate,
        body,
        codec: Codec::Json,
    })
}

/// The head, and what will stand behind it: texts that do not stand in it as they are.
struct Behind<'a> {
    head: &'a str,
    texts: String,
}

impl Behind<'_> {
    fn is_same(&self, one: Span, other: Span) -> bool {
        self.get(one) == self.get(other)
    }

    fn get(&self, span: Span) -> &str {
        match span.counted_from(self.head.len()) {
            Some(span) => span.of(&self.texts),
            None => span.of(self.head),
        }
    }

    fn add(&mut self, text: &str) -> Option<Span> {
        let start = self.head.len() + self.texts.len();
        self.texts.push_str(text);
        Span::new(start, start + text.len())
    }
}

/// Where the next string is to be found, without its quotes.
fn text(scan: &mut Scan<'_>, behind: &mut Behind<'_>) -> Option<Span> {
    match scan.string() {
        Some(string) => Span::new(scan.at() - 1 - string.len(), scan.at() - 1),
        None => with_escapes(scan, behind),
    }
}

#[cold]
fn with_escapes(scan: &mut Scan<'_>, behind: &mut Behind<'_>) -> Option<Span> {
    let string: String = serde_json::from_str(scan.quoted()?).ok()?;
    behind.add(&string)
}

fn optional(scan: &mut Scan<'_>, behind: &mut Behind<'_>) -> Option<Option<Span>> {
    if scan.literal(b"null").is_some() {
        return Some(None);
    }
    text(scan, behind).map(Some)
}

/// The session and its limit, which come together or not at all.
fn session(scan: &mut Scan<'_>) -> Option<(Option<Span>, Option<u64>)> {
    if scan.literal(b",\"session\":").is_none() {
        return Some((None, None));
    }
    let start = scan.at();
    scan.value(b'{')?;
    let session = Span::new(start, scan.at())?;
    scan.literal(b",\"session_max\":")?;
    Some((Some(session), Some(scan.number()?)))
}

/// A text that need not be there.
fn added(scan: &mut Scan<'_>, behind: &mut Behind<'_>, key: &[u8]) -> Option<Option<Span>> {
    if scan.literal(key).is_none() {
        return Some(None);
    }
    text(scan, behind).map(Some)
}

fn headers(scan: &mut Scan<'_>, behind: &mut Behind<'_>) -> Option<Vec<(Span, Span)>> {
    // About what a browser sends; growing costs more than the room.
    let mut headers: Vec<(Span, Span)> = Vec::with_capacity(16);
    scan.expect(b'{')?;
    if scan.take(b'}') {
        return Some(headers);
    }
    loop {
        let name = text(scan, behind)?;
        scan.expect(b':')?;
        let value = text(scan, behind)?;
        let known = headers.iter().any(|&(known, _)| behind.is_same(known, name));
        if known || headers.len() == HEADERS {
            return None;
        }
        headers.push((name, value));
        if scan.take(b'}') {
            return Some(headers);
        }
        scan.expect(b',')?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::careful;
    use super::super::{JobHead, JobWriter, WriteJob};
    use super::*;

    /// A job as the writer spells it.
    fn written(query: Option<&str>, headers: &[(&str, &[u8])]) -> String {
        let head = JobHead {
            id: "f.0-1",
            attempt: 1,
            deadline: 1_795_000_030_000,
            timeout_ms: 30_000,
            reply_to: "tempest:@f.0",
            queue: "web",
            method: "GET",
            path: "/gr\u{fc}\u{df}e",
            query,
            host: None,
            scheme: "http",
            http: "1.1",
            peer: "127.0.0.1:5000",
            server: "127.0.0.1:1337",
            enqueued: 1_795_000_000_000,
            traceparent: None,
            tracestate: None,
        };
        let mut out = Vec::new();
        let mut writer = JobWriter::new(&mut out, &head);
        headers.iter().for_each(|(name, value)| writer.header(name, std::iter::once(*value)));
        writer.finish(b"");
        String::from_utf8(out).expect("a head is UTF-8").trim_end().to_owned()
    }

    fn read(head: &str) -> Option<Job> {
        let job = usual(head, &Bytes::new());
        if let Some(job) = &job {
            let other = careful(head, Bytes::new()).expect("the pass behind takes it too");
            // The one shows headers as they came, the other by name.
            assert_eq!(format!("{job:?}"), format!("{other:?}"));
        }
        job
    }

    #[test]
    fn what_the_writer_writes_is_usual() {
        for query in [None, Some(""), Some("a=1&b=%20")] {
            let job = read(&written(query, &[("accept", b"*/*"), ("host", b"h"), ("x", b"caf\xe9")])).expect("usual");
            assert_eq!((job.id(), job.reply_to(), job.query()), ("f.0-1", Some("tempest:@f.0"), query));
            assert_eq!((job.path(), job.server(), job.host()), ("/gr\u{fc}\u{df}e", "127.0.0.1:1337", None));
            assert_eq!((job.header("x"), job.header("host"), job.header("y")), (Some("caf\u{e9}"), Some("h"), None));
        }
        assert!(read(&written(None, &[])).is_some(), "a job without headers");
    }

    #[test]
    fn a_session_is_usual() {
        let head = written(None, &[("a", b"1")]);
        let session = "{\"a\":{\"b\":\"\\u00fc}\"},\"c\":[1,null]}";
        let with = head.replace("}}", &format!("}},\"session\":{session},\"session_max\":3000}}"));
        let job = read(&with).expect("usual");
        assert_eq!((job.session_text(), job.session_max()), (Some(session), Some(3000)));
        assert_eq!(read(&head).expect("usual").session_max(), None);
        for other in [
            with.replace("null]", "nil]"),
            with.replace(",\"session_max\":3000", ""),
            with.replace("{\"a\":{\"b", " {\"a\":{\"b"),
        ] {
            assert!(usual(&other, &Bytes::new()).is_none(), "{other}");
        }
    }

    #[test]
    fn a_trace_context_is_usual() {
        let with = |more: &str| written(None, &[("a", b"1")]).replace(",\"headers\"", &format!("{more},\"headers\""));
        let job = read(&with(",\"traceparent\":\"00-a-b-01\",\"tracestate\":\"c=\\\"1\\\"\"")).expect("usual");
        assert_eq!(
            (job.traceparent(), job.tracestate(), job.header("a")),
            (Some("00-a-b-01"), Some("c=\"1\""), Some("1"))
        );
        let job = read(&with(",\"traceparent\":\"00-a-b-01\"")).expect("usual");
        assert_eq!((job.traceparent(), job.tracestate()), (Some("00-a-b-01"), None));
        assert!(read(&with(",\"traceparent\":null")).is_none() && read(&with(",\"tracestate\":1")).is_none());
    }

    #[test]
    fn texts_with_escapes_stand_behind_the_head() {
        let brands = br#""Chromium";v="140", "Not\A";v="9""#;
        let head = written(Some("a=\"b\""), &[("a", b"1"), ("sec-ch-ua", brands), ("t", b"\t"), ("z", b"2\xe9")]);
        let job = read(&head.replace("f.0-1", "f\\u002e0-1\\ud83d\\ude00")).expect("usual");
        assert_eq!((job.id(), job.query(), job.queue()), ("f.0-1\u{1f600}", Some("a=\"b\""), "web"));
        assert_eq!(job.header("sec-ch-ua").map(str::as_bytes), Some(brands.as_slice()));
        assert_eq!((job.header("a"), job.header("t"), job.header("z")), (Some("1"), Some("\t"), Some("2\u{e9}")));
    }

    #[test]
    fn the_rest_is_left_to_the_reader_behind() {
        let good = written(None, &[("a", b"1"), ("b", b"2")]);
        assert!(read(&good).is_some());
        for (from, to) in [
            ("{\"v\":1,", "{\"v\":2,"),
            ("{\"v\":1,", "{\"v\": 1,"),
            ("f.0-1", ""),
            ("\"attempt\":1", "\"attempt\":1e0"),
            ("\"attempt\":1", "\"attempt\":01"),
            ("\"attempt\":1", "\"attempt\":4294967296"),
            ("\"reply_to\":\"tempest:@f.0\"", "\"reply_to\":null"),
            ("\"method\":\"GET\"", "\"method\":null"),
            ("\"enqueued\":1795000000000", "\"enqueued\":1,\"more\":2"),
            ("\"b\":\"2\"", "\"a\":\"2\""),
            ("\"b\":\"2\"", "\"b\": \"2\""),
            ("\"b\":\"2\"", "\"b\":\"\\x\""),
            ("\"b\":\"2\"", "\"b\":\"\\ud800\""),
            ("\"b\":\"2\"", "\"b\":\"\t\""),
            ("\"b\":\"2\"", "\"b\":\"2"),
            ("\"b\":\"2\"", "\"\\u0061\":\"2\""),
            ("\"b\":\"2\"", "\"b\":2"),
            ("\"b\":\"2\"", "\"b\":\"2\","),
            ("}}", "}} "),
            ("}}", "},\"x_own\":1}"),
            ("}}", "}"),
        ] {
            let other = good.replace(from, to);
            assert_ne!(other, good, "{from}");
            assert!(read(&other).is_none(), "{other}");
        }
        let many: Vec<String> = (0..=HEADERS).map(|n| format!("x-{n}")).collect();
        let headers: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), b"1".as_slice())).collect();
        assert!(read(&written(None, &headers)).is_none(), "more headers than usual");
        assert!(read(&written(None, &headers[1..])).is_none_or(|job| job.headers().count() == HEADERS));
    }
}
