//! TLS of the tests' own: certificates that are made for one test, and a client that trusts them.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A connection by TLS, seen from the client.
pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A certificate that signs itself, and its key.
#[derive(Debug)]
pub struct Certificate {
    der: CertificateDer<'static>,
    cert: String,
    key: String,
}

impl Certificate {
    /// A new one for these names and addresses.
    pub fn of(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().expect("a key");
        let made = CertificateParams::new(names).and_then(|params| params.self_signed(&key)).expect("a certificate");
        Self { der: made.der().clone(), cert: made.pem(), key: key.serialize_pem() }
    }

    /// Writes `NAME.pem` and `NAME.key` into a folder and returns their paths.
    pub fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        fs::write(&cert, &self.cert).expect("the folder is writable");
        fs::write(&key, &self.key).expect("the folder is writable");
        (cert, key)
    }

    /// True where a client was shown this one.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.der.as_ref() == shown
    }
}

/// What a client trusts and speaks.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Trusts these and speaks HTTP/1.1; every greeting is a whole one.
    pub fn of(certificates: &[&Certificate]) -> Self {
        Self::speaking(certificates, &[b"http/1.1"])
    }

    /// The same with HTTP/2.
    pub fn with_h2(certificates: &[&Certificate]) -> Self {
        Self::speaking(certificates, &[b"h2"])
    }

    fn speaking(certificates: &[&Certificate], protocols: &[&[u8]]) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate.der.clone()).expect("it is well-formed");
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions that go together")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config.resumption = rustls::client::Resumption::disabled();
        Self(Arc::new(config))
    }

    /// The same, but sessions are taken up again.
    #[must_use]
    pub fn resuming(&self) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.resumption = rustls::client::Resumption::in_memory_sessions(8);
        Self(Arc::new(config))
    }

    /// Greets a server and waits for the end of the greeting.
    ///
    /// # Errors
    /// Why it failed.
    pub fn greet(&self, mut socket: TcpStream, name: &str) -> io::Result<Tls> {
        let name = name.to_owned().try_into().map_err(io::Error::other)?;
        let mut session = ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(session, socket))
    }
}
