//! What has been accepted: a socket of TCP or a Unix socket, with or without TLS over it.
//!
//! One type for all of them, so that whoever drives a connection need not know; plain sockets are not boxed for it. It
//! must not know what is spoken on them.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::introduction::Ends;

/// A socket as it was accepted, before it belongs to a reactor.
#[derive(Debug)]
pub enum Accepted {
    /// Of TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(StdUnixStream),
}

impl Accepted {
    /// Gives it to the runtime that this is called in.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn into_base(self) -> io::Result<Base> {
        match self {
            Self::Tcp(socket) => TcpStream::from_std(socket).map(Base::Tcp),
            Self::Unix(socket) => UnixStream::from_std(socket).map(Base::Unix),
        }
    }

    /// One try to write, without waiting for anybody.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn write_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => io::Write::write(socket, bytes),
            Self::Unix(socket) => io::Write::write(socket, bytes),
        }
    }
}

/// A socket without TLS.
#[derive(Debug)]
pub enum Base {
    /// Of TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// Calls a method of whichever it is.
macro_rules! either {
    ($base:expr, $socket:ident => $call:expr) => {
        match $base {
            Base::Tcp($socket) => $call,
            Base::Unix($socket) => $call,
        }
    };
}

impl Base {
    /// From where it has come, and where to; of a Unix socket there are no addresses.
    ///
    /// # Errors
    /// It is gone already.
    pub fn ends(&self) -> io::Result<Option<Ends>> {
        match self {
            Self::Tcp(socket) => Ok(Some((socket.peer_addr()?, socket.local_addr()?))),
            Self::Unix(_) => Ok(None),
        }
    }

    /// One try to write.
    ///
    /// # Errors
    /// `WouldBlock`, or those of the operating system.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, socket => socket.try_write(bytes))
    }

    /// One try to write several pieces.
    ///
    /// # Errors
    /// `WouldBlock`, or those of the operating system.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, socket => socket.try_write_vectored(slices))
    }

    /// One try to read.
    ///
    /// # Errors
    /// `WouldBlock`, or those of the operating system.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        either!(self, socket => socket.try_read(buf))
    }

    /// Waits until it may take something.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => socket.poll_write_ready(cx))
    }

    /// Waits until it may have something.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => socket.poll_read_ready(cx))
    }

    /// The first byte that the peer has sent, which stays to be read; None: it has sent none and will not.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        let mut peek = || Ok(rustix::net::recv(self.as_fd(), &mut byte, RecvFlags::PEEK)?.0);
        let read = either!(self, socket => socket.async_io(Interest::READABLE, &mut peek).await)?;
        Ok((read > 0).then_some(byte[0]))
    }
}

impl AsFd for Base {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, socket => socket.as_fd())
    }
}

impl AsyncRead for Base {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_read(cx, buf))
    }
}

impl AsyncWrite for Base {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_shutdown(cx))
    }
}

/// A connection on which bytes are exchanged.
#[derive(Debug)]
pub enum Socket {
    /// As they are.
    Plain(Base),
    /// By TLS, whose greeting is over.
    Tls(Box<TlsStream<Base>>),
}

impl Socket {
    /// True where the client has chosen HTTP/2 in the greeting of TLS.
    pub fn speaks_h2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(super::tls::H2),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(base) => base.as_fd(),
            Self::Tls(tls) => tls.get_ref().0.as_fd(),
        }
    }
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(base) => Pin::new(base).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(base) => Pin::new(base).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(base) => Pin::new(base).poll_write_vectored(cx, slices),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(base) => Pin::new(base).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(base) => Pin::new(base).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
