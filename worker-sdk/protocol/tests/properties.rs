//! Properties of the codec: what holds for every message, and not only for those that somebody thought of.
//!
//! Each is tried on some hundreds of messages made at random; what once failed lies in `properties.proptest-regressions`
//! and is tried first.

use bytes::Bytes;
use proptest::char::range;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Map, Value, json};
use tempest_protocol::{
    AnswerHead, Codec, Decoded, Hold, HoldMode, Job, JobHead, JobWriter, MAX_HOLD_MS, PackedJobWriter, SessionChange,
    WriteJob, decode_answer, decode_job, encode_answer, encode_packed_answer, rewrite_job,
};

/// Messages a property is tried on.
const CASES: u32 = 200;

fn config() -> ProptestConfig {
    let found = FileFailurePersistence::Direct("tests/properties.proptest-regressions");
    ProptestConfig { cases: CASES, failure_persistence: Some(Box::new(found)), ..ProptestConfig::default() }
}

/// Text of all kinds: escapes, controls, what needs two, three and four bytes.
fn text() -> impl Strategy<Value = String> {
    let edges =
        ["", "\"", "\\", "\u{0}", "\n", "\r\n", "\u{7f}", "\u{80}", "\u{ff}", "\u{2028}", "\u{feff}", "\u{10ffff}"];
    prop_oneof![any::<String>(), select(edges.map(str::to_owned).to_vec()), "[ -~]{0,400}"]
}

fn number() -> impl Strategy<Value = u64> {
    let edges =
        [0, 1, 127, 128, 255, 256, 65_535, 65_536, u32::MAX.into(), 1 << 32, 1 << 53, i64::MAX as u64, u64::MAX];
    prop_oneof![select(edges.to_vec()), any::<u64>()]
}

/// Whatever JSON has.
fn json_value() -> impl Strategy<Value = Value> {
    let integers = [-1, -32, -33, -128, -129, -32_768, -32_769, i64::from(i32::MIN), i64::from(i32::MIN) - 1, i64::MIN];
    let floats = prop_oneof![any::<f64>(), select(vec![0.0, -0.0, 0.1, 1.0, 2e53, f64::MAX, f64::MIN_POSITIVE])];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number().prop_map(Value::from),
        select(integers.to_vec()).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        floats.prop_filter_map("finite", |float| serde_json::Number::from_f64(float).map(Value::Number)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 6, |inner| {
        prop_oneof![vec(inner.clone(), 0..6).prop_map(Value::from), object(inner).prop_map(Value::Object)]
    })
}

fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    vec((text(), inner), 0..6).prop_map(Map::from_iter)
}

/// A value in so many lists.
fn nested(value: Value, levels: usize) -> Value {
    (0..levels).fold(value, |inner, _| json!([inner]))
}

fn session() -> impl Strategy<Value = Map<String, Value>> {
    let deep = (json_value(), 0..110usize)
        .prop_map(|(value, levels)| Map::from_iter([("deep".into(), nested(value, levels))]));
    prop_oneof![object(json_value()), deep]
}

fn header_name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,20}"
}

/// What Latin-1 can carry.
fn header_value() -> impl Strategy<Value = String> {
    let c = prop_oneof![Just('\t'), range(' ', '~'), range('\u{80}', '\u{ff}')];
    vec(c, 0..40).prop_map(String::from_iter)
}

// ---- answers ---------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Wanted {
    id: String,
    attempt: u32,
    status: u16,
    headers: Vec<(String, Vec<String>)>,
    n: u64,
    more: bool,
    hold: Option<Hold>,
    session: Option<SessionChange>,
    body: Vec<u8>,
}

fn hold() -> impl Strategy<Value = Hold> {
    let once = (any::<bool>(), 1..=MAX_HOLD_MS, any::<bool>());
    let name = "[^\u{0}-\u{1f}\u{7f}-\u{9f}]{1,60}";
    (vec(name, 1..64), once, proptest::option::of(text()), proptest::option::of("[!-~]{1,60}")).prop_map(
        |(channels, (once, timeout, timed), first, history)| Hold {
            channels,
            mode: if once { HoldMode::Once } else { HoldMode::Stream },
            timeout: timed.then_some(timeout),
            first: first.filter(|_| !once),
            history,
        },
    )
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let headers = btree_map(header_name(), vec(header_value(), 1..4), 0..12);
    let change = prop_oneof![Just(SessionChange::End), session().prop_map(SessionChange::Patch)];
    let place = prop_oneof![Just((0, false)), Just((0, true)), (number(), any::<bool>())];
    let head = (text(), prop_oneof![Just(0), Just(u32::MAX), any::<u32>()], 200..600u16, headers, place);
    let rest = (proptest::option::weighted(0.2, hold()), proptest::option::of(change), vec(any::<u8>(), 0..300));
    (head, rest).prop_map(|((id, attempt, status, headers, (n, more)), (hold, session, body))| Wanted {
        id: if id.is_empty() { "a".to_owned() } else { id },
        attempt,
        status: if hold.is_some() { 200 } else { status },
        // The length of the body is the front's affair, and two spellings of one name are written as one.
        headers: one_spelling(headers.into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"))),
        n: if hold.is_some() { 0 } else { n },
        more: more && hold.is_none(),
        session: session.filter(|_| n == 0 || hold.is_some()),
        body: if hold.is_some() { Vec::new() } else { body },
        hold,
    })
}

fn one_spelling(headers: impl Iterator<Item = (String, Vec<String>)>) -> Vec<(String, Vec<String>)> {
    let mut kept: Vec<(String, Vec<String>)> = Vec::new();
    for (name, values) in headers {
        if !kept.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
            kept.push((name, values));
        }
    }
    kept
}

fn encoded(wanted: &Wanted, encode: fn(&mut Vec<u8>, &AnswerHead<'_>, &[u8])) -> Bytes {
    let lines = wanted.headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (&**name, &**value)));
    let headers: Vec<(&str, &str)> = lines.collect();
    let Wanted { id, attempt, status, n, more, hold, session, body, .. } = wanted;
    let head = AnswerHead {
        id,
        attempt: *attempt,
        status: *status,
        headers: &headers,
        n: *n,
        more: *more,
        took: (*attempt > 0).then_some(u64::from(*attempt)),
        hold: hold.as_ref(),
        session: session.as_ref(),
    };
    let mut out = Vec::new();
    encode(&mut out, &head, body);
    out.into()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_answer_means_the_same_in_both_spellings(wanted in wanted()) {
        let (json, packed) = (encoded(&wanted, encode_answer), encoded(&wanted, encode_packed_answer));
        prop_assert_eq!((Codec::of(&json), Codec::of(&packed)), (Codec::Json, Codec::MsgPack));
        let Decoded::Answer(answer) = decode_answer(&json, usize::MAX, false) else {
            return Err(TestCaseError::fail(format!("{:?}", decode_answer(&json, usize::MAX, false))));
        };
        let Decoded::Answer(other) = decode_answer(&packed, usize::MAX, false) else {
            return Err(TestCaseError::fail(format!("{:?}", decode_answer(&packed, usize::MAX, false))));
        };
        prop_assert_eq!(&answer, &other);
        let lines: Vec<(String, String)> = wanted.headers.iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name.clone(), value.clone()))).collect();
        let headers: Vec<(String, String)> =
            answer.headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        prop_assert_eq!(headers, lines);
        prop_assert_eq!((&*answer.id, answer.status, answer.n, answer.more), (&*wanted.id, wanted.status, wanted.n, wanted.more));
        prop_assert_eq!(answer.attempt.unwrap_or(0), wanted.attempt);
        prop_assert_eq!((answer.hold.as_deref(), answer.session.as_deref()), (wanted.hold.as_ref(), wanted.session.as_ref()));
        prop_assert_eq!(&answer.body[..], &wanted.body[..]);
    }

    #[test]
    fn any_object_is_read_alike_in_both_spellings(mut fields in object(json_value()), id in proptest::option::of(text())) {
        fields.remove("body");
        if let Some(id) = id {
            fields.insert("id".to_owned(), id.into());
        }
        for name in ["status", "n", "more", "attempt", "headers", "hold", "session"] {
            // Values of any type under the names that mean something.
            if let Some((_, value)) = fields.iter().next().map(|(name, value)| (name.clone(), value.clone())) {
                let mut message = fields.clone();
                message.insert(name.to_owned(), value);
                let json = Bytes::from(Value::Object(message.clone()).to_string());
                let packed = Bytes::from(by_another_encoder(&Value::Object(message)));
                prop_assert_eq!(decode_answer(&packed, usize::MAX, false), decode_answer(&json, usize::MAX, false));
                let (json, packed) = (decode_job(&json), decode_job(&packed));
                prop_assert_eq!(json.is_ok(), packed.is_ok());
            }
        }
    }

    #[test]
    fn no_bytes_break_a_reader(data in vec(any::<u8>(), 0..200), first in select(vec![b'{', 0x80, 0x83, 0xde, 0xdf])) {
        let message = Bytes::from([&[first], &data[..]].concat());
        decode_answer(&message, 100, false);
        let _ = decode_job(&message);
        rewrite_job(&message, 2, 3);
    }
}

/// As somebody else's library writes it.
fn by_another_encoder(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, &to_rmpv(value)).expect("memory takes it");
    out
}

fn to_rmpv(value: &Value) -> rmpv::Value {
    match value {
        Value::Null => rmpv::Value::Nil,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (_, Some(number)) => number.into(),
            _ => number.as_f64().expect("a number").into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(values) => rmpv::Value::Array(values.iter().map(to_rmpv).collect()),
        Value::Object(pairs) => {
            rmpv::Value::Map(pairs.iter().map(|(name, value)| (name.as_str().into(), to_rmpv(value))).collect())
        }
    }
}

// ---- jobs ------------------------------------------------------------------------------------------------------

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What a front puts into a job.
#[derive(Clone, Debug)]
struct Asked {
    attempt: u32,
    numbers: [u64; 3],
    path: String,
    query: Option<String>,
    host: Option<String>,
    headers: Vec<(String, Vec<Vec<u8>>)>,
    session: Option<(Map<String, Value>, u64)>,
    body: Vec<u8>,
}

fn asked() -> impl Strategy<Value = Asked> {
    // A value of a header as the HTTP library lets it through.
    let byte = prop_oneof![Just(b'\t'), b' '..=b'~', 0x80..=0xffu8];
    let name = "[a-z0-9!#$%&'*+.^_`|~-]{1,20}";
    let headers = btree_map(prop_oneof![name, Just("cookie".to_owned())], vec(vec(byte, 0..40), 1..4), 0..70);
    let numbers = [number(), number(), number()];
    let text = (text(), proptest::option::of(text()), proptest::option::of(text()));
    let rest = (headers, proptest::option::of((session(), number())), vec(any::<u8>(), 0..300));
    (1..=u32::MAX, numbers, text, rest).prop_map(|(attempt, numbers, (path, query, host), (headers, session, body))| {
        Asked { attempt, numbers, path, query, host, headers: headers.into_iter().collect(), session, body }
    })
}

impl Asked {
    fn head(&self) -> JobHead<'_> {
        JobHead {
            id: "f.0-1",
            attempt: self.attempt,
            deadline: self.numbers[0],
            timeout_ms: self.numbers[1],
            reply_to: "tempest:@f.0",
            queue: "web",
            method: "GET",
            path: &self.path,
            query: self.query.as_deref(),
            host: self.host.as_deref(),
            scheme: "http",
            http: "1.1",
            peer: "127.0.0.1:5000",
            server: "127.0.0.1:1337",
            enqueued: self.numbers[2],
            traceparent: self.is_traced().then_some(TRACE),
            tracestate: self.query.as_deref().filter(|_| self.is_traced()),
        }
    }

    fn is_traced(&self) -> bool {
        self.numbers[2] % 2 == 1
    }

    fn written(&self, mut writer: impl WriteJob) {
        for (name, values) in &self.headers {
            writer.header(name, values.iter().map(Vec::as_slice));
        }
        if let Some((session, max)) = &self.session {
            writer.session(&Value::Object(session.clone()).to_string(), *max);
        }
        writer.finish(&self.body);
    }

    fn json(&self) -> Bytes {
        let mut out = Vec::new();
        self.written(JobWriter::new(&mut out, &self.head()));
        out.into()
    }

    fn packed(&self) -> Bytes {
        let mut out = Vec::new();
        self.written(PackedJobWriter::new(&mut out, &self.head()));
        out.into()
    }

    /// The head as it should be, made by another writer.
    fn expected(&self) -> Value {
        let joined = |name: &str, values: &[Vec<u8>]| {
            let parts: Vec<String> =
                values.iter().map(|bytes| bytes.iter().map(|byte| char::from(*byte)).collect()).collect();
            parts.join(if name == "cookie" { "; " } else { ", " })
        };
        let headers: Map<String, Value> =
            self.headers.iter().map(|(name, values)| (name.clone(), joined(name, values).into())).collect();
        let mut expected = json!({
            "v": 1, "id": "f.0-1", "attempt": self.attempt, "deadline": self.numbers[0], "timeout_ms": self.numbers[1],
            "reply_to": "tempest:@f.0", "queue": "web", "action": "http", "method": "GET", "path": self.path,
            "query": self.query, "host": self.host, "scheme": "http", "http": "1.1", "peer": "127.0.0.1:5000",
            "server": "127.0.0.1:1337", "enqueued": self.numbers[2], "headers": headers,
        });
        if self.is_traced() {
            expected["traceparent"] = json!(TRACE);
            if let Some(query) = &self.query {
                expected["tracestate"] = json!(query);
            }
        }
        if let Some((session, max)) = &self.session {
            expected["session"] = Value::Object(session.clone());
            expected["session_max"] = json!(max);
        }
        expected
    }
}

/// All that a worker sees of a job.
fn seen(job: &Job) -> Value {
    let headers: Map<String, Value> = job.headers().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let mut seen = json!({
        "v": 1, "id": job.id(), "attempt": job.attempt(), "deadline": job.deadline(), "timeout_ms": job.timeout_ms(),
        "reply_to": job.reply_to(), "queue": job.queue(), "action": job.action(), "method": job.method(),
        "path": job.path(), "query": job.query(), "host": job.host(), "scheme": job.scheme(), "http": job.http(),
        "peer": job.peer(), "server": job.server(), "enqueued": job.enqueued(), "headers": headers,
    });
    for (name, value) in [("traceparent", job.traceparent()), ("tracestate", job.tracestate())] {
        if let Some(value) = value {
            seen[name] = json!(value);
        }
    }
    if job.session_text().is_some() {
        seen["session"] = Value::Object(job.session());
        seen["session_max"] = json!(job.session_max());
    }
    seen
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_front_writes_what_any_json_reader_reads(asked in asked()) {
        let message = asked.json();
        let end = message.iter().position(|byte| *byte == b'\n').expect("a job has a line feed");
        let head: Value = serde_json::from_slice(&message[..end]).expect("JSON");
        prop_assert_eq!(head, asked.expected());
        prop_assert_eq!(&message[end + 1..], &asked.body[..]);
    }

    #[test]
    fn a_job_means_the_same_in_both_spellings(asked in asked()) {
        for (message, codec) in [(asked.json(), Codec::Json), (asked.packed(), Codec::MsgPack)] {
            let job = decode_job(&message).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(job.codec(), codec);
            prop_assert_eq!(seen(&job), asked.expected());
            prop_assert_eq!(&job.body()[..], &asked.body[..]);
        }
    }

    #[test]
    fn another_attempt_changes_two_numbers_and_nothing_else(asked in asked(), attempt in 1..=u32::MAX, left in number()) {
        let again = Asked { attempt, numbers: [asked.numbers[0], left, asked.numbers[2]], ..asked.clone() };
        for (message, expected) in [(asked.json(), again.json()), (asked.packed(), again.packed())] {
            prop_assert_eq!(rewrite_job(&message, attempt, left), expected.to_vec());
        }
    }
}
