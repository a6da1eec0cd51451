//! Where a stream's bytes go: a socket that has left HTTP, or a body that is still in it (HTTP/2).
//!
//! Everything here is polled and nothing waits, since a stream is one small future. It must not know what the bytes are.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pipe::PipeWriter;
use crate::listener::{Base, Socket};

/// Bytes taken off the socket at once; a reader of a stream has nothing to say.
const DISCARD: usize = 512;
/// What TLS may keep of a stream that its reader does not take, in bytes.
const TLS_BYTES: usize = 16 * 1024;
/// Reads in a row before others on the reactor have their turn.
const READS: usize = 16;

/// Where a stream's bytes go.
pub enum Wire {
    /// A socket.
    Socket(Socket),
    /// A body.
    Pipe(PipeWriter),
}

impl Wire {
    /// Has as little as possible kept for it.
    pub(super) fn slim(&mut self) {
        if let Self::Socket(Socket::Tls(tls)) = self {
            tls.get_mut().1.set_buffer_limit(Some(TLS_BYTES));
        }
    }

    /// Takes what it can; pending: nothing now, and the task is woken when it can.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(Socket::Plain(base)) => poll_write(base, cx, bytes),
            // It takes what it has room for, and keeps what the socket does not take.
            Self::Socket(Socket::Tls(tls)) => Pin::new(tls).poll_write(cx, bytes),
            Self::Pipe(pipe) => pipe.poll_write(cx, bytes),
        }
    }

    /// Sends on what TLS has kept; ready when there is nothing of it.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(Socket::Tls(tls)) => Pin::new(tls).poll_flush(cx),
            Self::Socket(Socket::Plain(_)) | Self::Pipe(_) => Poll::Ready(Ok(())),
        }
    }

    /// Reads and forgets what the peer sends; true once it has closed.
    pub(super) fn has_left(&mut self, cx: &mut Context<'_>) -> bool {
        let mut scrap = [0; DISCARD];
        for _ in 0..READS {
            let read = match self {
                Self::Socket(Socket::Plain(base)) => poll_read(base, cx, &mut scrap),
                Self::Socket(Socket::Tls(tls)) => {
                    let mut buf = ReadBuf::new(&mut scrap);
                    Pin::new(tls).poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
                }
                Self::Pipe(pipe) => return pipe.has_left(cx),
            };
            match read {
                Poll::Pending => return false,
                Poll::Ready(Ok(0) | Err(_)) => return true,
                Poll::Ready(Ok(_)) => {}
            }
        }
        cx.waker().wake_by_ref();
        false
    }

    /// Ends it: `whole`: nothing is missing at the end.
    pub(super) fn end(&mut self, whole: bool) {
        match self {
            // One try: who does not take it has all the same got what was said to be all.
            Self::Socket(Socket::Tls(tls)) => {
                let _ = Pin::new(tls).poll_shutdown(&mut Context::from_waker(Waker::noop()));
            }
            Self::Socket(Socket::Plain(_)) => {}
            Self::Pipe(pipe) => pipe.end(whole),
        }
    }
}

/// The same without TLS, by which one call is saved where the socket takes all.
fn poll_write(base: &Base, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        match base.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
        match base.poll_write_ready(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        }
    }
}

fn poll_read(base: &Base, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
    loop {
        match base.poll_read_ready(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        }
        match base.try_read(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}
