//! RESP commands as bytes, and replies taken off a buffer (through the `redis-protocol` codec).
//!
//! Only the format; no connection, no meaning.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;

/// An encoded command.
#[derive(Clone, Debug)]
pub struct Command(pub(crate) Bytes);

impl Command {
    /// Encodes a command of these parts.
    pub fn new(parts: &[&[u8]]) -> Self {
        let mut out = BytesMut::with_capacity(parts.iter().map(|part| part.len() + 16).sum::<usize>() + 16);
        write_command(&mut out, parts);
        Self(out.freeze())
    }
}

/// Appends a command.
pub(crate) fn write_command(out: &mut BytesMut, parts: &[&[u8]]) {
    write_length(out, b'*', parts.len());
    parts.iter().for_each(|part| write_bulk(out, part));
}

/// Appends `RPUSH key` for so many values, which come next.
pub(crate) fn write_push_head(out: &mut BytesMut, values: usize, key: &[u8]) {
    write_length(out, b'*', values + 2);
    out.put_slice(b"$5\r\nRPUSH\r\n");
    write_bulk(out, key);
}

/// Appends a value.
pub(crate) fn write_bulk(out: &mut BytesMut, value: &[u8]) {
    write_bulk_head(out, value.len());
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Appends what stands before the bytes of a value.
pub(crate) fn write_bulk_head(out: &mut BytesMut, length: usize) {
    write_length(out, b'$', length);
}

fn write_length(out: &mut BytesMut, mark: u8, length: usize) {
    out.put_u8(mark);
    out.put_slice(itoa::Buffer::new().format(length).as_bytes());
    out.put_slice(b"\r\n");
}

/// Takes the next whole reply off `buffer`; None: more bytes are needed.
///
/// The two shapes that come for every request, numbers and lists of strings, are read here, and whatever else there is,
/// malformed or not, by the codec.
pub(crate) fn take_reply(buffer: &mut BytesMut) -> io::Result<Option<BytesFrame>> {
    match usual_reply(buffer) {
        Usual::Whole(frame) => return Ok(Some(frame)),
        Usual::Partial => return Ok(None),
        Usual::Other => {}
    }
    match decode_bytes_mut(buffer) {
        Ok(Some((frame, _, _))) => Ok(Some(frame)),
        Ok(None) => Ok(None),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("not a Redis reply: {error}"))),
    }
}

/// What stands at the start of a buffer.
enum Usual {
    /// A number or a list of strings, taken off.
    Whole(BytesFrame),
    /// The start of one.
    Partial,
    /// Something else, left where it is.
    Other,
}

fn usual_reply(buffer: &mut BytesMut) -> Usual {
    match buffer.first() {
        None => Usual::Partial,
        Some(b':') => match line(buffer, 1) {
            Line::Number(number, end) => {
                buffer.advance(end);
                Usual::Whole(BytesFrame::Integer(number as i64))
            }
            Line::Partial => Usual::Partial,
            Line::Other => Usual::Other,
        },
        Some(b'*') => strings(buffer),
        Some(_) => Usual::Other,
    }
}

/// A list of strings, each of which shares the buffer's memory.
fn strings(buffer: &mut BytesMut) -> Usual {
    let (count, mut at) = match line(buffer, 1) {
        Line::Number(count, end) => (count, end),
        Line::Partial => return Usual::Partial,
        Line::Other => return Usual::Other,
    };
    // What is announced is not allocated for before it is there.
    let mut ranges = Vec::with_capacity(count.min(buffer.len() / 5));
    for _ in 0..count {
        match buffer.get(at) {
            Some(b'$') => {}
            Some(_) => return Usual::Other,
            None => return Usual::Partial,
        }
        let (length, start) = match line(buffer, at + 1) {
            Line::Number(length, end) => (length, end),
            Line::Partial => return Usual::Partial,
            Line::Other => return Usual::Other,
        };
        let Some(end) = start.checked_add(length).filter(|end| end + 2 <= buffer.len()) else { return Usual::Partial };
        if &buffer[end..end + 2] != b"\r\n" {
            return Usual::Other;
        }
        ranges.push(start..end);
        at = end + 2;
    }
    let all = buffer.split_to(at).freeze();
    Usual::Whole(BytesFrame::Array(ranges.into_iter().map(|range| BytesFrame::BulkString(all.slice(range))).collect()))
}

enum Line {
    /// A number without a sign, and where the next line starts.
    Number(usize, usize),
    Partial,
    /// A sign, or no number at all.
    Other,
}

fn line(buffer: &[u8], start: usize) -> Line {
    let mut number: usize = 0;
    for (at, byte) in buffer.iter().enumerate().skip(start) {
        match byte {
            b'0'..=b'9' if at - start < 18 => number = number * 10 + usize::from(byte - b'0'),
            b'\r' if at > start => match buffer.get(at + 1) {
                Some(b'\n') => return Line::Number(number, at + 2),
                Some(_) => return Line::Other,
                None => return Line::Partial,
            },
            _ => return Line::Other,
        }
    }
    Line::Partial
}

/// The text of a reply that should be a string.
pub fn text_of(frame: &BytesFrame) -> String {
    match frame {
        BytesFrame::SimpleString(bytes) | BytesFrame::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        BytesFrame::Error(text) => text.to_string(),
        BytesFrame::Integer(number) => number.to_string(),
        BytesFrame::Null => String::new(),
        BytesFrame::Array(_) => "a list".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_come_off_one_by_one() {
        let mut buffer = BytesMut::from(&b":5\r\n+OK\r\n$3\r\nab"[..]);
        assert_eq!(take_reply(&mut buffer).expect("a reply"), Some(BytesFrame::Integer(5)));
        assert!(matches!(take_reply(&mut buffer), Ok(Some(BytesFrame::SimpleString(_)))));
        assert_eq!(take_reply(&mut buffer).expect("no error"), None);
        buffer.extend_from_slice(b"c\r\n");
        assert!(matches!(take_reply(&mut buffer), Ok(Some(BytesFrame::BulkString(b))) if &b[..] == b"abc"));
        assert!(take_reply(&mut BytesMut::from(&b"HTTP/1.1 200 OK\r\n\r\n"[..])).is_err());
    }

    #[test]
    fn the_quick_way_reads_what_the_codec_reads_however_it_is_cut() {
        let replies = b":0\r\n:-1\r\n*0\r\n*2\r\n$0\r\n\r\n$3\r\na\r\n\r\n*-1\r\n*1\r\n:5\r\n*1\r\n$-1\r\n+OK\r\n";
        let mut by_codec = Vec::new();
        let mut rest = BytesMut::from(&replies[..]);
        while let Some((frame, _, _)) = decode_bytes_mut(&mut rest).expect("replies") {
            by_codec.push(frame);
        }
        assert_eq!(by_codec.len(), 8);
        for cut in 0..replies.len() {
            let mut buffer = BytesMut::from(&replies[..cut]);
            let mut quick = Vec::new();
            for more in [&b""[..], &replies[cut..]] {
                buffer.extend_from_slice(more);
                while let Some(frame) = take_reply(&mut buffer).expect("replies") {
                    quick.push(frame);
                }
            }
            assert_eq!(quick, by_codec, "cut at {cut}");
        }
    }

    #[test]
    fn a_list_that_announces_more_than_there_is_costs_nothing() {
        let mut buffer = BytesMut::from(&b"*999999999999\r\n$999999999999999999\r\nabc"[..]);
        assert!(matches!(take_reply(&mut buffer), Ok(None)));
        assert!(take_reply(&mut BytesMut::from(&b":12x\r\n"[..])).is_err());
    }

    #[test]
    fn a_string_that_does_not_end_where_it_says_is_not_taken_for_one() {
        let mut buffer = BytesMut::from(&b"*1\r\n$3\r\nabcdef\r\n"[..]);
        assert!(matches!(usual_reply(&mut buffer), Usual::Other));
        assert_eq!(&buffer[..], b"*1\r\n$3\r\nabcdef\r\n", "left for the codec to judge");
    }
}
