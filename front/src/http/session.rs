//! The session of one request: opened before it is a job, closed with its answer.
//!
//! What a session is, and where it is kept, is the sessions' affair; here is when they are asked, and what is said where
//! they refuse.

use http::header;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;
use tempest_protocol::SessionChange;

use super::{Client, Context};
use crate::auth::Voucher;
use crate::cookies::refuse;
use crate::error::Failure;
use crate::origin::is_forged;
use crate::queue::Lane;
use crate::session::{Session, Sessions};
use crate::telemetry::Refusal;

/// What is put into `cache-control` where a client is given its session and the worker says nothing of caches: no cache
/// may give it to another.
const PRIVATE: HeaderValue = HeaderValue::from_static("private");

/// The member of a session that opens channels, in the form of a token's claim of this name.
const GRANTS: &str = "tempest";

/// Opens it, for a route that has sessions.
///
/// # Errors
/// Redis does not say, or a page of another site sent the request.
pub(super) async fn open(
    context: &Context,
    sessions: &Sessions,
    (method, headers, host): (&Method, &HeaderMap, Option<&str>),
) -> Result<Session, Failure> {
    let session = sessions.open(headers).await?;
    let settings = sessions.settings();
    // Without a session there is nothing that another site's page could misuse.
    if settings.check_origin && !session.is_empty() && is_forged(method, headers, host, &settings.origins) {
        context.metrics.refused.inc(Refusal::Origin);
        return Err(Failure::Forbidden("this request comes from a page of another site: see session.origins"));
    }
    Ok(session)
}

/// What the session of a request vouches for, for channels; None: there is none.
///
/// # Errors
/// Redis does not say.
pub(super) async fn voucher(context: &Context, headers: &HeaderMap) -> Result<Option<Voucher>, Failure> {
    let Some(sessions) = &context.sessions else { return Ok(None) };
    let session = sessions.open(headers).await?;
    if session.is_empty() {
        return Ok(None);
    }
    let user = session.get(&sessions.settings().user).map(|user| match user {
        Value::String(name) => name.clone(),
        other => other.to_string(),
    });
    Ok(Some(Voucher { user, grants: session.get(GRANTS).cloned(), expires: session.ends() }))
}

/// Closes it: puts what the client is to know of it into the answer's headers.
///
/// # Errors
/// The session is too large, or Redis does not say. What the worker has done stays done.
pub(super) async fn close(
    context: &Context,
    (lane, id): (&Lane, &str),
    session: Option<Session>,
    change: Option<&SessionChange>,
    (headers, client): (&mut HeaderMap, &Client<'_>),
) -> Result<(), Failure> {
    let note = |what, detail: &str| context.dispatch.note_of(what, lane.queue.name.as_str(), id, detail);
    let Some(sessions) = &context.sessions else {
        if change.is_some() {
            note("session-off", "a worker changed the session, and the configuration has no [session]");
        }
        return Ok(());
    };
    if refuse(headers, &sessions.settings().cookie) {
        note("session-cookie", "a worker set the session's cookie, which is the front's: it was taken out");
    }
    let Some(session) = session else {
        if change.is_some() {
            note("session-off", "a worker changed the session on a route with session = false");
        }
        return Ok(());
    };
    let closed = sessions.close(session, change, client.is_secure()).await;
    if let Err(Failure::SessionTooLarge(bytes, most)) = &closed {
        note("session-too-large", &format!("{bytes} bytes of JSON, where {most} are the limit: it stays as it was"));
    }
    let Some(cookie) = closed? else { return Ok(()) };
    headers.append(header::SET_COOKIE, cookie);
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, PRIVATE);
    }
    Ok(())
}
