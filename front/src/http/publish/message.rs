//! What a request that publishes says: its content type, its body, its key, and what it wants to know.
//!
//! Only reading and checking; who may publish, and publishing, are elsewhere.

use std::borrow::Cow;

use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;
use tempest_protocol::{Event, Payload, decode_payload, encode_payload};

use crate::error::Failure;

/// Bytes of a publication's own key.
const KEY_BYTES: usize = 255;
/// Bytes of a reader's words about broken JSON; they may repeat what the client sent.
const WORDS_BYTES: usize = 200;

/// One message to publish.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The channel as browsers name it.
    pub(super) channel: String,
    pub(super) payload: Vec<u8>,
    /// By which a second try is known.
    pub(super) key: Option<String>,
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Text,
    Json,
}

/// How a channel's payloads are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As events where they have the array form.
    Array,
    /// As text, whatever they are.
    Raw,
}

/// What the query says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The name of the event that a text is.
    pub(super) event: Option<String>,
    /// The streams everywhere are to be counted.
    pub(super) count_all: bool,
}

/// A message in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    channel: Option<String>,
    data: String,
    event: Option<String>,
    #[serde(default)]
    raw: bool,
    key: Option<String>,
}

impl Content {
    /// What the headers say; nothing said, or what `curl -d` says, is text.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Self::Text) };
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let utf8 = |charset: &str| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii");
        if !parts.all(|part| part.strip_prefix("charset=").is_none_or(utf8)) {
            return Err(Failure::MediaType("messages are UTF-8"));
        }
        match kind {
            "application/json" => Ok(Self::Json),
            "application/x-www-form-urlencoded" => Ok(Self::Text),
            kind if kind.starts_with("text/") => Ok(Self::Text),
            _ => Err(Failure::MediaType("a message is text/plain or application/json")),
        }
    }
}

impl Wanted {
    pub(super) fn read(query: Option<&str>) -> Result<Self, Failure> {
        let mut wanted = Self::default();
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "event" => wanted.event = Some(decoded(value)?),
                "count" if value == "all" => wanted.count_all = true,
                "count" => return Err(Failure::BadRequest("the one count there is to ask for is count=all")),
                // Caches and trackers add their own.
                _ => {}
            }
        }
        Ok(wanted)
    }
}

fn decoded(value: &str) -> Result<String, Failure> {
    let spaced = value.replace('+', " ");
    let text = percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned);
    text.map_err(|_| Failure::BadRequest("the event's name in the query is not UTF-8"))
}

/// The key in the headers; quotes around it, which one draft asks for, are no part of it.
pub(super) fn key_of(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Failure::BadRequest("there is more than one Idempotency-Key"));
    }
    let text = value.to_str().unwrap_or_default().trim();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if !is_key(bare) {
        return Err(Failure::BadRequest("an Idempotency-Key is 1 to 255 characters of printable ASCII"));
    }
    Ok(Some(bare.to_owned()))
}

fn is_key(key: &str) -> bool {
    (1..=KEY_BYTES).contains(&key.len()) && key.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Reads the body of a request for one channel.
pub(super) fn one(
    channel: String,
    content: Content,
    body: &[u8],
    wanted: &Wanted,
    key: Option<String>,
    form: impl Fn(&str) -> Form,
) -> Result<Message, Failure> {
    let form = form(&channel);
    match content {
        Content::Text => {
            let text = std::str::from_utf8(body).map_err(|_| bad("the body is not UTF-8"))?;
            let payload = payload(text, wanted.event.as_deref(), form)?;
            Ok(Message { channel, payload, key })
        }
        Content::Json => {
            let given: Given = serde_json::from_slice(body).map_err(|error| wrong(&error))?;
            if given.channel.is_some() || wanted.event.is_some() {
                return Err(bad("the path names the channel, and in JSON the body names the event"));
            }
            message(channel, given, form, key)
        }
    }
}

/// Reads the body of a batch; a message without a key of its own gets one from that of the request.
pub(super) fn many(
    content: Content,
    body: &[u8],
    wanted: &Wanted,
    key: Option<&str>,
    most: usize,
    form: impl Fn(&str) -> Form,
) -> Result<Vec<Message>, Failure> {
    if content != Content::Json {
        return Err(Failure::MediaType("several messages are one array in application/json"));
    }
    if wanted.event.is_some() {
        return Err(bad("in JSON the body names the event"));
    }
    let all: Vec<Value> = serde_json::from_slice(body).map_err(|error| wrong(&error))?;
    if all.len() > most {
        return Err(Failure::BadContent(format!(
            "a batch has at most {most} messages, and this one has {}",
            all.len()
        )));
    }
    let read = |(at, value): (usize, Value)| {
        let mut given: Given = serde_json::from_value(value).map_err(|error| wrong(&error))?;
        let channel = given.channel.take().ok_or_else(|| bad("it names no channel"))?;
        let form = form(&channel);
        message(channel, given, form, key.map(|key| format!("{key}/{at}")))
    };
    let numbered = all.into_iter().enumerate();
    numbered.map(|(at, value)| read((at, value)).map_err(|failure| Failure::InBatch(at, Box::new(failure)))).collect()
}

fn message(channel: String, given: Given, form: Form, key: Option<String>) -> Result<Message, Failure> {
    if given.key.as_deref().is_some_and(|key| !is_key(key)) {
        return Err(bad("a key is 1 to 255 characters of printable ASCII"));
    }
    if given.raw && given.event.is_some() {
        return Err(bad("a raw message has no event: its data is sent as it is"));
    }
    let form = if given.raw { Form::Raw } else { form };
    let payload = payload(&given.data, given.event.as_deref(), form)?;
    Ok(Message { channel, payload, key: given.key.or(key) })
}

/// A channel's name as a body gives it; the one in a path is checked where it is decoded.
pub(super) fn check_name(name: &str, limit: usize) -> Result<(), Failure> {
    if name.is_empty() || name.len() > limit || name.chars().any(char::is_control) {
        return Err(Failure::BadContent(format!("a channel's name is 1 to {limit} bytes without control characters")));
    }
    Ok(())
}

fn payload(data: &str, event: Option<&str>, form: Form) -> Result<Vec<u8>, Failure> {
    if event.is_some_and(|name| name.contains(['\r', '\n', '\0'])) {
        return Err(bad("an event's name is one line of text"));
    }
    let payload = match (form, event) {
        (Form::Raw, None) => data.as_bytes().to_vec(),
        (Form::Raw, Some(_)) => return Err(bad("the messages of this channel are text, and have no event's name")),
        (Form::Array, event) => encode_payload(event, data),
    };
    // Whatever form it has: what a front says of itself must not come from anybody else.
    match decode_payload(&payload, true, false) {
        Payload::Event(Event { name: Some(name), .. }) if name.starts_with('$') => {
            Err(bad("names of events that begin with $ are the front's own"))
        }
        _ => Ok(payload),
    }
}

fn bad(why: &str) -> Failure {
    Failure::BadContent(why.to_owned())
}

fn wrong(error: &serde_json::Error) -> Failure {
    let mut words = error.to_string();
    if words.len() > WORDS_BYTES {
        words.truncate(words.floor_char_boundary(WORDS_BYTES));
        words.push('…');
    }
    Failure::BadContent(format!("the body is not what it should be: {words}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn array(_: &str) -> Form {
        Form::Array
    }

    fn json(body: &str) -> Result<Message, Failure> {
        one("c".into(), Content::Json, body.as_bytes(), &Wanted::default(), None, array)
    }

    fn sent(body: &str) -> Vec<u8> {
        json(body).expect("a message").payload
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().expect("a name"), HeaderValue::from_str(value).expect("a value"))])
    }

    #[test]
    fn content_types_decide() {
        let of = |value: &str| Content::of(&headers("content-type", value));
        assert_eq!(Content::of(&HeaderMap::new()), Ok(Content::Text));
        for text in ["text/plain", "Text/Plain; Charset=\"UTF-8\"", "text/html", "application/x-www-form-urlencoded"] {
            assert_eq!(of(text), Ok(Content::Text), "{text}");
        }
        assert_eq!(of("application/json;charset=utf-8"), Ok(Content::Json));
        for other in ["image/png", "text/plain; charset=latin1", "application/jsonx", "", "multipart/form-data"] {
            assert!(matches!(of(other), Err(Failure::MediaType(_))), "{other}");
        }
    }

    #[test]
    fn what_is_wanted_stands_in_the_query() {
        let read = |query: &str| Wanted::read(Some(query));
        let event = |name: &str| Some(name.to_owned());
        assert_eq!(Wanted::read(None), Ok(Wanted::default()));
        assert_eq!(read("count=all&x=1&event=a%20b+c"), Ok(Wanted { event: event("a b c"), count_all: true }));
        assert!(read("count=here").is_err() && read("count").is_err() && read("event=%ff").is_err());
    }

    #[test]
    fn keys_have_a_length_and_no_quotes() {
        let of = |value: &str| key_of(&headers("idempotency-key", value));
        assert_eq!(key_of(&HeaderMap::new()), Ok(None));
        assert_eq!(of("\"a b\""), of("a b"));
        assert!(of(&"k".repeat(255)).is_ok() && of(&"k".repeat(256)).is_err());
        assert!(of("").is_err() && of("\"\"").is_err() && of("a\tb").is_err());
    }

    #[test]
    fn text_goes_out_in_the_array_form_and_raw_as_it_is() {
        let text = |body: &[u8], form| {
            one("c".into(), Content::Text, body, &Wanted::default(), None, |_| form).map(|message| message.payload)
        };
        assert_eq!(text(b"[\"x\"]\n", Form::Array).as_deref(), Ok(&br#"["[\"x\"]\n"]"#[..]));
        assert_eq!(text(b"[\"x\"]", Form::Raw).as_deref(), Ok(&br#"["x"]"#[..]));
        assert!(text(b"\xff", Form::Array).is_err());
        assert_eq!(sent(r#"{"data":"[1]","raw":true}"#), b"[1]");
        assert_eq!(sent(r#"{"data":"d","event":"e"}"#), br#"["e","d"]"#);
        assert_eq!(sent(r#"{"data":"$unsubscribe"}"#), br#"["","$unsubscribe"]"#);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (body, part) in [
            ("", "EOF"),
            ("[]", "not what it should be"),
            (r#"{"event":"e"}"#, "missing field `data`"),
            (r#"{"data":1}"#, "expected a string"),
            (r#"{"data":"d","evnet":"e"}"#, "unknown field `evnet`"),
            (r#"{"data":"d","event":"a\nb"}"#, "one line"),
            (r#"{"data":"d","event":"$lost"}"#, "begin with $"),
            (r#"{"data":"[\"$lost\",\"x\"]","raw":true}"#, "begin with $"),
            (r#"{"data":"d","event":"e","raw":true}"#, "no event"),
            (r#"{"data":"d","channel":"c"}"#, "the path names the channel"),
            (r#"{"data":"d","key":""}"#, "1 to 255"),
        ] {
            let Err(Failure::BadContent(words)) = json(body) else { panic!("{body}") };
            assert!(words.contains(part), "{body}: {words}");
        }
        let long = format!(r#"{{"data":"d","{}":1}}"#, "\u{fc}".repeat(1000));
        let Err(Failure::BadContent(words)) = json(&long) else { panic!("a field that is none") };
        assert!(words.len() < 300, "{words}");
    }

    #[test]
    fn a_batch_names_its_channels_and_the_one_that_is_wrong() {
        let read = |body: &str, key| many(Content::Json, body.as_bytes(), &Wanted::default(), key, 2, array);
        let both = read(r#"[{"channel":"a","data":"1"},{"channel":"b","data":"2","key":"own"}]"#, Some("k"));
        let keys: Vec<_> = both.expect("two").into_iter().map(|message| (message.channel, message.key)).collect();
        assert_eq!(keys, [("a".into(), Some("k/0".into())), ("b".into(), Some("own".into()))]);
        assert_eq!(read("[]", None), Ok(vec![]));
        let one = r#"{"channel":"a","data":"1"}"#;
        assert!(matches!(read(&format!("[{one},{one},{one}]"), None), Err(Failure::BadContent(_))));
        assert!(matches!(read(&format!("[{one},{{}}]"), None), Err(Failure::InBatch(1, _))));
        assert!(matches!(read(r#"[{"data":"1"}]"#, None), Err(Failure::InBatch(0, _))));
        assert!(read(one, None).is_err());
        assert!(many(Content::Text, b"[]", &Wanted::default(), None, 2, array).is_err());
    }
}
