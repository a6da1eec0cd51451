//! One channel: a ring of framed messages, and the readers' cursors into it.
//!
//! A frame leaves the ring when its last reader has passed it, or when the ring is over its bounds; readers still
//! behind by then see that they are lost. No I/O here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use bytes::Bytes;
use tempest_protocol::{Payload, frame_sse};

/// An event as it goes over the wire: a chunk of HTTP/1.1, whose inside is the event for everybody else.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    chunk: Bytes,
    inside: (usize, usize),
}

impl Frame {
    pub(super) fn of(payload: &Payload<'_>) -> Self {
        let mut event = Vec::with_capacity(256);
        frame_sse(&mut event, payload);
        Self::chunk(&event)
    }

    /// A comment of one line.
    pub(super) fn comment(text: &str) -> Self {
        Self::chunk(format!(": {text}\n\n").as_bytes())
    }

    pub(super) fn chunk(event: &[u8]) -> Self {
        let head = format!("{:x}\r\n", event.len());
        let mut chunk = Vec::with_capacity(head.len() + event.len() + 2);
        chunk.extend_from_slice(head.as_bytes());
        chunk.extend_from_slice(event);
        chunk.extend_from_slice(b"\r\n");
        Self { chunk: chunk.into(), inside: (head.len(), head.len() + event.len()) }
    }

    /// What is written to a stream that is chunked, or not.
    pub(super) fn bytes(&self, chunked: bool) -> Bytes {
        if chunked { self.chunk.clone() } else { self.chunk.slice(self.inside.0..self.inside.1) }
    }

    pub(super) fn as_slice(&self, chunked: bool) -> &[u8] {
        if chunked { &self.chunk } else { &self.chunk[self.inside.0..self.inside.1] }
    }
}

/// A reader's place.
#[derive(Debug)]
pub(super) struct Reader {
    /// The message it writes next.
    pub(super) cursor: Cell<u64>,
    /// Bytes of that message already written.
    pub(super) offset: Cell<usize>,
    /// When it should be heard of, in sweeps.
    pub(super) due: Cell<u32>,
    pub(super) beat: Cell<bool>,
    pub(super) ending: Cell<bool>,
    pub(super) draining: Cell<bool>,
    /// When its right to read ends, in sweeps; 0: never.
    pub(super) expires: Cell<u32>,
    waker: RefCell<Option<Waker>>,
    /// Its index among the channel's readers.
    place: Cell<usize>,
}

impl Reader {
    pub(super) fn listen(&self, waker: &Waker) {
        let mut own = self.waker.borrow_mut();
        match &mut *own {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// True where it may read no longer.
    pub(super) fn expired(&self, now: u32) -> bool {
        (1..=now).contains(&self.expires.get())
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

pub(super) struct Channel {
    /// Its name in Redis.
    pub(super) key: String,
    pub(super) array_form: bool,
    pub(super) control: bool,
    /// Streams open or being opened.
    pub(super) seats: Cell<usize>,
    max_messages: usize,
    max_bytes: usize,
    ring: RefCell<Ring>,
    readers: RefCell<Vec<Rc<Reader>>>,
    walk: Cell<Walk>,
}

/// Where the waking of readers stands: those from `next` on, round the end, `left` of them.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    next: usize,
    left: usize,
}

#[derive(Default)]
struct Ring {
    /// The number of the first message kept.
    first: u64,
    kept: VecDeque<Kept>,
    bytes: usize,
}

struct Kept {
    frame: Frame,
    /// Readers that have not passed it.
    unread: usize,
}

impl Ring {
    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    fn drop_first(&mut self) {
        if let Some(kept) = self.kept.pop_front() {
            self.bytes -= kept.frame.chunk.len();
            self.first += 1;
        }
    }

    fn drop_read(&mut self) {
        while self.kept.front().is_some_and(|kept| kept.unread == 0) {
            self.drop_first();
        }
    }
}

impl Channel {
    pub(super) fn new(key: &str, array_form: bool, control: bool, max_messages: usize, max_bytes: usize) -> Self {
        Self {
            key: key.to_owned(),
            array_form,
            control,
            // Whoever makes it takes the first seat.
            seats: Cell::new(1),
            max_messages,
            max_bytes,
            ring: RefCell::default(),
            readers: RefCell::default(),
            walk: Cell::default(),
        }
    }

    /// One more reader, from the next message on.
    pub(super) fn join(&self, due: u32) -> Rc<Reader> {
        let mut readers = self.readers.borrow_mut();
        let reader = Rc::new(Reader {
            cursor: Cell::new(self.ring.borrow().end()),
            offset: Cell::new(0),
            due: Cell::new(due),
            beat: Cell::new(false),
            ending: Cell::new(false),
            draining: Cell::new(false),
            expires: Cell::new(0),
            waker: RefCell::new(None),
            place: Cell::new(readers.len()),
        });
        readers.push(Rc::clone(&reader));
        let mut walk = self.walk.get();
        // It has nothing to read, but the way round is one longer.
        walk.left += usize::from(walk.left > 0);
        self.walk.set(walk);
        reader
    }

    /// The reader is gone; what it had not read is one reader less to wait for.
    pub(super) fn part(&self, reader: &Reader) {
        let mut readers = self.readers.borrow_mut();
        readers.swap_remove(reader.place.get());
        let mut walk = self.walk.get();
        if let Some(moved) = readers.get(reader.place.get()) {
            moved.place.set(reader.place.get());
            // The walk may have passed the place that it comes to.
            if walk.left > 0 {
                moved.wake();
            }
        }
        walk.left = walk.left.min(readers.len());
        self.walk.set(walk);
        let mut ring = self.ring.borrow_mut();
        let from = reader.cursor.get().saturating_sub(ring.first) as usize;
        ring.kept.iter_mut().skip(from).for_each(|kept| kept.unread -= 1);
        ring.drop_read();
    }

    /// Keeps a message; true where readers are to be woken, by [`Channel::wake_some`].
    pub(super) fn publish(&self, frame: Frame) -> bool {
        let readers = self.readers.borrow();
        if readers.is_empty() {
            return false;
        }
        let mut ring = self.ring.borrow_mut();
        ring.bytes += frame.chunk.len();
        ring.kept.push_back(Kept { frame, unread: readers.len() });
        // A single message over the bound is kept: whoever is up to date can still have it.
        while ring.kept.len() > 1 && (ring.kept.len() > self.max_messages || ring.bytes > self.max_bytes) {
            ring.drop_first();
        }
        // Whoever the walk has yet to come to finds this message, too; the others are come to once more.
        self.walk.set(Walk { left: readers.len(), ..self.walk.get() });
        true
    }

    /// Wakes up to `most` of the readers that have yet to hear of what was published; true while there are more.
    pub(super) fn wake_some(&self, most: usize) -> bool {
        let readers = self.readers.borrow();
        let Walk { mut next, left } = self.walk.get();
        let count = left.min(most);
        for _ in 0..count {
            next = if next < readers.len() { next } else { 0 };
            readers[next].wake();
            next += 1;
        }
        self.walk.set(Walk { next, left: left - count });
        left > count
    }

    pub(super) fn end(&self) {
        for reader in &*self.readers.borrow() {
            reader.ending.set(true);
            reader.wake();
        }
    }

    pub(super) fn drain(&self) {
        for reader in &*self.readers.borrow() {
            reader.draining.set(true);
            reader.wake();
        }
    }

    pub(super) fn sweep(&self, now: u32) {
        for reader in &*self.readers.borrow() {
            if reader.due.get() <= now {
                reader.beat.set(true);
                reader.wake();
            } else if reader.expired(now) {
                reader.wake();
            }
        }
    }

    /// True where the ring has left the reader behind.
    pub(super) fn lost(&self, reader: &Reader) -> bool {
        reader.cursor.get() < self.ring.borrow().first
    }

    /// Shows the frames that the reader has not written yet, the first without what of it is written.
    pub(super) fn unread<R>(
        &self,
        reader: &Reader,
        chunked: bool,
        show: impl FnOnce(&mut dyn Iterator<Item = &[u8]>) -> R,
    ) -> R {
        let ring = self.ring.borrow();
        let from = (reader.cursor.get() - ring.first) as usize;
        let mut skip = reader.offset.get();
        let mut frames = ring.kept.range(from..).map(|kept| {
            let bytes = &kept.frame.as_slice(chunked)[skip..];
            skip = 0;
            bytes
        });
        show(&mut frames)
    }

    /// The reader has written this many bytes more; gives how many messages it has passed by that.
    pub(super) fn advance(&self, reader: &Reader, bytes: usize, chunked: bool) -> u64 {
        let mut ring = self.ring.borrow_mut();
        let mut offset = reader.offset.get() + bytes;
        let start = reader.cursor.get();
        let mut cursor = start;
        while let Some(kept) = {
            let at = (cursor - ring.first) as usize;
            ring.kept.get_mut(at)
        } {
            let length = kept.frame.as_slice(chunked).len();
            if offset < length {
                break;
            }
            offset -= length;
            kept.unread -= 1;
            cursor += 1;
        }
        reader.cursor.set(cursor);
        reader.offset.set(offset);
        ring.drop_read();
        cursor - start
    }

    /// True where a message has been begun and not finished.
    pub(super) fn within_message(reader: &Reader) -> bool {
        reader.offset.get() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(messages: usize) -> Channel {
        Channel::new("test", true, false, messages, 1 << 20)
    }

    fn event(text: &str) -> Frame {
        Frame::chunk(text.as_bytes())
    }

    fn collect(channel: &Channel, reader: &Reader) -> String {
        channel.unread(reader, false, |frames| frames.map(|f| String::from_utf8_lossy(f).into_owned()).collect())
    }

    #[test]
    fn a_message_leaves_when_its_last_reader_has_passed_it() {
        let channel = channel(10);
        let (a, b) = (channel.join(0), channel.join(0));
        channel.publish(event("one"));
        channel.publish(event("two"));
        assert_eq!(channel.advance(&a, 6, false), 2);
        assert_eq!(channel.ring.borrow().kept.len(), 2, "b has read nothing");
        assert_eq!(channel.advance(&b, 4, false), 1);
        assert_eq!(collect(&channel, &b), "wo");
        channel.part(&b);
        assert!(channel.ring.borrow().kept.is_empty());
        assert_eq!(channel.ring.borrow().bytes, 0);
    }

    #[test]
    fn who_falls_behind_is_lost_and_who_keeps_up_is_not() {
        let channel = channel(2);
        let (slow, quick) = (channel.join(0), channel.join(0));
        for text in ["a", "b", "c"] {
            channel.publish(event(text));
            channel.advance(&quick, 1, false);
        }
        assert!(channel.lost(&slow));
        assert!(!channel.lost(&quick));
        channel.part(&slow);
        assert!(channel.ring.borrow().kept.is_empty());
    }

    #[test]
    fn chunks_hold_the_event_and_their_length() {
        let frame = Frame::comment("hi");
        assert_eq!(frame.as_slice(true), b"6\r\n: hi\n\n\r\n");
        assert_eq!(frame.as_slice(false), b": hi\n\n");
    }

    #[test]
    fn readers_come_and_go_without_leaving_a_trace() {
        let channel = channel(10);
        let readers: Vec<_> = (0..5).map(|_| channel.join(0)).collect();
        channel.publish(event("x"));
        for at in [0, 3, 1, 4, 2] {
            channel.part(&readers[at]);
        }
        assert!(channel.readers.borrow().is_empty());
        assert!(channel.ring.borrow().kept.is_empty());
    }

    /// A reader that notes when it is woken.
    struct Heard(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Heard {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn joined(channel: &Channel) -> (Rc<Reader>, std::sync::Arc<Heard>) {
        let heard = std::sync::Arc::new(Heard(false.into()));
        let reader = channel.join(0);
        reader.listen(&std::sync::Arc::clone(&heard).into());
        (reader, heard)
    }

    #[test]
    fn every_reader_is_woken_however_many_come_and_go_meanwhile() {
        const STEP: usize = 3;
        for (starts, goes) in (1..12).flat_map(|starts| (0..12).map(move |goes| (starts, goes))) {
            let channel = channel(10);
            let mut readers: Vec<_> = (0..10).map(|_| joined(&channel)).collect();
            channel.publish(event("before"));
            channel.wake_some(starts);
            readers.iter().for_each(|(_, heard)| heard.0.store(false, std::sync::atomic::Ordering::Relaxed));
            channel.publish(event("now"));
            let mut late = Vec::new();
            let mut steps = 0;
            while channel.wake_some(STEP) {
                late.push(joined(&channel));
                if goes < readers.len() {
                    channel.part(&readers.remove(goes).0);
                }
                steps += 1;
                assert!(steps < 20, "the walk ends");
            }
            let unheard =
                |(_, heard): &&(Rc<Reader>, std::sync::Arc<Heard>)| !heard.0.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(readers.iter().filter(unheard).count(), 0, "after {starts}, without {goes}");
        }
    }
}
