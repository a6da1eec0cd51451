//! How a load gets to a server: plainly or by TLS. It must not ask for anything.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::peers::{By, HOST, Speaks};

/// A connection, whatever lies below.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Io for S {}

/// What is on top of TCP.
pub(super) enum Client {
    /// Nothing.
    Plain,
    /// TLS; every greeting is a whole one, as of a browser that comes for the first time.
    Tls(TlsConnector),
}

impl Client {
    /// Reads the certificate that is trusted.
    pub(super) fn new(by: &By) -> Result<Self, String> {
        match by {
            By::Plain => Ok(Self::Plain),
            By::Tls(certificate, speaks) => tls(certificate, *speaks).map(Self::Tls).map_err(|error| error.to_string()),
        }
    }

    /// Greets the server.
    pub(super) async fn greet(&self, socket: TcpStream) -> std::io::Result<Box<dyn Io>> {
        match self {
            Self::Plain => Ok(Box::new(socket)),
            Self::Tls(connector) => {
                let name = ServerName::try_from(HOST).expect("it is a name");
                Ok(Box::new(connector.connect(name, socket).await?))
            }
        }
    }
}

fn tls(certificate: &Path, speaks: Speaks) -> Result<TlsConnector, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let protocol = match speaks {
        Speaks::Http1 => "http/1.1",
        Speaks::Http2(_) => "h2",
    };
    config.alpn_protocols = vec![protocol.into()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}
