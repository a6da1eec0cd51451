//! Writing MessagePack straight into a buffer, for those who write a message.
//!
//! The number of a map's fields is put in when the map is closed, so nobody counts beforehand. Always the shortest form,
//! but for maps, which are `map 16`.

use rmp::encode;
use serde_json::Value;

/// One map being written into a buffer.
pub(crate) struct Pack<'o> {
    out: &'o mut Vec<u8>,
    /// Where its number of pairs stands.
    at: usize,
    pairs: u16,
}

/// Bytes of the marker and the number of a map.
const HEAD: [u8; 3] = [0xde, 0, 0];
const INFALLIBLE: &str = "a buffer in memory takes whatever is written, and no part of a message has 4 GiB";

impl<'o> Pack<'o> {
    /// Begins a map at the end of `out`.
    pub(crate) fn open(out: &'o mut Vec<u8>) -> Self {
        let at = out.len() + 1;
        out.extend_from_slice(&HEAD);
        Self { out, at, pairs: 0 }
    }

    /// Lets go of the buffer; [`Pack::resume`] goes on with the map.
    pub(crate) fn pause(self) -> (usize, u16) {
        (self.at, self.pairs)
    }

    /// Goes on with a map that was begun in this buffer.
    pub(crate) fn resume(out: &'o mut Vec<u8>, (at, pairs): (usize, u16)) -> Self {
        Self { out, at, pairs }
    }

    /// Puts in how many pairs it has got. A message has its fields, and at most 65,535 headers.
    pub(crate) fn close(self) {
        self.out[self.at..self.at + 2].copy_from_slice(&self.pairs.to_be_bytes());
    }

    /// The name of the next pair; its value must follow.
    pub(crate) fn key(&mut self, name: &str) -> &mut Self {
        self.pairs = self.pairs.checked_add(1).expect("a message has few fields, and a request at most 65,535 headers");
        self.string(name);
        self
    }

    /// A str.
    pub(crate) fn string(&mut self, text: &str) {
        encode::write_str(self.out, text).expect(INFALLIBLE);
    }

    /// A str, or nil.
    pub(crate) fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.string(text),
            None => encode::write_nil(self.out).expect(INFALLIBLE),
        }
    }

    pub(crate) fn number(&mut self, number: u64) {
        encode::write_uint(self.out, number).expect(INFALLIBLE);
    }

    pub(crate) fn boolean(&mut self, value: bool) {
        encode::write_bool(self.out, value).expect(INFALLIBLE);
    }

    pub(crate) fn bin(&mut self, bytes: &[u8]) {
        encode::write_bin(self.out, bytes).expect(INFALLIBLE);
    }

    /// The beginning of a list of so many values.
    pub(crate) fn list(&mut self, count: usize) -> &mut Self {
        encode::write_array_len(self.out, u32::try_from(count).expect(INFALLIBLE)).expect(INFALLIBLE);
        self
    }

    /// A map as a value.
    pub(crate) fn map(&mut self) -> Pack<'_> {
        Pack::open(self.out)
    }

    /// Whatever JSON has, as it is.
    pub(crate) fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.optional(None),
            Value::Bool(value) => self.boolean(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => self.number(number),
                (_, Some(number)) => drop(encode::write_sint(self.out, number).expect(INFALLIBLE)),
                _ => encode::write_f64(self.out, number.as_f64().unwrap_or_default()).expect(INFALLIBLE),
            },
            Value::String(text) => self.string(text),
            Value::Array(values) => {
                self.list(values.len());
                values.iter().for_each(|value| self.json(value));
            }
            Value::Object(pairs) => {
                encode::write_map_len(self.out, u32::try_from(pairs.len()).expect(INFALLIBLE)).expect(INFALLIBLE);
                for (name, value) in pairs {
                    self.string(name);
                    self.json(value);
                }
            }
        }
    }

    /// A str of parts with `joint` between them, each byte from 0x80 as the Latin-1 code point of that number.
    pub(crate) fn latin1<'v>(&mut self, parts: impl Iterator<Item = &'v [u8]>, joint: &[u8]) {
        let start = self.out.len();
        for (at, part) in parts.enumerate() {
            if at > 0 {
                self.out.extend_from_slice(joint);
            }
            self.push_latin1(part);
        }
        // Its length is known now; what announces it goes before it, and it is seldom long.
        let mut head = Vec::with_capacity(5);
        let length = u32::try_from(self.out.len() - start).expect(INFALLIBLE);
        encode::write_str_len(&mut head, length).expect(INFALLIBLE);
        self.out.splice(start..start, head);
    }

    fn push_latin1(&mut self, bytes: &[u8]) {
        if bytes.is_ascii() {
            self.out.extend_from_slice(bytes);
            return;
        }
        for &byte in bytes {
            if byte < 0x80 {
                self.out.push(byte);
            } else {
                // U+0080 to U+00FF are two bytes of UTF-8.
                self.out.extend_from_slice(&[0xC0 | (byte >> 6), 0x80 | (byte & 0x3F)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::read;
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut out = b"before".to_vec();
        let mut map = Pack::open(&mut out);
        map.key("n").number(u64::MAX);
        map.key("no").optional(None);
        map.key("yes").boolean(true);
        let mut inner = map.key("in").map();
        let list = inner.key("l").list(2);
        list.string("a");
        list.string("\u{fc}");
        inner.close();
        map.key("body").bin(b"\xff\0");
        map.close();
        let read = read(&out[6..]).expect("a map");
        assert_eq!(json!(read.fields), json!({"n": u64::MAX, "no": null, "yes": true, "in": {"l": ["a", "\u{fc}"]}}));
        assert_eq!((read.body, read.rest), (Some(&b"\xff\0"[..]), &b""[..]));
    }

    #[test]
    fn joined_bytes_become_one_text_whatever_their_length() {
        for length in [0, 1, 31, 32, 255, 256, 65_535, 65_536] {
            let mut out = Vec::new();
            let mut map = Pack::open(&mut out);
            map.key("h").latin1([&b"caf\xe9"[..], &vec![b'x'; length]].into_iter(), b", ");
            map.key("after").number(1);
            map.close();
            let read = read(&out).expect("a map");
            assert_eq!(read.fields["h"].as_str(), Some(&*format!("caf\u{e9}, {}", "x".repeat(length))), "{length}");
            assert_eq!(read.fields["after"], json!(1));
        }
    }
}
