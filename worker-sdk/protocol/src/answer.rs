//! Answers: what a worker writes and the front reads.
//!
//! One JSON value from the first byte, then nothing, or a line feed and the raw body. A quick pass reads the shape
//! that nearly every answer has; whatever it refuses is read again as a tree, slowly, to say exactly what is wrong.
//! Both passes must agree; the golden vectors hold them to it. No I/O, no HTTP types.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::json::{write_json_string, write_number};

/// Header names and values in the order of the message, lists expanded.
pub type Headers<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// An answer as read from the wire; text borrows from the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The request it belongs to.
    pub id: Cow<'a, str>,
    /// 200 to 599; 200 where the message names none.
    pub status: u16,
    /// Names as sent, values checked to be free of control characters and within Latin-1.
    pub headers: Headers<'a>,
    /// Place in the sequence, from 0.
    pub n: u64,
    /// True: further messages follow.
    pub more: bool,
    /// The attempt this belongs to; None: the current one.
    pub attempt: Option<u32>,
    /// Raw body, or the text of the field `body`.
    pub body: Bytes,
}

/// What a message on an answer list turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// An answer.
    Answer(Answer<'a>),
    /// A kind of message that this version reserves or does not know; to be counted and dropped.
    Ignored {
        /// Its id, where it has one.
        id: Option<String>,
        /// The kind.
        kind: String,
    },
    /// Malformed.
    Rejected(Rejected),
}

/// A malformed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The request to fail, where the id could still be read.
    pub id: Option<String>,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with a malformed answer; [`Reason::code`] is its name in `protocol.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is its code")]
pub enum Reason {
    NotJson,
    NotObject,
    NoId,
    BadId,
    BadStatus,
    BadHeaders,
    BadHeaderName,
    BadHeaderValue,
    BadBody,
    TwoBodies,
    TrailingBytes,
    BadN,
    BadMore,
    BadAttempt,
    BadKind,
    ContentLengthMismatch,
    TooLarge,
}

impl Reason {
    /// The name used in logs, in `tempest status` and in `protocol.md`.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotJson => "not-json",
            Self::NotObject => "not-object",
            Self::NoId => "no-id",
            Self::BadId => "bad-id",
            Self::BadStatus => "bad-status",
            Self::BadHeaders => "bad-headers",
            Self::BadHeaderName => "bad-header-name",
            Self::BadHeaderValue => "bad-header-value",
            Self::BadBody => "bad-body",
            Self::TwoBodies => "two-bodies",
            Self::TrailingBytes => "trailing-bytes",
            Self::BadN => "bad-n",
            Self::BadMore => "bad-more",
            Self::BadAttempt => "bad-attempt",
            Self::BadKind => "bad-kind",
            Self::ContentLengthMismatch => "content-length-mismatch",
            Self::TooLarge => "too-large",
        }
    }
}

/// Reads one message of an answer list. `limit` is the largest message in bytes; the length of the whole body is
/// checked against a `content-length` for single answers only (`n` 0 and no `more`), and not where `head_request`
/// says that the client asked for the head alone.
pub fn decode_answer(message: &Bytes, limit: usize, head_request: bool) -> Decoded<'_> {
    if message.first() != Some(&b'{') {
        return rejected(None, if starts_as_json(message) { Reason::NotObject } else { Reason::NotJson });
    }
    if message.len() > limit {
        return rejected(find_id(message), Reason::TooLarge);
    }
    let answer = match quick(message) {
        Some(answer) => answer,
        None => match careful(message) {
            Decoded::Answer(answer) => answer,
            other => return other,
        },
    };
    match check(&answer, head_request) {
        Ok(()) => Decoded::Answer(answer),
        Err(reason) => rejected(Some(answer.id.into_owned()), reason),
    }
}

fn rejected(id: Option<String>, reason: Reason) -> Decoded<'static> {
    Decoded::Rejected(Rejected { id, reason })
}

fn starts_as_json(message: &Bytes) -> bool {
    let mut values = serde_json::Deserializer::from_slice(message).into_iter::<IgnoredAny>();
    message.first().is_some_and(|b| !b.is_ascii_whitespace()) && matches!(values.next(), Some(Ok(_)))
}

fn find_id(message: &Bytes) -> Option<String> {
    #[derive(Deserialize)]
    struct OnlyId {
        id: String,
    }
    let mut values = serde_json::Deserializer::from_slice(message).into_iter::<OnlyId>();
    values.next()?.ok().map(|only| only.id)
}

// ---- the quick pass ------------------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default, borrow)]
    headers: WireHeaders<'a>,
    #[serde(default)]
    n: Option<u64>,
    #[serde(default)]
    more: Option<bool>,
    #[serde(default)]
    attempt: Option<u32>,
    #[serde(default, borrow)]
    body: Option<Cow<'a, str>>,
    #[serde(default)]
    kind: Option<IgnoredAny>,
}

#[derive(Default)]
struct WireHeaders<'a>(Headers<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for WireHeaders<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = WireHeaders<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of header names and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut headers = Vec::with_capacity(map.size_hint().unwrap_or(4));
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            // Two spellings of one key are one key to a JSON object: the last wins, which the careful pass sees to.
            if headers.iter().any(|(known, _)| *known == name) {
                return Err(de::Error::custom("a header named twice"));
            }
            match map.next_value::<OneOrMany<'de>>()? {
                OneOrMany::One(value) => headers.push((name, value)),
                OneOrMany::Many(values) => headers.extend(values.into_iter().map(|Text(v)| (name.clone(), v))),
            }
        }
        Ok(WireHeaders(headers))
    }
}

/// A string borrowed where it holds no escapes. (`Cow` alone never borrows inside maps and lists.)
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

enum OneOrMany<'a> {
    One(Cow<'a, str>),
    Many(Vec<Text<'a>>),
}

impl<'de> Deserialize<'de> for OneOrMany<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(OneOrMany::One(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(OneOrMany::One(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(OneOrMany::Many(values))
    }
}

/// None: not the usual shape; the careful pass says what it is.
fn quick(message: &Bytes) -> Option<Answer<'_>> {
    let mut values = serde_json::Deserializer::from_slice(message).into_iter::<Wire<'_>>();
    let wire = values.next()?.ok()?;
    let stream_without_place = wire.more == Some(true) && wire.n.is_none();
    if wire.kind.is_some() || wire.id.is_empty() || stream_without_place {
        return None;
    }
    let raw = raw_body(message, values.byte_offset()).ok()?;
    let body = match wire.body {
        Some(text) if !text.is_empty() && raw.is_empty() => Bytes::copy_from_slice(text.as_bytes()),
        Some(text) if !text.is_empty() => return None,
        _ => raw,
    };
    Some(Answer {
        id: wire.id,
        status: wire.status.unwrap_or(200),
        headers: wire.headers.0,
        n: wire.n.unwrap_or(0),
        more: wire.more.unwrap_or(false),
        attempt: wire.attempt,
        body,
    })
}

fn raw_body(message: &Bytes, value_end: usize) -> Result<Bytes, Reason> {
    match message.get(value_end) {
        None => Ok(Bytes::new()),
        Some(b'\n') => Ok(message.slice(value_end + 1..)),
        Some(_) => Err(Reason::TrailingBytes),
    }
}

// ---- the careful pass ----------------------------------------------------------------------------------------

fn careful(message: &Bytes) -> Decoded<'static> {
    let mut values = serde_json::Deserializer::from_slice(message).into_iter::<Value>();
    let Some(Ok(Value::Object(object))) = values.next() else {
        return rejected(None, Reason::NotJson);
    };
    let id = careful_id(&object);
    // A kind says what the rest means, the id included: a `ping` belongs to no request.
    if let Some(Value::String(kind)) = field(&object, "kind") {
        return Decoded::Ignored { id: id.ok(), kind: kind.clone() };
    }
    let id = match id {
        Ok(id) => id,
        Err(reason) => return rejected(None, reason),
    };
    if field(&object, "kind").is_some() {
        return rejected(Some(id), Reason::BadKind);
    }
    match careful_fields(message, &object, values.byte_offset()) {
        Ok(answer) => Decoded::Answer(Answer { id: Cow::Owned(id), ..answer }),
        Err(reason) => rejected(Some(id), reason),
    }
}

type Object = serde_json::Map<String, Value>;

fn careful_id(object: &Object) -> Result<String, Reason> {
    match field(object, "id") {
        Some(Value::String(id)) if !id.is_empty() => Ok(id.clone()),
        Some(_) => Err(Reason::BadId),
        None => Err(Reason::NoId),
    }
}

/// A field that is present and not null; many languages write their «nothing» as null.
fn field<'o>(object: &'o Object, name: &str) -> Option<&'o Value> {
    object.get(name).filter(|value| !value.is_null())
}

fn careful_fields(message: &Bytes, object: &Object, end: usize) -> Result<Answer<'static>, Reason> {
    let number = |name, reason| match field(object, name) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(reason),
    };
    let status = number("status", Reason::BadStatus)?.unwrap_or(200);
    let status = u16::try_from(status).map_err(|_| Reason::BadStatus)?;
    let headers = careful_headers(object)?;
    let more = match field(object, "more") {
        None => false,
        Some(value) => value.as_bool().ok_or(Reason::BadMore)?,
    };
    let n = match number("n", Reason::BadN)? {
        None if more => return Err(Reason::BadN),
        n => n.unwrap_or(0),
    };
    let attempt = match number("attempt", Reason::BadAttempt)? {
        None => None,
        Some(number) => Some(u32::try_from(number).map_err(|_| Reason::BadAttempt)?),
    };
    let text = match field(object, "body") {
        None => "",
        Some(value) => value.as_str().ok_or(Reason::BadBody)?,
    };
    let raw = raw_body(message, end)?;
    let body = match (text.is_empty(), raw.is_empty()) {
        (false, false) => return Err(Reason::TwoBodies),
        (false, true) => Bytes::copy_from_slice(text.as_bytes()),
        (true, _) => raw,
    };
    Ok(Answer { id: Cow::Borrowed(""), status, headers, n, more, attempt, body })
}

fn careful_headers(object: &Object) -> Result<Headers<'static>, Reason> {
    let Some(value) = field(object, "headers") else { return Ok(Vec::new()) };
    let named = value.as_object().ok_or(Reason::BadHeaders)?;
    let mut headers = Vec::with_capacity(named.len());
    for (name, value) in named {
        let mut push = |value: &Value| {
            let text = value.as_str().ok_or(Reason::BadHeaderValue)?;
            headers.push((Cow::Owned(name.clone()), Cow::Owned(text.to_owned())));
            Ok(())
        };
        match value {
            Value::Array(list) => list.iter().try_for_each(&mut push)?,
            one => push(one)?,
        }
    }
    Ok(headers)
}

// ---- what both passes must satisfy ---------------------------------------------------------------------------

fn check(answer: &Answer<'_>, head_request: bool) -> Result<(), Reason> {
    if !(200..=599).contains(&answer.status) {
        return Err(Reason::BadStatus);
    }
    if answer.attempt == Some(0) {
        return Err(Reason::BadAttempt);
    }
    let single = answer.n == 0 && !answer.more;
    for (name, value) in &answer.headers {
        if !is_token(name) {
            return Err(Reason::BadHeaderName);
        }
        if !is_field_value(value) {
            return Err(Reason::BadHeaderValue);
        }
        if name.eq_ignore_ascii_case("content-length") {
            let length = parse_length(value).ok_or(Reason::ContentLengthMismatch)?;
            let bodiless = head_request || matches!(answer.status, 204 | 304);
            if single && !bodiless && length != answer.body.len() as u64 {
                return Err(Reason::ContentLengthMismatch);
            }
        }
    }
    Ok(())
}

/// A token of RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(allowed)
}

/// Visible characters, space, tab, and what Latin-1 can carry (RFC 9110, section 5.5).
fn is_field_value(value: &str) -> bool {
    value.chars().all(|c| c == '\t' || (c >= ' ' && c != '\u{7f}' && c <= '\u{ff}'))
}

fn parse_length(value: &str) -> Option<u64> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    if digits { value.parse().ok() } else { None }
}

// ---- writing -------------------------------------------------------------------------------------------------

/// What a worker says in the JSON part of an answer message.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerHead<'a> {
    /// The request's id.
    pub id: &'a str,
    /// The job's attempt, echoed; 0: left out.
    pub attempt: u32,
    /// Status; 0: left out (messages after the first of a stream).
    pub status: u16,
    /// Header names and values; a name may come several times, next to each other.
    pub headers: &'a [(&'a str, &'a str)],
    /// Place in the sequence; left out where 0 and `more` is false.
    pub n: u64,
    /// True: further messages follow.
    pub more: bool,
}

/// Appends one answer message with a raw body to `out`.
pub fn encode_answer(out: &mut Vec<u8>, head: &AnswerHead<'_>, body: &[u8]) {
    out.extend_from_slice(b"{\"id\":");
    write_json_string(out, head.id);
    let mut number = |name: &[u8], value: u64| {
        out.extend_from_slice(name);
        write_number(out, value);
    };
    if head.attempt > 0 {
        number(b",\"attempt\":", head.attempt.into());
    }
    if head.status > 0 {
        number(b",\"status\":", head.status.into());
    }
    if head.n > 0 || head.more {
        number(b",\"n\":", head.n);
    }
    if head.more {
        out.extend_from_slice(b",\"more\":true");
    }
    if !head.headers.is_empty() {
        encode_headers(out, head.headers);
    }
    out.push(b'}');
    if !body.is_empty() {
        out.push(b'\n');
        out.extend_from_slice(body);
    }
}

fn encode_headers(out: &mut Vec<u8>, headers: &[(&str, &str)]) {
    out.extend_from_slice(b",\"headers\":");
    let mut opening = b'{';
    for group in headers.chunk_by(|a, b| a.0.eq_ignore_ascii_case(b.0)) {
        out.push(opening);
        opening = b',';
        write_json_string(out, group[0].0);
        out.push(b':');
        if let [(_, value)] = group {
            write_json_string(out, value);
            continue;
        }
        for (at, (_, value)) in group.iter().enumerate() {
            out.push(if at == 0 { b'[' } else { b',' });
            write_json_string(out, value);
        }
        out.push(b']');
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(message: &'static [u8]) -> Answer<'static> {
        let message: &'static Bytes = Box::leak(Box::new(Bytes::from_static(message)));
        match decode_answer(message, 1024, false) {
            Decoded::Answer(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_quick_pass_takes_what_workers_usually_send() {
        let message = Bytes::from_static(b"{\"id\":\"a\",\"status\":201,\"headers\":{\"a\":\"b\"}}\nbody");
        let answer = quick(&message).expect("the usual shape");
        assert_eq!((answer.status, &answer.body[..]), (201, b"body".as_slice()));
        assert!(matches!(answer.id, Cow::Borrowed(_)), "text without escapes is not copied");
    }

    #[test]
    fn null_means_absent() {
        let answer =
            accepted(br#"{"id":"a","status":null,"headers":null,"n":null,"more":null,"body":null,"kind":null}"#);
        assert_eq!((answer.status, answer.n, answer.more, answer.body.len()), (200, 0, false, 0));
    }

    #[test]
    fn what_is_encoded_decodes() {
        let headers = [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x", "caf\u{e9}\"")];
        let head = AnswerHead { id: "r\"1", attempt: 2, status: 404, headers: &headers, n: 0, more: true };
        let mut out = Vec::new();
        encode_answer(&mut out, &head, b"\n\0raw");
        let message = Bytes::from(out);
        let Decoded::Answer(answer) = decode_answer(&message, 1024, false) else { panic!("not an answer") };
        assert_eq!((&*answer.id, answer.attempt, answer.status, answer.more), ("r\"1", Some(2), 404, true));
        assert_eq!(answer.headers.len(), 3);
        assert_eq!(&answer.body[..], b"\n\0raw");
    }

    #[test]
    fn a_message_over_the_limit_still_names_its_request() {
        let message = Bytes::from(format!("{{\"id\":\"a\"}}\n{}", "x".repeat(100)));
        let expected = Rejected { id: Some("a".into()), reason: Reason::TooLarge };
        assert_eq!(decode_answer(&message, 64, false), Decoded::Rejected(expected));
        assert!(matches!(decode_answer(&message, message.len(), false), Decoded::Answer(_)), "at the edge it passes");
    }
}
