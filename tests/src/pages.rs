//! A web server of a test's own that gives one answer to everything, which the test may change; with TLS if need be.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::wait::PATIENCE;

/// A running server; it ends with its owner.
#[derive(Debug)]
pub struct Page {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// None: it is to end.
    answer: Mutex<Option<String>>,
    asked: AtomicUsize,
}

impl Page {
    /// Gives 200 and this body.
    pub fn start(body: &str) -> Self {
        Self::start_on(0, body)
    }

    /// The same on a port.
    pub fn start_on(port: u16, body: &str) -> Self {
        Self::serve(port, body, "http", serve)
    }

    /// The same with TLS; certificate and key as PEM.
    pub fn start_with_tls(certificate: &[u8], key: &[u8], body: &str) -> Self {
        let certificate = CertificateDer::from_pem_slice(certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(key).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions that go together")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a key of its certificate");
        let config = Arc::new(config);
        Self::serve(0, body, "https", move |socket, answer| {
            let tls = ServerConnection::new(Arc::clone(&config)).map_err(std::io::Error::other)?;
            serve(StreamOwned::new(tls, socket), answer)
        })
    }

    fn serve(
        port: u16,
        body: &str,
        scheme: &'static str,
        serve: impl Fn(TcpStream, &str) -> std::io::Result<()> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let mut page = Self { address, scheme, shared: Arc::clone(&shared), thread: None };
        page.give("200 OK", body);
        page.thread = Some(std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let Some(answer) = shared.answer() else { return };
                shared.asked.fetch_add(1, Ordering::Relaxed);
                let _ = socket.set_read_timeout(Some(PATIENCE));
                // One that does not understand us, or trust us, is gone; the next may.
                let _ = serve(socket, &answer);
            }
        }));
        page
    }

    /// From now on gives this status (`404 Not Found`, with more header lines if need be) and this body.
    pub fn give(&self, status: &str, body: &str) {
        let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        *self.shared.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("{}://{}/keys?a=b", self.scheme, self.address)
    }

    /// How many connections it has had.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn answer(&self) -> Option<String> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        *self.shared.answer.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // It looks whether to end at each connection.
        let _ = TcpStream::connect(self.address);
        let _ = thread.join();
    }
}

fn serve(socket: impl Read + Write, answer: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(socket);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    reader.get_mut().write_all(answer.as_bytes())?;
    reader.get_mut().flush()
}
