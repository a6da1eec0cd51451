//! A body that is compressed piece by piece as the client takes it.
//!
//! One piece a turn of the reactor, so that nobody waits behind a large body; and whatever has come is flushed as soon
//! as nothing more is there, so that each message of a streamed answer leaves when it comes.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};

use super::super::Body;
use super::PIECE;
use super::encoder::Encoder;

/// One of the bodies that are compressed at a time.
pub(super) struct Place(pub(super) Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The body.
pub(in super::super) struct Coded {
    inner: Body,
    /// None once it is finished.
    encoder: Option<Encoder>,
    /// Bytes that came and were not compressed yet.
    waiting: Bytes,
    /// Bytes went in that may not have come out.
    unflushed: bool,
    /// A piece was compressed; the others have their turn first.
    worked: bool,
    _place: Place,
}

impl Coded {
    pub(super) fn new(inner: Body, encoder: Encoder, place: Place) -> Self {
        let encoder = Some(encoder);
        Self { inner, encoder, waiting: Bytes::new(), unflushed: false, worked: false, _place: place }
    }

    pub(in super::super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            let Some(encoder) = &mut self.encoder else { return Poll::Ready(None) };
            if !self.waiting.is_empty() {
                if std::mem::take(&mut self.worked) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let piece = self.waiting.split_to(self.waiting.len().min(PIECE));
                if let Err(error) = encoder.write(&piece) {
                    return self.fail(error);
                }
                (self.worked, self.unflushed) = (true, true);
                match encoder.take() {
                    out if out.is_empty() => continue,
                    out => return data(out),
                }
            }
            match Pin::new(&mut self.inner).poll_frame(cx) {
                // Trailers have no place in what is compressed.
                Poll::Ready(Some(Ok(frame))) => self.waiting = frame.into_data().unwrap_or_default(),
                Poll::Ready(Some(Err(error))) => return self.fail(error),
                Poll::Ready(None) => return self.finish(),
                Poll::Pending => {
                    self.worked = false;
                    return self.flush();
                }
            }
        }
    }

    /// Nothing more is there for now.
    fn flush(&mut self) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !std::mem::take(&mut self.unflushed) {
            return Poll::Pending;
        }
        let Some(encoder) = &mut self.encoder else { return Poll::Ready(None) };
        if let Err(error) = encoder.flush() {
            return self.fail(error);
        }
        match encoder.take() {
            out if out.is_empty() => Poll::Pending,
            out => data(out),
        }
    }

    fn finish(&mut self) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.encoder.take().map(Encoder::finish) {
            None => Poll::Ready(None),
            Some(Ok(out)) if out.is_empty() => Poll::Ready(None),
            Some(Ok(out)) => data(out),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
        }
    }

    fn fail(&mut self, error: io::Error) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.encoder = None;
        Poll::Ready(Some(Err(error)))
    }
}

fn data(out: Vec<u8>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
    Poll::Ready(Some(Ok(Frame::data(out.into()))))
}
