//! The greeting of TLS on a connection: what fails is counted, and said where it can be understood.

use http::StatusCode;

use super::close;
use crate::http::{Current, early_response};
use crate::listener::{Base, Failed, Fault, Socket, Tls};
use crate::telemetry::HandshakeFault;

/// The socket with TLS on it; None: there is none, and the client knows.
pub(super) async fn greet(current: &Current, tls: &Tls, socket: Base) -> Option<Socket> {
    let time = current.get().config.limits.handshake_time;
    let Failed { socket, fault } = match tls.accept(socket, time).await {
        Ok(socket) => return Some(socket),
        Err(failed) => failed,
    };
    current.get().metrics.handshake_failures.inc(match fault {
        Fault::Timeout => HandshakeFault::Timeout,
        Fault::Left => HandshakeFault::Left,
        Fault::PlainHttp => HandshakeFault::PlainHttp,
        Fault::Malformed => HandshakeFault::Malformed,
        Fault::Incompatible => HandshakeFault::Incompatible,
        Fault::Refused => HandshakeFault::Refused,
    });
    let last_words = match fault {
        Fault::PlainHttp => {
            early_response(StatusCode::BAD_REQUEST, "this is plain HTTP, and what is spoken here is https", None)
        }
        _ => Vec::new(),
    };
    if let Some(socket) = socket {
        close(socket, &last_words).await;
    }
    None
}
