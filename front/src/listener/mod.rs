//! Listening sockets: opened here, or passed to this process by whoever started it; and what they accept.
//!
//! A socket that is passed outlives the process that accepts from it, so connections that wait in it are served by the
//! next one, or by another that shares it. A passed socket takes the place of an address of the configuration; which
//! one is decided here. It must not know what is asked on a connection.

mod certificates;
mod entrance;
mod introduction;
mod passed;
mod shortage;
mod socket;
mod tls;
mod unix;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Front, Listen};

pub use certificates::{CertificateError, Certificates, Change};
pub use entrance::{Acceptor, Address, Bound, Entrance, Listening, Mount, Way, addresses};
pub use introduction::{Ends, introduction};
pub use passed::{ADMIN, HTTP, HTTPS, Passed, PassedError, REDIRECT, take};
pub use shortage::Shortage;
pub use socket::{Accepted, Base, Socket};
pub use tls::{Failed, Fault, Tls};

use passed::Wanted;

/// Connections that the kernel holds while none is accepted.
pub const BACKLOG: i32 = 1024;
/// How long connections wait in passed sockets for a front whose way to Redis is not open yet.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where `https` is when nobody says.
const HTTPS_PORT: u16 = 443;

/// The sockets of a front.
#[derive(Debug)]
pub struct Listeners {
    /// For browsers, at least one.
    pub http: Vec<Listening>,
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
    Open(Listen, io::Error),
    /// What was passed cannot be used.
    #[error("{0}")]
    Passed(#[from] PassedError),
    /// A certificate cannot be used.
    #[error("{0}")]
    Certificate(#[from] CertificateError),
}

impl Listeners {
    /// Takes the sockets that were passed, opens those that were not, and reads the certificates.
    ///
    /// # Errors
    /// An address that cannot be listened on, passed sockets that do not fit the configuration, a certificate that
    /// cannot be used.
    pub fn open(front: &Front, passed: Vec<Passed>) -> Result<Self, ListenError> {
        let with_tls: Vec<&Listen> = front.tls.iter().flat_map(|tls| &tls.listen).collect();
        let wanted = Wanted {
            http: front.listen.len(),
            https: with_tls.len(),
            redirect: front.redirect.len(),
            admin: front.admin.is_some(),
        };
        let passed = passed::assign(passed, &wanted)?;
        let patience = if passed.has_some() { PATIENCE } else { Duration::ZERO };
        let open_all = |passed: Vec<Bound>, at: Vec<&Listen>| match passed.is_empty() {
            true => at.into_iter().map(|at| open(at, front.unix_mode)).collect::<Result<Vec<_>, _>>(),
            false => Ok(passed),
        };
        let mut http = Vec::new();
        for socket in open_all(passed.http, front.listen.iter().collect())? {
            http.push(listening(socket, Way::Plain)?);
        }
        let mut secure = open_all(passed.https, with_tls)?.into_iter();
        let first_secure = http.len();
        for table in &front.tls {
            let tls = Arc::new(Tls::open(&table.certificates)?);
            for socket in secure.by_ref().take(table.listen.len()) {
                http.push(listening(socket, Way::Tls(Arc::clone(&tls)))?);
            }
        }
        let port = front.redirect_port.or_else(|| http[first_secure..].iter().find_map(port_of)).unwrap_or(HTTPS_PORT);
        for socket in open_all(passed.redirect, front.redirect.iter().collect())? {
            http.push(listening(socket, Way::Redirect(port))?);
        }
        let admin = match (passed.admin, front.admin) {
            (Some(passed), _) => Some(passed),
            (None, at) => at.map(open_tcp).transpose()?,
        };
        Ok(Self { http, admin, patience })
    }
}

fn port_of(listening: &Listening) -> Option<u16> {
    match &listening.entrance.address {
        Address::Tcp(address) => Some(address.port()),
        Address::Unix(_) | Address::Application => None,
    }
}

fn listening(socket: Bound, way: Way) -> Result<Listening, ListenError> {
    let address = socket.address().map_err(|error| ListenError::Open(Listen::Unix("?".into()), error))?;
    Ok(Listening { socket, entrance: Arc::new(Entrance { address, way }) })
}

/// Opens one; `mode` is for the file of a Unix socket.
///
/// # Errors
/// When the address cannot be listened on.
pub fn open(at: &Listen, mode: u32) -> Result<Bound, ListenError> {
    match at {
        Listen::Tcp(address) => open_tcp(*address).map(Bound::Tcp),
        Listen::Unix(path) => match unix::open(path, mode, BACKLOG) {
            Ok((listener, file)) => Ok(Bound::Unix(listener, Some(file))),
            Err(error) => Err(ListenError::Open(at.clone(), error)),
        },
    }
}

/// Opens a socket of TCP.
///
/// # Errors
/// When the address cannot be listened on.
pub fn open_tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    open().map_err(|error| ListenError::Open(Listen::Tcp(address), error))
}
