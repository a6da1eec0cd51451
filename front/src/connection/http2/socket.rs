//! The socket of a connection of HTTP/2 as hyper sees it: what comes is metered, and what does not go out is noticed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Held;
use crate::connection::watched::probe;
use crate::listener::Socket;

pub(super) struct Metered {
    pub(super) socket: Socket,
    /// Read before it was known what is spoken.
    pub(super) ahead: Bytes,
    pub(super) held: Rc<Held>,
}

impl Metered {
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            probe(&self.socket, &self.held.peer);
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let length = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..length]);
        self.ahead.advance(length);
        Poll::Ready(Ok(()))
    }

    /// A client that takes nothing is noticed by what cannot be written.
    fn wrote<T>(&self, polled: Poll<io::Result<T>>, bytes: impl FnOnce(&T) -> usize) -> Poll<io::Result<T>> {
        let blocked = &self.held.peer.blocked;
        match &polled {
            Poll::Pending => blocked.set(Some(blocked.get().unwrap_or_else(Instant::now))),
            Poll::Ready(Ok(written)) => {
                blocked.set(None);
                self.held.meter.borrow_mut().wrote(bytes(written));
            }
            Poll::Ready(Err(_)) => {}
        }
        polled
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.poll_fill(cx, buf))?;
        let metered = self.held.meter.borrow_mut().read(&buf.filled()[before..], Instant::now());
        if let Err(excess) = metered {
            self.held.exceeds(excess);
            return Poll::Ready(Err(io::Error::other(format!("too much: {excess:?}"))));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(polled, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.wrote(polled, |bytes| *bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
