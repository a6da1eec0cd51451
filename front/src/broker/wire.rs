//! RESP commands as bytes, and replies taken off a buffer (through the `redis-protocol` codec).
//!
//! Only the format; no connection, no meaning.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
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
pub(crate) fn take_reply(buffer: &mut BytesMut) -> io::Result<Option<BytesFrame>> {
    match decode_bytes_mut(buffer) {
        Ok(Some((frame, _, _))) => Ok(Some(frame)),
        Ok(None) => Ok(None),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("not a Redis reply: {error}"))),
    }
}

/// The text of a reply that should be a string.
pub(crate) fn text_of(frame: &BytesFrame) -> String {
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
}
