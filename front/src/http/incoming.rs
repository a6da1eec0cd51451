//! A request's body as it comes: off a connection of this front, or from the application that the front is a part of.
//!
//! It is only passed on here; how much of it is taken, and how long that may last, is [`super::body`]'s to say.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

/// What may be wrong with a body of an application's.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request.
#[derive(Debug)]
pub enum Incoming {
    /// Off a connection.
    Wire(hyper::body::Incoming),
    /// Handed over by an application.
    Handed(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Wire(body) => Pin::new(body).poll_frame(cx).map_err(|error| Broken::from(&error)),
            // Whatever it was, it is the application that knows: the rest of the body does not come.
            Self::Handed(body) => Pin::new(body).poll_frame(cx).map_err(|_| Broken::Off),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Wire(body) => body.is_end_stream(),
            Self::Handed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Wire(body) => body.size_hint(),
            Self::Handed(body) => body.size_hint(),
        }
    }
}

/// Why a body did not come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The client left, or stopped in the middle.
    Off,
    /// It is not what its framing says.
    Framing,
}

impl From<&hyper::Error> for Broken {
    fn from(error: &hyper::Error) -> Self {
        let left = error.is_closed() || error.is_incomplete_message() || error.is_canceled();
        if left { Self::Off } else { Self::Framing }
    }
}
