//! TLS towards servers that this process connects to: whom to trust, decided once.
//!
//! Nothing here opens a connection.

use std::io;
use std::sync::{Arc, OnceLock};

/// Trusts what the operating system trusts. Read once: some hundred certificates are too much work for each connection.
///
/// # Errors
/// When the versions of TLS that are built in do not go together.
pub(crate) fn client_config() -> io::Result<Arc<rustls::ClientConfig>> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let mut roots = rustls::RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}
