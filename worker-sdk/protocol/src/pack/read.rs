//! Reading one map: into the tree of JSON, without trusting a length or a depth that it declares.
//!
//! What JSON has not got makes the field that holds it one of the wrong type; it never becomes something similar. A
//! message that is no whole map, or is nested too deeply, or has a name that is no text, is not read at all.

use rmp::Marker;
use rmp::decode::{RmpRead, read_marker};
use serde_json::{Map, Number, Value};

/// How deeply maps and arrays may be nested, the message itself included: as deeply as `serde_json` reads, so that what came in
/// one spelling can go on in the other.
const MAX_DEPTH: usize = 127;
/// The one field whose bytes are kept as they are.
const BODY: &str = "body";

/// Why a message is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it ends before its map does")]
    Cut,
    #[error("it holds the byte 0xc1, which MessagePack has no meaning for")]
    Reserved,
    #[error("it is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("a key in it is no str of UTF-8")]
    Key,
    #[error("it is no map")]
    NoMap,
}

/// One message.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// Its fields. Where one holds what JSON has not got there is [`foreign`] instead.
    pub(crate) fields: Map<String, Value>,
    /// The bytes of the field `body`, a bin or a str; it is not among the fields then.
    pub(crate) body: Option<&'a [u8]>,
    /// What follows the map.
    pub(crate) rest: &'a [u8],
}

/// A list of nothing: no field of the contract takes it.
fn foreign() -> Value {
    Value::Array(vec![Value::Null])
}

/// Reads a message whole.
pub(crate) fn read(message: &[u8]) -> Result<Message<'_>, Unreadable> {
    pick(message, |_| true)
}

/// Reads the fields that are `wanted`, and the body only if it is; passes over all others without keeping anything.
pub(crate) fn pick(message: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Message<'_>, Unreadable> {
    let mut reader = Reader { rest: message };
    let Some(count) = reader.map_len()? else { return Err(Unreadable::NoMap) };
    let mut fields = Map::new();
    let mut body = None;
    for _ in 0..count {
        let name = reader.key()?;
        if !wanted(name) {
            reader.value(MAX_DEPTH - 1, false)?;
        } else if name == BODY
            && let Some(bytes) = reader.bytes()?
        {
            // The last one counts, whatever the one before was.
            fields.shift_remove(BODY);
            body = Some(bytes);
        } else {
            let value = reader.value(MAX_DEPTH - 1, true)?.unwrap_or_else(foreign);
            if name == BODY {
                body = None;
            }
            fields.insert(name.to_owned(), value);
        }
    }
    Ok(Message { fields, body, rest: reader.rest })
}

/// The numbers under these names, where a message begins with them after its version and its id: as fronts write it.
pub(crate) fn each_number<const N: usize>(message: &[u8], names: [&str; N]) -> Option<[u64; N]> {
    let mut reader = Reader { rest: message };
    reader.map_len().ok()??;
    for name in ["v", "id"] {
        (reader.key().ok()? == name).then_some(())?;
        reader.value(0, false).ok()?;
    }
    let mut numbers = [0; N];
    for (number, name) in numbers.iter_mut().zip(names) {
        (reader.key().ok()? == name).then_some(())?;
        *number = reader.value(0, true).ok()??.as_u64()?;
    }
    Some(numbers)
}

/// What follows the number that stands here; None: another thing does.
pub(crate) fn read_number(message: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader { rest: message };
    reader.value(0, true).ok()??.as_u64()?;
    Some(reader.rest)
}

/// A place in a message.
struct Reader<'a> {
    rest: &'a [u8],
}

/// How many values, or pairs, a marker announces, and of what.
enum Shape {
    Array(u32),
    Map(u32),
    Str(u32),
    Bin(u32),
    Ext(u32),
    Scalar(Marker),
}

impl<'a> Reader<'a> {
    /// The number of pairs where a map begins here.
    fn map_len(&mut self) -> Result<Option<u32>, Unreadable> {
        match self.shape()? {
            Shape::Map(count) => Ok(Some(count)),
            _ => Ok(None),
        }
    }

    fn key(&mut self) -> Result<&'a str, Unreadable> {
        match self.shape()? {
            Shape::Str(length) => std::str::from_utf8(self.take(length)?).map_err(|_| Unreadable::Key),
            _ => Err(Unreadable::Key),
        }
    }

    /// What a bin or a str holds, where one comes next; None leaves the place where it is.
    fn bytes(&mut self) -> Result<Option<&'a [u8]>, Unreadable> {
        let before = self.rest;
        match self.shape()? {
            Shape::Str(length) | Shape::Bin(length) => self.take(length).map(Some),
            _ => {
                self.rest = before;
                Ok(None)
            }
        }
    }

    /// The next value, in which maps and arrays may be nested `depth` deep. None: it holds what JSON has not got, or
    /// it was not to be kept.
    fn value(&mut self, depth: usize, keep: bool) -> Result<Option<Value>, Unreadable> {
        match self.shape()? {
            Shape::Array(count) => self.array(count, depth, keep),
            Shape::Map(count) => self.map(count, depth, keep),
            Shape::Str(length) => {
                let text = std::str::from_utf8(self.take(length)?).ok();
                Ok(text.filter(|_| keep).map(|text| Value::String(text.to_owned())))
            }
            Shape::Bin(length) => self.take(length).map(|_| None),
            Shape::Ext(length) => {
                self.take(1)?;
                self.take(length).map(|_| None)
            }
            Shape::Scalar(marker) => self.scalar(marker),
        }
    }

    fn array(&mut self, count: u32, depth: usize, keep: bool) -> Result<Option<Value>, Unreadable> {
        let depth = depth.checked_sub(1).ok_or(Unreadable::TooDeep)?;
        // Grows by what is there: what is declared is somebody's word.
        let mut values = keep.then(Vec::new);
        for _ in 0..count {
            match (self.value(depth, keep)?, &mut values) {
                (Some(value), Some(values)) => values.push(value),
                _ => values = None,
            }
        }
        Ok(values.map(Value::Array))
    }

    fn map(&mut self, count: u32, depth: usize, keep: bool) -> Result<Option<Value>, Unreadable> {
        let depth = depth.checked_sub(1).ok_or(Unreadable::TooDeep)?;
        let mut pairs = keep.then(Map::new);
        for _ in 0..count {
            let key = self.key()?;
            match (self.value(depth, keep)?, &mut pairs) {
                (Some(value), Some(pairs)) => drop(pairs.insert(key.to_owned(), value)),
                _ => pairs = None,
            }
        }
        Ok(pairs.map(Value::Object))
    }

    fn scalar(&mut self, marker: Marker) -> Result<Option<Value>, Unreadable> {
        let rest = &mut self.rest;
        let number = match marker {
            Marker::Null => return Ok(Some(Value::Null)),
            Marker::True => return Ok(Some(Value::Bool(true))),
            Marker::False => return Ok(Some(Value::Bool(false))),
            Marker::FixPos(number) => Ok(Some(number.into())),
            Marker::FixNeg(number) => Ok(Some(number.into())),
            Marker::U8 => rest.read_data_u8().map(|number| Some(number.into())),
            Marker::U16 => rest.read_data_u16().map(|number| Some(number.into())),
            Marker::U32 => rest.read_data_u32().map(|number| Some(number.into())),
            Marker::U64 => rest.read_data_u64().map(|number| Some(number.into())),
            Marker::I8 => rest.read_data_i8().map(|number| Some(number.into())),
            Marker::I16 => rest.read_data_i16().map(|number| Some(number.into())),
            Marker::I32 => rest.read_data_i32().map(|number| Some(number.into())),
            Marker::I64 => rest.read_data_i64().map(|number| Some(number.into())),
            // JSON has no infinity and nothing that is not a number.
            Marker::F32 => rest.read_data_f32().map(|number| Number::from_f64(number.into())),
            Marker::F64 => rest.read_data_f64().map(Number::from_f64),
            _ => return Err(Unreadable::Reserved),
        };
        Ok(number.map_err(|_| Unreadable::Cut)?.map(Value::Number))
    }

    fn shape(&mut self) -> Result<Shape, Unreadable> {
        let marker = read_marker(&mut self.rest).map_err(|_| Unreadable::Cut)?;
        let rest = &mut self.rest;
        let shape = match marker {
            Marker::FixMap(count) => return Ok(Shape::Map(count.into())),
            Marker::FixArray(count) => return Ok(Shape::Array(count.into())),
            Marker::FixStr(length) => return Ok(Shape::Str(length.into())),
            Marker::FixExt1 => return Ok(Shape::Ext(1)),
            Marker::FixExt2 => return Ok(Shape::Ext(2)),
            Marker::FixExt4 => return Ok(Shape::Ext(4)),
            Marker::FixExt8 => return Ok(Shape::Ext(8)),
            Marker::FixExt16 => return Ok(Shape::Ext(16)),
            Marker::Map16 => rest.read_data_u16().map(|count| Shape::Map(count.into())),
            Marker::Map32 => rest.read_data_u32().map(Shape::Map),
            Marker::Array16 => rest.read_data_u16().map(|count| Shape::Array(count.into())),
            Marker::Array32 => rest.read_data_u32().map(Shape::Array),
            Marker::Str8 => rest.read_data_u8().map(|length| Shape::Str(length.into())),
            Marker::Str16 => rest.read_data_u16().map(|length| Shape::Str(length.into())),
            Marker::Str32 => rest.read_data_u32().map(Shape::Str),
            Marker::Bin8 => rest.read_data_u8().map(|length| Shape::Bin(length.into())),
            Marker::Bin16 => rest.read_data_u16().map(|length| Shape::Bin(length.into())),
            Marker::Bin32 => rest.read_data_u32().map(Shape::Bin),
            Marker::Ext8 => rest.read_data_u8().map(|length| Shape::Ext(length.into())),
            Marker::Ext16 => rest.read_data_u16().map(|length| Shape::Ext(length.into())),
            Marker::Ext32 => rest.read_data_u32().map(Shape::Ext),
            scalar => return Ok(Shape::Scalar(scalar)),
        };
        shape.map_err(|_| Unreadable::Cut)
    }

    fn take(&mut self, length: u32) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.rest.split_at_checked(length as usize).ok_or(Unreadable::Cut)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `{"a": <value>}`.
    fn under_a(value: &[u8]) -> Vec<u8> {
        [b"\x81\xa1a", value].concat()
    }

    fn field(value: &[u8]) -> Result<Value, Unreadable> {
        read(&under_a(value)).map(|mut read| read.fields.remove("a").expect("the field"))
    }

    #[test]
    fn what_json_has_becomes_what_json_has() {
        for (bytes, value) in [
            (&b"\xc0"[..], json!(null)),
            (b"\xc3", json!(true)),
            (b"\x7f", json!(127)),
            (b"\xe0", json!(-32)),
            (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", json!(u64::MAX)),
            (b"\xd3\x80\0\0\0\0\0\0\0", json!(i64::MIN)),
            (b"\xca\x3f\x80\0\0", json!(1.0)),
            (b"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", json!(0.1)),
            (b"\xd9\x02\xc3\xbc", json!("\u{fc}")),
            (b"\x92\x01\x90", json!([1, []])),
            (b"\x82\xa1z\x01\xa1b\x80", json!({"z": 1, "b": {}})),
        ] {
            assert_eq!(field(bytes), Ok(value), "{bytes:x?}");
        }
    }

    #[test]
    fn what_json_has_not_got_is_nothing_similar() {
        for bytes in [
            &b"\xc4\x01x"[..],
            b"\xd4\x00x",
            b"\xc7\x00\x01",
            b"\xd6\xff\0\0\0\0",
            b"\xa1\xff",
            b"\xca\x7f\xc0\0\0",
            b"\xcb\x7f\xf0\0\0\0\0\0\0",
            b"\x92\x01\xc4\0",
            b"\x81\xa1b\x91\xd4\0\0",
        ] {
            assert_eq!(field(bytes), Ok(foreign()), "{bytes:x?}");
        }
    }

    #[test]
    fn a_length_is_not_believed() {
        for bytes in
            [&b"\xdd\xff\xff\xff\xff"[..], b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff\0"]
        {
            assert_eq!(field(bytes), Err(Unreadable::Cut), "{bytes:x?}");
        }
        assert_eq!(read(b"\xdf\xff\xff\xff\xff\xa1a\x01").err(), Some(Unreadable::Cut));
    }

    #[test]
    fn as_many_levels_are_read_as_json_may_have() {
        let nested = |levels: usize| [vec![0x91; levels - 1], vec![0x90]].concat();
        // The message itself is the first level.
        assert!(field(&nested(MAX_DEPTH - 1)).is_ok());
        assert_eq!(field(&nested(MAX_DEPTH)), Err(Unreadable::TooDeep));
        let json = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(serde_json::from_str::<Value>(&json(MAX_DEPTH)).is_ok(), "and so is JSON");
        assert!(serde_json::from_str::<Value>(&json(MAX_DEPTH + 1)).is_err());
        assert_eq!(pick(&under_a(&nested(100_000)), |_| false).err(), Some(Unreadable::TooDeep), "passed over, too");
    }

    #[test]
    fn the_last_of_two_counts_and_the_body_keeps_its_bytes() {
        let twice = read(b"\x84\xa1a\x01\xa4body\xc4\x02\xff\0\xa1a\x02\xa4body\xa1\xfe").expect("a map");
        assert_eq!((twice.fields.get("a"), twice.body), (Some(&json!(2)), Some(&b"\xfe"[..])));
        assert!(!twice.fields.contains_key("body"));
        let number = read(b"\x82\xa4body\xa1x\xa4body\x07rest").expect("a map");
        assert_eq!((number.fields.get("body"), number.body, number.rest), (Some(&json!(7)), None, &b"rest"[..]));
        let back = read(b"\x82\xa4body\x07\xa4body\xa1x").expect("a map");
        assert_eq!((back.fields.get("body"), back.body), (None, Some(&b"x"[..])));
    }

    #[test]
    fn keys_are_text_at_every_level() {
        for key in [&b"\x01"[..], b"\xc4\x01a", b"\xc0", b"\x90", b"\xa1\xff"] {
            let message = [b"\x81", key, b"\x01"].concat();
            assert_eq!(read(&message).err(), Some(Unreadable::Key), "{key:x?}");
            assert_eq!(field(&message), Err(Unreadable::Key), "{key:x?}");
        }
        assert_eq!(read(b"\x81\xa1a\xc1").err(), Some(Unreadable::Reserved));
        assert_eq!(read(b"\x91\xa1a").err(), Some(Unreadable::NoMap));
    }

    #[test]
    fn the_first_numbers_are_read_where_a_front_puts_them() {
        let message = b"\xde\0\x12\xa1v\x01\xa2id\xa1x\xa7attempt\x02\xa8deadline\xcd\x01\x00 and whatever follows";
        assert_eq!(each_number(message, ["attempt", "deadline"]), Some([2, 256]));
        assert_eq!(each_number(message, ["deadline", "attempt"]), None);
        assert_eq!(each_number(&message[..30], ["attempt", "deadline"]), None);
    }
}
