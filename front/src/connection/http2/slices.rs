//! A response's body as HTTP/2 takes it: in pieces, so that a client without room holds up little, and not for ever.
//!
//! hyper asks for a piece when there is room for one. A client that takes nothing leaves a piece where it is, while its
//! socket goes on taking what is for others: so each body has the time limit that a whole connection has in HTTP/1.1.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::http::{Body, Peer};

/// Bytes of a piece: a frame of the size that every client takes.
const PIECE: usize = 16 * 1024;

/// A body in pieces.
pub(super) struct Slices {
    body: Body,
    rest: Bytes,
    stream: Rc<Peer>,
}

impl Slices {
    pub(super) fn new(body: Body, stream: Rc<Peer>) -> Self {
        Self { body, rest: Bytes::new(), stream }
    }
}

impl http_body::Body for Slices {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        this.stream.blocked.set(None);
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return Poll::Ready(other),
            }
        }
        let piece = this.rest.split_to(PIECE.min(this.rest.len()));
        if !this.body.paces_itself() {
            this.stream.blocked.set(Some(Instant::now()));
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
