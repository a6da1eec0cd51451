//! Where clients come in: a listening socket, and what holds for the connections that it accepts.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use tempest_protocol::QueueName;

use super::socket::Accepted;
use super::tls::Tls;
use super::unix::OwnFile;

/// An address that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Of TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// None: the application that the front is a part of has the sockets.
    Application,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Application => f.write_str("application:"),
        }
    }
}

/// What is done on a connection.
#[derive(Debug)]
pub enum Way {
    /// HTTP as it comes.
    Plain,
    /// HTTP by TLS.
    Tls(Arc<Tls>),
    /// Every request is sent to `https`, at this port.
    Redirect(u16),
    /// An application hands requests over; no socket has this way.
    Mounted {
        /// What it has mounted.
        what: Mount,
        /// Whether they have come by TLS.
        secure: bool,
    },
}

/// What of a front an application has mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// All routes of the configuration.
    Routes,
    /// The channel that the path or the query names.
    Channels,
    /// These channels, of which the application has decided that they may be read.
    Granted(Arc<[String]>),
    /// The workers of a queue.
    Queue(QueueName),
}

/// What the connections of one listening socket share.
#[derive(Debug)]
pub struct Entrance {
    /// The address.
    pub address: Address,
    /// What is done there.
    pub way: Way,
}

impl Entrance {
    /// `https` where clients come by TLS, else `http`.
    pub fn scheme(&self) -> &'static str {
        if matches!(self.way, Way::Tls(_) | Way::Mounted { secure: true, .. }) { "https" } else { "http" }
    }
}

impl fmt::Display for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.way {
            Way::Plain | Way::Mounted { .. } => self.address.fmt(f),
            Way::Tls(_) => write!(f, "tls:{}", self.address),
            Way::Redirect(_) => write!(f, "redirect:{}", self.address),
        }
    }
}

/// All of them, separated by commas.
pub fn addresses(entrances: &[Arc<Entrance>]) -> String {
    let all: Vec<String> = entrances.iter().map(ToString::to_string).collect();
    all.join(",")
}

/// A listening socket. That of a file made by this process takes it along.
#[derive(Debug)]
pub enum Bound {
    /// Of TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener, Option<OwnFile>),
}

impl Bound {
    /// Its address.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(listener, _) => {
                let address = listener.local_addr()?;
                Ok(Address::Unix(address.as_pathname().map(PathBuf::from).unwrap_or_default()))
            }
        }
    }

    /// Takes a connection that waits, without waiting for one.
    ///
    /// # Errors
    /// `WouldBlock`, or those of the operating system.
    pub fn accept_waiting(&self) -> io::Result<Accepted> {
        // An accepted socket does not inherit that it does not block.
        match self {
            Self::Tcp(listener) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                Ok(Accepted::Tcp(socket))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                Ok(Accepted::Unix(socket))
            }
        }
    }

    /// Its descriptor, for another process. Nothing is removed when that one is closed.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.as_fd().try_clone_to_owned()
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

/// An entrance that can be accepted from.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub socket: Bound,
    /// What holds for its connections.
    pub entrance: Arc<Entrance>,
}

/// The same within a runtime.
#[derive(Debug)]
pub enum Acceptor {
    /// Of TCP.
    Tcp(tokio::net::TcpListener),
    /// A Unix socket.
    Unix(tokio::net::UnixListener, Option<OwnFile>),
}

impl Acceptor {
    /// Gives a socket to the runtime that this is called in.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn new(bound: Bound) -> io::Result<Self> {
        match bound {
            Bound::Tcp(listener) => tokio::net::TcpListener::from_std(listener).map(Self::Tcp),
            Bound::Unix(listener, file) => Ok(Self::Unix(tokio::net::UnixListener::from_std(listener)?, file)),
        }
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().await?.0.into_std().map(Accepted::Tcp),
            Self::Unix(listener, _) => listener.accept().await?.0.into_std().map(Accepted::Unix),
        }
    }

    /// Takes it back from the runtime.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn into_bound(self) -> io::Result<Bound> {
        match self {
            Self::Tcp(listener) => listener.into_std().map(Bound::Tcp),
            Self::Unix(listener, file) => Ok(Bound::Unix(listener.into_std()?, file)),
        }
    }
}
