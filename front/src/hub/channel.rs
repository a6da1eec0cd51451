//! One channel: a ring of framed messages, and the readers' cursors into it.
//!
//! A frame leaves the ring when its last reader has passed it, or when the ring is over its bounds; readers still
//! behind by then see that they are lost. No I/O here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tempest_protocol::LogId;

use super::frame::Frame;
use super::lag::Lag;
use super::log::ChannelLog;
use super::reader::Reader;

pub(super) struct Channel {
    /// Its name in Redis.
    pub(super) key: String,
    pub(super) kind: Kind,
    /// Streams open or being opened.
    pub(super) seats: Cell<usize>,
    /// Publications so far.
    pub(super) published: Cell<u64>,
    pub(super) lag: Lag,
    /// Another configuration holds for it by now: its streams are being sent away, and no other begins.
    pub(super) outdated: Cell<bool>,
    max_messages: usize,
    max_bytes: usize,
    ring: RefCell<Ring>,
    readers: RefCell<Vec<Rc<Reader>>>,
    walk: Cell<Walk>,
}

/// What a channel is.
#[derive(Default)]
pub(super) struct Kind {
    /// As browsers name it; a pattern as they wrote it.
    pub(super) name: String,
    pub(super) array_form: bool,
    pub(super) control: bool,
    /// Set where it has history.
    pub(super) log: Option<ChannelLog>,
}

/// A message that comes to a channel.
pub(super) struct Message {
    pub(super) frame: Frame,
    /// Set for those of a channel with history.
    pub(super) id: Option<LogId>,
    /// The channel's name, of messages to a pattern.
    pub(super) channel: Option<Rc<str>>,
    /// It is no message of a publisher, but a word of ours.
    pub(super) ours: bool,
    /// Messages are missing here: whoever comes back to before it is to be told by itself.
    pub(super) hole: bool,
}

impl Message {
    /// A word of ours to the readers.
    pub(super) fn ours(frame: Frame) -> Self {
        Self { frame, id: None, channel: None, ours: true, hole: false }
    }
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
    /// Messages kept although all have passed them: whoever comes back soon finds the place.
    retained: usize,
}

struct Kept {
    message: Message,
    /// Readers that have not passed it.
    unread: usize,
}

impl Ring {
    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Where a message stands, if it is in the newer half: from the older one a reader would soon be left behind.
    fn place_of(&self, id: LogId) -> Option<usize> {
        let older = self.kept.len() / 2;
        let newer = self.kept.iter().enumerate().skip(older);
        let unbroken = newer.rev().take_while(|(_, kept)| !kept.message.hole);
        unbroken.into_iter().find(|(_, kept)| kept.message.id == Some(id)).map(|(at, _)| at)
    }

    fn drop_first(&mut self) {
        if let Some(kept) = self.kept.pop_front() {
            self.bytes -= kept.message.frame.size();
            self.first += 1;
        }
    }

    fn drop_read(&mut self) {
        while self.kept.len() > self.retained && self.kept.front().is_some_and(|kept| kept.unread == 0) {
            self.drop_first();
        }
    }
}

impl Channel {
    pub(super) fn new(key: &str, kind: Kind, max_messages: usize, max_bytes: usize) -> Self {
        let retained = if kind.log.is_some() { max_messages / 2 } else { 0 };
        Self {
            key: key.to_owned(),
            kind,
            // Whoever makes it takes the first seat.
            seats: Cell::new(1),
            published: Cell::new(0),
            lag: Lag::default(),
            outdated: Cell::new(false),
            max_messages,
            max_bytes,
            ring: RefCell::new(Ring { retained, ..Ring::default() }),
            readers: RefCell::default(),
            walk: Cell::default(),
        }
    }

    /// One more reader, from the next message on, or from right behind one that is still kept.
    pub(super) fn join(&self, due: u32, behind: Option<LogId>) -> Rc<Reader> {
        let mut readers = self.readers.borrow_mut();
        let mut ring = self.ring.borrow_mut();
        let live_from = ring.end();
        let from = behind.and_then(|id| ring.place_of(id)).map_or(ring.kept.len(), |at| at + 1);
        ring.kept.range_mut(from..).for_each(|kept| kept.unread += 1);
        let reader = Rc::new(Reader {
            cursor: Cell::new(ring.first + from as u64),
            after: Cell::new(behind.unwrap_or_default()),
            live_from: Cell::new(live_from),
            offset: Cell::new(0),
            due: Cell::new(due),
            beat: Cell::new(false),
            ending: Cell::new(false),
            draining: Cell::new(false),
            blocked: Cell::new(false),
            ends: Cell::new(u32::MAX),
            over: Cell::new(false),
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
    pub(super) fn publish(&self, message: Message) -> bool {
        let readers = self.readers.borrow();
        let mut ring = self.ring.borrow_mut();
        if readers.is_empty() && (ring.retained == 0 || message.id.is_none()) {
            return false;
        }
        ring.bytes += message.frame.size();
        ring.kept.push_back(Kept { message, unread: readers.len() });
        // A single message over the bound is kept: whoever is up to date can still have it.
        while ring.kept.len() > 1 && (ring.kept.len() > self.max_messages || ring.bytes > self.max_bytes) {
            ring.drop_first();
        }
        ring.drop_read();
        // Whoever the walk has yet to come to finds this message, too; the others are come to once more.
        self.walk.set(Walk { left: readers.len(), ..self.walk.get() });
        !readers.is_empty()
    }

    /// Wakes up to `most` of the readers that have yet to hear of what was published; true while there are more. One
    /// whose socket takes nothing is left alone until it has been left behind: a thousand of them, woken for each
    /// message, are a quarter more time until everybody else has it.
    pub(super) fn wake_some(&self, most: usize) -> bool {
        let readers = self.readers.borrow();
        let first = self.ring.borrow().first;
        let Walk { mut next, left } = self.walk.get();
        let count = left.min(most);
        for _ in 0..count {
            next = if next < readers.len() { next } else { 0 };
            let reader = &readers[next];
            if !reader.blocked.get() || reader.cursor.get() < first {
                reader.wake();
            }
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

    /// All readers of now.
    pub(super) fn readers(&self) -> Vec<Rc<Reader>> {
        self.readers.borrow().clone()
    }

    /// Marks the readers of which something is due.
    pub(super) fn sweep(&self, now: u32) {
        for reader in &*self.readers.borrow() {
            let (beat, over) = (reader.due.get() <= now, reader.ends.get() <= now);
            if beat || over || reader.expired(now) {
                reader.beat.set(beat);
                reader.over.set(over);
                reader.wake();
            }
        }
    }

    /// Times the message that came last, `age` after it was published; none is kept where nobody reads.
    pub(super) fn time_latest(&self, age: Duration) {
        let ring = self.ring.borrow();
        if !ring.kept.is_empty() {
            self.lag.came(ring.end() - 1, ring.first, age);
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
        let wanted = (reader.cursor.get()..)
            .zip(ring.kept.range(from..))
            .filter(|(at, kept)| reader.wants(*at, kept.message.id));
        let mut frames = wanted.map(|(_, kept)| {
            let bytes = &kept.message.frame.as_slice(chunked)[skip..];
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
            let length =
                if reader.wants(cursor, kept.message.id) { kept.message.frame.as_slice(chunked).len() } else { 0 };
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

    /// True where the message of this id is kept, and so is all behind it.
    pub(super) fn keeps(&self, id: LogId) -> bool {
        self.ring.borrow().place_of(id).is_some()
    }

    /// Lets the reader have the next messages one by one, until `take` says that it has had enough.
    pub(super) fn take_each(&self, reader: &Reader, mut take: impl FnMut(&Message) -> bool) -> u64 {
        let mut ring = self.ring.borrow_mut();
        let start = reader.cursor.get();
        let mut cursor = start;
        let mut more = true;
        while more
            && let Some(kept) = {
                let at = (cursor - ring.first) as usize;
                ring.kept.get_mut(at)
            }
        {
            if reader.wants(cursor, kept.message.id) {
                more = take(&kept.message);
            }
            kept.unread -= 1;
            cursor += 1;
        }
        reader.cursor.set(cursor);
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
        Channel::new("test", Kind { array_form: true, ..Kind::default() }, messages, 1 << 20)
    }

    fn event(text: &str) -> Message {
        Message { frame: Frame::chunk(text.as_bytes()), id: None, channel: None, ours: false, hole: false }
    }

    fn collect(channel: &Channel, reader: &Reader) -> String {
        channel.unread(reader, false, |frames| frames.map(|f| String::from_utf8_lossy(f).into_owned()).collect())
    }

    #[test]
    fn a_message_leaves_when_its_last_reader_has_passed_it() {
        let channel = channel(10);
        let (a, b) = (channel.join(0, None), channel.join(0, None));
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
        let (slow, quick) = (channel.join(0, None), channel.join(0, None));
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
    fn readers_come_and_go_without_leaving_a_trace() {
        let channel = channel(10);
        let readers: Vec<_> = (0..5).map(|_| channel.join(0, None)).collect();
        channel.publish(event("x"));
        for at in [0, 3, 1, 4, 2] {
            channel.part(&readers[at]);
        }
        assert!(channel.readers.borrow().is_empty());
        assert!(channel.ring.borrow().kept.is_empty());
    }

    #[test]
    fn a_sweep_marks_who_is_due_and_who_has_lasted_long_enough() {
        let channel = channel(10);
        let (quiet, old) = (channel.join(2, None), channel.join(9, None));
        quiet.ends.set(9);
        old.ends.set(3);
        let marks = |now| {
            channel.sweep(now);
            [&quiet, &old].map(|reader| (reader.beat.get(), reader.over.get()))
        };
        assert_eq!(marks(1), [(false, false), (false, false)]);
        assert_eq!(marks(2), [(true, false), (false, false)]);
        assert_eq!(marks(3), [(true, false), (false, true)]);
    }

    /// A reader that notes when it is woken.
    struct Heard(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Heard {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn who_is_blocked_is_woken_only_once_left_behind() {
        let channel = channel(2);
        let (reader, heard) = joined(&channel);
        reader.blocked.set(true);
        let woken = |text| {
            channel.publish(event(text));
            channel.wake_some(1);
            heard.0.load(std::sync::atomic::Ordering::Relaxed)
        };
        assert_eq!([woken("a"), woken("b"), woken("c")], [false, false, true]);
        assert!(channel.lost(&reader));
    }

    fn joined(channel: &Channel) -> (Rc<Reader>, std::sync::Arc<Heard>) {
        let heard = std::sync::Arc::new(Heard(false.into()));
        let reader = channel.join(0, None);
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
