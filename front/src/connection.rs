//! One accepted socket: HTTP/1.1 on it, its time limits, and the moment when it becomes a stream.
//!
//! hyper parses and writes; this drives it, so that the socket can be taken out of it again: hyper holds 16 KiB of
//! buffers for as long as it has a connection, and a stream needs none. It must not know routes or queues.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use http::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Limits;
use crate::error::TOO_MANY_WAIT;
use crate::http::{Activity, Context, Current, Detach, Peer, early_response, handle};
use crate::hub;
use crate::lifecycle::Phase;
use crate::listener::{Ends, introduction};
use crate::places::{Holder, Place};
use crate::telemetry::{Ending, Refusal};

/// How often the connections' time limits are looked at.
const SWEEP: Duration = Duration::from_millis(250);
/// So many connections are ended at once; then others have their turn. Thousands of slow clients that have come together
/// end together, and everybody else would wait behind all of them.
const ENDED_AT_ONCE: usize = 64;
/// A connection that is closed while its peer still sends is read from this long, so that the peer gets the last
/// answer rather than a reset (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// And up to this many bytes.
const LINGER_BYTES: usize = 256 * 1024;

/// All HTTP connections of one reactor, for their time limits.
#[derive(Default)]
pub struct Connections(RefCell<Vec<Weak<Peer>>>);

impl Connections {
    /// Serves one socket until its end; streams go on in a task of their own, which holds `guard` then.
    pub async fn serve<G: Unpin + 'static>(&self, current: Rc<Current>, mut socket: TcpStream, guard: G) {
        let (Ok(address), Ok(server)) = (socket.peer_addr(), socket.local_addr()) else { return };
        let mut ends = (address, server);
        if current.get().config.front.proxies.protocol.is_required_on(server) {
            let context = current.get();
            // Boxed, since few connections have it.
            match Box::pin(introduced(&context, &mut socket, ends)).await {
                Ok(told) => ends = told,
                Err(why) => return context.metrics.endings.inc(why),
            }
        }
        let peer = Peer::new(ends.0, ends.1);
        match admit(&current.get(), ends.0) {
            Some(place) => peer.place.set(place),
            None => return close(socket, &one_too_many()).await,
        }
        self.0.borrow_mut().push(Rc::downgrade(&peer));
        let ended = loop {
            match drive(&current, &peer, socket).await {
                // A request that came after the decision to close the idle connection is one like any other.
                End::Idle(again) if has_unread(&again) => {
                    peer.expired.set(false);
                    peer.turn_to(Activity::Idle);
                    socket = again;
                }
                ended => break ended,
            }
        };
        match ended {
            End::Idle(socket) => close(socket, &[]).await,
            End::Stream(socket, detach) => {
                let Detach { opened, place, opening, id, entry } = *detach;
                let report = entry.map(|entry| {
                    let write = move |bytes| entry.write(id.as_str(), StatusCode::OK.as_u16(), bytes);
                    Box::new(write) as Box<dyn FnOnce(u64)>
                });
                hub::start(socket, opened, &opening, report, (guard, peer.place.take().and(place)));
            }
            End::Close(socket, last_words) => close(socket, &last_words).await,
        }
    }

    /// Ends connections whose time is over, until dropped.
    pub async fn keep_time(&self, current: &Current) {
        let mut life = current.get().life.clone();
        let mut draining_since = None;
        loop {
            if draining_since.is_none() {
                tokio::select! {
                    () = tokio::time::sleep(SWEEP) => {}
                    () = life.reached(Phase::Draining) => draining_since = Some(Instant::now()),
                }
            } else {
                tokio::time::sleep(SWEEP).await;
            }
            let context = current.get();
            let limits = &context.config.limits;
            let draining = draining_since.map(|since| (since, context.config.front.drain_idle));
            let now = Instant::now();
            let ends = |peer: &Peer| over(peer, limits, now, draining).filter(|_| !peer.expired.get());
            for some in self.those(|peer| ends(peer).is_some()).chunks(ENDED_AT_ONCE) {
                for peer in some {
                    // Whoever has sent the rest meanwhile goes on.
                    if let Some(why) = ends(peer) {
                        context.metrics.endings.inc(why);
                        peer.expire();
                    }
                }
                tokio::task::yield_now().await;
            }
        }
    }

    fn those(&self, are: impl Fn(&Peer) -> bool) -> Vec<Rc<Peer>> {
        let mut found = Vec::new();
        self.0.borrow_mut().retain(|peer| {
            let Some(peer) = peer.upgrade() else { return false };
            if are(&peer) {
                found.push(peer);
            }
            true
        });
        found
    }
}

/// Whom the connection is from and what it has reached, by its header of the PROXY protocol.
async fn introduced(context: &Context, socket: &mut TcpStream, (peer, server): Ends) -> Result<Ends, Ending> {
    if !context.config.front.proxies.trusts(peer.ip()) {
        return Err(Ending::ProxyUntrusted);
    }
    match timeout(context.config.limits.head_time, introduction(socket)).await {
        Ok(Ok(told)) => Ok(told.unwrap_or((peer, server))),
        Ok(Err(_)) | Err(_) => Err(Ending::ProxyHeader),
    }
}

/// A place among the connections of this address; those of proxies are for many clients, and are not counted.
fn admit(context: &Context, client: SocketAddr) -> Option<Place> {
    let most = context.config.limits.connections_per_address;
    let most = if most > 0 && context.config.front.proxies.trusts(client.ip()) { 0 } else { most };
    let place = context.places.take(Holder::Connections(client.ip()), most);
    if place.is_none() {
        context.metrics.refused.inc(Refusal::ConnectionsPerAddress);
    }
    place
}

fn one_too_many() -> Vec<u8> {
    let text = "too many connections are open from this address";
    early_response(StatusCode::TOO_MANY_REQUESTS, text, Some(TOO_MANY_WAIT))
}

/// Why the connection is to end. `draining`: since when, and how long idle connections are kept then.
fn over(peer: &Peer, limits: &Limits, now: Instant, draining: Option<(Instant, Duration)>) -> Option<Ending> {
    // A client that takes nothing is like one that sends nothing.
    if peer.blocked.get().is_some_and(|since| now.saturating_duration_since(since) > limits.body_time) {
        return Some(Ending::SlowReader);
    }
    let (activity, since) = peer.activity.get();
    let lasted = now.saturating_duration_since(since);
    // Counted from when it became idle: a streamed answer may have ended just now, without having said «close».
    let drained = draining.is_some_and(|(drain, kept)| now.saturating_duration_since(drain.max(since)) > kept);
    match activity {
        Activity::Busy => None,
        Activity::Head => (lasted > limits.head_time).then_some(Ending::HeadTime),
        Activity::Idle if drained => Some(Ending::Drain),
        Activity::Idle if peer.answered.get() => (lasted > limits.idle_time).then_some(Ending::IdleTime),
        Activity::Idle => (lasted > limits.head_time).then_some(Ending::HeadTime),
    }
}

/// True where the peer has sent what nobody has read yet.
fn has_unread(socket: &TcpStream) -> bool {
    rustix::io::ioctl_fionread(socket).is_ok_and(|bytes| bytes > 0)
}

enum End {
    /// The socket has been idle for too long.
    Idle(TcpStream),
    /// The socket becomes a stream.
    Stream(TcpStream, Box<Detach>),
    /// The socket is closed, after these bytes.
    Close(TcpStream, Vec<u8>),
}

async fn drive(current: &Rc<Current>, peer: &Rc<Peer>, socket: TcpStream) -> End {
    let io = TokioIo::new(Watched { socket, peer: Rc::clone(peer) });
    let service = service_fn(|request| Box::pin(handle(current.get(), Rc::clone(peer), request)));
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
        listen(peer, cx);
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

fn listen(peer: &Peer, cx: &TaskContext<'_>) {
    let mut waker = peer.waker.borrow_mut();
    match &mut *waker {
        Some(known) => known.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
}

/// Says the last words, closes our side, and listens a little so that they arrive.
pub async fn close(mut socket: TcpStream, last_words: &[u8]) {
    let polite = async {
        if !last_words.is_empty() {
            socket.write_all(last_words).await?;
        }
        socket.shutdown().await?;
        let mut scrap = [0; 2048];
        let mut read = 0;
        while read < LINGER_BYTES {
            match socket.read(&mut scrap).await? {
                0 => break,
                bytes => read += bytes,
            }
        }
        io::Result::Ok(())
    };
    let _ = timeout(LINGER, polite).await;
}

/// The socket as hyper sees it, watched: when a head begins, and whether everything written is out.
struct Watched {
    socket: TcpStream,
    peer: Rc<Peer>,
}

/// Probes without an answer after which the peer is gone.
const PROBES: u32 = 3;

impl Watched {
    /// Has TCP ask for the peer where that is wanted; a socket that takes no such option has none.
    fn probe(&self) {
        if let Some(idle) = self.peer.probe.take() {
            let keepalive =
                socket2::TcpKeepalive::new().with_time(idle).with_interval(idle / PROBES).with_retries(PROBES);
            let _ = socket2::SockRef::from(&self.socket).set_tcp_keepalive(&keepalive);
        }
    }

    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.probe();
        if polled.is_pending() {
            let since = self.peer.blocked.get().unwrap_or_else(Instant::now);
            self.peer.blocked.set(Some(since));
            return polled;
        }
        self.peer.blocked.set(None);
        self.peer.spoke.set(true);
        self.peer.owes.set(false);
        if self.peer.activity.get().0 == Activity::Idle {
            self.peer.turn_to(Activity::Idle);
        }
        polled
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.probe();
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        if buf.filled().len() > before && self.peer.activity.get().0 == Activity::Idle {
            self.peer.turn_to(Activity::Head);
            self.peer.spoke.set(false);
        }
        polled
    }
}

/// What is written in pieces is put together where it has no more bytes: the kernel takes one small buffer in less time
/// than a list of two, which is what the head and the body of most answers are.
const JOIN_BYTES: usize = 1024;

/// Copies `bufs` into `joined` and gives their length; None where they are too long.
fn join(bufs: &[io::IoSlice<'_>], joined: &mut [u8; JOIN_BYTES]) -> Option<usize> {
    let mut length = 0;
    for buf in bufs {
        joined.get_mut(length..length + buf.len())?.copy_from_slice(buf);
        length += buf.len();
    }
    Some(length)
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut joined = [0; JOIN_BYTES];
        let polled = match join(bufs, &mut joined) {
            Some(length) => Pin::new(&mut self.socket).poll_write(cx, &joined[..length]),
            None => Pin::new(&mut self.socket).poll_write_vectored(cx, bufs),
        };
        self.wrote(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
