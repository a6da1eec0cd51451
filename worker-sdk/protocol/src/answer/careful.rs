//! The careful pass: the message as a tree, to say exactly what is wrong with it. MessagePack knows no other.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

use super::{Answer, Decoded, Headers, Hold, Reason, SessionChange, raw_body, rejected};
use crate::pack;

pub(super) fn careful(message: &Bytes) -> Decoded<'static> {
    let mut values = serde_json::Deserializer::from_slice(message).into_iter::<Value>();
    let Some(Ok(Value::Object(object))) = values.next() else {
        return rejected(None, Reason::NotJson);
    };
    let end = values.byte_offset();
    judged(object, |object| json_body(message, object, end))
}

/// One map and nothing behind it.
pub(super) fn packed(message: &Bytes) -> Decoded<'static> {
    let Ok(read) = pack::read(message) else {
        return rejected(None, Reason::NotMsgpack);
    };
    judged(read.fields, |object| {
        if !read.rest.is_empty() {
            return Err(Reason::TrailingBytes);
        }
        match (read.body, field(object, "body")) {
            (None, Some(_)) => Err(Reason::BadBody),
            (body, _) => Ok(body.map_or_else(Bytes::new, |body| message.slice_ref(body))),
        }
    })
}

/// What the fields say; `body` finds what belongs to them.
fn judged(object: Object, body: impl FnOnce(&Object) -> Result<Bytes, Reason>) -> Decoded<'static> {
    let id = careful_id(&object);
    // A kind says what the rest means, the id included: a `ping` belongs to no request.
    if let Some(Value::String(kind)) = field(&object, "kind") {
        let (id, kind) = (id.ok(), kind.clone());
        if let (true, Ok(death)) = (kind == "died", serde_json::from_value(Value::Object(object))) {
            return Decoded::Died(death);
        }
        return Decoded::Ignored { id, kind };
    }
    let id = match id {
        Ok(id) => id,
        Err(reason) => return rejected(None, reason),
    };
    if field(&object, "kind").is_some() {
        return rejected(Some(id), Reason::BadKind);
    }
    match body(&object).and_then(|body| careful_fields(&object, body)) {
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

fn careful_fields(object: &Object, body: Bytes) -> Result<Answer<'static>, Reason> {
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
    let took = field(object, "took").and_then(Value::as_u64);
    let hold = field(object, "hold").map(Hold::read).transpose()?.map(Box::new);
    // The one field of which null says something: it ends the session.
    let session = object.get("session").map(|value| SessionChange::read(value).ok_or(Reason::BadSession));
    let session = session.transpose()?.map(Box::new);
    Ok(Answer { id: Cow::Borrowed(""), status, headers, n, more, attempt, took, body, hold, session })
}

fn json_body(message: &Bytes, object: &Object, end: usize) -> Result<Bytes, Reason> {
    let text = match field(object, "body") {
        None => "",
        Some(value) => value.as_str().ok_or(Reason::BadBody)?,
    };
    let raw = raw_body(message, end)?;
    match (text.is_empty(), raw.is_empty()) {
        (false, false) => Err(Reason::TwoBodies),
        (false, true) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        (true, _) => Ok(raw),
    }
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
