//! The golden vectors against this codec.
//!
//! The vectors are written from the text of the contract, so this file holds the codec to the text. It must not
//! know a vector by name, and it fails on a member, an outcome or a reason it does not know: a silent skip would
//! make the vectors decoration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tempest_protocol::{
    Answer, Death, Decoded, Hold, HoldMode, Job, JobError, MAX_ANSWER_BYTES, Payload, SessionChange, decode_answer,
    decode_job, decode_payload, frame_sse,
};

type Object = Map<String, Value>;

#[test]
fn jobs() {
    check("jobs.json", &["outcome"], job_outcome);
}

#[test]
fn jobs_in_messagepack() {
    check("msgpack_jobs.json", &["outcome"], job_outcome);
}

#[test]
fn answers() {
    check("answers.json", &["outcome", "limit"], answer_outcome);
}

#[test]
fn answers_in_messagepack() {
    check("msgpack_answers.json", &["outcome", "limit"], answer_outcome);
}

#[test]
fn events() {
    check("events.json", &["outcome", "control"], event_outcome);
}

/// Compares every vector before it fails, so that one run shows all that differs.
fn check(file: &str, own_members: &[&str], outcome: fn(&Vector) -> Value) {
    let vectors = load(file, own_members);
    let wrong: Vec<String> = vectors.iter().filter_map(|vector| vector.difference(&outcome(vector))).collect();
    assert!(wrong.is_empty(), "{} of {} vectors in {file}:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
}

// ---- what the codec makes of a vector, in the words of the vectors ---------------------------------------------

/// An accepted job is compared by the fields that the vector names: what a message lacks is the decoder's affair.
fn job_outcome(vector: &Vector) -> Value {
    let expected = &vector.members["outcome"];
    match decode_job(&vector.bytes) {
        Ok(job) => match expected.get("accept").and_then(Value::as_object) {
            Some(named) => json!({"accept": job_fields(&job, named)}),
            None => json!({"accept": format!("{job:?}")}),
        },
        // The reason is a hint for people; a refusal is what counts, except where the error has a kind of its own.
        Err(error) => match expected.get("reject").and_then(Value::as_str) {
            Some(reason) if fits(&error, reason) => json!({"reject": reason}),
            _ => json!({"reject": error.to_string()}),
        },
    }
}

fn fits(error: &JobError, reason: &str) -> bool {
    match reason {
        "no-id" => matches!(error, JobError::NoId),
        "bad-id" => matches!(error, JobError::NoId | JobError::Json(_)),
        "bad-version" => matches!(error, JobError::Version(_) | JobError::Json(_)),
        "not-object" => matches!(error, JobError::NotObject | JobError::Json(_)),
        "not-json" => matches!(error, JobError::NotUtf8 | JobError::Json(_)),
        "not-msgpack" => matches!(error, JobError::MsgPack(_)),
        "bad-headers" | "bad-field" => matches!(error, JobError::Json(_) | JobError::Body),
        _ => panic!("an unknown reason: {reason}"),
    }
}

fn job_fields(job: &Job, named: &Object) -> Object {
    named.keys().map(|name| (name.clone(), job_field(job, name))).collect()
}

fn job_field(job: &Job, name: &str) -> Value {
    match name {
        "v" => json!(tempest_protocol::VERSION),
        "id" => json!(job.id()),
        "attempt" => json!(job.attempt()),
        "deadline" => json!(job.deadline()),
        "timeout_ms" => json!(job.timeout_ms()),
        "reply_to" => json!(job.reply_to()),
        "queue" => json!(job.queue()),
        "action" => json!(job.action()),
        "method" => json!(job.method()),
        "path" => json!(job.path()),
        "query" => json!(job.query()),
        "host" => json!(job.host()),
        "scheme" => json!(job.scheme()),
        "http" => json!(job.http()),
        "peer" => json!(job.peer()),
        "server" => json!(job.server()),
        "headers" => json!(job.headers().collect::<BTreeMap<_, _>>()),
        "enqueued" => json!(job.enqueued()),
        "session" => json!(job.session()),
        "session_max" => json!(job.session_max()),
        "traceparent" => json!(job.traceparent()),
        "tracestate" => json!(job.tracestate()),
        "body_text" => json!(String::from_utf8_lossy(job.body())),
        "body_base64" => json!(base64(job.body())),
        _ => panic!("an unknown field of a job: {name}"),
    }
}

fn answer_outcome(vector: &Vector) -> Value {
    let limit = vector.members.get("limit").map_or(MAX_ANSWER_BYTES, |limit| {
        usize::try_from(limit.as_u64().expect("limit is an integer")).expect("limit fits")
    });
    match decode_answer(&vector.bytes, limit, false) {
        Decoded::Answer(answer) => json!({"accept": answer_fields(&answer, &vector.members["outcome"])}),
        Decoded::Died(Death { id, attempt, started, certain, worker }) => {
            json!({"died": {"id": id, "attempt": attempt, "started": started, "certain": certain, "worker": worker}})
        }
        Decoded::Ignored { kind, .. } => json!({"ignore": kind}),
        Decoded::Rejected(rejected) => json!({"reject": rejected.reason.code(), "id": rejected.id}),
    }
}

fn event_outcome(vector: &Vector) -> Value {
    let control = vector.members["control"].as_bool().expect("control is a boolean");
    let payload = decode_payload(&vector.bytes, true, control);
    let mut framed = Vec::new();
    frame_sse(&mut framed, &payload);
    let sse = String::from_utf8(framed).expect("a framed event is UTF-8");
    match payload {
        Payload::End => json!({"end": true, "sse": sse}),
        Payload::Event(_) => json!({"sse": sse}),
    }
}

fn answer_fields(answer: &Answer<'_>, outcome: &Value) -> Value {
    let headers: Vec<_> = answer.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let mut fields = json!({
        "id": answer.id, "status": answer.status, "headers": headers, "n": answer.n, "more": answer.more,
        "attempt": answer.attempt,
    });
    if let Some(hold) = &answer.hold {
        fields["hold"] = hold_fields(hold);
    }
    match answer.session.as_deref() {
        None => {}
        Some(SessionChange::End) => fields["session"] = Value::Null,
        Some(SessionChange::Patch(patch)) => fields["session"] = json!(patch),
    }
    match outcome.pointer("/accept/body_base64") {
        Some(_) => fields["body_base64"] = json!(base64(&answer.body)),
        None => fields["body_text"] = json!(String::from_utf8_lossy(&answer.body)),
    }
    fields
}

fn hold_fields(hold: &Hold) -> Value {
    let Hold { channels, mode, timeout, first, history } = hold;
    let mode = match mode {
        HoldMode::Stream => "stream",
        HoldMode::Once => "once",
    };
    json!({"channels": channels, "mode": mode, "timeout": timeout, "first": first, "history": history})
}

// ---- reading the files -----------------------------------------------------------------------------------------

struct Vector {
    name: String,
    bytes: Bytes,
    members: Object,
}

impl Vector {
    fn difference(&self, found: &Value) -> Option<String> {
        let expected = &self.members["outcome"];
        (found != expected).then(|| format!("{}\n  expected {expected}\n  found    {found}", self.name))
    }
}

fn load(file: &str, own_members: &[&str]) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut root: Object = serde_json::from_str(&text).expect("a vector file is a JSON object");
    assert_eq!(root.get("version"), Some(&json!(1)), "{file}: the version this runner reads");
    let Some(Value::Array(list)) = root.remove("vectors") else { panic!("{file}: no list of vectors") };
    assert!(!list.is_empty(), "{file}: an empty list proves nothing");
    let mut names = BTreeSet::new();
    let vectors: Vec<Vector> = list.into_iter().map(|value| read(value, own_members)).collect();
    for vector in &vectors {
        assert!(names.insert(vector.name.as_str()), "{file}: two vectors are named {}", vector.name);
    }
    vectors
}

fn read(value: Value, own_members: &[&str]) -> Vector {
    let Value::Object(members) = value else { panic!("a vector is an object: {value}") };
    let name = members["name"].as_str().expect("a vector has a name").to_owned();
    for member in members.keys() {
        let known =
            ["name", "why", "text", "base64", "hex"].contains(&member.as_str()) || own_members.contains(&&**member);
        assert!(known, "{name}: an unknown member {member}");
    }
    let bytes = match ["text", "base64", "hex"].map(|member| members.get(member)) {
        [Some(Value::String(text)), None, None] => text.clone().into_bytes(),
        [None, Some(Value::String(coded)), None] => from_base64(coded),
        [None, None, Some(Value::String(digits))] => from_hex(digits),
        _ => panic!("{name}: one of text, base64 and hex"),
    };
    Vector { name, bytes: bytes.into(), members }
}

fn from_hex(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two hexadecimal digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

// ---- standard base64 (RFC 4648, section 4), too small a need for a dependency ----------------------------------

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize] as char;
            out.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

fn from_base64(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bits = 0u32;
    let mut held = 0;
    for byte in text.trim_end_matches('=').bytes() {
        let digit = ALPHABET.iter().position(|&known| known == byte).expect("a base64 digit");
        bits = bits << 6 | u32::try_from(digit).expect("below 64");
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    assert_eq!(base64(&out), text, "canonical base64");
    out
}
