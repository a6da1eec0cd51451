//! One open stream: a small task that owns its socket and a cursor.
//!
//! It is all that is left of a connection once its request has been answered with a stream: no buffers of its own,
//! one task of a few hundred bytes. Messages that wait are joined into one write. It must not allocate a message.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

use super::channel::{Channel, Frame, Reader};
use super::{Hub, Seat};
use crate::backoff::random_unit;
use crate::telemetry::StreamDrop;

/// Messages joined into one write, at most.
const JOIN: usize = 64;
/// Bytes taken off the socket at once; a reader of a stream has nothing to say.
const DISCARD: usize = 512;
/// Reads in a row before others on the reactor have their turn.
const READS: usize = 16;
/// What a draining front tells readers: come back after this many ms, and up to as many more.
const COME_BACK_MS: f64 = 1000.0;
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
}

/// One stream from its head to its end; resolves when it has ended. Written out rather than an `async` block: what is
/// held while it waits is what ten thousand of them cost.
pub struct Stream<G> {
    socket: TcpStream,
    seat: Seat,
    reader: Rc<Reader>,
    /// Bytes of our own that go out before any message: the head, a comment, the goodbye.
    own: Bytes,
    written: u64,
    /// Sweeps between two signs of life. Other streams have other numbers, so that not all are due at once.
    beat_every: u32,
    chunked: bool,
    /// The goodbye is under way.
    leaving: Option<Option<StreamDrop>>,
    /// Told the bytes written, head included.
    report: Option<Box<dyn FnOnce(u64)>>,
    _guard: G,
}

impl<G> Stream<G> {
    /// Takes a seat and a socket. `report` is told at the end how many bytes were written; `guard` lives as long.
    pub fn new(
        socket: TcpStream,
        seat: Seat,
        opening: &Opening,
        report: Option<Box<dyn FnOnce(u64)>>,
        guard: G,
    ) -> Self {
        let hub = &seat.hub;
        hub.metrics.streams_open.inc();
        hub.metrics.streams_opened.inc();
        let beat_every = hub.beat_every();
        let reader = seat.channel.join(hub.clock.get() + beat_every);
        reader.draining.set(hub.draining.get());
        if let Some(expires) = opening.expires {
            reader.expires.set(hub.sweep_at(expires));
        }
        let mut own = opening.head.to_vec();
        own.extend_from_slice(&Frame::chunk(opening.first.as_bytes()).bytes(opening.chunked));
        Self {
            socket,
            seat,
            reader,
            own: own.into(),
            written: 0,
            beat_every,
            chunked: opening.chunked,
            leaving: None,
            report,
            _guard: guard,
        }
    }
}

impl<G: Unpin> Future for Stream<G> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Poll::Ready(reason) = Stream::poll(&mut self, cx) else { return Poll::Pending };
        if let Some(reason) = reason {
            self.seat.hub.metrics.stream_drops.inc(reason);
        }
        if let Some(report) = self.report.take() {
            report(self.written);
        }
        Poll::Ready(())
    }
}

impl<G> Drop for Stream<G> {
    fn drop(&mut self) {
        self.seat.channel.part(&self.reader);
        self.seat.hub.metrics.streams_open.dec();
    }
}

impl<G> Stream<G> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamDrop>> {
        self.reader.listen(cx.waker());
        if self.peer_left(cx) {
            return Poll::Ready(Some(StreamDrop::Client));
        }
        match self.write(cx) {
            Ok(poll) => poll,
            Err(_) => Poll::Ready(Some(StreamDrop::Client)),
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<Option<StreamDrop>>> {
        loop {
            if self.leaving.is_none() && self.channel().lost(&self.reader) {
                return Ok(Poll::Ready(Some(StreamDrop::Slow)));
            }
            // Our own bytes never split a message: they are set only between two.
            let sent = if !self.own.is_empty() {
                self.write_own(cx)?
            } else if let Some(reason) = self.leaving {
                return Ok(Poll::Ready(reason));
            } else if self.expired() && !Channel::within_message(&self.reader) {
                // Not behind what waits: a slow reader must not get more for being slow.
                self.leave(EXPIRED, Some(StreamDrop::Expired));
                Sent::Some
            } else {
                self.write_messages(cx)?
            };
            match sent {
                Sent::Some => {}
                Sent::Blocked => return Ok(Poll::Pending),
                Sent::Nothing if !self.next_own() => return Ok(Poll::Pending),
                Sent::Nothing => {}
            }
        }
    }

    fn channel(&self) -> &Rc<Channel> {
        &self.seat.channel
    }

    fn write_own(&mut self, cx: &mut Context<'_>) -> io::Result<Sent> {
        match self.try_write(cx, &[IoSlice::new(&self.own)])? {
            None => Ok(Sent::Blocked),
            Some(bytes) => {
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
        let wrote = self.channel().unread(&self.reader, self.chunked, |frames| {
            let Some(first) = frames.next() else { return Ok(Some(0)) };
            // At the end of its right to read only what is begun is finished.
            let Some(second) = frames.next().filter(|_| !self.expired()) else {
                return self.try_write(cx, &[IoSlice::new(first)]);
            };
            let mut slices = [IoSlice::new(&[]); JOIN];
            slices[0] = IoSlice::new(first);
            slices[1] = IoSlice::new(second);
            let mut count = 2;
            for frame in frames.take(JOIN - count) {
                slices[count] = IoSlice::new(frame);
                count += 1;
            }
            self.try_write(cx, &slices[..count])
        })?;
        match wrote {
            None => Ok(Sent::Blocked),
            Some(0) => Ok(Sent::Nothing),
            Some(bytes) => {
                let messages = self.channel().advance(&self.reader, bytes, self.chunked);
                self.written += bytes as u64;
                self.alive();
                self.hub().metrics.deliveries.add(messages);
                self.hub().metrics.delivery_bytes.add(bytes as u64);
                Ok(Sent::Some)
            }
        }
    }

    fn expired(&self) -> bool {
        self.reader.expired(self.hub().clock.get())
    }

    fn hub(&self) -> &Hub {
        &self.seat.hub
    }

    /// With no message left to write: a goodbye or a heartbeat, if one is due.
    fn next_own(&mut self) -> bool {
        debug_assert!(!Channel::within_message(&self.reader), "own bytes would split a message");
        if self.reader.ending.get() {
            self.leave("", None)
        } else if self.reader.draining.get() {
            let wait = (COME_BACK_MS * (1.0 + random_unit())) as u64;
            self.leave(&format!("retry: {wait}\n: this server is going away\n\n"), Some(StreamDrop::Drain))
        } else if self.reader.beat.get() {
            self.alive();
            self.own = Frame::chunk(b":\n\n").bytes(self.chunked);
        } else {
            return false;
        }
        true
    }

    /// Something was written: the next sign of life is due that much later.
    fn alive(&self) {
        self.reader.due.set(self.hub().clock.get() + self.beat_every);
        self.reader.beat.set(false);
    }

    fn leave(&mut self, words: &str, reason: Option<StreamDrop>) {
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

    /// None: the socket takes nothing now, and wakes the task when it does.
    fn try_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        loop {
            let written = match slices {
                [only] => self.socket.try_write(only),
                several => self.socket.try_write_vectored(several),
            };
            match written {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            match self.socket.poll_write_ready(cx) {
                Poll::Pending => return Ok(None),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
    }

    /// Reads and forgets what the peer sends; true once it has closed.
    fn peer_left(&self, cx: &mut Context<'_>) -> bool {
        for _ in 0..READS {
            let Poll::Ready(ready) = self.socket.poll_read_ready(cx) else { return false };
            if ready.is_err() {
                return true;
            }
            let mut scrap = [0; DISCARD];
            match self.socket.try_read(&mut scrap) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return true,
            }
        }
        cx.waker().wake_by_ref();
        false
    }
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
