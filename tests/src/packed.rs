//! Messages in MessagePack, with another library than the one that front and workers are built on.

use rmpv::Value;
use rmpv::decode::read_value;
use rmpv::encode::write_value;
use serde_json::{Map, Value as Json};

/// The fields of a message but its body, and that. It must be one map with text for keys, and nothing behind it.
#[track_caller]
pub fn read(mut message: &[u8]) -> (Json, Vec<u8>) {
    let Ok(Value::Map(pairs)) = read_value(&mut message) else { panic!("no MessagePack map") };
    assert!(message.is_empty(), "bytes behind the map: {message:x?}");
    let (mut fields, mut body) = (Map::new(), None);
    for (name, value) in pairs {
        match (name.as_str().expect("a name is text"), value) {
            ("body", Value::Binary(bytes)) => body = Some(bytes),
            (name, value) => drop(fields.insert(name.to_owned(), to_json(&value))),
        }
    }
    (Json::Object(fields), body.unwrap_or_default())
}

/// A message of these fields and, unless it is empty, a body.
pub fn write(fields: &Json, body: &[u8]) -> Vec<u8> {
    let Value::Map(mut pairs) = from_json(fields) else { panic!("fields are an object") };
    if !body.is_empty() {
        pairs.push(("body".into(), Value::Binary(body.to_vec())));
    }
    let mut out = Vec::new();
    write_value(&mut out, &Value::Map(pairs)).expect("memory takes it");
    out
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Boolean(value) => (*value).into(),
        Value::Integer(number) => number.as_u64().map_or_else(|| number.as_i64().into(), Json::from),
        Value::String(text) => text.as_str().expect("text is UTF-8").into(),
        Value::Array(values) => values.iter().map(to_json).collect(),
        Value::Map(pairs) => {
            pairs.iter().map(|(name, value)| (name.as_str().expect("text").to_owned(), to_json(value))).collect()
        }
        other => panic!("nothing that a front writes: {other:?}"),
    }
}

fn from_json(value: &Json) -> Value {
    match value {
        Json::Null => Value::Nil,
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (_, Some(number)) => number.into(),
            _ => number.as_f64().expect("a number").into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(values) => Value::Array(values.iter().map(from_json).collect()),
        Json::Object(pairs) => {
            Value::Map(pairs.iter().map(|(name, value)| (name.as_str().into(), from_json(value))).collect())
        }
    }
}
