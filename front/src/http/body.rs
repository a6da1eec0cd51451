//! Bodies: taking a request's in, and the one type of a response's.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::timeout;

use super::compress::Coded;
use super::hold::Raw;
use super::incoming::{Broken, Incoming};
use super::proxy::Download;
use super::{Activity, Context, Peer};
use crate::config::Limits;
use crate::error::Failure;
use crate::hub::PipeReader;
use crate::queue::Ticket;
use crate::telemetry::Refusal;

/// A response's body.
pub struct Body {
    kind: Kind,
    /// Told when the body has been handed over whole, or dropped.
    ended: Option<OnEnd>,
}

enum Kind {
    Whole(Bytes),
    Answer(Ticket),
    Held(Box<Raw>),
    Events(PipeReader),
    Coded(Box<Coded>),
    Proxied(Box<Download>),
    Done,
    Boxed(UnsyncBoxBody<Bytes, io::Error>),
}

type Report = Box<dyn FnOnce(u64)>;

struct OnEnd {
    peer: Rc<Peer>,
    report: Option<Report>,
    bytes: u64,
}

impl Drop for OnEnd {
    fn drop(&mut self) {
        self.peer.answered.set(true);
        self.peer.turn_to(Activity::Idle);
        if let Some(report) = self.report.take() {
            report(self.bytes);
        }
    }
}

impl Body {
    /// Bytes at hand.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Whole(bytes.into()), ended: None }
    }

    /// What a worker sends, message by message.
    pub fn answer(ticket: Ticket) -> Self {
        Self { kind: Kind::Answer(ticket), ended: None }
    }

    /// What is published, message by message.
    pub(super) fn held(raw: Raw) -> Self {
        Self { kind: Kind::Held(Box::new(raw)), ended: None }
    }

    /// A stream of events that stays in HTTP.
    pub(super) fn events(events: PipeReader) -> Self {
        Self { kind: Kind::Events(events), ended: None }
    }

    /// True where a client that takes nothing is somebody else's to see to.
    pub fn paces_itself(&self) -> bool {
        matches!(self.kind, Kind::Events(_))
    }

    /// What another server sends.
    pub(super) fn proxied(download: Download) -> Self {
        Self { kind: Kind::Proxied(Box::new(download)), ended: None }
    }

    /// Another one, compressed.
    pub(super) fn coded(coded: Coded) -> Self {
        Self { kind: Kind::Coded(Box::new(coded)), ended: None }
    }

    /// The bytes at hand, where they are all and no more than `most`.
    pub(super) fn take_whole(&mut self, most: usize) -> Option<Bytes> {
        match &mut self.kind {
            Kind::Whole(bytes) if bytes.len() <= most => Some(std::mem::take(bytes)),
            _ => None,
        }
    }

    /// True for a stream of events.
    pub(super) fn is_events(&self) -> bool {
        matches!(self.kind, Kind::Events(_))
    }

    /// True where channels have the connection.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.kind, Kind::Held(_) | Kind::Events(_))
    }

    /// Anything else.
    pub fn boxed(body: UnsyncBoxBody<Bytes, io::Error>) -> Self {
        Self { kind: Kind::Boxed(body), ended: None }
    }

    /// Marks the connection idle when the body is over, and reports how many bytes it had.
    pub(super) fn on_end(&mut self, peer: &Rc<Peer>, report: Option<Report>) {
        self.ended = Some(OnEnd { peer: Rc::clone(peer), report, bytes: 0 });
    }

    /// Data of channels, until its end.
    fn passed_on(&mut self, polled: Poll<io::Result<Option<Bytes>>>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Some(data))) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Poll::Ready(over) => {
                self.kind = Kind::Done;
                Poll::Ready(over.err().map(Err))
            }
        }
    }

    fn poll_inner(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.kind {
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Done;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Kind::Answer(ticket) => match ticket.poll_part(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(part)) => {
                    if part.last {
                        self.kind = Kind::Done;
                    }
                    Poll::Ready(Some(Ok(Frame::data(part.body))))
                }
                // The head is out: the only honest thing left is to break the connection off.
                Poll::Ready(Err(failure)) => {
                    self.kind = Kind::Done;
                    Poll::Ready(Some(Err(io::Error::other(format!("the answer broke off: {failure:?}")))))
                }
            },
            Kind::Held(raw) => {
                let polled = raw.poll_data(cx);
                self.passed_on(polled)
            }
            Kind::Events(events) => {
                let polled = events.poll_data(cx);
                self.passed_on(polled)
            }
            Kind::Coded(coded) => coded.poll_frame(cx),
            Kind::Proxied(download) => download.poll_frame(cx),
            Kind::Done => Poll::Ready(None),
            Kind::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = self.poll_inner(cx);
        if let (Poll::Ready(Some(Ok(frame))), Some(ended)) = (&polled, &mut self.ended) {
            ended.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Done => true,
            Kind::Answer(_) | Kind::Held(_) | Kind::Coded(_) | Kind::Events(_) => false,
            Kind::Proxied(download) => download.is_end_stream(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Done => SizeHint::with_exact(0),
            Kind::Answer(_) | Kind::Held(_) | Kind::Coded(_) | Kind::Events(_) => SizeHint::default(),
            Kind::Proxied(download) => download.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

/// A share of the process's memory for request bodies, given back when dropped.
pub(super) struct Share {
    pool: Arc<AtomicUsize>,
    bytes: usize,
}

impl Share {
    fn take(&mut self, bytes: usize, limit: usize) -> bool {
        let before = self.pool.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        before + bytes <= limit
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Takes the whole body in, within the route's limit, the process's memory and the time between two pieces.
pub(super) async fn collect(
    context: &Context,
    request: &mut Request<Incoming>,
    limit: usize,
) -> Result<(Bytes, Share), Failure> {
    if request.body().is_end_stream() {
        return Ok((Bytes::new(), Share { pool: Arc::clone(&context.body_memory), bytes: 0 }));
    }
    // Boxed, since most requests have no body and would carry the room for one along while they wait.
    Box::pin(collect_pieces(context, request, limit)).await
}

async fn collect_pieces(
    context: &Context,
    request: &mut Request<Incoming>,
    limit: usize,
) -> Result<(Bytes, Share), Failure> {
    let mut share = Share { pool: Arc::clone(&context.body_memory), bytes: 0 };
    let announced = http_body::Body::size_hint(request.body()).exact();
    let too_large = || {
        context.metrics.refused.inc(Refusal::BodyBytes);
        Failure::BodyTooLarge(limit)
    };
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let pace = Pace::of(&context.config.limits);
    let mut whole = BytesMut::with_capacity(announced.unwrap_or(0) as usize);
    let body = request.body_mut();
    loop {
        let frame = match timeout(pace.left(whole.len()), body.frame()).await {
            Err(_) => {
                context.metrics.refused.inc(Refusal::BodyTime);
                return Err(Failure::BodyTimeout);
            }
            Ok(None) => return Ok((whole.freeze(), share)),
            Ok(Some(Err(error))) => return Err(body_error(error)),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(too_large());
        }
        if !share.take(data.len(), context.config.limits.body_memory) {
            context.metrics.refused.inc(Refusal::BodyMemory);
            return Err(Failure::Overload("too many request bodies are being held"));
        }
        whole.extend_from_slice(&data);
    }
}

/// How fast a body has to come: a byte now and then would keep a request for days.
struct Pace {
    began: Instant,
    /// The longest time between two pieces, and what the whole may be late.
    patience: Duration,
    /// Bytes a second; 0: as slowly as it likes.
    rate: usize,
}

impl Pace {
    fn of(limits: &Limits) -> Self {
        Self { began: Instant::now(), patience: limits.body_time, rate: limits.body_rate }
    }

    /// How long the next piece may take, after so many bytes.
    fn left(&self, bytes: usize) -> Duration {
        self.left_after(bytes, self.began.elapsed())
    }

    fn left_after(&self, bytes: usize, taken: Duration) -> Duration {
        if self.rate == 0 {
            return self.patience;
        }
        let worth = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        (self.patience + worth).saturating_sub(taken).min(self.patience)
    }
}

fn body_error(broken: Broken) -> Failure {
    match broken {
        Broken::Off => Failure::ClientGone,
        Broken::Framing => Failure::BadRequest("the body is not what its framing says"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_be_late_by_its_patience_and_no_more() {
        let [second, none] = [Duration::from_secs(1), Duration::ZERO];
        let pace = Pace { began: Instant::now(), patience: second * 10, rate: 100 };
        assert_eq!(pace.left_after(0, none), second * 10);
        assert_eq!(pace.left_after(0, second * 9), second);
        assert_eq!(pace.left_after(99, second * 11), none);
        assert_eq!(pace.left_after(200, second * 11), second, "200 bytes are worth two seconds");
        assert_eq!(pace.left_after(1_000_000, second), second * 10, "never longer than between two pieces");
        let free = Pace { rate: 0, ..pace };
        assert_eq!(free.left_after(1, second * 3600), second * 10);
    }
}
