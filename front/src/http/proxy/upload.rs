//! The body of a request on its way to another server: passed on as the server takes it, within the route's limit.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::error::Failure;
use crate::http::Incoming;

/// What became of a body, for whoever waits for the answer.
pub(super) struct Progress {
    /// When the last piece of it was passed on.
    pub(super) at: Cell<Instant>,
    /// What was wrong with it.
    pub(super) wrong: RefCell<Option<Failure>>,
}

impl Progress {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { at: Cell::new(Instant::now()), wrong: RefCell::default() })
    }
}

/// The body; None: there is none.
pub(super) struct Upload(Option<Box<Passing>>);

struct Passing {
    incoming: Incoming,
    limit: usize,
    left: usize,
    /// Time without any byte of it.
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    progress: Rc<Progress>,
}

impl Upload {
    /// Passes on at most `limit` bytes, of which each piece may take as long as `patience`.
    pub(super) fn new(incoming: Incoming, limit: usize, patience: Duration, progress: &Rc<Progress>) -> Self {
        if incoming.is_end_stream() {
            return Self::none();
        }
        let progress = Rc::clone(progress);
        Self(Some(Box::new(Passing { incoming, limit, left: limit, patience, timer: None, progress })))
    }

    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl Passing {
    fn fail(&mut self, failure: Failure) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        *self.progress.wrong.borrow_mut() = Some(failure);
        Poll::Ready(Some(Err(io::Error::other("the request's body did not come whole"))))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.timer = None;
                    self.progress.at.set(Instant::now());
                    // Trailers stay behind, as everywhere.
                    let Ok(data) = frame.into_data() else { continue };
                    let Some(left) = self.left.checked_sub(data.len()) else {
                        return self.fail(Failure::BodyTooLarge(self.limit));
                    };
                    self.left = left;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(_))) => return self.fail(Failure::ClientGone),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => self.fail(Failure::BodyTimeout),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.as_mut().map_or(Poll::Ready(None), |passing| passing.poll(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|passing| passing.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |passing| passing.incoming.size_hint())
    }
}
