//! Bodies that come part by part.
//!
//! A source yields parts of any size; messages of an answer hold up to 64 KiB. This module joins what is ready and
//! cuts what is too large. It must not wait for more when there is something to send, and knows nothing of Redis.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tempest_protocol::STREAM_CUT_BYTES;
use tokio::sync::mpsc;
use tokio_stream::Stream;

use crate::BoxError;

/// Parts that a [`Sender`] may be ahead of the worker.
const SENDER_PARTS: usize = 16;

pub(crate) type BoxStream = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// The writing end of a streamed body; see [`Response::channel`](crate::Response::channel).
///
/// Dropping it completes the answer.
#[derive(Clone, Debug)]
pub struct Sender {
    parts: mpsc::Sender<Result<Bytes, BoxError>>,
}

/// Nobody reads this body any more: stop producing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer's reader is gone")]
pub struct Gone;

impl Sender {
    /// Sends a part; waits while 16 parts are under way.
    pub async fn send(&self, part: impl Into<Bytes>) -> Result<(), Gone> {
        self.parts.send(Ok(part.into())).await.map_err(|_| Gone)
    }

    /// The same for threads; it must not be called in async code.
    pub fn blocking_send(&self, part: impl Into<Bytes>) -> Result<(), Gone> {
        self.parts.blocking_send(Ok(part.into())).map_err(|_| Gone)
    }

    /// Ends the answer without completing it, so that the client can tell that something is missing.
    pub async fn abort(self, why: impl Into<BoxError>) {
        // Gone already: then there is nobody to tell.
        let _ = self.parts.send(Err(why.into())).await;
    }
}

pub(crate) fn channel() -> (Sender, Parts) {
    let (parts, receiver) = mpsc::channel(SENDER_PARTS);
    (Sender { parts }, Parts { receiver })
}

pub(crate) struct Parts {
    receiver: mpsc::Receiver<Result<Bytes, BoxError>>,
}

impl Stream for Parts {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx)
    }
}

/// One message's share of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) body: Bytes,
    /// Nothing follows.
    pub(crate) last: bool,
}

/// Cuts a source into pieces.
pub(crate) struct Pieces {
    source: BoxStream,
    buffer: BytesMut,
    source_ended: bool,
    /// Why the source ended, where it failed; what it gave before that goes out first.
    failure: Option<BoxError>,
    /// The first piece carries the head, which goes out even while there is no body yet.
    head_due: bool,
}

impl Pieces {
    pub(crate) fn new(source: BoxStream) -> Self {
        Self { source, buffer: BytesMut::new(), source_ended: false, failure: None, head_due: true }
    }

    /// The next piece; must not be called after the last one or a failure.
    pub(crate) async fn next(&mut self) -> Result<Piece, BoxError> {
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, BoxError>> {
        let waiting = self.poll_fill(cx).is_pending();
        if self.buffer.is_empty() {
            if let Some(failure) = self.failure.take() {
                return Poll::Ready(Err(failure));
            }
            if waiting && !self.head_due {
                return Poll::Pending;
            }
        }
        self.head_due = false;
        let body = self.buffer.split_to(self.buffer.len().min(STREAM_CUT_BYTES)).freeze();
        let last = self.source_ended && self.failure.is_none() && self.buffer.is_empty();
        Poll::Ready(Ok(Piece { body, last }))
    }

    /// Ready: the buffer holds a whole piece or the source has ended.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.buffer.len() < STREAM_CUT_BYTES && !self.source_ended {
            match self.source.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(part))) => self.buffer.extend_from_slice(&part),
                Poll::Ready(None) => self.source_ended = true,
                Poll::Ready(Some(Err(failure))) => {
                    self.failure = Some(failure);
                    self.source_ended = true;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sizes(parts: Vec<usize>) -> Vec<(usize, bool)> {
        let source = tokio_stream::iter(parts.into_iter().map(|size| Ok(Bytes::from(vec![b'x'; size]))));
        let mut pieces = Pieces::new(Box::pin(source));
        let mut seen = Vec::new();
        loop {
            let piece = pieces.next().await.expect("a piece");
            seen.push((piece.body.len(), piece.last));
            if piece.last {
                return seen;
            }
        }
    }

    #[tokio::test]
    async fn ready_parts_are_joined_and_large_ones_cut() {
        const CUT: usize = STREAM_CUT_BYTES;
        assert_eq!(sizes(vec![]).await, [(0, true)]);
        assert_eq!(sizes(vec![1, 2, 3]).await, [(6, true)]);
        assert_eq!(sizes(vec![CUT]).await, [(CUT, false), (0, true)]);
        assert_eq!(sizes(vec![CUT + 1]).await, [(CUT, false), (1, true)]);
        assert_eq!(sizes(vec![3 * CUT, 5]).await, [(CUT, false), (CUT, false), (CUT, false), (5, true)]);
    }

    #[tokio::test]
    async fn a_failure_comes_after_what_was_good() {
        let source = tokio_stream::iter([Ok(Bytes::from("good")), Err(BoxError::from("broken"))]);
        let mut pieces = Pieces::new(Box::pin(source));
        assert_eq!(pieces.next().await.expect("a part"), Piece { body: "good".into(), last: false });
        assert_eq!(pieces.next().await.expect_err("the failure").to_string(), "broken");
    }

    #[tokio::test]
    async fn the_head_does_not_wait_for_a_body() {
        let (sender, parts) = channel();
        let mut pieces = Pieces::new(Box::pin(parts));
        assert_eq!(pieces.next().await.expect("a head"), Piece { body: Bytes::new(), last: false });
        sender.send("one").await.expect("a reader");
        assert_eq!(pieces.next().await.expect("a part").body, "one");
        drop(sender);
        assert!(pieces.next().await.expect("an end").last);
    }
}
