//! The outgoing buffer of a connection: commands in RESP2.
//!
//! Commands are appended by reference and copied once. Nothing is written to a socket here.

use bytes::{BufMut, BytesMut};

/// A buffer above this size in bytes is given back after a write; one large answer must not stay for ever.
const KEEP_CAPACITY: usize = 1024 * 1024;

/// Commands waiting to be written.
#[derive(Debug, Default)]
pub struct Pipeline {
    buffer: BytesMut,
}

impl Pipeline {
    /// Appends one command: its name and arguments.
    pub fn command(&mut self, parts: &[&[u8]]) {
        self.begin(parts.len());
        for part in parts {
            self.part(part);
        }
    }

    /// Opens a command of `parts` parts, name included; exactly as many [`Pipeline::part`] must follow.
    pub fn begin(&mut self, parts: usize) {
        self.length(b'*', parts);
    }

    /// Appends one part of the open command.
    pub fn part(&mut self, bytes: &[u8]) {
        self.length(b'$', bytes.len());
        self.buffer.reserve(bytes.len() + 2);
        self.buffer.put_slice(bytes);
        self.buffer.put_slice(b"\r\n");
    }

    fn length(&mut self, sign: u8, number: usize) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.buffer.put_u8(sign);
        self.buffer.put_slice(&digits[at..]);
        self.buffer.put_slice(b"\r\n");
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// True: nothing waits.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(super) fn take(&mut self) -> BytesMut {
        std::mem::take(&mut self.buffer)
    }

    /// Takes a written buffer back for its memory.
    pub(super) fn reuse(&mut self, mut buffer: BytesMut) {
        if self.buffer.is_empty() && buffer.capacity() <= KEEP_CAPACITY {
            buffer.clear();
            self.buffer = buffer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_spelled_in_resp2() {
        let mut out = Pipeline::default();
        out.command(&[b"RPUSH", b"key", b"", b"a\r\nb"]);
        assert_eq!(&out.take()[..], b"*4\r\n$5\r\nRPUSH\r\n$3\r\nkey\r\n$0\r\n\r\n$4\r\na\r\nb\r\n");
        out.part(&[b'x'; 1234]);
        assert!(out.take().starts_with(b"$1234\r\nxx"));
    }
}
