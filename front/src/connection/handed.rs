//! One request of the application that the front is a part of: answered on a reactor, and its answer handed back to a
//! runtime that the front knows nothing of.
//!
//! The application has the connection, its time limits and its protocol; what lies between it and a reactor is one piece of
//! an answer at most, so that a client that takes nothing is noticed here as anywhere else.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::{mpsc, oneshot};

use super::Connections;
use super::http2::name_host;
use crate::http::{Body, Current, Incoming, Peer, handle};
use crate::listener::Entrance;

/// Pieces of an answer that wait for the application. With none a piece could only be made while somebody waits for it.
const AHEAD: usize = 1;

/// A request that an application hands over.
pub struct Handed {
    /// The request.
    pub request: Request<Incoming>,
    /// What it is for.
    pub entrance: Arc<Entrance>,
    /// Whom it is from, where that is known.
    pub client: Option<SocketAddr>,
    /// Where its answer goes; closed: nobody waits for it any more.
    pub answer: oneshot::Sender<Response<Answered>>,
}

/// The body of an answer, for any runtime.
#[derive(Debug)]
pub struct Answered(Kind);

#[derive(Debug)]
enum Kind {
    Whole(Bytes),
    Pieces { from: mpsc::Receiver<Piece>, hint: SizeHint },
    Over,
}

#[derive(Debug)]
enum Piece {
    Data(Bytes),
    /// Without it an answer that broke off would look like a whole one.
    End,
}

impl Answered {
    /// Bytes at hand.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Whole(bytes.into()))
    }
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = match &mut self.0 {
            Kind::Over => Poll::Ready(None),
            Kind::Whole(bytes) => match std::mem::take(bytes) {
                none if none.is_empty() => Poll::Ready(None),
                bytes => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            },
            Kind::Pieces { from, .. } => from.poll_recv(cx).map(|piece| match piece {
                Some(Piece::Data(bytes)) => Some(Ok(Frame::data(bytes))),
                Some(Piece::End) => None,
                None => Some(Err(io::Error::other("the answer broke off"))),
            }),
        };
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.0 = Kind::Over;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Over => true,
            Kind::Pieces { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Over => SizeHint::with_exact(0),
            Kind::Pieces { hint, .. } => *hint,
        }
    }
}

impl Connections {
    /// Answers one request, until its answer is taken or nobody waits for it any more.
    pub async fn answer(&self, current: &Current, handed: Handed) {
        let Handed { mut request, entrance, client, answer } = handed;
        if request.version() == Version::HTTP_2 {
            name_host(&mut request);
        }
        let peer = Peer::handed(client, entrance);
        let mut work = pin!(self.serve_handed(current, &peer, request, answer));
        poll_fn(|cx| {
            peer.listen(cx.waker());
            // Dropped, it breaks off, and the application is told so.
            if peer.expired.get() { Poll::Ready(()) } else { work.as_mut().poll(cx) }
        })
        .await;
    }

    async fn serve_handed(
        &self,
        current: &Current,
        peer: &Rc<Peer>,
        request: Request<Incoming>,
        mut answer: oneshot::Sender<Response<Answered>>,
    ) {
        let Ok(response) = tokio::select! {
            response = handle(current.get(), Rc::clone(peer), request) => response,
            () = answer.closed() => return,
        };
        let (mut head, mut body) = response.into_parts();
        // What is said of a connection is the application's to say.
        head.headers.remove(header::CONNECTION);
        let hint = HttpBody::size_hint(&body);
        let first = match body.frame().now_or_never() {
            Some(None) => return drop(answer.send(Response::from_parts(head, Answered(Kind::Over)))),
            Some(Some(Ok(frame))) => Some(frame.into_data().unwrap_or_default()),
            // A failure before the first byte leaves no answer to speak of.
            Some(Some(Err(_))) => return,
            None => None,
        };
        if let Some(whole) = first.as_ref().filter(|_| body.is_end_stream()) {
            return drop(answer.send(Response::from_parts(head, Answered::whole(whole.clone()))));
        }
        let (to, from) = mpsc::channel(AHEAD);
        let _ = answer.send(Response::from_parts(head, Answered(Kind::Pieces { from, hint })));
        // From here on the client's pace is looked at.
        self.peers.borrow_mut().push(Rc::downgrade(peer));
        hand_back(body, first, &to, peer).await;
    }
}

async fn hand_back(mut body: Body, first: Option<Bytes>, to: &mpsc::Sender<Piece>, peer: &Peer) {
    let mut next = first;
    loop {
        if next.is_none() {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = to.closed() => return,
            };
            next = match frame {
                Some(Ok(frame)) => frame.into_data().ok(),
                // Without the last piece it is known to have broken off.
                Some(Err(_)) => return,
                None => return drop(to.send(Piece::End).await),
            };
        }
        let Some(bytes) = next.take() else { continue };
        if !body.paces_itself() {
            peer.blocked.set(Some(Instant::now()));
        }
        if to.send(Piece::Data(bytes)).await.is_err() {
            return;
        }
        peer.blocked.set(None);
    }
}
