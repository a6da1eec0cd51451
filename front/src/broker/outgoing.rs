//! What waits to be written on a connection: commands as bytes, in order, in as few commands and writes as may be.
//!
//! Pushes to one list that come in one turn become one `RPUSH` with many values. Redis pays for one command then, and
//! a worker that waits for the list finds all of them at once, not the first alone. It must not know what a command
//! means, nor what becomes of it.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::wire::{write_bulk, write_bulk_head, write_push_head};

/// A payload of at least this many bytes is sent from where it lies; a smaller one is copied into the buffer.
const COPY_BYTES: usize = 16 * 1024;
/// Values of one `RPUSH` at most: Redis does nothing else while it takes them.
const GROUP_VALUES: usize = 256;
/// And bytes of them.
const GROUP_BYTES: usize = 64 * 1024;
/// Room for what stands before the values of a group, besides the key: `*256\r\n$5\r\nRPUSH\r\n$11\r\n` and line ends.
const HEAD_BYTES: usize = 48;

/// Bytes to be written, and how many ever were.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// In order of writing; then comes `tail`, then `group`.
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    group: Option<Group>,
    /// Bytes that wait.
    waiting: usize,
    /// Bytes ever appended and ever written.
    appended: u64,
    written: u64,
}

/// An `RPUSH` that can take more values. What stands before them is written in front when their number is known.
#[derive(Debug)]
struct Group {
    key: Vec<u8>,
    values: BytesMut,
    room: usize,
    count: usize,
}

impl Outgoing {
    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes ever written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// True where a push can become part of the command before it.
    pub(super) fn joins(&self, key: &[u8], payload: &Bytes) -> bool {
        payload.len() < COPY_BYTES && self.group.as_ref().is_some_and(|group| group.takes(key, payload.len()))
    }

    /// Appends a push to the command before it, which takes it.
    pub(super) fn join(&mut self, payload: &Bytes) {
        if let Some(group) = &mut self.group {
            let before = group.values.len();
            write_bulk(&mut group.values, payload);
            group.count += 1;
            self.waiting += group.values.len() - before;
        }
    }

    /// Appends a push as a command of its own. Returns where it ends; None: others may still join it.
    pub(super) fn push(&mut self, key: &[u8], payload: &Bytes) -> Option<u64> {
        self.close_group();
        if payload.len() >= COPY_BYTES {
            return Some(self.push_shared(key, payload));
        }
        self.group = Some(Group::new(key, payload.len()));
        self.join(payload);
        None
    }

    /// A push whose payload is not copied.
    fn push_shared(&mut self, key: &[u8], payload: &Bytes) -> u64 {
        let before = self.tail.len();
        write_push_head(&mut self.tail, 1, key);
        write_bulk_head(&mut self.tail, payload.len());
        self.count(self.tail.len() - before);
        self.flush_tail();
        self.count(payload.len());
        self.chunks.push_back(payload.clone());
        self.append(b"\r\n")
    }

    /// Appends the bytes of a whole command, or of a part of one; returns where they end, in bytes ever appended.
    pub(super) fn append(&mut self, bytes: &[u8]) -> u64 {
        self.close_group();
        self.tail.put_slice(bytes);
        self.count(bytes.len());
        self.appended
    }

    /// Ends the command that pushes are gathered into, and returns where it ends, in bytes ever appended.
    pub(super) fn close_group(&mut self) -> u64 {
        if let Some(group) = self.group.take() {
            let values = group.values.len() - group.room;
            let command = group.finish();
            // The values were counted as they came.
            self.waiting += command.len() - values;
            self.appended += command.len() as u64;
            self.flush_tail();
            self.chunks.push_back(command);
        }
        self.appended
    }

    /// What is to be written next.
    pub(super) fn next_chunk(&mut self) -> Option<&Bytes> {
        while self.chunks.front().is_some_and(Bytes::is_empty) {
            self.chunks.pop_front();
        }
        if self.chunks.is_empty() {
            self.flush_tail();
        }
        self.chunks.front()
    }

    /// So many bytes of it are written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
        self.waiting -= bytes;
        if let Some(chunk) = self.chunks.front_mut() {
            chunk.advance(bytes);
        }
    }

    fn count(&mut self, bytes: usize) {
        self.waiting += bytes;
        self.appended += bytes as u64;
    }

    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }
}

impl Group {
    fn new(key: &[u8], first: usize) -> Self {
        let room = HEAD_BYTES + key.len();
        // One turn's pushes are mostly alike, and there are mostly several.
        let mut values = BytesMut::with_capacity(room + (first + 16) * 8);
        values.put_bytes(0, room);
        Self { key: key.to_vec(), values, room, count: 0 }
    }

    fn takes(&self, key: &[u8], bytes: usize) -> bool {
        self.key == key && self.count < GROUP_VALUES && self.values.len() + bytes <= GROUP_BYTES
    }

    fn finish(mut self) -> Bytes {
        let mut head = BytesMut::with_capacity(self.room);
        write_push_head(&mut head, self.count, &self.key);
        let start = self.room - head.len();
        self.values[start..self.room].copy_from_slice(&head);
        self.values.advance(start);
        self.values.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Command;
    use super::*;

    fn all(mut out: Outgoing) -> Vec<u8> {
        out.close_group();
        let mut bytes = Vec::new();
        while let Some(chunk) = out.next_chunk().cloned() {
            bytes.extend_from_slice(&chunk);
            out.wrote(chunk.len());
        }
        assert_eq!(out.waiting(), 0);
        assert_eq!(out.written(), bytes.len() as u64);
        assert_eq!(out.close_group(), bytes.len() as u64);
        bytes
    }

    /// True where it joined.
    fn push(out: &mut Outgoing, key: &[u8], payload: &Bytes) -> bool {
        let joins = out.joins(key, payload);
        if joins {
            out.join(payload);
        } else {
            out.push(key, payload);
        }
        joins
    }

    #[test]
    fn pushes_to_one_list_are_one_command() {
        let mut out = Outgoing::default();
        assert!(!push(&mut out, b"a", &Bytes::from_static(b"one")));
        assert!(push(&mut out, b"a", &Bytes::from_static(b"two")));
        assert!(!push(&mut out, b"b", &Bytes::from_static(b"three")));
        out.append(&Command::new(&[b"PING"]).0);
        assert!(!push(&mut out, b"b", &Bytes::from_static(b"four")));
        let expected: Vec<u8> = [
            Command::new(&[b"RPUSH", b"a", b"one", b"two"]),
            Command::new(&[b"RPUSH", b"b", b"three"]),
            Command::new(&[b"PING"]),
            Command::new(&[b"RPUSH", b"b", b"four"]),
        ]
        .into_iter()
        .flat_map(|command| command.0)
        .collect();
        assert_eq!(all(out), expected);
    }

    #[test]
    fn a_group_has_a_limit_in_values_and_in_bytes() {
        let small = Bytes::from_static(b"x");
        let mut out = Outgoing::default();
        let joined = (0..=GROUP_VALUES).filter(|_| push(&mut out, b"a", &small)).count();
        assert_eq!(joined, GROUP_VALUES - 1, "one more begins another command");
        let mut out = Outgoing::default();
        let large = Bytes::from(vec![b'x'; COPY_BYTES - 1]);
        let joined = (0..8).filter(|_| push(&mut out, b"a", &large)).count();
        assert_eq!(joined, 5, "64 KiB hold three of them: 3, 3 and 2");
    }

    #[test]
    fn a_large_payload_is_sent_from_where_it_lies() {
        let large = Bytes::from(vec![b'x'; COPY_BYTES]);
        let mut out = Outgoing::default();
        push(&mut out, b"a", &Bytes::from_static(b"one"));
        assert!(!push(&mut out, b"a", &large));
        assert!(!push(&mut out, b"a", &Bytes::from_static(b"two")));
        assert!(out.chunks.iter().any(|chunk| chunk.as_ptr() == large.as_ptr()));
        let expected = [&b"one"[..], &large, b"two"].map(|value| Command::new(&[b"RPUSH", b"a", value]).0).concat();
        assert_eq!(all(out), expected);
    }
}
