//! A socket as hyper sees it, watched: when a head begins, and whether everything written is out.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::{Activity, Peer};
use crate::listener::Socket;

/// The socket of a connection of HTTP/1.1.
pub(super) struct Watched {
    pub(super) socket: Socket,
    pub(super) peer: Rc<Peer>,
    /// Bytes of what may become the preface of HTTP/2 that have come, and are kept from hyper.
    pub(super) begun: u8,
}

/// What a client that knows beforehand begins HTTP/2 with (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Probes without an answer after which the peer is gone.
const PROBES: u32 = 3;

/// Has TCP ask for the peer where that is wanted; a socket that takes no such option has none.
pub(super) fn probe(socket: &Socket, peer: &Peer) {
    if let Some(idle) = peer.probe.take() {
        let keepalive = socket2::TcpKeepalive::new().with_time(idle).with_interval(idle / PROBES).with_retries(PROBES);
        let _ = socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive);
    }
}

/// True for the first bytes of the preface, if not all of it is there.
fn begins_preface(read: &[u8]) -> bool {
    // All but a few begin otherwise.
    read[0] == PREFACE[0] && read.len() < PREFACE.len() && PREFACE.starts_with(read)
}

impl Watched {
    /// Reads until the preface is whole, or is none: hyper takes a part of one for a request that is wrong.
    fn poll_preface(&mut self, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let begun = usize::from(self.begun);
            let mut bytes = *PREFACE;
            let mut more = ReadBuf::new(&mut bytes[begun..]);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut more))?;
            let read = more.filled().len();
            let come = &bytes[..begun + read];
            if read == 0 || !begins_preface(come) {
                // There is room: hyper's buffer is empty, and larger than a preface.
                buf.put_slice(come);
                self.begun = 0;
                return Poll::Ready(Ok(()));
            }
            self.begun += read as u8;
        }
    }

    fn probe(&self) {
        probe(&self.socket, &self.peer);
    }

    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.probe();
        if polled.is_pending() {
            let since = self.peer.blocked.get().unwrap_or_else(Instant::now);
            self.peer.blocked.set(Some(since));
            return polled;
        }
        self.peer.blocked.set(None);
        self.peer.spoke.set(true);
        self.peer.owes.set(false);
        if self.peer.activity.get().0 == Activity::Idle {
            self.peer.turn_to(Activity::Idle);
        }
        polled
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.begun > 0 {
            return self.poll_preface(cx, buf);
        }
        self.probe();
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        if buf.filled().len() > before && self.peer.activity.get().0 == Activity::Idle {
            self.peer.turn_to(Activity::Head);
            self.peer.spoke.set(false);
            if begins_preface(&buf.filled()[before..]) && !self.peer.answered.get() {
                self.begun = (buf.filled().len() - before) as u8;
                buf.set_filled(before);
                return self.poll_preface(cx, buf);
            }
        }
        polled
    }
}

/// What is written in pieces is put together where it has no more bytes: the kernel takes one small buffer in less time
/// than a list of two, which is what the head and the body of most answers are.
const JOIN_BYTES: usize = 1024;

/// Copies `bufs` into `joined` and gives their length; None where they are too long.
fn join(bufs: &[io::IoSlice<'_>], joined: &mut [u8; JOIN_BYTES]) -> Option<usize> {
    let mut length = 0;
    for buf in bufs {
        joined.get_mut(length..length + buf.len())?.copy_from_slice(buf);
        length += buf.len();
    }
    Some(length)
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut joined = [0; JOIN_BYTES];
        let polled = match join(bufs, &mut joined) {
            Some(length) => Pin::new(&mut self.socket).poll_write(cx, &joined[..length]),
            None => Pin::new(&mut self.socket).poll_write_vectored(cx, bufs),
        };
        self.wrote(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
