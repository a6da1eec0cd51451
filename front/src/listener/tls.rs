//! The greeting of TLS on an accepted socket, and what is agreed in it.
//!
//! Versions 1.2 and 1.3 as rustls has them, HTTP/2 or HTTP/1.1 by ALPN, and sessions that are taken up again by tickets,
//! whose keys this process makes and changes by itself. It must not read a certificate; [`super::certificates`] does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring::{Ticketer, default_provider};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::certificates::{CertificateError, Certificates};
use super::socket::{Base, Socket};
use crate::config::Certificate;

/// The name of HTTP/2 in ALPN, and that of HTTP/1.1.
pub(super) const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";
/// What the first record of a client's greeting begins with.
const HANDSHAKE: u8 = 22;

/// What all connections of a listener with TLS share.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    /// The certificates that are shown, which may change.
    pub certificates: Arc<Certificates>,
}

/// Why there is no connection by TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The greeting took too long.
    Timeout,
    /// The client left before its end.
    Left,
    /// The client spoke HTTP without TLS.
    PlainHttp,
    /// What came is no greeting of TLS.
    Malformed,
    /// There is no version, cipher or protocol that both sides have.
    Incompatible,
    /// The client gave it up: mostly since it does not trust the certificate.
    Refused,
}

/// What is left of a connection whose greeting failed: it may be told, or has been.
#[derive(Debug)]
pub struct Failed {
    /// The socket, if it is there.
    pub socket: Option<Base>,
    /// Why.
    pub fault: Fault,
}

impl Tls {
    /// Reads the certificates.
    ///
    /// # Errors
    /// One that cannot be used.
    pub fn open(certificates: &[Certificate]) -> Result<Self, CertificateError> {
        let certificates = Arc::new(Certificates::open(certificates)?);
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::library)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as Arc<_>);
        config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
        config.ticketer = Ticketer::new().map_err(CertificateError::library)?;
        Ok(Self { config: Arc::new(config), certificates })
    }

    /// Greets a client, within `time`.
    ///
    /// # Errors
    /// Why that failed.
    pub async fn accept(&self, socket: Base, time: Duration) -> Result<Socket, Failed> {
        match timeout(time, self.greet(socket)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failed { socket: None, fault: Fault::Timeout }),
        }
    }

    async fn greet(&self, socket: Base) -> Result<Socket, Failed> {
        match socket.first_byte().await {
            Ok(Some(HANDSHAKE)) => {}
            Ok(Some(byte)) if byte.is_ascii_alphabetic() => {
                return Err(Failed { socket: Some(socket), fault: Fault::PlainHttp });
            }
            Ok(Some(_)) => return Err(Failed { socket: Some(socket), fault: Fault::Malformed }),
            Ok(None) | Err(_) => return Err(Failed { socket: None, fault: Fault::Left }),
        }
        let greeting = TlsAcceptor::from(Arc::clone(&self.config)).accept(socket).into_fallible();
        match greeting.await {
            Ok(tls) => Ok(Socket::Tls(Box::new(tls))),
            // It has been told by an alert.
            Err((error, socket)) => Err(Failed { socket: Some(socket), fault: fault_of(&error) }),
        }
    }
}

fn fault_of(error: &io::Error) -> Fault {
    use rustls::Error;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(_)) => Fault::Refused,
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => Fault::Incompatible,
        Some(_) => Fault::Malformed,
        None => Fault::Left,
    }
}
