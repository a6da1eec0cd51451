//! One mounted part of a front: a request in, a response out, on whichever runtime.
//!
//! It decides nothing: what the request gets is decided on a reactor.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use super::Body;
use crate::connection::Handed;
use crate::http::{BoxError, Incoming};
use crate::listener::{Address, Entrance, Mount, Way};
use crate::server::Door;

/// Whom a request is from: an extension of it, which the application adds because it has the connection. Workers are told it,
/// and limits by address hold for it; without it neither is the case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it came by TLS.
    pub secure: bool,
}

/// A part of a front, to be mounted: a `tower` service that never fails.
#[derive(Clone)]
pub struct Service {
    door: Door,
    plain: Arc<Entrance>,
    secure: Arc<Entrance>,
}

impl Service {
    pub(super) fn new(door: Door, what: &Mount) -> Self {
        let entrance = |secure| {
            Arc::new(Entrance { address: Address::Application, way: Way::Mounted { what: what.clone(), secure } })
        };
        Self { door, plain: entrance(false), secure: entrance(true) }
    }

    /// Answers a request; dropped, it is withdrawn like that of a client that has left.
    pub fn answer<B>(&self, request: Request<B>) -> Answering
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let client = request.extensions().get::<Client>().copied();
        let entrance = if client.is_some_and(|client| client.secure) { &self.secure } else { &self.plain };
        let request = request.map(|body| Incoming::Handed(body.map_err(Into::into).boxed_unsync()));
        let (answer, answered) = oneshot::channel();
        let client = client.map(|client| client.address);
        let handed = Handed { request, entrance: Arc::clone(entrance), client, answer };
        match self.door.hand_over(Box::new(handed)) {
            Ok(()) => Answering(State::Asked(answered)),
            Err(why) => Answering(State::Refused(why)),
        }
    }
}

impl<B> tower_service::Service<Request<B>> for Service
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    /// Always: a front that has too much to do says so to the client.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answering {
        self.answer(request)
    }
}

/// A response on its way.
#[derive(Debug)]
pub struct Answering(State);

#[derive(Debug)]
enum State {
    Asked(oneshot::Receiver<Response<Body>>),
    Refused(&'static str),
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match &mut self.0 {
            State::Refused(why) => unavailable(why),
            State::Asked(answered) => match Pin::new(answered).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(response)) => response,
                // As on a connection of the front's own.
                Poll::Ready(Err(_)) => text(StatusCode::BAD_GATEWAY, "the answer broke off before it began"),
            },
        };
        Poll::Ready(Ok(response))
    }
}

fn unavailable(why: &str) -> Response<Body> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn text(status: StatusCode, detail: &str) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or("Error");
    let mut response = Response::new(Body::whole(format!("{} {title}: {detail}\n", status.as_u16())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
