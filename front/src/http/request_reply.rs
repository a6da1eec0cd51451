//! A request for a worker: body in, job out, answer back.

use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version, header};

use super::body::{self, Body};
use super::hold::{self, Asked};
use super::respond::Asker;
use super::{Client, Context, Entry, Incoming, Peer, send_file, session};
use crate::error::Failure;
use crate::queue::{self, Head, Lane, Ticket};
use crate::session::Sessions;

pub(super) async fn answer(
    context: &Rc<Context>,
    client: &Client<'_>,
    request: &mut Request<Incoming>,
    lane: &Rc<Lane>,
    (asker, entry): (Asker<'_>, Option<&Entry>),
) -> Result<Response<Body>, Failure> {
    let session = match &context.sessions {
        // Boxed, since most fronts have none and would carry its state along.
        Some(sessions) if lane.route.session => {
            let about = (request.method(), request.headers(), client.host_of_routed(request));
            Some(Box::new(Box::pin(session::open(context, sessions, about)).await?))
        }
        _ => None,
    };
    let (body, share) = body::collect(context, request, lane.route.body_limit).await?;
    let settings = context.sessions.as_ref().map(Sessions::settings);
    let ticket = context.dispatch.submit(
        &queue::Request {
            lane,
            method: request.method(),
            uri: request.uri(),
            host: client.host_of_routed(request),
            scheme: client.scheme(),
            http: version_of(request.version()),
            peer: client.text(),
            server: &client.peer().server,
            headers: request.headers(),
            body: &body,
            session: session.as_ref().zip(settings).map(|(session, of)| (session.text(), of.max_bytes)),
            own_cookie: settings.map(|of| of.cookie.as_str()),
            trace: asker.trace,
        },
        asker.id,
    )?;
    // The job has its own copy: what was taken for the body is free again.
    drop((body, share));
    let asked = Asked::of(request);
    let for_file = context.router.has_internal().then(|| {
        Box::new(send_file::Asked { headers: std::mem::take(request.headers_mut()), is_head: asked.is_head() })
    });
    // Nobody looks at them any more, and the answer may take long.
    drop(std::mem::take(request.headers_mut()));
    let mut head = ticket.head().await?;
    if session.is_some() || context.sessions.is_some() || head.session.is_some() {
        let (change, about) = (head.session.take(), (&**lane, asker.id.as_str()));
        let close = session::close(
            context,
            about,
            session.map(|session| *session),
            change.as_deref(),
            (&mut head.headers, client),
        );
        Box::pin(close).await?;
    }
    if let Some(hold) = head.hold.take() {
        // The answer is complete; the channels have the client now.
        drop(ticket);
        let answer = hold::Answer { status: head.status, headers: head.headers, hold: *hold };
        return Box::pin(hold::answer(context, client, &asked, answer, (asker, entry))).await;
    }
    if let Some(path) = head.file.take()
        && !is_bodiless(head.status)
    {
        drop(ticket);
        let named = send_file::Named { path, status: head.status, headers: head.headers };
        return Box::pin(send_file::answer(context, for_file, named, (lane, asker.id))).await;
    }
    Ok(respond(head, ticket, asked.is_head(), client.peer()))
}

fn is_bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

pub(super) fn version_of(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

fn respond(head: Head, ticket: Ticket, is_head: bool, peer: &Rc<Peer>) -> Response<Body> {
    let Head { status, mut headers, .. } = head;
    let bodiless = is_head || is_bodiless(status);
    let body = match ticket.take_whole() {
        _ if bodiless => {
            if status == StatusCode::NO_CONTENT {
                headers.remove(header::CONTENT_LENGTH);
            }
            Body::whole(Bytes::new())
        }
        Some(whole) => {
            // Checked against the body already; the one of ours replaces however many came.
            headers.remove(header::CONTENT_LENGTH);
            Body::whole(whole)
        }
        None => {
            let client = Rc::clone(peer);
            ticket.on_cut(move || client.expire());
            Body::answer(ticket)
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
