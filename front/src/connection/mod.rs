//! One accepted socket: TLS and HTTP on it, its time limits, and the moment when it becomes a stream.
//!
//! hyper parses and writes; this drives it, so that the socket can be taken out of it again. It must not know routes or
//! queues.

mod greet;
mod handed;
mod http1;
mod http2;
mod watched;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{MissedTickBehavior, timeout};

use crate::config::Limits;
use crate::error::TOO_MANY_WAIT;
use crate::http::{Activity, Context, Current, Detach, Peer, early_response};
use crate::hub::{self, Wire};
use crate::lifecycle::Phase;
use crate::listener::{Accepted, Base, Ends, Entrance, Socket, Way, introduction};
use crate::places::{Holder, Place};
use crate::telemetry::{Ending, Protocol, Refusal};
pub use handed::{Answered, Handed};
use http1::{End, drive};

/// How often the connections' time limits are looked at.
const SWEEP: Duration = Duration::from_millis(250);
/// So many connections are ended at once, and so many in one look: a thousand a second. Thousands of slow clients that have
/// come together are over together, and come back together; everybody else would wait behind all of them each time. The
/// last of many more is late by the number of them in milliseconds, and the next time they are over one after the other.
const ENDED_AT_ONCE: usize = 4;
const ENDED_A_SWEEP: usize = 256;
/// Between those that are ended at once. While the front drains there is no such pause: it has a time to keep.
const ENDED_PAUSE: Duration = Duration::from_millis(3);
/// A connection that is closed while its peer still sends is read from this long, so that the peer gets the last
/// answer rather than a reset (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// And up to this many bytes.
const LINGER_BYTES: usize = 256 * 1024;

/// A socket that was accepted, and where.
pub struct Arrival {
    /// The socket.
    pub socket: Accepted,
    /// Where.
    pub entrance: Arc<Entrance>,
}

/// All HTTP connections of one reactor, for their time limits.
#[derive(Default)]
pub struct Connections {
    /// Those of HTTP/1.1, and the requests of those of HTTP/2.
    peers: RefCell<Vec<Weak<Peer>>>,
    /// Those of HTTP/2.
    several: RefCell<Vec<Weak<http2::Held>>>,
}

impl Connections {
    /// Serves one socket until its end; streams go on in a task of their own, which holds `guard` then.
    pub async fn serve<G: Unpin + 'static>(self: &Rc<Self>, current: Rc<Current>, arrival: Arrival, guard: G) {
        let Arrival { socket, entrance } = arrival;
        let Ok(mut base) = socket.into_base() else { return };
        let Ok(mut ends) = base.ends() else { return };
        if begins_with_header(&current.get(), ends) {
            let context = current.get();
            // Boxed, since few connections have it.
            match Box::pin(introduced(&context, &mut base, ends)).await {
                Ok(told) => ends = told,
                Err(why) => return context.metrics.endings.inc(why),
            }
        }
        let peer = Peer::new(ends, Arc::clone(&entrance));
        match admit(&current.get(), peer.remote) {
            Some(place) => peer.place.set(place),
            // Before the greeting of TLS nothing would be understood.
            None if matches!(entrance.way, Way::Tls(_)) => return,
            None => return close(base, &one_too_many()).await,
        }
        let mut socket = match &entrance.way {
            Way::Plain | Way::Redirect(_) | Way::Mounted { .. } => Socket::Plain(base),
            // Boxed, since most connections never greet and would carry its state along.
            Way::Tls(tls) => match Box::pin(greet::greet(&current, tls, base)).await {
                Some(socket) => socket,
                None => return,
            },
        };
        let plain = matches!(socket, Socket::Plain(_));
        self.peers.borrow_mut().push(Rc::downgrade(&peer));
        let ended = loop {
            if socket.speaks_h2() {
                break End::Http2(socket, Bytes::new());
            }
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
        let (is_h2, is_redirect) = (matches!(ended, End::Http2(..)), matches!(entrance.way, Way::Redirect(_)));
        current.get().metrics.protocols.inc(match (is_h2, plain) {
            _ if is_redirect => Protocol::Redirect,
            (false, true) => Protocol::Http1,
            (false, false) => Protocol::Http1Tls,
            (true, true) => Protocol::Http2,
            (true, false) => Protocol::Http2Tls,
        });
        match ended {
            End::Idle(socket) => close(socket, &[]).await,
            End::Stream(socket, detach) => {
                let Detach { opened, place, opening, id, entry } = *detach;
                let report = entry.map(|entry| {
                    let write = move |bytes| entry.write(id.as_str(), StatusCode::OK.as_u16(), bytes);
                    Box::new(write) as Box<dyn FnOnce(u64)>
                });
                hub::start(Wire::Socket(socket), opened, &opening, report, (guard, peer.place.take().and(place)));
            }
            End::Http2(socket, read) => {
                let (socket, last_words) = Box::pin(http2::drive(&current, self, &peer, socket, read)).await;
                close(socket, &last_words).await;
            }
            End::Close(socket, last_words) => close(socket, &last_words).await,
        }
    }

    /// Ends connections whose time is over, until dropped.
    pub async fn keep_time(&self, current: &Current) {
        let mut life = current.get().life.clone();
        let mut draining_since = None;
        let mut sweeps = tokio::time::interval(SWEEP);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if draining_since.is_none() {
                tokio::select! {
                    _ = sweeps.tick() => {}
                    () = life.reached(Phase::Draining) => draining_since = Some(Instant::now()),
                }
            } else {
                sweeps.tick().await;
            }
            let context = current.get();
            let limits = &context.config.limits;
            let draining = draining_since.map(|since| (since, context.config.front.drain_idle));
            let now = Instant::now();
            let ends = |peer: &Peer| over(peer, limits, now, draining).filter(|_| !peer.expired.get());
            let mut those = self.those(|peer| ends(peer).is_some());
            if draining.is_none() {
                // Those that have been here the longest.
                those.truncate(ENDED_A_SWEEP);
            }
            for some in those.chunks(ENDED_AT_ONCE) {
                for peer in some {
                    // Whoever has sent the rest meanwhile goes on.
                    if let Some(why) = ends(peer) {
                        context.metrics.endings.inc(why);
                        peer.expire();
                    }
                }
                match draining {
                    None => tokio::time::sleep(ENDED_PAUSE).await,
                    Some(_) => tokio::task::yield_now().await,
                }
            }
            self.several.borrow_mut().retain(|held| {
                let Some(held) = held.upgrade() else { return false };
                held.look((limits, &context.metrics), now, draining);
                true
            });
        }
    }

    fn those(&self, are: impl Fn(&Peer) -> bool) -> Vec<Rc<Peer>> {
        let mut found = Vec::new();
        self.peers.borrow_mut().retain(|peer| {
            let Some(peer) = peer.upgrade() else { return false };
            if are(&peer) {
                found.push(peer);
            }
            true
        });
        found
    }
}

/// True where the connection has to begin with a header of the PROXY protocol.
fn begins_with_header(context: &Context, ends: Option<Ends>) -> bool {
    let protocol = &context.config.front.proxies.protocol;
    ends.map_or_else(|| protocol.is_required_on_unix(), |(_, server)| protocol.is_required_on(server))
}

/// Whom the connection is from and what it has reached, by its header of the PROXY protocol.
async fn introduced(context: &Context, socket: &mut Base, ends: Option<Ends>) -> Result<Option<Ends>, Ending> {
    let proxies = &context.config.front.proxies;
    if !ends.map_or(proxies.trusted_unix, |(peer, _)| proxies.trusts(peer.ip())) {
        return Err(Ending::ProxyUntrusted);
    }
    match timeout(context.config.limits.head_time, introduction(socket)).await {
        Ok(Ok(told)) => Ok(told.or(ends)),
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
fn has_unread(socket: &Socket) -> bool {
    rustix::io::ioctl_fionread(socket).is_ok_and(|bytes| bytes > 0)
}

/// Says the last words, closes our side, and listens a little so that they arrive.
pub async fn close(mut socket: impl AsyncRead + AsyncWrite + Unpin, last_words: &[u8]) {
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
