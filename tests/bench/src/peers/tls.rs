//! Certificates of servers that speak TLS, and how their clients are to come. It must not start anything.
//!
//! Each server has a new certificate that signs itself, with a key of P-256 as most public ones have today.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tempest_tests::Certificate;

use super::Place;

/// The host that they are for.
pub(crate) const HOST: &str = "bench.test";

/// How clients come to the streams of a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum By {
    /// By HTTP/1.1 as it is.
    Plain,
    /// By TLS, trusting the certificate in this file.
    Tls(PathBuf, Speaks),
}

/// What is spoken by TLS.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, with so many streams over one connection.
    Http2(usize),
}

/// Makes one for a server at `place`: the files of the certificate and of its key.
pub(super) fn certificate(place: &Place) -> (PathBuf, PathBuf) {
    Certificate::of(&[HOST]).write(&place.dir, "bench")
}
