//! Listening sockets: opened here, or passed to this process by whoever started it.
//!
//! A socket that is passed outlives the process that accepts from it, so connections that wait in it are served by the
//! next one, or by another that shares it. A passed socket takes the place of an address of the configuration; which
//! one is decided here. It must not accept anything.

mod introduction;
mod passed;
mod shortage;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::config::{Front, Listen};

pub use introduction::{Ends, introduction};
pub use passed::{ADMIN, HTTP, Passed, PassedError, take};
pub use shortage::Shortage;

/// Connections that the kernel holds while none is accepted.
pub const BACKLOG: i32 = 1024;
/// How long connections wait in passed sockets for a front whose way to Redis is not open yet.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sockets of a front.
#[derive(Debug)]
pub struct Listeners {
    /// For browsers, at least one.
    pub http: Vec<TcpListener>,
    /// For operators.
    pub admin: Option<TcpListener>,
    /// How long connections may wait in `http` for a front that is not ready yet. In sockets that were passed they wait
    /// for another that shares them, or for this one; from a socket of its own a front answers at once, be it with 503.
    pub patience: Duration,
}

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Open(SocketAddr, io::Error),
    /// What was passed cannot be used.
    #[error("{0}")]
    Passed(#[from] PassedError),
}

impl Listeners {
    /// Takes the sockets that were passed and opens those that were not.
    ///
    /// # Errors
    /// An address that cannot be listened on, or passed sockets that do not fit the configuration.
    pub fn open(front: &Front, passed: Vec<Passed>) -> Result<Self, ListenError> {
        let (mut http, mut admin) = passed::assign(passed, front.listen.len(), front.admin.is_some())?;
        let patience = if http.is_empty() { Duration::ZERO } else { PATIENCE };
        if http.is_empty() {
            http = front.listen.iter().map(open).collect::<Result<_, _>>()?;
        }
        if let (None, Some(at)) = (&admin, &front.admin) {
            admin = Some(open(at)?);
        }
        Ok(Self { http, admin, patience })
    }
}

/// Opens one.
///
/// # Errors
/// When the address cannot be listened on.
pub fn open(at: &Listen) -> Result<TcpListener, ListenError> {
    let Listen::Tcp(address) = at;
    let open = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(*address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&(*address).into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    open().map_err(|error| ListenError::Open(*address, error))
}
