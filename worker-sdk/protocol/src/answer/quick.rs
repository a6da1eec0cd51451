//! The second pass: a JSON reader into a structure, for escapes, `null` and fields that no version knows yet.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Answer, Headers, raw_body};

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
    /// A statistic: what is no number of microseconds says nothing, and harms nothing.
    #[serde(default)]
    took: Option<serde_json::Value>,
    #[serde(default, borrow)]
    body: Option<Cow<'a, str>>,
    #[serde(default)]
    kind: Option<IgnoredAny>,
    /// Left to the careful pass: there is one a stream, and more to say about it than about all else.
    #[serde(default)]
    hold: Option<IgnoredAny>,
    /// There at all: left to the careful pass, too.
    #[serde(default, deserialize_with = "is_there")]
    session: bool,
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
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
pub(super) fn quick(message: &Bytes) -> Option<Answer<'_>> {
    let mut values = serde_json::Deserializer::from_slice(message).into_iter::<Wire<'_>>();
    let wire = values.next()?.ok()?;
    let stream_without_place = wire.more == Some(true) && wire.n.is_none();
    let apart = wire.kind.is_some() || wire.hold.is_some() || wire.session;
    if apart || wire.id.is_empty() || stream_without_place {
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
        took: wire.took.as_ref().and_then(serde_json::Value::as_u64),
        body,
        hold: None,
        session: None,
    })
}
