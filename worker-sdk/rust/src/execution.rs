//! One job from its route to its answer.
//!
//! Whatever a handler does, a job with a `reply_to` is answered once: an error or a panic becomes a 500 whose
//! details stay in the log unless this is development. It must not take jobs or talk to Redis.

use std::sync::Arc;

use tempest_protocol::{AnswerHead, Job, Keys, STREAM_CUT_BYTES, encode_answer};

use crate::BoxError;
use crate::answer::{Answer, Gate, StreamPart};
use crate::outlet::Outlet;
use crate::panics::{Guarded, guarded};
use crate::request::{Context, Params, Request};
use crate::response::{Body, Header, Response, error_chain};
use crate::router::{Matched, Router};
use crate::status::{Status, count};
use crate::stream::{BoxStream, Pieces};

/// How long an answer without a deadline, or a part of a stream, is worth trying to deliver, in ms.
const WITHOUT_DEADLINE_MS: u64 = 60_000;

/// How far ahead the number is of a message that says: this stream has failed.
const ABORTING_GAP: u64 = 1_000_000;

/// What all jobs of a worker need.
pub(crate) struct Shared {
    pub(crate) router: Router,
    pub(crate) context: Arc<Context>,
    pub(crate) outlet: Outlet,
    pub(crate) status: Arc<Status>,
    pub(crate) keys: Keys,
}

/// Runs a job; gives back its answer where that is one message, and has sent it otherwise.
pub(crate) async fn execute(shared: Arc<Shared>, job: Box<Job>) -> Option<Answer> {
    let caller = Caller::of(&job, &shared);
    let outcome = respond(&shared, job).await.and_then(|response| match response.check() {
        Ok(()) => Ok(response),
        Err(invalid) => Err(invalid.into()),
    });
    count(&shared.status.done);
    let response = outcome.unwrap_or_else(|error| failure(&shared, &caller.id, &error));
    let caller = caller.waiting()?;
    match response.body {
        Body::Whole(ref body) if body.len() <= STREAM_CUT_BYTES || caller.head_request => {
            Some(caller.whole_answer(&shared, response.status, &response.headers, body))
        }
        Body::Whole(body) => {
            let mut headers = response.headers;
            headers.retain(|(name, _)| !is_content_length(name));
            headers.push(("content-length".into(), body.len().to_string().into()));
            let parts = Box::pin(tokio_stream::once(Ok(body)));
            // Boxed, since most jobs never get here and would carry its state along.
            Box::pin(pump(&shared, &caller, response.status, &headers, parts)).await;
            None
        }
        Body::Stream(parts) => {
            Box::pin(pump(&shared, &caller, response.status, &response.headers, parts)).await;
            None
        }
    }
}

async fn respond(shared: &Arc<Shared>, job: Box<Job>) -> Result<Response, BoxError> {
    match shared.router.find(&job) {
        Matched::Handler(handler, params) => {
            let request = request(shared, job, params);
            let with_trace = shared.context.development;
            let answering = guarded(with_trace, || handler.call(request))?;
            Guarded { inner: answering, with_trace }.await?
        }
        Matched::NotFound => Ok(Response::text("not found\n").with_status(404)),
        Matched::WrongMethod(allow) => {
            Ok(Response::text("method not allowed\n").with_status(405).with_header("allow", allow))
        }
        Matched::UnknownAction => {
            tracing::error!(request = job.id(), action = job.action(), "a job without a handler for its action");
            Ok(Response::text("not implemented\n").with_status(501))
        }
    }
}

fn request(shared: &Arc<Shared>, job: Box<Job>, params: Params) -> Request {
    Request::new(job, params, shared.context.clone())
}

/// Logs what went wrong and makes the answer for it.
fn failure(shared: &Shared, id: &str, error: &BoxError) -> Response {
    count(&shared.status.failed);
    let details = error_chain(&**error);
    tracing::error!(request = id, error = details, "a handler failed");
    let text = if shared.context.development { details } else { "internal server error".into() };
    Response::text(text + "\n").with_status(500)
}

fn is_content_length(name: &str) -> bool {
    name.eq_ignore_ascii_case("content-length")
}

/// Who asked, and what its answers must say to reach it.
struct Caller {
    id: String,
    attempt: u32,
    reply_to: Option<String>,
    deadline: u64,
    head_request: bool,
}

impl Caller {
    fn of(job: &Job, shared: &Shared) -> Self {
        Self {
            id: job.id().to_owned(),
            attempt: job.attempt(),
            reply_to: job.reply_to().map(str::to_owned),
            deadline: if job.deadline() > 0 { job.deadline() } else { soon(shared) },
            head_request: job.method() == "HEAD",
        }
    }

    /// Itself, where an answer is waited for.
    fn waiting(self) -> Option<Self> {
        self.reply_to.is_some().then_some(self)
    }

    fn whole_answer(&self, shared: &Shared, status: u16, headers: &[Header], body: &[u8]) -> Answer {
        // The front counts the body itself, and would refuse the answer where a handler miscounted.
        let own_length = self.head_request || status == 304;
        let kept = headers.iter().filter(|(name, _)| own_length || !is_content_length(name));
        let mut headers = borrowed(kept);
        let length;
        if self.head_request && !body.is_empty() && !headers.iter().any(|(name, _)| is_content_length(name)) {
            length = body.len().to_string();
            headers.push(("content-length", &length));
        }
        let body = if self.head_request { b"" } else { body };
        let head = AnswerHead { status, headers: &headers, ..self.head() };
        self.answer(encoded(&head, body), shared, None)
    }

    fn head(&self) -> AnswerHead<'_> {
        AnswerHead { id: &self.id, attempt: self.attempt, ..AnswerHead::default() }
    }

    fn answer(&self, message: Vec<u8>, shared: &Shared, stream: Option<StreamPart>) -> Answer {
        // A stream may outlive the deadline of its first byte.
        let expires_ms = if stream.is_some() { self.deadline.max(soon(shared)) } else { self.deadline };
        Answer { reply_to: self.reply_to.clone().unwrap_or_default(), message, expires_ms, stream }
    }
}

fn borrowed<'h>(headers: impl Iterator<Item = &'h Header>) -> Vec<(&'h str, &'h str)> {
    headers.map(|(name, value)| (&**name, &**value)).collect()
}

fn soon(shared: &Shared) -> u64 {
    shared.context.clock.now_ms() + WITHOUT_DEADLINE_MS
}

fn encoded(head: &AnswerHead<'_>, body: &[u8]) -> Vec<u8> {
    // What a head takes beside its headers: id, numbers, braces.
    const HEAD_ROOM: usize = 96;
    let headers: usize = head.headers.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
    let mut message = Vec::with_capacity(HEAD_ROOM + headers + body.len());
    encode_answer(&mut message, head, body);
    message
}

/// Sends a body in parts, each as soon as it is there and the ones before are on their way.
async fn pump(shared: &Shared, caller: &Caller, status: u16, headers: &[Header], parts: BoxStream) {
    let headers = borrowed(headers.iter());
    let gate = Gate::new();
    let mut pieces = Pieces::new(parts);
    for n in 0.. {
        let Some(part) = gate.enter().await else {
            tracing::warn!(request = caller.id, "a streamed answer was given up: nobody reads it");
            return;
        };
        let next = Guarded { inner: Box::pin(pieces.next()), with_trace: shared.context.development };
        let piece = match next.await.map_err(BoxError::from).flatten() {
            Ok(piece) => piece,
            Err(error) => return abort(shared, caller, n, &error, part),
        };
        let head = AnswerHead { n, more: !piece.last, ..caller.head() };
        let message = if n == 0 {
            encoded(&AnswerHead { status, headers: &headers, ..head }, &piece.body)
        } else {
            encoded(&head, &piece.body)
        };
        shared.outlet.send(caller.answer(message, shared, Some(part)));
        if piece.last {
            return;
        }
    }
}

/// Ends a stream without completing it, in the way of the contract: by a gap that cannot be closed.
fn abort(shared: &Shared, caller: &Caller, n: u64, error: &BoxError, part: StreamPart) {
    failure(shared, &caller.id, error);
    let message = encoded(&AnswerHead { n: n + ABORTING_GAP, ..caller.head() }, b"");
    shared.outlet.send(caller.answer(message, shared, Some(part)));
}
