//! Answers: what a worker writes and the front reads.
//!
//! One JSON value from the first byte, then nothing, or a line feed and the raw body. Three passes, each for what the
//! one before refuses: a scan of the shape that nearly every answer has, a JSON reader into a structure, and a tree,
//! slowly, to say exactly what is wrong. They must agree; the golden vectors hold them to it. Or one MessagePack map,
//! which goes through the same tree. No I/O, no HTTP types.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

mod careful;
mod check;
mod encode;
mod hold;
mod packed;
mod quick;
mod usual;

pub use check::{is_field_value, is_token};
pub use encode::{AnswerHead, encode_answer};
pub use hold::{Hold, HoldError, HoldMode, MAX_HOLD_CHANNELS, MAX_HOLD_MS, ONCE_MS};

use crate::pack::{self, Codec};
use careful::{careful, packed};
use check::check;
pub use packed::encode_packed_answer;
use quick::quick;
use usual::usual;

use crate::session::SessionChange;

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
    /// Microseconds from when the worker took the job up to this message, where it says so.
    pub took: Option<u64>,
    /// Raw body, or the text of the field `body`.
    pub body: Bytes,
    /// The connection is to be fed from channels. Apart, since nearly no answer has one.
    pub hold: Option<Box<Hold>>,
    /// What becomes of the session. Apart for the same reason.
    pub session: Option<Box<SessionChange>>,
}

/// What a message on an answer list turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// An answer.
    Answer(Answer<'a>),
    /// The worker that had claimed the job is dead.
    Died(Death),
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

/// The end of a worker, told to a front that waits for one of its jobs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Death {
    /// The request.
    pub id: String,
    /// The attempt that the worker had.
    pub attempt: u32,
    /// The job may have been started.
    pub started: bool,
    /// The worker is dead for certain, and not merely silent.
    pub certain: bool,
    /// The worker's id.
    pub worker: String,
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
    NotMsgpack,
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
    BadHold,
    BadSession,
    ContentLengthMismatch,
    TooLarge,
}

impl Reason {
    /// The name used in logs, in `tempest status` and in `protocol.md`.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotJson => "not-json",
            Self::NotMsgpack => "not-msgpack",
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
            Self::BadHold => "bad-hold",
            Self::BadSession => "bad-session",
            Self::ContentLengthMismatch => "content-length-mismatch",
            Self::TooLarge => "too-large",
        }
    }
}

/// Reads one message of an answer list. `limit` is the largest message in bytes; the length of the whole body is
/// checked against a `content-length` for single answers only (`n` 0 and no `more`), and not where `head_request`
/// says that the client asked for the head alone.
pub fn decode_answer(message: &Bytes, limit: usize, head_request: bool) -> Decoded<'_> {
    let codec = Codec::of(message);
    if codec == Codec::Json && message.first() != Some(&b'{') {
        return rejected(None, if starts_as_json(message) { Reason::NotObject } else { Reason::NotJson });
    }
    if message.len() > limit {
        return rejected(find_id(message, codec), Reason::TooLarge);
    }
    let quickly = || usual(message).or_else(|| quick(message));
    let answer = match (codec == Codec::Json).then(quickly).flatten() {
        Some(answer) => answer,
        None => match if codec == Codec::Json { careful(message) } else { packed(message) } {
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

fn find_id(message: &Bytes, codec: Codec) -> Option<String> {
    if codec == Codec::MsgPack {
        let read = pack::pick(message, |name| name == "id").ok()?;
        return read.fields.get("id")?.as_str().map(str::to_owned);
    }
    #[derive(Deserialize)]
    struct OnlyId {
        id: String,
    }
    let mut values = serde_json::Deserializer::from_slice(message).into_iter::<OnlyId>();
    values.next()?.ok().map(|only| only.id)
}

fn raw_body(message: &Bytes, value_end: usize) -> Result<Bytes, Reason> {
    match message.get(value_end) {
        None => Ok(Bytes::new()),
        Some(b'\n') => Ok(message.slice(value_end + 1..)),
        Some(_) => Err(Reason::TrailingBytes),
    }
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
        let answer = accepted(
            br#"{"id":"a","status":null,"headers":null,"n":null,"more":null,"body":null,"kind":null,"hold":null}"#,
        );
        assert_eq!((answer.status, answer.n, answer.more, answer.body.len()), (200, 0, false, 0));
        assert_eq!(answer.hold, None);
    }

    #[test]
    fn how_long_a_job_took_is_read_or_left_out_and_never_wrong() {
        for (text, took) in
            [("1250", Some(1250)), ("0", Some(0)), ("null", None), ("-1", None), ("1.5", None), ("[]", None)]
        {
            let message = format!("{{\"id\":\"a\",\"took\":{text}}}");
            let answer = accepted(Box::leak(message.into_boxed_str()).as_bytes());
            assert_eq!(answer.took, took, "{text}");
            let hold = format!("{{\"id\":\"a\",\"took\":{text},\"hold\":{{\"channels\":[\"a\"]}}}}");
            assert_eq!(accepted(Box::leak(hold.into_boxed_str()).as_bytes()).took, took, "by the careful pass: {text}");
        }
        let mut out = Vec::new();
        encode_answer(&mut out, &AnswerHead { id: "a", took: Some(7), ..AnswerHead::default() }, b"");
        assert_eq!(out, b"{\"id\":\"a\",\"took\":7}");
    }

    #[test]
    fn what_is_encoded_decodes() {
        let headers = [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x", "caf\u{e9}\"")];
        let head =
            AnswerHead { id: "r\"1", attempt: 2, status: 404, headers: &headers, more: true, ..AnswerHead::default() };
        let mut out = Vec::new();
        encode_answer(&mut out, &head, b"\n\0raw");
        let message = Bytes::from(out);
        let Decoded::Answer(answer) = decode_answer(&message, 1024, false) else { panic!("not an answer") };
        assert_eq!((&*answer.id, answer.attempt, answer.status, answer.more), ("r\"1", Some(2), 404, true));
        assert_eq!(answer.headers.len(), 3);
        assert_eq!(&answer.body[..], b"\n\0raw");
    }

    #[test]
    fn a_hold_is_encoded_behind_the_rest() {
        let hold = Hold { first: Some("hi".into()), ..Hold::of(["a", "b"]) };
        let head = AnswerHead { id: "a", hold: Some(&hold), ..AnswerHead::default() };
        let mut out = Vec::new();
        encode_answer(&mut out, &head, b"");
        assert_eq!(String::from_utf8_lossy(&out), r#"{"id":"a","hold":{"channels":["a","b"],"first":"hi"}}"#);
        let message = Bytes::from(out);
        let Decoded::Answer(answer) = decode_answer(&message, 1024, false) else { panic!("not an answer") };
        assert_eq!(answer.hold.as_deref(), Some(&hold));
    }

    #[test]
    fn a_session_is_changed_or_ended_and_null_is_not_absent() {
        let patch = serde_json::Map::from_iter([("a".to_owned(), serde_json::json!({"b": null}))]);
        for change in [SessionChange::Patch(patch), SessionChange::End] {
            let head = AnswerHead { id: "a", session: Some(&change), ..AnswerHead::default() };
            let mut out = Vec::new();
            encode_answer(&mut out, &head, b"");
            let message = Bytes::from(out);
            let Decoded::Answer(answer) = decode_answer(&message, 1024, false) else { panic!("not an answer") };
            assert_eq!(answer.session.as_deref(), Some(&change));
        }
        assert_eq!(accepted(br#"{"id":"a"}"#).session, None);
    }

    #[test]
    fn a_message_over_the_limit_still_names_its_request() {
        let message = Bytes::from(format!("{{\"id\":\"a\"}}\n{}", "x".repeat(100)));
        let expected = Rejected { id: Some("a".into()), reason: Reason::TooLarge };
        assert_eq!(decode_answer(&message, 64, false), Decoded::Rejected(expected));
        assert!(matches!(decode_answer(&message, message.len(), false), Decoded::Answer(_)), "at the edge it passes");
    }
}
