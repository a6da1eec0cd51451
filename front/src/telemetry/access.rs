//! The access log: a line a request on standard output, written by a thread of its own.
//!
//! What a client sends stands between quotes with everything escaped that could end them, begin a line or speak to a
//! terminal. Bodies, cookies and credentials never come here; a token in a query is masked.

use std::borrow::Cow;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::logging::Background;
use crate::config::AccessLog as Format;

/// The name of the thread that writes.
const NAME: &str = "access-log";

/// One request, answered.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The request id.
    pub id: &'a str,
    /// The trace it belongs to.
    pub trace: Option<&'a str>,
    /// Who asked.
    pub peer: SocketAddr,
    /// Its method.
    pub method: &'a str,
    /// Path and query as they came.
    pub target: &'a str,
    /// `1.1` or `1.0`.
    pub version: &'a str,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the answer's body that were sent.
    pub bytes: u64,
    /// From the request's arrival to the end of its answer.
    pub took: Duration,
    /// Header `referer`.
    pub referer: Option<&'a [u8]>,
    /// Header `user-agent`.
    pub agent: Option<&'a [u8]>,
}

/// Writes entries; cheap to clone, one for each reactor.
#[derive(Clone, Debug)]
pub struct AccessLog {
    format: Format,
    /// Begun with the first line, and then the same however the format changes: its end would have to be waited for.
    sink: Arc<OnceLock<Background>>,
}

impl AccessLog {
    /// To standard output, in the configured format.
    pub fn start(format: Format) -> Self {
        Self { format, sink: Arc::default() }
    }

    /// To anything.
    pub fn to(format: Format, sink: impl io::Write + Send + 'static) -> Self {
        Self { format, sink: Arc::new(OnceLock::from(Background::new(NAME, sink))) }
    }

    /// The same log in another format.
    #[must_use]
    pub fn in_format(&self, format: Format) -> Self {
        Self { format, sink: Arc::clone(&self.sink) }
    }

    /// False where entries are not written: then they need not be made.
    pub fn is_on(&self) -> bool {
        self.format != Format::Off
    }

    fn line(&self, line: &str) {
        let sink = self.sink.get_or_init(|| Background::new(NAME, io::stdout()));
        // Handing a line over cannot fail: one that finds no room is counted.
        let _ = io::Write::write_all(&mut sink.writer.clone(), line.as_bytes());
    }

    /// Writes one line; drops it when too many are waiting. Never blocks.
    pub fn write(&self, entry: &Entry<'_>) {
        let (target, referer) = (masked(entry.target.as_bytes()), entry.referer.map(masked));
        let target = String::from_utf8_lossy(&target);
        let entry = Entry { target: &target, referer: referer.as_deref(), ..*entry };
        let line = match self.format {
            Format::Off => return,
            Format::Combined => combined(&entry, SystemTime::now()),
            Format::Json => json(&entry, SystemTime::now()),
        };
        self.line(&line);
    }

    /// Writes a line that is one of this log already: that of a child, which knows whether there is one. Never blocks.
    pub fn relay(&self, line: &str) {
        self.line(&format!("{line}\n"));
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> usize {
        self.sink.get().map_or(0, |sink| sink.drops.dropped_lines())
    }
}

/// A URL without the tokens in its query: whoever reads a log must not be able to use them.
fn masked(url: &[u8]) -> Cow<'_, [u8]> {
    const NAME: &[u8] = b"token=";
    let Some(at) = memchr::memchr(b'?', url) else { return Cow::Borrowed(url) };
    let (path, query) = url.split_at(at + 1);
    if memchr::memmem::find(query, NAME).is_none() {
        return Cow::Borrowed(url);
    }
    let pairs = query.split(|byte| *byte == b'&');
    let pairs = pairs.map(|pair| if pair.starts_with(NAME) { b"token=***".as_slice() } else { pair });
    let mut out = path.to_vec();
    out.extend_from_slice(&pairs.collect::<Vec<_>>().join(&b'&'));
    Cow::Owned(out)
}

/// Apache's combined format, and after it the request id, the milliseconds, and the trace id of what is traced.
fn combined(entry: &Entry<'_>, now: SystemTime) -> String {
    let Entry { id, peer, method, target, version, status, bytes, .. } = entry;
    let (method, target) = (quoted(method.as_bytes()), quoted(target.as_bytes()));
    let (referer, agent) = (quoted(entry.referer.unwrap_or(b"-")), quoted(entry.agent.unwrap_or(b"-")));
    let (ip, date, ms) = (peer.ip(), combined_date(now), entry.took.as_millis());
    let (space, trace) = entry.trace.map_or(("", ""), |trace| (" ", trace));
    format!(
        "{ip} - - [{date}] \"{method} {target} HTTP/{version}\" {status} {bytes} \"{referer}\" \"{agent}\" {id} \
         {ms}{space}{trace}\n"
    )
}

/// `21/Nov/2026:14:06:25 +0000`, out of `Sat, 21 Nov 2026 14:06:25 GMT`.
fn combined_date(now: SystemTime) -> String {
    let date = httpdate::fmt_http_date(now);
    let mut words = date.split(' ').skip(1);
    let mut word = || words.next().unwrap_or_default();
    format!("{}/{}/{}:{} +0000", word(), word(), word(), word())
}

/// Printable ASCII as it is, but `"` and `\`; everything else as `\xHH`, as Apache does.
fn quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            byte => write!(out, "\\x{byte:02x}").expect("writing to a String cannot fail"),
        }
    }
    out
}

/// The members of a JSON line.
#[derive(Serialize)]
struct Line<'a> {
    /// Milliseconds since the epoch.
    time: u64,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a str>,
    peer: SocketAddr,
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    http: &'a str,
    status: u16,
    bytes: u64,
    ms: u64,
    referer: Option<String>,
    agent: Option<String>,
}

fn json(entry: &Entry<'_>, now: SystemTime) -> String {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (path, query) = match entry.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (entry.target, None),
    };
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let line = Line {
        time: millis(since_epoch),
        id: entry.id,
        trace: entry.trace,
        peer: entry.peer,
        method: entry.method,
        path,
        query,
        http: entry.version,
        status: entry.status,
        bytes: entry.bytes,
        ms: millis(entry.took),
        referer: text(entry.referer),
        agent: text(entry.agent),
    };
    let json = serde_json::to_string(&line).expect("text and numbers are always JSON");
    // JSON lets DEL and the C1 controls through; terminals act on them.
    let mut out = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        match c {
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a String cannot fail"),
            c => out.push(c),
        }
    }
    out.push('\n');
    out
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>() -> Entry<'a> {
        Entry {
            id: "abc.0-1",
            trace: None,
            peer: ([127, 0, 0, 1], 4711).into(),
            method: "GET",
            target: "/p%20q?a=1&b",
            version: "1.1",
            status: 200,
            bytes: 5,
            took: Duration::from_micros(12_999),
            referer: None,
            agent: Some(b"curl/8 \"x\""),
        }
    }

    fn at() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_269_985)
    }

    #[test]
    fn combined_lines() {
        let expected = "127.0.0.1 - - [21/Nov/2026:14:06:25 +0000] \"GET /p%20q?a=1&b HTTP/1.1\" 200 5 \"-\" \
                        \"curl/8 \\\"x\\\"\" abc.0-1 12\n";
        assert_eq!(combined(&entry(), at()), expected);
        let traced = combined(&Entry { trace: Some("4bf92f"), ..entry() }, at());
        assert_eq!(traced, expected.replace(" 12\n", " 12 4bf92f\n"));
    }

    #[test]
    fn json_lines() {
        let line: serde_json::Value = serde_json::from_str(&json(&entry(), at())).expect("JSON");
        assert_eq!((&line["path"], &line["query"]), (&"/p%20q".into(), &"a=1&b".into()));
        assert_eq!((&line["ms"], &line["time"]), (&12.into(), &1_795_269_985_000_u64.into()));
        assert_eq!((&line["peer"], &line["referer"]), (&"127.0.0.1:4711".into(), &serde_json::Value::Null));
        assert_eq!(line.get("trace"), None);
        let traced = json(&Entry { trace: Some("4bf92f"), ..entry() }, at());
        assert!(traced.contains(r#""id":"abc.0-1","trace":"4bf92f","peer""#), "{traced}");
    }

    #[test]
    fn nobody_forges_a_line() {
        let evil = b"x\" 200 1 \"\n127.0.0.1 forged\r\x1b[2J\x7f\xc2\x9b1m\xff\\";
        let text = String::from_utf8_lossy(evil).into_owned();
        let entry = Entry { method: &text, target: &text, referer: Some(evil), agent: Some(evil), ..entry() };
        for line in [combined(&entry, at()), json(&entry, at())] {
            assert!(line.trim_end_matches('\n').chars().all(|c| !c.is_control()), "{line:?}");
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        }
        let line = combined(&entry, at());
        assert!(line.contains("\\\" 200 1 \\\"\\x0a127.0.0.1"), "{line}");
        let line: serde_json::Value = serde_json::from_str(&json(&entry, at())).expect("still JSON");
        assert_eq!(line["method"], text);
    }

    #[test]
    fn tokens_are_masked() {
        for (url, shown) in [
            ("/sub/a?token=x.y.z", "/sub/a?token=***"),
            ("/sub/a?token=x&b=1&token=&c", "/sub/a?token=***&b=1&token=***&c"),
            ("https://a.test/p?b=1&token=x#token=y", "https://a.test/p?b=1&token=***"),
            ("/sub/a?token", "/sub/a?token"),
            ("/sub/a?b=token", "/sub/a?b=token"),
            ("/token=x", "/token=x"),
            ("/a?tokens=1&mytoken=x", "/a?tokens=1&mytoken=x"),
        ] {
            assert_eq!(String::from_utf8_lossy(&masked(url.as_bytes())), shown, "{url}");
        }
    }

    #[test]
    fn no_token_is_written() {
        for format in [Format::Combined, Format::Json] {
            let (to, from) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
            let log = AccessLog::to(format, to);
            log.write(&Entry { target: "/a?token=hunter2", referer: Some(b"/b?token=hunter2"), ..entry() });
            drop(log);
            let text = io::read_to_string(from).expect("a line");
            assert!(text.contains("token=***") && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn what_is_written_arrives_by_the_end() {
        let (to, from) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
        let log = AccessLog::to(Format::Combined, to);
        log.write(&entry());
        log.clone().write(&entry());
        assert_eq!((log.is_on(), log.dropped()), (true, 0));
        drop(log);
        let text = io::read_to_string(from).expect("two lines");
        assert_eq!(text.lines().count(), 2);
        assert!(!AccessLog::to(Format::Off, io::sink()).is_on());
    }
}
