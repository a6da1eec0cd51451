//! A tap: what is published on some channels, as data for one who is no event stream.
//!
//! A held connection may want the next message alone, or all of them as they are. Both are few beside event streams, so a
//! tap keeps a short queue of its own where a stream has a cursor; the messages in it are shared. It counts in the limits like
//! a stream, and keeps its subscriptions. It must not know what becomes of the data.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tempest_protocol::Payload;

use super::opening::Kept;
use super::{Hub, Refused};
use crate::telemetry::StreamDrop;

/// Everybody who listens, by the channel's name in Redis.
#[derive(Default)]
pub(super) struct Taps {
    listening: RefCell<HashMap<String, HashMap<u64, Rc<Ear>>>>,
    serial: Cell<u64>,
}

/// What one has heard and not yet taken.
struct Ear {
    state: RefCell<State>,
    most_messages: usize,
    most_bytes: usize,
    /// The first message is all that is wanted.
    once: bool,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Bytes>,
    bytes: usize,
    end: Option<End>,
    waker: Option<Waker>,
    on_cut: Option<Box<dyn FnOnce()>>,
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The channel sends its readers away.
    Unsubscribed,
    /// The front is being shut down.
    Drain,
    /// Another configuration holds for the channel by now.
    Changed,
    /// More waited than may.
    Slow,
}

/// Messages were lost because their reader was too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

/// One who listens; keeps the subscriptions while it lives.
pub struct Tap {
    place: Place,
    _kept: Kept,
}

/// A place among those who listen, given up when dropped.
struct Place {
    hub: Rc<Hub>,
    keys: Vec<String>,
    serial: u64,
    ear: Rc<Ear>,
}

impl Hub {
    /// Listens to these channels (as the browser names them) once Redis has confirmed all of them; `once`: to their next
    /// message and no more.
    pub async fn tap(self: &Rc<Self>, channels: Vec<String>, once: bool) -> Result<Tap, Refused> {
        let keys: Vec<String> = {
            let config = self.config();
            channels.iter().map(|name| format!("{}{name}", config.prefix)).collect()
        };
        // Before it is subscribed: what comes at once must find somebody.
        let place = Place::new(self, keys, once);
        let kept = self.keep(&channels).await?;
        self.metrics.streams_open.inc();
        self.metrics.streams_opened.inc();
        Ok(Tap { place, _kept: kept })
    }
}

impl Tap {
    /// The data of the next message; None: the end.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Cut>> {
        let mut state = self.place.ear.state.borrow_mut();
        if state.end == Some(End::Slow) {
            return Poll::Ready(Err(Cut));
        }
        if let Some(data) = state.queue.pop_front() {
            state.bytes -= data.len();
            let metrics = &self.place.hub.metrics;
            metrics.deliveries.add(1);
            metrics.delivery_bytes.add(data.len() as u64);
            return Poll::Ready(Ok(Some(data)));
        }
        if state.end.is_some() {
            return Poll::Ready(Ok(None));
        }
        match &mut state.waker {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Calls `act` when more waits than may: one who does not take anything would not hear of it otherwise.
    pub fn on_cut(&self, act: impl FnOnce() + 'static) {
        self.place.ear.state.borrow_mut().on_cut = Some(Box::new(act));
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let metrics = &self.place.hub.metrics;
        metrics.streams_open.dec();
        let end = self.place.ear.state.borrow().end;
        match end {
            Some(End::Slow) => metrics.stream_drops.inc(StreamDrop::Slow),
            Some(End::Drain) => metrics.stream_drops.inc(StreamDrop::Drain),
            Some(End::Changed) => metrics.stream_drops.inc(StreamDrop::Changed),
            Some(End::Unsubscribed) => {}
            // One who has got all it wanted has not left.
            None if self.place.ear.once => {}
            None => metrics.stream_drops.inc(StreamDrop::Client),
        }
    }
}

impl Place {
    fn new(hub: &Rc<Hub>, keys: Vec<String>, once: bool) -> Self {
        let config = hub.config();
        let ear = Rc::new(Ear {
            state: RefCell::default(),
            most_messages: config.buffer_messages,
            most_bytes: config.buffer_bytes,
            once,
        });
        let serial = hub.taps.serial.get();
        hub.taps.serial.set(serial + 1);
        let mut listening = hub.taps.listening.borrow_mut();
        for key in &keys {
            listening.entry(key.clone()).or_default().insert(serial, Rc::clone(&ear));
        }
        drop(listening);
        Self { hub: Rc::clone(hub), keys, serial, ear }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut listening = self.hub.taps.listening.borrow_mut();
        for key in &self.keys {
            let Some(ears) = listening.get_mut(key) else { continue };
            ears.remove(&self.serial);
            if ears.is_empty() {
                listening.remove(key);
            }
        }
    }
}

impl Taps {
    /// Something was published on a channel.
    pub(super) fn hear(&self, key: &str, payload: &Payload<'_>) {
        let listening = self.listening.borrow();
        let Some(ears) = listening.get(key) else { return };
        let data = match payload {
            Payload::Event(event) => Some(Bytes::copy_from_slice(event.data.as_bytes())),
            Payload::End => None,
        };
        let cut: Vec<_> = ears.values().filter_map(|ear| ear.hear(data.as_ref())).collect();
        drop(listening);
        cut.into_iter().for_each(|act| act());
    }

    /// Sends away those who listen to this channel.
    pub(super) fn send_away(&self, key: &str) {
        let listening = self.listening.borrow();
        listening.get(key).into_iter().flat_map(HashMap::values).for_each(|ear| ear.end(End::Changed));
    }

    /// The front is being shut down.
    pub(super) fn drain(&self) {
        let listening = self.listening.borrow();
        listening.values().flat_map(HashMap::values).for_each(|ear| ear.end(End::Drain));
    }
}

impl Ear {
    /// Takes a message, or the end; gives what is to be called where that was too much.
    fn hear(&self, data: Option<&Bytes>) -> Option<Box<dyn FnOnce()>> {
        let Some(data) = data else {
            self.end(End::Unsubscribed);
            return None;
        };
        let mut state = self.state.borrow_mut();
        if state.end.is_some() || (self.once && !state.queue.is_empty()) {
            return None;
        }
        state.bytes += data.len();
        state.queue.push_back(data.clone());
        // A single message over the bound is kept, as it is for streams.
        let over = state.queue.len() > 1 && (state.queue.len() > self.most_messages || state.bytes > self.most_bytes);
        let act = if over {
            state.queue.clear();
            state.bytes = 0;
            state.end = Some(End::Slow);
            state.on_cut.take()
        } else {
            None
        };
        wake(&mut state);
        act
    }

    fn end(&self, why: End) {
        let mut state = self.state.borrow_mut();
        state.end.get_or_insert(why);
        wake(&mut state);
    }
}

fn wake(state: &mut State) {
    if let Some(waker) = state.waker.take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ear(once: bool) -> Ear {
        Ear { state: RefCell::default(), most_messages: 2, most_bytes: 10, once }
    }

    fn hear(ear: &Ear, text: &'static str) {
        if let Some(act) = ear.hear(Some(&Bytes::from_static(text.as_bytes()))) {
            act();
        }
    }

    fn queued(ear: &Ear) -> usize {
        ear.state.borrow().queue.len()
    }

    #[test]
    fn one_who_does_not_take_what_comes_is_cut() {
        for messages in [&["a", "b", "c"][..], &["12345", "123456"]] {
            let ear = ear(false);
            let called = Rc::new(Cell::new(false));
            let call = Rc::clone(&called);
            ear.state.borrow_mut().on_cut = Some(Box::new(move || call.set(true)));
            let (last, first) = messages.split_last().expect("some");
            first.iter().for_each(|text| hear(&ear, text));
            assert_eq!((queued(&ear), called.get()), (first.len(), false), "at the edge it stays");
            hear(&ear, last);
            assert_eq!((queued(&ear), called.get(), ear.state.borrow().end), (0, true, Some(End::Slow)));
            hear(&ear, "d");
            assert_eq!(queued(&ear), 0, "nothing more is kept for it");
        }
        let ear = ear(false);
        hear(&ear, "a single one beyond the bound is kept");
        assert_eq!(queued(&ear), 1);
    }

    #[test]
    fn one_who_wants_the_next_message_gets_no_more() {
        let ear = ear(true);
        ["a", "b", "c", "d"].into_iter().for_each(|text| hear(&ear, text));
        assert_eq!((queued(&ear), ear.state.borrow().end), (1, None));
    }

    #[test]
    fn what_came_before_the_end_stays() {
        let ear = ear(false);
        hear(&ear, "a");
        assert!(ear.hear(None).is_none());
        hear(&ear, "b");
        ear.end(End::Drain);
        assert_eq!((queued(&ear), ear.state.borrow().end), (1, Some(End::Unsubscribed)));
    }
}
