//! HTTP/1.1 on one socket, driven so that the socket can be taken out of it again.
//!
//! hyper holds 16 KiB of buffers for as long as it has a connection, and a stream needs none. A client that begins with
//! the preface of HTTP/2 is noticed by hyper's parser, within the time for a head, so nothing has to be read ahead.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::watched::{PREFACE, Watched};
use crate::http::{Activity, Current, Detach, Incoming, Peer, early_response, handle};
use crate::listener::{Socket, Way};
use crate::telemetry::Ending;

/// How the driving of a connection ended.
pub(super) enum End {
    /// The socket has been idle for too long.
    Idle(Socket),
    /// The socket becomes a stream.
    Stream(Socket, Box<Detach>),
    /// The client speaks HTTP/2; the bytes of it that have been read.
    Http2(Socket, Bytes),
    /// The socket is closed, after these bytes.
    Close(Socket, Vec<u8>),
}

/// Serves HTTP/1.1 until something else is to be done with the socket.
pub(super) async fn drive(current: &Rc<Current>, peer: &Rc<Peer>, socket: Socket) -> End {
    let io = TokioIo::new(Watched { socket, peer: Rc::clone(peer), begun: 0 });
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        Box::pin(handle(current.get(), Rc::clone(peer), request.map(Incoming::Wire)))
    });
    let mut builder = http1::Builder::new();
    // Those of the head hold as long as the connection does.
    let (headers, head_bytes) = {
        let limits = &current.get().config.limits;
        (limits.headers, limits.head_bytes)
    };
    if headers != HYPER_HEADERS {
        builder.max_headers(headers);
    }
    let mut connection =
        builder.max_header_size(head_bytes).max_buf_size(head_bytes.max(BODY_BUFFER)).serve_connection(io, service);
    let outcome = poll_fn(|cx| {
        peer.listen(cx.waker());
        if peer.expired.get() {
            return Poll::Ready(Outcome::Expired);
        }
        match connection.poll_without_shutdown(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Outcome::Done),
            Poll::Ready(Err(error)) => Poll::Ready(Outcome::Failed(error)),
            // What hyper has not written yet is older than the stream and must be out before it.
            Poll::Pending if peer.blocked.get().is_none() => match peer.detach.borrow_mut().take() {
                Some(detach) => Poll::Ready(Outcome::Detach(detach)),
                None => Poll::Pending,
            },
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    let parts = connection.into_parts();
    let socket = parts.io.into_inner().socket;
    match outcome {
        Outcome::Detach(detach) => End::Stream(socket, detach),
        Outcome::Done => End::Close(socket, Vec::new()),
        Outcome::Failed(error) => {
            tracing::debug!(peer = %peer.address, "connection ended: {error}");
            if error.is_parse_too_large() {
                current.get().metrics.endings.inc(Ending::HeadSize);
            }
            // hyper answers what it cannot parse, but not the preface of HTTP/2.
            let unsaid = error.is_parse() && !peer.spoke.get();
            if unsaid && parts.read_buf.starts_with(PREFACE) && may_turn(peer) {
                return End::Http2(socket, parts.read_buf);
            }
            // A body that fails is ours; all else means that the client has left.
            let last_words = match (unsaid, error.is_user()) {
                (true, _) => not_http_1(),
                (_, true) => broken_off(peer),
                _ => Vec::new(),
            };
            End::Close(socket, last_words)
        }
        // What hyper has read or has not written yet would be lost if it began anew on this socket.
        Outcome::Expired if peer.is_idle() && parts.read_buf.is_empty() => End::Idle(socket),
        Outcome::Expired => End::Close(socket, expired(peer)),
    }
}

/// Only a connection on which nothing has been asked may turn to HTTP/2; a redirect is for what people type.
fn may_turn(peer: &Peer) -> bool {
    !peer.answered.get() && !matches!(peer.entrance.way, Way::Redirect(_))
}

fn not_http_1() -> Vec<u8> {
    early_response(StatusCode::BAD_REQUEST, "this is not a request of HTTP/1.1, which is what is spoken here", None)
}

/// hyper's own limit on header fields: it has room for so many on its stack, and takes a slower way for any number that
/// it is told, this one too (hyper 1.12, `proto/h1/role.rs`).
const HYPER_HEADERS: usize = 100;
/// What hyper may read or write of a body at once: it begins with 8 KiB and grows while more comes at a time. With as
/// little as a head may have, bodies of 64 KiB took a tenth more of the front's time.
const BODY_BUFFER: usize = 64 * 1024;

enum Outcome {
    Done,
    Failed(hyper::Error),
    Expired,
    Detach(Box<Detach>),
}

/// A head that stopped half-way gets to know why; a connection on which nothing was begun is just closed.
fn expired(peer: &Peer) -> Vec<u8> {
    match peer.activity.get().0 {
        Activity::Head => early_response(StatusCode::REQUEST_TIMEOUT, "the request's head did not come in time", None),
        Activity::Idle | Activity::Busy => broken_off(peer),
    }
}

/// An answer that broke off before any of it had left is said to have done so. In the middle of one nothing fits.
fn broken_off(peer: &Peer) -> Vec<u8> {
    if peer.owes.get() && peer.blocked.get().is_none() {
        return early_response(StatusCode::BAD_GATEWAY, "the answer broke off before it began", None);
    }
    Vec::new()
}
