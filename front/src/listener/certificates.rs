//! The certificates of a listener with TLS: which one is shown to whom, and how newer ones take their place.
//!
//! A pair of files that cannot be used never replaces one that can. Nothing here waits or logs; reading files is for a
//! thread that may.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::client::verify_server_name;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::Certificate;

/// A file of a certificate or key is not larger.
const MOST_BYTES: u64 = 256 * 1024;

/// A certificate that cannot be used; the text names its file and never holds any of a key.
#[derive(Debug, thiserror::Error)]
#[error("front.tls: {0}")]
pub struct CertificateError(String);

impl CertificateError {
    pub(super) fn library(error: rustls::Error) -> Self {
        Self(error.to_string())
    }
}

/// What a look at the files found.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// A newer certificate is shown from now on.
    Replaced(PathBuf),
    /// The files have changed and cannot be used; what is shown is what was there before.
    Broken(String),
}

/// All certificates of a listener.
#[derive(Debug)]
pub struct Certificates {
    shown: RwLock<Arc<[Arc<CertifiedKey>]>>,
    watched: Mutex<Vec<Watched>>,
}

/// A pair of files, and how it was when it was looked at.
#[derive(Debug)]
struct Watched {
    files: Certificate,
    /// As it was when it was read, or given up.
    settled: Option<Stamp>,
    /// As it was at the last look.
    seen: Option<Stamp>,
}

impl Certificates {
    /// Reads all of them.
    ///
    /// # Errors
    /// The first one that cannot be used.
    pub(super) fn open(all: &[Certificate]) -> Result<Self, CertificateError> {
        let mut watched = Vec::new();
        let mut shown = Vec::new();
        for files in all {
            let stamp = Stamp::of(files);
            shown.push(Arc::new(load(files).map_err(CertificateError)?));
            watched.push(Watched { files: files.clone(), settled: stamp, seen: stamp });
        }
        Ok(Self { shown: RwLock::new(shown.into()), watched: Mutex::new(watched) })
    }

    /// Looks whether files have changed, and takes up those that have; reads files. Two files are not replaced in one
    /// moment: a pair that does not go together is said to be broken when it is the same at two looks.
    pub fn look(&self) -> Vec<Change> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let look = |(at, pair): (usize, &mut Watched)| {
            let stamp = Stamp::of(&pair.files);
            let was = std::mem::replace(&mut pair.seen, stamp);
            if stamp == pair.settled {
                return None;
            }
            match load(&pair.files) {
                Ok(key) => {
                    pair.settled = stamp;
                    self.show(at, key);
                    Some(Change::Replaced(pair.files.cert.clone()))
                }
                Err(_) if was != stamp => None,
                Err(why) => {
                    pair.settled = stamp;
                    Some(Change::Broken(why))
                }
            }
        };
        watched.iter_mut().enumerate().filter_map(look).collect()
    }

    fn show(&self, at: usize, key: CertifiedKey) {
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = shown.to_vec();
        all[at] = Arc::new(key);
        *shown = all.into();
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner));
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = |key: &&Arc<CertifiedKey>| name.as_ref().is_some_and(|name| is_for(key, name));
        shown.iter().find(fits).or(shown.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.end_entity_cert().ok().and_then(|der| ParsedCertificate::try_from(der).ok());
    certificate.is_some_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

/// What tells a file from the one that was there before, without reading it: device, number, size, and when its
/// contents and its entry changed, for both files. None: one of them is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp([[i128; 5]; 2]);

impl Stamp {
    fn of(files: &Certificate) -> Option<Self> {
        let of = |path: &Path| std::fs::metadata(path).ok().map(|data| numbers(&data));
        Some(Self([of(&files.cert)?, of(&files.key)?]))
    }
}

fn numbers(data: &Metadata) -> [i128; 5] {
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let [modified, changed] = [nanos(data.mtime(), data.mtime_nsec()), nanos(data.ctime(), data.ctime_nsec())];
    [data.dev().into(), data.ino().into(), data.size().into(), modified, changed]
}

/// Reads a pair and sees that it goes together. The error is a sentence that names the file.
fn load(files: &Certificate) -> Result<CertifiedKey, String> {
    let Certificate { cert, key } = files;
    let chain = CertificateDer::pem_slice_iter(&read(cert)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| format!("{} is no certificate as PEM: {error}", cert.display()))?;
    if chain.is_empty() {
        return Err(format!("{} has no certificate as PEM (-----BEGIN CERTIFICATE-----)", cert.display()));
    }
    let pem = read(key)?;
    // What a parser says of a key may hold a part of it.
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| format!("{} has no private key as PEM (-----BEGIN PRIVATE KEY-----)", key.display()))?;
    CertifiedKey::from_der(chain, private, &default_provider())
        .map_err(|error| format!("{} and {} do not go together: {error}", cert.display(), key.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 > MOST_BYTES => {
            Err(format!("{} has more than {MOST_BYTES} bytes", path.display()))
        }
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}
