//! A worker's answer that names a file: the front sends it, with what the worker says of it.
//!
//! The name is a path of a route with `internal = true`, which no client reaches. What the worker wants the client to
//! see (type, disposition, cookies, status) is the worker's; which bytes there are, and which of them are sent, is the
//! file's. A file never names another one, so there is no loop.

use http::{HeaderMap, Method, Response, StatusCode, header};

use super::{Body, Context, files};
use crate::error::Failure;
use crate::ident::RequestId;
use crate::queue::Lane;

/// What of a request is needed where its answer may name a file; kept while it waits, so only where there are such
/// routes.
pub(super) struct Asked {
    pub(super) headers: HeaderMap,
    pub(super) is_head: bool,
}

/// What the worker said.
pub(super) struct Named {
    pub(super) path: Box<str>,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

/// What says how many bytes there are, and which.
const OF_THE_FILE: [header::HeaderName; 5] =
    [header::CONTENT_LENGTH, header::CONTENT_RANGE, header::ACCEPT_RANGES, header::ETAG, header::LAST_MODIFIED];
/// What asks for less than the whole file.
const CONDITIONS: [header::HeaderName; 6] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];

pub(super) async fn answer(
    context: &Context,
    asked: Option<Box<Asked>>,
    named: Named,
    (lane, id): (&Lane, &RequestId),
) -> Result<Response<Body>, Failure> {
    let queue = lane.queue.name.as_str();
    let complain = |detail: &str| context.dispatch.note_of("x-accel-redirect", queue, id.as_str(), detail);
    let path = named.path.split('?').next().unwrap_or_default();
    let (Some(mut asked), Some((route, rest))) = (asked, context.router.find_internal(path)) else {
        complain(&format!("no route with internal = true has the path {path:?}"));
        return Err(Failure::BadFile);
    };
    if named.status != StatusCode::OK {
        CONDITIONS.iter().for_each(|name| drop(asked.headers.remove(name)));
    }
    if named.headers.contains_key(header::CONTENT_ENCODING) {
        asked.headers.remove(header::ACCEPT_ENCODING);
    }
    let method = if asked.is_head { Method::HEAD } else { Method::GET };
    let ask = files::Asked { method: &method, headers: &asked.headers, query: None };
    let sent = files::serve(route, rest, ask).await.and_then(|response| match response.status() {
        StatusCode::PERMANENT_REDIRECT => Err(Failure::NoRoute),
        _ => Ok(response),
    });
    if sent.as_ref().is_err_and(|failure| *failure == Failure::NoRoute) {
        complain(&format!("no file can be sent for {path:?}"));
    }
    sent.map(|response| joined(response.map(Body::boxed), named))
}

/// The file's response with the worker's headers over it.
fn joined(mut response: Response<Body>, named: Named) -> Response<Body> {
    if named.status != StatusCode::OK {
        *response.status_mut() = named.status;
    }
    let with_type = response.headers().contains_key(header::CONTENT_TYPE);
    let ours = response.headers_mut();
    let mut last = None;
    for (name, value) in named.headers {
        // The second and further values of a name come without it.
        let first = name.is_some();
        let Some(name) = name.or_else(|| last.clone()) else { continue };
        last = Some(name.clone());
        let of_the_body = name == header::CONTENT_TYPE || name == header::CONTENT_ENCODING;
        if OF_THE_FILE.contains(&name) || (of_the_body && !with_type) {
            continue;
        }
        if first && name != header::VARY {
            ours.insert(name, value);
        } else {
            ours.append(name, value);
        }
    }
    response
}
