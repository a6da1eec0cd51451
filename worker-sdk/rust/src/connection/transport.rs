//! The socket under a connection: TCP, TLS or unix.
//!
//! TCP keepalive is on, since a connection that waits in a blocking pop would not notice a vanished peer, and
//! Nagle's delay is off. It must not know the Redis protocol.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::Address;
use crate::address::Place;

/// Silence before the first keepalive probe.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
/// Time between probes; the system gives up after some nine of them.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);

/// A stream of bytes both ways.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

pub(super) type Transport = Box<dyn Duplex>;

pub(super) async fn connect(address: &Address) -> io::Result<Transport> {
    match &address.place {
        Place::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        Place::Tcp { host, port, tls } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
            SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
            if *tls { secured(stream, host).await } else { Ok(Box::new(stream)) }
        }
    }
}

#[cfg(feature = "tls")]
async fn secured(stream: TcpStream, host: &str) -> io::Result<Transport> {
    use rustls::pki_types::ServerName;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = tokio_rustls::TlsConnector::from(tls_config()?);
    Ok(Box::new(connector.connect(name, stream).await?))
}

/// Reads the system's certificates once a process: that is some hundred files.
#[cfg(feature = "tls")]
fn tls_config() -> io::Result<std::sync::Arc<rustls::ClientConfig>> {
    use std::sync::{Arc, OnceLock};
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}

#[cfg(not(feature = "tls"))]
async fn secured(_: TcpStream, _: &str) -> io::Result<Transport> {
    Err(io::Error::other("built without the feature `tls`"))
}
