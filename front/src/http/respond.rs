//! Where a failure becomes a response, and where every response gets what all of them have.
//!
//! A failure has two texts: a short one for the client, which says what was wrong and what to do and nothing of what
//! is inside, and the one in the log.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::Body;
use super::{Context, Entry, Peer};
use crate::error::{Failure, NotPublished};
use crate::ident::RequestId;
use crate::lifecycle::Phase;
use crate::places::Place;
use crate::telemetry::{Ending, Metrics, RouteSeries, Trace};

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What stays of a request when it has been taken apart: who asked, and where its answer is counted.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    /// JSON is preferred to text.
    pub(super) json: bool,
    /// The request's id.
    pub(super) id: &'a RequestId,
    /// Its trace.
    pub(super) trace: Option<&'a Rc<Trace>>,
    /// What is counted of its route.
    pub(super) series: &'a RouteSeries,
    /// When it arrived.
    pub(super) started: Instant,
}

impl Asker<'_> {
    /// Counts the request: the head of its answer is there.
    pub(super) fn count(&self, metrics: &Metrics, status: StatusCode) {
        let (status, took) = (status.as_u16(), self.started.elapsed());
        metrics.requests.inc(status);
        metrics.request_seconds.observe(took);
        self.series.answered(status, took);
    }
}

/// The response of a request that no worker answered: short text, or `application/problem+json` (RFC 9457) where the
/// client accepts JSON rather than text.
pub(super) fn failure(failure: &Failure, asker: Asker<'_>) -> Response<Body> {
    let (status, detail) = describe(failure);
    let title = status.canonical_reason().unwrap_or("Error");
    let (id, trace) = (asker.id.as_str(), asker.trace.map(|trace| trace.id()));
    let (kind, text) = if asker.json {
        let mut problem = serde_json::json!({"type": "about:blank", "title": title, "status": status.as_u16(),
            "detail": detail, "request_id": id});
        if let Some(trace) = trace {
            problem["trace_id"] = trace.into();
        }
        ("application/problem+json", problem.to_string())
    } else {
        let trace = trace.map(|trace| format!(", trace {trace}")).unwrap_or_default();
        ("text/plain; charset=utf-8", format!("{} {title}: {detail}\nrequest {id}{trace}\n", status.as_u16()))
    };
    let mut response = Response::new(Body::whole(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(wait) = retry_after(failure) {
        headers.insert(header::RETRY_AFTER, wait);
    }
    if let Failure::Method(allowed) = failure {
        let names: Vec<&str> = allowed.iter().map(|method| method.as_str()).collect();
        headers.insert(header::ALLOW, HeaderValue::from_str(&names.join(", ")).expect("methods are tokens"));
    }
    if let Failure::Unauthorized(reason) = failure {
        headers.insert(header::WWW_AUTHENTICATE, challenge(*reason));
    }
    // What follows on such a connection may be the rest of this request.
    if matches!(
        failure,
        Failure::BodyTooLarge(_)
            | Failure::BodyTimeout
            | Failure::ClientGone
            | Failure::BadRequest(_)
            | Failure::Expectation
            | Failure::NotBuilt(_)
            | Failure::Upstream(_)
            | Failure::UpstreamLate(_)
    ) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The same as [`failure`], on the operator's own page where there is one and the client does not ask for JSON.
pub(super) fn page(context: &Context, failure: &Failure, asker: Asker<'_>) -> Response<Body> {
    let mut response = self::failure(failure, asker);
    if asker.json {
        return response;
    }
    let pages = context.router.pages();
    if let Some((text, kind)) = pages.filled(response.status(), &describe(failure).1, asker.id.as_str()) {
        *response.body_mut() = Body::whole(text);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

/// The status of a failure.
pub(super) fn status(failure: &Failure) -> StatusCode {
    describe(failure).0
}

/// When another try makes sense, in whole seconds.
pub(super) fn retry_after(failure: &Failure) -> Option<HeaderValue> {
    failure.retry_after().map(|wait| HeaderValue::from(wait.as_secs().max(1)))
}

/// RFC 6750, section 3: without a token no error is named.
fn challenge(reason: Option<&'static str>) -> HeaderValue {
    let Some(reason) = reason else { return HeaderValue::from_static("Bearer") };
    HeaderValue::from_str(&format!("Bearer error=\"invalid_token\", error_description=\"{reason}\""))
        .expect("reasons are plain words")
}

fn describe(failure: &Failure) -> (StatusCode, String) {
    let text = |status, text: &str| (status, text.to_owned());
    match failure {
        Failure::NoRoute => text(StatusCode::NOT_FOUND, "nothing is served at this path"),
        Failure::Method(_) => {
            text(StatusCode::METHOD_NOT_ALLOWED, "see the Allow header for the methods this path takes")
        }
        Failure::BadRequest(why) => text(StatusCode::BAD_REQUEST, why),
        Failure::BadContent(why) => text(StatusCode::BAD_REQUEST, why),
        Failure::MediaType(why) => text(StatusCode::UNSUPPORTED_MEDIA_TYPE, why),
        Failure::InBatch(at, failure) => {
            let (status, why) = describe(failure);
            (status, format!("message {at}, counted from 0: {why}; nothing was published"))
        }
        Failure::NotPublished { why, keyed } => not_published(*why, *keyed),
        Failure::Expectation => text(StatusCode::EXPECTATION_FAILED, "the only expectation met here is 100-continue"),
        Failure::NotAcceptable(why) => text(StatusCode::NOT_ACCEPTABLE, why),
        Failure::Forbidden(why) => text(StatusCode::FORBIDDEN, why),
        Failure::SessionTooLarge(..) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, "the session would have become too large, and was left as it was")
        }
        Failure::SessionAway => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the sessions cannot be reached; what was to be changed in this one is lost",
        ),
        Failure::Unauthorized(reason) => text(StatusCode::UNAUTHORIZED, reason.unwrap_or("this needs a token")),
        Failure::HeadTooLarge => {
            text(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has too many header fields")
        }
        Failure::BodyTooLarge(limit) => {
            (StatusCode::PAYLOAD_TOO_LARGE, format!("the body may have at most {limit} bytes here"))
        }
        Failure::BodyTimeout => text(StatusCode::REQUEST_TIMEOUT, "the body stopped coming"),
        Failure::ClientGone => text(StatusCode::BAD_REQUEST, "the body broke off"),
        Failure::Overload(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
        Failure::TooMany(why) => text(StatusCode::TOO_MANY_REQUESTS, why),
        Failure::QueueFull(_) => text(StatusCode::SERVICE_UNAVAILABLE, "too many requests are queued; try again later"),
        Failure::TooLong(_) => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the wait for a worker would be too long; try again later")
        }
        Failure::NoWorker => text(StatusCode::SERVICE_UNAVAILABLE, "no worker is there; try again later"),
        Failure::WorkerDied => text(
            StatusCode::BAD_GATEWAY,
            "the worker died; whether the request was carried out is unknown, so it was not tried again",
        ),
        Failure::BrokerDown => text(StatusCode::SERVICE_UNAVAILABLE, "the queue cannot be reached; try again"),
        Failure::BrokerRefused(_) => text(StatusCode::SERVICE_UNAVAILABLE, "the queue takes nothing now; try again"),
        Failure::Deadline => text(StatusCode::GATEWAY_TIMEOUT, "no answer came in time"),
        Failure::DeadlineUnknown => text(
            StatusCode::GATEWAY_TIMEOUT,
            "no answer came in time, and whether the request was carried out is unknown",
        ),
        Failure::Malformed(_) => text(StatusCode::BAD_GATEWAY, "the answer to this request was malformed"),
        Failure::Upstream(why) => text(StatusCode::BAD_GATEWAY, why),
        Failure::UpstreamLate(why) => text(StatusCode::GATEWAY_TIMEOUT, why),
        Failure::NotBuilt(why) => text(StatusCode::NOT_IMPLEMENTED, why),
        Failure::BadFile => text(StatusCode::BAD_GATEWAY, "the answer to this request named a file that is not served"),
        Failure::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "this server is shutting down; try again"),
    }
}

fn not_published(why: NotPublished, keyed: bool) -> (StatusCode, String) {
    let (status, text) = match (why, keyed) {
        (NotPublished::Away, _) => {
            (StatusCode::SERVICE_UNAVAILABLE, "Redis cannot be reached, and nothing was published; try again")
        }
        (NotPublished::Congested, _) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the way to Redis is congested, and nothing was published; try again")
        }
        (NotPublished::Refused, _) => {
            (StatusCode::SERVICE_UNAVAILABLE, "Redis takes nothing now, and nothing was published; try again")
        }
        (NotPublished::Unknown, true) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Redis did not answer, and whether this was published is unknown; try again with the same key: it is \
             published once",
        ),
        (NotPublished::Unknown, false) => (
            StatusCode::GATEWAY_TIMEOUT,
            "Redis did not answer, and whether this was published is unknown; with an Idempotency-Key another try \
             would be safe",
        ),
    };
    (status, text.to_owned())
}

/// A response to what never became a request: a slow or oversized head, one connection too many.
pub fn early_response(status: StatusCode, detail: &str, retry: Option<Duration>) -> Vec<u8> {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = format!("{} {title}: {detail}\n", status.as_u16());
    let retry = retry.map(|wait| format!("retry-after: {}\r\n", wait.as_secs().max(1))).unwrap_or_default();
    format!(
        "HTTP/1.1 {} {title}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\n{retry}connection: close\r\n\r\n{body}",
        status.as_u16(),
        body.len(),
    )
    .into_bytes()
}

/// True where `Accept` names JSON and does not name text before it.
pub(super) fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types =
        accepted.flat_map(|value| value.split(',')).map(|range| range.split(';').next().unwrap_or("").trim());
    types.find_map(|kind| match kind {
        "application/json" | "application/problem+json" => Some(true),
        "text/plain" | "text/html" | "text/*" | "*/*" => Some(false),
        _ => None,
    }) == Some(true)
}

/// The value of [`REQUEST_ID`].
pub(super) fn request_id(id: &RequestId) -> HeaderValue {
    HeaderValue::from_bytes(id.as_bytes()).expect("ids are letters, digits, a dot and a hyphen")
}

/// What every response has, and what is counted and logged of it.
pub(super) fn finish(
    context: &Rc<Context>,
    peer: &Rc<Peer>,
    response: &mut Response<Body>,
    asker: Asker<'_>,
    (entry, place): (Option<Box<Entry>>, Place),
) {
    let (id, status) = (*asker.id, response.status().as_u16());
    asker.count(&context.metrics, response.status());
    response.headers_mut().insert(REQUEST_ID, request_id(&id));
    let served = peer.served.get() + 1;
    peer.served.set(served);
    let last = served == context.config.limits.requests_per_connection;
    if last {
        context.metrics.endings.inc(Ending::Requests);
    }
    if last || context.life.phase() >= Phase::Draining {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let report = (entry.is_some() || !place.is_free()).then(|| {
        Box::new(move |bytes| {
            drop(place);
            if let Some(entry) = entry {
                entry.write(id.as_str(), status, bytes);
            }
        }) as Box<dyn FnOnce(u64)>
    });
    response.body_mut().on_end(peer, report);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))])
    }

    #[test]
    fn json_is_for_those_who_ask_for_it() {
        assert!(wants_json(&accepting("application/json")));
        assert!(wants_json(&accepting("image/png, application/problem+json;q=0.5, */*")));
        assert!(!wants_json(&accepting("text/html,application/xhtml+xml,application/json")));
        assert!(!wants_json(&accepting("*/*")));
        assert!(!wants_json(&HeaderMap::new()));
    }
}
