//! HTTP/2 on one socket: many requests, each with a life of its own, and what a client may not do with that.
//!
//! Each request is a task with a [`Peer`] of its own, so that a limit, a cut or a client that cancels ends it and not its
//! neighbours. What concerns the connection (idle, not reading, too much of something) ends all of it, with a GOAWAY that
//! says so. Event streams stay in hyper here: there is one socket for all of them.

mod meter;
mod slices;
mod socket;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::Connections;
use crate::config::Limits;
use crate::http::{Activity, Current, Incoming, Peer, handle};
use crate::lifecycle::Phase;
use crate::listener::Socket;
use crate::telemetry::{Http2End, Metrics};
use meter::{Excess, Meter};
use slices::Slices;
use socket::Metered;

/// A connection of HTTP/2, for its limits.
pub(super) struct Held {
    peer: Rc<Peer>,
    meter: RefCell<Meter>,
    /// The requests under way.
    streams: RefCell<Vec<Rc<Peer>>>,
    /// The one that is about to have a task.
    next: RefCell<Option<Open>>,
    /// Why the connection is to end.
    ended: Cell<Option<Http2End>>,
}

impl Held {
    fn new(peer: &Rc<Peer>, limits: &Limits) -> Rc<Self> {
        Rc::new(Self {
            peer: Rc::clone(peer),
            meter: RefCell::new(Meter::new(limits.h2_resets, limits.h2_control_frames, Instant::now())),
            streams: RefCell::default(),
            next: RefCell::default(),
            ended: Cell::default(),
        })
    }

    /// Ends what has taken too long; while the front drains, has the connection look at that.
    pub(super) fn look(
        &self,
        (limits, metrics): (&Limits, &Metrics),
        now: Instant,
        draining: Option<(Instant, Duration)>,
    ) {
        let lasted = |since: Instant| now.saturating_duration_since(since);
        if self.meter.borrow().since.is_some_and(|since| lasted(since) > limits.head_time) {
            self.end(Http2End::HeadTime);
        }
        for stream in &*self.streams.borrow() {
            let stalled = stream.blocked.get().is_some_and(|since| lasted(since) > limits.body_time);
            if stalled && !stream.expired.get() {
                metrics.http2_stalls.inc();
                stream.expire();
            }
        }
        if draining.is_some() {
            self.peer.wake();
        }
    }

    fn end(&self, why: Http2End) {
        self.ended.set(Some(self.ended.get().unwrap_or(why)));
        self.peer.expire();
    }

    fn exceeds(&self, what: Excess) {
        self.end(match what {
            Excess::Resets => Http2End::Resets,
            Excess::Control => Http2End::ControlFrames,
        });
    }

    /// One more request; the task that hyper makes of it next is its own.
    fn open(self: &Rc<Self>) -> Rc<Peer> {
        let stream = self.peer.stream();
        let mut streams = self.streams.borrow_mut();
        if streams.is_empty() {
            self.peer.turn_to(Activity::Busy);
        }
        streams.push(Rc::clone(&stream));
        *self.next.borrow_mut() = Some(Open { held: Rc::clone(self), stream: Rc::clone(&stream) });
        stream
    }
}

/// A request under way, until it is dropped.
struct Open {
    held: Rc<Held>,
    stream: Rc<Peer>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut streams = self.held.streams.borrow_mut();
        if let Some(at) = streams.iter().position(|stream| Rc::ptr_eq(stream, &self.stream)) {
            streams.swap_remove(at);
        }
        if streams.is_empty() {
            self.held.peer.answered.set(true);
            self.held.peer.turn_to(Activity::Idle);
        }
    }
}

/// Runs hyper's tasks on this reactor: each of them is one request.
#[derive(Clone)]
struct Tasks(Rc<Held>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        // hyper asks for a task right after it has called the service.
        let Some(open) = self.0.next.borrow_mut().take() else { return };
        tokio::task::spawn_local(async move {
            let mut task = pin!(task);
            poll_fn(|cx| {
                open.stream.listen(cx.waker());
                // Dropped, it is reset.
                if open.stream.expired.get() { Poll::Ready(()) } else { task.as_mut().poll(cx) }
            })
            .await;
        });
    }
}

/// Serves HTTP/2 until the end; `read` was read already. Gives the socket and what is to be said last.
pub(super) async fn drive(
    current: &Rc<Current>,
    connections: &Connections,
    peer: &Rc<Peer>,
    socket: Socket,
    read: Bytes,
) -> (Socket, Vec<u8>) {
    // Those of the connection hold as long as it does.
    let (limits, heartbeat, life) = {
        let context = current.get();
        (context.config.limits.clone(), context.config.channels.heartbeat, context.life.clone())
    };
    let held = Held::new(peer, &limits);
    connections.several.borrow_mut().push(Rc::downgrade(&held));
    peer.turn_to(Activity::Idle);
    // Several streams may be quiet on it for long.
    peer.probe.set(Some(heartbeat));
    let mut io = Metered { socket, ahead: read, held: Rc::clone(&held) };
    let outcome = {
        let service = service_fn(|request: Request<hyper::body::Incoming>| {
            let (context, stream, mut request) = (current.get(), held.open(), request.map(Incoming::Wire));
            name_host(&mut request);
            Box::pin(async move {
                let response = handle(context, Rc::clone(&stream), request).await?;
                Ok::<_, Infallible>(response.map(|body| Slices::new(body, stream)))
            })
        });
        let mut connection = pin!(builder(&limits, &held).serve_connection(TokioIo::new(&mut io), service));
        let mut leaving = false;
        poll_fn(|cx| {
            peer.listen(cx.waker());
            if peer.expired.get() {
                return Poll::Ready(None);
            }
            let most = limits.requests_per_connection;
            let enough = || most > 0 && peer.served.get() >= most;
            loop {
                if !leaving && (enough() || life.phase() >= Phase::Draining) {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                let polled = connection.as_mut().poll(cx);
                // Its last request may have come just now, and the client is to know before it asks again.
                if polled.is_ready() || leaving || !enough() {
                    return polled.map(Some);
                }
            }
        })
        .await
    };
    let draining = life.phase() >= Phase::Draining;
    let why = held.ended.get().unwrap_or_else(|| match &outcome {
        None if peer.blocked.get().is_some() => Http2End::Slow,
        None | Some(Ok(())) if draining => Http2End::Drain,
        None => Http2End::Idle,
        Some(Ok(())) => Http2End::Client,
        Some(Err(error)) => end_of(error),
    });
    current.get().metrics.http2_ends.inc(why);
    if let Some(Err(error)) = &outcome {
        tracing::debug!(peer = %peer.address, "connection ended: {error}");
    }
    // Where hyper has seen the fault it has said so; in the middle of a frame nothing fits.
    let unsaid = (outcome.is_none() || held.ended.get().is_some()) && peer.blocked.get().is_none();
    let last_words = if unsaid { go_away(held.meter.borrow().last_stream, why) } else { Vec::new() };
    (io.socket, last_words)
}

fn builder(limits: &Limits, held: &Rc<Held>) -> http2::Builder<Tasks> {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(Tasks(Rc::clone(held)));
    builder
        .max_concurrent_streams(number(limits.h2_streams))
        .max_header_list_size(number(limits.head_bytes))
        .initial_stream_window_size(number(limits.h2_window))
        .initial_connection_window_size(number(limits.h2_window))
        .max_send_buf_size(limits.h2_send_buffer)
        .max_local_error_reset_streams(limits.h2_resets);
    builder
}

/// A request of HTTP/2 names its host elsewhere; in HTTP/1.1 it would have this field (RFC 9113, section 8.3.1), and
/// workers look for it there.
pub(super) fn name_host(request: &mut Request<Incoming>) {
    if request.headers().contains_key(header::HOST) {
        return;
    }
    let host = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(header::HOST, host);
    }
}

fn end_of(error: &hyper::Error) -> Http2End {
    let Some(error) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) else {
        return Http2End::Client;
    };
    match error.reason() {
        _ if error.is_remote() || error.is_io() => Http2End::Client,
        None | Some(h2::Reason::NO_ERROR) => Http2End::Client,
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Http2End::Excess,
        Some(_) => Http2End::Protocol,
    }
}

/// A frame that says why the connection ends (RFC 9113, section 6.8).
fn go_away(last_stream: u32, why: Http2End) -> Vec<u8> {
    let reason = match why {
        Http2End::Client | Http2End::Idle | Http2End::Drain => h2::Reason::NO_ERROR,
        _ => h2::Reason::ENHANCE_YOUR_CALM,
    };
    let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&last_stream.to_be_bytes());
    frame.extend_from_slice(&u32::from(reason).to_be_bytes());
    frame
}
