//! One open stream: a small task that owns its socket and a cursor.
//!
//! It is all that is left of a connection once its request has been answered with a stream: no buffers of its own,
//! one task of a few hundred bytes. Messages that wait are joined into one write. It must not allocate a message.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tempest_protocol::LogId;
use tokio::time::{Sleep, sleep};

use super::channel::{Channel, Message};
use super::frame::Frame;
use super::life::come_back;
use super::opening::{Begin, Seat, StreamPlace};
use super::reader::Reader;
use super::several::Several;
use super::wire::Wire;
use super::{Hub, Opened};
use crate::broker::Broker;
use crate::telemetry::{Metrics, StreamDrop};

/// Bytes of waiting messages that are joined into one write, at most: what a record of TLS holds. They are copied, since to
/// have the kernel gather four small ones was 8 % more of the processor time than to give it one piece.
const JOIN: usize = 16 * 1024;
/// What a reader is told whose right to read has ended.
const EXPIRED: &str = "event: $end\ndata: {\"reason\":\"expired\"}\n\n";

/// How a stream begins.
pub struct Opening {
    /// The head of the response, complete with its empty line.
    pub head: Bytes,
    /// The first lines of the stream.
    pub first: String,
    /// The response is chunked (HTTP/1.1); else it ends with the connection.
    pub chunked: bool,
    /// When the reader's right to read ends; None: it does not.
    pub expires: Option<Instant>,
    /// When it ends, if nothing else ends it.
    pub until: Option<Duration>,
}

/// Sends a stream on its way, as a task of its own. `report` is told at its end how many bytes were written, `guard`
/// lives as long.
pub fn start<G: Unpin + 'static>(
    mut wire: Wire,
    mut opened: Opened,
    opening: &Opening,
    report: Option<Box<dyn FnOnce(u64)>>,
    guard: G,
) {
    wire.slim();
    let (begins, permit) = (std::mem::take(&mut opened.begins), opened.permit.take());
    let is_behind = begins.iter().any(Begin::is_behind);
    let mut stream = Stream::new(wire, opened, &begins, opening, report, guard);
    if !is_behind {
        drop(tokio::task::spawn_local(stream));
        return;
    }
    tokio::task::spawn_local(async move {
        let ended = stream.catch_up(begins).await;
        drop(permit);
        match ended {
            Some(reason) => stream.end(reason),
            // A task of its own, without what only the past needed.
            None => drop(tokio::task::spawn_local(stream)),
        }
    });
}

/// One stream from its head to its end; resolves when it has ended. Written out rather than an `async` block: what is
/// held while it waits is what ten thousand of them cost.
pub(super) struct Stream<G> {
    wire: Wire,
    seats: Seats,
    /// Bytes of our own that go out before any message: the head, a comment, the goodbye.
    own: Bytes,
    written: u64,
    /// Sweeps between two signs of life. Other streams have other numbers, so that not all are due at once.
    beat_every: u32,
    chunked: bool,
    /// In a box, since few have one.
    until: Option<Pin<Box<Sleep>>>,
    /// The goodbye is under way.
    leaving: Option<StreamDrop>,
    /// Told the bytes written, head included.
    report: Option<Box<dyn FnOnce(u64)>>,
    _place: StreamPlace,
    _guard: G,
}

/// What is read.
enum Seats {
    /// One channel, whose events are the same for all of its readers.
    One(Seat),
    /// Several, or events that are told their channel.
    Many(Box<(Vec<Seat>, Several)>),
}

impl<G> Stream<G> {
    fn new(
        wire: Wire,
        opened: Opened,
        begins: &[Begin],
        opening: &Opening,
        report: Option<Box<dyn FnOnce(u64)>>,
        guard: G,
    ) -> Self {
        let Opened { hub, mut seats, tell, _place, .. } = opened;
        hub.metrics.streams_open.inc();
        hub.metrics.streams_opened.inc();
        let beat_every = hub.beat_every();
        for (seat, begin) in seats.iter().zip(begins) {
            seat.reader.after.set(begin.at.unwrap_or_default());
        }
        // One of them is enough to know when something was written, and when it has lasted long enough.
        seats[0].reader.due.set(hub.clock.get() + beat_every);
        seats[0].reader.ends.set(hub.ends_at());
        if let Some(expires) = opening.expires {
            seats[0].reader.expires.set(hub.sweep_at(expires));
        }
        let seats = match (seats.len(), tell) {
            (1, false) => Seats::One(seats.swap_remove(0)),
            _ => Seats::Many(Box::new((seats, Several::new(begins.iter().map(|begin| begin.at).collect(), tell)))),
        };
        let mut own = opening.head.to_vec();
        own.extend_from_slice(&Frame::chunk(opening.first.as_bytes()).bytes(opening.chunked));
        Self {
            wire,
            seats,
            own: own.into(),
            written: 0,
            beat_every,
            chunked: opening.chunked,
            until: opening.until.map(|time| Box::pin(sleep(time))),
            leaving: None,
            report,
            _place,
            _guard: guard,
        }
    }

    pub(super) fn seats(&self) -> &[Seat] {
        match &self.seats {
            Seats::One(seat) => std::slice::from_ref(seat),
            Seats::Many(many) => &many.0,
        }
    }

    fn seats_mut(&mut self) -> &mut [Seat] {
        match &mut self.seats {
            Seats::One(seat) => std::slice::from_mut(seat),
            Seats::Many(many) => &mut many.0,
        }
    }

    fn end(&mut self, reason: StreamDrop) {
        self.hub().metrics.stream_drops.inc(reason);
        // Of these two the rest is missing.
        self.wire.end(!matches!(reason, StreamDrop::Slow | StreamDrop::Client));
        if let Some(report) = self.report.take() {
            report(self.written);
        }
    }

    // ---- what catching up needs -----------------------------------------------------------------------------

    pub(super) fn take_own(&mut self) -> Bytes {
        std::mem::take(&mut self.own)
    }

    pub(super) fn chunked(&self) -> bool {
        self.chunked
    }

    pub(super) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
        self.alive();
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.hub().metrics
    }

    pub(super) fn is_draining(&self) -> bool {
        self.hub().draining.get()
    }

    pub(super) fn log_of(&self, at: usize) -> (Rc<Broker>, String) {
        let key = self.seats()[at].channel.kind.log.as_ref().map(|log| log.key.clone()).unwrap_or_default();
        (Rc::clone(&self.hub().broker), key)
    }

    /// The reader has had everything up to here.
    pub(super) fn had(&mut self, at: usize, last: LogId) {
        let reader = &self.seats()[at].reader;
        reader.after.set(reader.after.get().max(last));
    }

    pub(super) fn rejoin(&mut self, at: usize) -> LogId {
        self.seats_mut()[at].rejoin()
    }

    /// A message as this stream writes it.
    pub(super) fn framed(&mut self, at: usize, message: &Message) -> Bytes {
        let chunked = self.chunked;
        match &mut self.seats {
            Seats::One(_) => message.frame.bytes(chunked),
            Seats::Many(many) => many.1.frame(at, &many.0[at].channel.kind.name, message).bytes(chunked),
        }
    }
}

impl<G: Unpin> Future for Stream<G> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Poll::Ready(reason) = Stream::poll(&mut self, cx) else { return Poll::Pending };
        self.end(reason);
        Poll::Ready(())
    }
}

impl<G> Drop for Stream<G> {
    fn drop(&mut self) {
        self.hub().metrics.streams_open.dec();
    }
}

impl<G> Stream<G> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<StreamDrop> {
        for Seat { reader, .. } in self.seats() {
            reader.listen(cx.waker());
            reader.blocked.set(false);
        }
        if self.wire.has_left(cx) {
            return Poll::Ready(StreamDrop::Client);
        }
        if self.until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready()) {
            self.until = None;
            self.reader().ending.set(true);
        }
        let written = match self.write(cx) {
            // What is left of earlier writes has to go, too: the task is woken when it can.
            Ok(Poll::Pending) => match self.wire.poll_flush(cx) {
                Poll::Ready(Err(error)) => Err(error),
                Poll::Ready(Ok(())) | Poll::Pending => Ok(Poll::Pending),
            },
            other => other,
        };
        written.unwrap_or(Poll::Ready(StreamDrop::Client))
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<StreamDrop>> {
        loop {
            if self.leaving.is_none() && self.seats().iter().any(|seat| seat.channel.lost(&seat.reader)) {
                return Ok(Poll::Ready(StreamDrop::Slow));
            }
            // Our own bytes never split a message: they are set only between two.
            let sent = if !self.own.is_empty() {
                self.write_own(cx)?
            } else if let Some(reason) = self.leaving {
                return Ok(self.wire.poll_flush(cx)?.map(|()| reason));
            } else if self.expired() && !Channel::within_message(self.reader()) {
                // Not behind what waits: a slow reader must not get more for being slow.
                self.leave(EXPIRED, StreamDrop::Expired);
                Sent::Some
            } else {
                self.write_messages(cx)?
            };
            match sent {
                Sent::Some => {}
                Sent::Blocked => {
                    self.seats().iter().for_each(|seat| seat.reader.blocked.set(true));
                    return Ok(Poll::Pending);
                }
                Sent::Nothing if !self.next_own() => return Ok(Poll::Pending),
                Sent::Nothing => {}
            }
        }
    }

    fn write_own(&mut self, cx: &mut Context<'_>) -> io::Result<Sent> {
        match self.wire.poll_write(cx, &self.own)? {
            Poll::Pending => Ok(Sent::Blocked),
            Poll::Ready(bytes) => {
                self.own.advance(bytes);
                if self.own.is_empty() {
                    self.own = Bytes::new();
                }
                self.written += bytes as u64;
                Ok(Sent::Some)
            }
        }
    }

    fn write_messages(&mut self, cx: &mut Context<'_>) -> io::Result<Sent> {
        let expired = self.expired();
        let Self { wire, seats, chunked, .. } = &mut *self;
        let Seats::One(Seat { channel, reader, hub, .. }) = &*seats else { return Ok(self.collect()) };
        let wrote = channel.unread(reader, *chunked, |frames| {
            // At the end of its right to read only what is begun is finished.
            let frames = frames.take(if expired { 1 } else { usize::MAX });
            let mut joined = hub.joined.borrow_mut();
            match join(frames, JOIN, &mut joined) {
                [] => Poll::Ready(Ok(0)),
                bytes => wire.poll_write(cx, bytes),
            }
        })?;
        match wrote {
            Poll::Pending => Ok(Sent::Blocked),
            Poll::Ready(0) => Ok(Sent::Nothing),
            Poll::Ready(bytes) => {
                let Seats::One(Seat { channel, reader, .. }) = &self.seats else { return Ok(Sent::Nothing) };
                let messages = channel.advance(reader, bytes, self.chunked);
                self.written += bytes as u64;
                self.alive();
                self.hub().metrics.deliveries.add(messages);
                if let Some(lag) = channel.lag.written(reader.cursor.get()) {
                    self.hub().metrics.stream_lag.observe(lag);
                }
                self.hub().metrics.delivery_bytes.add(bytes as u64);
                Ok(Sent::Some)
            }
        }
    }

    /// Has what several channels hold written as bytes of our own.
    fn collect(&mut self) -> Sent {
        let Seats::Many(many) = &mut self.seats else { return Sent::Nothing };
        let (seats, several) = &mut **many;
        let mut out = Vec::new();
        let channels = seats.iter().map(|seat| (&*seat.channel, &*seat.reader));
        let messages = several.collect(channels, self.chunked, &mut out);
        if out.is_empty() {
            return Sent::Nothing;
        }
        self.alive();
        self.hub().metrics.deliveries.add(messages);
        self.hub().metrics.delivery_bytes.add(out.len() as u64);
        self.own = out.into();
        Sent::Some
    }

    fn expired(&self) -> bool {
        self.reader().expired(self.hub().clock.get())
    }

    fn hub(&self) -> &Rc<Hub> {
        &self.seats()[0].hub
    }

    /// The reader by which it is known when something was written last.
    fn reader(&self) -> &Reader {
        &self.seats()[0].reader
    }

    /// With no message left to write: a goodbye or a heartbeat, if one is due.
    fn next_own(&mut self) -> bool {
        debug_assert!(!Channel::within_message(self.reader()), "own bytes would split a message");
        if self.seats().iter().any(|seat| seat.reader.ending.get()) {
            self.leave("", StreamDrop::Control)
        } else if self.seats().iter().any(|seat| seat.reader.draining.get()) {
            match self.is_draining() {
                true => self.leave(&come_back("this server is going away"), StreamDrop::Drain),
                false => self.leave(&come_back("what holds for this channel has changed"), StreamDrop::Changed),
            }
        } else if self.reader().over.get() {
            self.leave(&come_back("this stream has lasted long enough"), StreamDrop::Life)
        } else if self.reader().beat.get() {
            self.alive();
            self.own = Frame::chunk(b":\n\n").bytes(self.chunked);
        } else {
            return false;
        }
        true
    }

    /// Something was written: the next sign of life is due that much later.
    fn alive(&self) {
        self.reader().due.set(self.hub().clock.get() + self.beat_every);
        self.reader().beat.set(false);
    }

    fn leave(&mut self, words: &str, reason: StreamDrop) {
        let mut goodbye = Vec::new();
        if !words.is_empty() {
            goodbye.extend_from_slice(&Frame::chunk(words.as_bytes()).bytes(self.chunked));
        }
        if self.chunked {
            goodbye.extend_from_slice(b"0\r\n\r\n");
        }
        self.own = goodbye.into();
        self.leaving = Some(reason);
    }
}

/// The first of `frames`, and as many of the next as fit with it into `most` bytes; one alone is not copied.
fn join<'a, 'f: 'a>(mut frames: impl Iterator<Item = &'f [u8]>, most: usize, into: &'a mut Vec<u8>) -> &'a [u8] {
    let Some(first) = frames.next() else { return &[] };
    into.clear();
    for frame in frames {
        let before = if into.is_empty() { first } else { &[] };
        if into.len() + before.len() + frame.len() > most {
            break;
        }
        into.extend_from_slice(before);
        into.extend_from_slice(frame);
    }
    if into.is_empty() { first } else { into }
}

/// What a try to write came to.
enum Sent {
    /// Bytes went out.
    Some,
    /// The socket is full.
    Blocked,
    /// There was nothing to write.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_joined_up_to_the_bound_and_one_alone_is_not_copied() {
        let joined = |frames: &[&'static str], most| {
            let mut into = Vec::new();
            let bytes = join(frames.iter().map(|frame| frame.as_bytes()), most, &mut into);
            String::from_utf8(bytes.to_vec()).expect("it was text")
        };
        assert_eq!(joined(&[], 6), "");
        assert_eq!(joined(&["one"], 2), "one", "a message over the bound goes, by itself");
        assert_eq!(joined(&["one", "two"], 5), "one");
        assert_eq!(joined(&["one", "two"], 6), "onetwo");
        assert_eq!(joined(&["one", "two", "3", "4"], 7), "onetwo3");
        assert_eq!(joined(&["one", "two", "three", "4"], 7), "onetwo", "nothing is passed over");
        let (mut into, alone) = (Vec::new(), b"one".as_slice());
        assert!(std::ptr::eq(join([alone].into_iter(), 9, &mut into), alone));
    }
}
