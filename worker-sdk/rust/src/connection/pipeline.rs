//! The outgoing buffer of a connection: commands in RESP2.
//!
//! Commands are appended by reference and copied once. Nothing is written to a socket here.

/// A buffer above this size in bytes is given back after a write; one large answer must not stay for ever.
const KEEP_CAPACITY: usize = 1024 * 1024;

/// A sign, the longest number there is, and the end of the line; and that of what follows.
const LENGTH_ROOM: usize = 1 + 20 + 2 + 2;

/// Commands waiting to be written.
#[derive(Debug, Default)]
pub struct Pipeline {
    buffer: Vec<u8>,
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
        self.buffer.reserve(bytes.len() + LENGTH_ROOM);
        self.length(b'$', bytes.len());
        self.buffer.extend_from_slice(bytes);
        self.buffer.extend_from_slice(b"\r\n");
    }

    fn length(&mut self, sign: u8, number: usize) {
        // Written from its end, and then copied at once.
        let mut line = [0; LENGTH_ROOM];
        let mut at = line.len() - 2;
        line[at..].copy_from_slice(b"\r\n");
        let mut rest = number;
        loop {
            at -= 1;
            line[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        at -= 1;
        line[at] = sign;
        self.buffer.extend_from_slice(&line[at..]);
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// True: nothing waits.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Takes a written buffer back for its memory.
    pub(super) fn reuse(&mut self, mut buffer: Vec<u8>) {
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
