//! The body of a server's answer on its way to the client: read as the client takes it, and no faster.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::pool::Line;

/// The body, with the connection that it comes on.
pub(in super::super) struct Download {
    incoming: Incoming,
    line: Option<Line>,
    quiet: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Nothing has come since the timer was set.
    waiting: bool,
}

impl Download {
    /// A server that is silent for longer than `quiet` while the client wants more breaks the answer off.
    pub(super) fn new(incoming: Incoming, line: Line, quiet: Duration) -> Self {
        let mut download = Self { incoming, line: Some(line), quiet, timer: None, waiting: false };
        if download.incoming.is_end_stream() {
            download.over();
        }
        download
    }

    fn over(&mut self) {
        if let Some(line) = self.line.take() {
            line.give_back();
        }
    }

    pub(in super::super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.waiting = false;
                    if self.incoming.is_end_stream() {
                        self.over();
                    }
                    let Ok(data) = frame.into_data() else { continue };
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                Poll::Ready(None) => {
                    self.over();
                    return Poll::Ready(None);
                }
                Poll::Pending => break,
            }
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.quiet)));
        if !std::mem::replace(&mut self.waiting, true) {
            timer.as_mut().reset(Instant::now() + self.quiet);
        }
        let silent = || Some(Err(io::Error::other("the server behind was silent for too long")));
        timer.as_mut().poll(cx).map(|()| silent())
    }

    pub(in super::super) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(in super::super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
