//! A reader of a channel: its place in the ring, what it has had, and what is due for it.
//!
//! Only marks, which the channel and the stream set and look at; it must not read or write anything.

use std::cell::{Cell, RefCell};
use std::task::Waker;

use tempest_protocol::LogId;

/// A reader's place.
#[derive(Debug)]
pub(super) struct Reader {
    /// The message it writes next.
    pub(super) cursor: Cell<u64>,
    /// Bytes of that message already written.
    pub(super) offset: Cell<usize>,
    /// It has had all messages with an id up to this one.
    pub(super) after: Cell<LogId>,
    /// Of the messages before this one it wants only those with an id: it was not here when they came.
    pub(super) live_from: Cell<u64>,
    /// When it should be heard of, in sweeps.
    pub(super) due: Cell<u32>,
    pub(super) beat: Cell<bool>,
    pub(super) ending: Cell<bool>,
    pub(super) draining: Cell<bool>,
    /// Its socket takes nothing: the socket wakes it, and more to write is no news to it.
    pub(super) blocked: Cell<bool>,
    /// When it has lasted long enough, in sweeps.
    pub(super) ends: Cell<u32>,
    pub(super) over: Cell<bool>,
    /// When its right to read ends, in sweeps; 0: never.
    pub(super) expires: Cell<u32>,
    pub(super) waker: RefCell<Option<Waker>>,
    /// Its index among the channel's readers.
    pub(super) place: Cell<usize>,
}

impl Reader {
    pub(super) fn listen(&self, waker: &Waker) {
        let mut own = self.waker.borrow_mut();
        match &mut *own {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// A message that it has had, or that was not for it, is passed over.
    pub(super) fn wants(&self, at: u64, id: Option<LogId>) -> bool {
        match id {
            Some(id) => id > self.after.get(),
            None => at >= self.live_from.get(),
        }
    }

    /// The front goes: the stream ends when all that waits for it is written.
    pub(super) fn send_away(&self) {
        self.draining.set(true);
        self.wake();
    }

    /// True where it may read no longer.
    pub(super) fn expired(&self, now: u32) -> bool {
        (1..=now).contains(&self.expires.get())
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
