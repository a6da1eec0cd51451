//! A request for another HTTP server: passed on as it is, and its answer back, so that paths can move here one by one.
//!
//! Both bodies are streamed as the other side takes them; nothing is held but what one read brings. A request is sent a
//! second time only where the server cannot have begun it: hyper gives it back unsent, or a connection that had been
//! used before closed without a byte of an answer, and the method is idempotent and has no body.

mod download;
mod head;
mod pool;
mod upload;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::{Request, Response, Version, header};
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, sleep_until};

pub(super) use self::download::Download;
use self::head::Facts;
pub(super) use self::pool::Pool;
use self::pool::{Line, NoLine};
use self::upload::{Progress, Upload};
use super::respond::Asker;
use super::{Body, Client, Context, Incoming};
use crate::cookies;
use crate::error::Failure;
use crate::ident::RequestId;
use crate::telemetry::ProxyOutcome;

pub(super) async fn answer(
    context: &Context,
    client: &Client<'_>,
    request: Request<Incoming>,
    pool: &Rc<Pool>,
    asker: Asker<'_>,
) -> Result<Response<Body>, Failure> {
    if wants_upgrade(&request) {
        return Err(Failure::NotBuilt("this path takes no Upgrade; WebSocket is not passed on yet"));
    }
    let limit = pool.route.body_limit;
    if http_body::Body::size_hint(request.body()).lower() > limit as u64 {
        return Err(Failure::BodyTooLarge(limit));
    }
    let progress = Progress::new();
    let request = passed_on(request, client, pool, asker.id, (context, &progress))?;
    let outcome = exchange(request, pool, &progress).await;
    let (outcome, counted) = match outcome {
        Ok((response, line)) => (Ok(passed_back(response, line, (pool, context))), ProxyOutcome::Answered),
        Err(broken) => {
            // A body that did not come whole is why the server gave none.
            let failure = progress.wrong.borrow_mut().take();
            let (failure, counted, why) =
                failure.map_or_else(|| broken.named(), |client| (client, ProxyOutcome::Client, None));
            if let Some(why) = why {
                context.dispatch.note_of("proxy", &pool.route.upstream.url, asker.id.as_str(), &why);
            }
            (Err(failure), counted)
        }
    };
    context.metrics.proxied.inc(counted);
    outcome
}

/// Why there is no answer.
enum Broken {
    NoLine(NoLine),
    Late,
    Failed(hyper::Error),
}

impl Broken {
    /// For the client, for the metrics, and for the log.
    fn named(self) -> (Failure, ProxyOutcome, Option<String>) {
        let late = || Failure::UpstreamLate("the server behind this path did not answer in time");
        match self {
            Self::NoLine(NoLine::Full) => {
                (Failure::Overload("the server behind this path is busy; try again"), ProxyOutcome::Full, None)
            }
            Self::NoLine(NoLine::Late) => (late(), ProxyOutcome::Late, Some("no connection in time".to_owned())),
            Self::NoLine(NoLine::Unreachable(error)) => (
                Failure::Upstream("the server behind this path cannot be reached"),
                ProxyOutcome::Unreachable,
                Some(error.to_string()),
            ),
            Self::Late => (late(), ProxyOutcome::Late, Some("no answer in time".to_owned())),
            Self::Failed(error) => (
                Failure::Upstream("the server behind this path broke off, or its answer is not HTTP"),
                ProxyOutcome::Broken,
                Some(error.to_string()),
            ),
        }
    }
}

/// An Upgrade to HTTP/2 in clear text may be passed over (RFC 9110, section 7.8); curl asks for one.
fn wants_upgrade(request: &Request<Incoming>) -> bool {
    request.headers().get_all(header::UPGRADE).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"h2c"))
}

fn passed_on(
    request: Request<Incoming>,
    client: &Client<'_>,
    pool: &Pool,
    id: &RequestId,
    (context, progress): (&Context, &Rc<Progress>),
) -> Result<Request<Upload>, Failure> {
    let host = client.host_of_routed(&request).map(str::to_owned);
    let route = &pool.route;
    let facts = Facts { client: client.address().ip(), scheme: client.scheme(), host: host.as_deref(), id };
    let (mut parts, incoming) = request.into_parts();
    let own_cookie = context.sessions.as_ref().map(|sessions| sessions.settings().cookie.as_str());
    head::forward(&mut parts.headers, route, own_cookie, &facts);
    let mut out = Request::new(Upload::new(incoming, route.body_limit, context.config.limits.body_time, progress));
    *out.method_mut() = parts.method;
    *out.uri_mut() = head::target(&parts.uri, route.strip_prefix.as_deref());
    *out.version_mut() = Version::HTTP_11;
    *out.headers_mut() = parts.headers;
    Ok(out)
}

async fn exchange(
    mut request: Request<Upload>,
    pool: &Rc<Pool>,
    progress: &Progress,
) -> Result<(Response<hyper::body::Incoming>, Line), Broken> {
    let mut fresh = false;
    loop {
        let mut line = pool.line(fresh).await.map_err(Broken::NoLine)?;
        progress.at.set(std::time::Instant::now());
        let again = (line.reused && may_repeat(&request)).then(|| copy(&request));
        let mut error = match send(&mut line, request, pool, progress).await? {
            Ok(response) => return Ok((response, line)),
            Err(error) => error,
        };
        // Given back unsent, or closed while the request was on its way to a connection that had lain idle.
        request = match (error.take_message(), again) {
            (Some(unsent), _) if line.reused => unsent,
            (None, Some(again)) => again,
            _ => return Err(Broken::Failed(error.into_error())),
        };
        fresh = true;
    }
}

fn may_repeat(request: &Request<Upload>) -> bool {
    request.method().is_idempotent() && request.body().is_none()
}

fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::none());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Sends a request and waits for the head of its answer: for `timeout` since the last piece of the request went out.
async fn send(
    line: &mut Line,
    request: Request<Upload>,
    pool: &Pool,
    progress: &Progress,
) -> Result<Result<Response<hyper::body::Incoming>, TrySendError<Request<Upload>>>, Broken> {
    let mut answer = pin!(line.sender.try_send_request(request));
    let until = || Instant::from_std(progress.at.get() + pool.route.timeout);
    let mut timer = pin!(sleep_until(until()));
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(answered));
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if until() <= Instant::now() {
                return Poll::Ready(Err(Broken::Late));
            }
            timer.as_mut().reset(until());
        }
    })
    .await
}

fn passed_back(
    response: Response<hyper::body::Incoming>,
    line: Line,
    (pool, context): (&Pool, &Context),
) -> Response<Body> {
    let (mut parts, incoming) = response.into_parts();
    head::strip_hop_by_hop(&mut parts.headers);
    if let Some(sessions) = &context.sessions {
        cookies::refuse(&mut parts.headers, &sessions.settings().cookie);
    }
    let mut out = Response::new(Body::proxied(Download::new(incoming, line, pool.route.quiet_time)));
    *out.status_mut() = parts.status;
    *out.headers_mut() = parts.headers;
    out
}
