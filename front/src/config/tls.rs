//! Where browsers connect by TLS, with which certificates, and where plain HTTP is sent there.
//!
//! No file is opened here: what is in the certificates is for the listener to judge.

use std::path::{Path, PathBuf};

use super::section::Section;
use super::value::{Kind, Read, Value, count, list, listen, path};
use super::{Listen, file};

/// Certificates of one table: a greeting is compared with all of them.
const MOST_CERTIFICATES: usize = 256;

/// Listeners with TLS and the certificates that they show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Where browsers connect.
    pub listen: Vec<Listen>,
    /// The certificates; the first one is shown to who names no host, or one that is in none of them.
    pub certificates: Vec<Certificate>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The chain as PEM, its own certificate first.
    pub cert: PathBuf,
    /// The private key as PEM.
    pub key: PathBuf,
}

/// Reads all `[[front.tls]]`.
pub(super) fn read(front: &mut Section<'_>, base: &Path) -> Vec<Tls> {
    front.sections("tls").into_iter().flatten().filter_map(|table| read_one(table, base)).collect()
}

fn read_one(mut section: Section<'_>, base: &Path) -> Option<Tls> {
    let listen = section.require("listen", file::at_least_one(list(listen)));
    let tables = section.sections("certificates").unwrap_or_default();
    if tables.is_empty() || tables.len() > MOST_CERTIFICATES {
        let message = format!("expected 1 to {MOST_CERTIFICATES} of {{ cert = \"FILE\", key = \"FILE\" }}");
        section.problem("certificates", message);
    }
    let certificates = tables.into_iter().filter_map(|table| read_certificate(table, base)).collect();
    section.finish();
    Some(Tls { listen: listen?, certificates })
}

fn read_certificate(mut section: Section<'_>, base: &Path) -> Option<Certificate> {
    let mut file = |key| section.require(key, path).map(|file| base.join(file));
    let (cert, key) = (file("cert"), file("key"));
    section.finish();
    Some(Certificate { cert: cert?, key: key? })
}

/// The port of `https` that plain HTTP is sent to; None: that of the first listener with TLS.
pub(super) fn redirect_port(front: &mut Section<'_>, tls: &[Tls], redirects: bool) -> Option<u16> {
    let given = front.optional("redirect_port", count(1..=65_535));
    let has_port = tls.iter().flat_map(|tls| &tls.listen).any(|listen| matches!(listen, Listen::Tcp(_)));
    if redirects && !has_port && given.is_none() {
        front.problem("redirect", "expected [[front.tls]] with a port to be sent to, or redirect_port");
    }
    given.map(|port| port as u16)
}

/// The permissions of a file, as octal digits in a string.
pub(super) fn mode(value: &Value<'_>) -> Read<u32> {
    let bits = match value.kind {
        Kind::Text(text) if (3..=4).contains(&text.len()) => u32::from_str_radix(text, 8).ok(),
        _ => None,
    };
    bits.filter(|bits| *bits <= 0o777).ok_or_else(|| value.wrong("permissions like \"0660\""))
}
