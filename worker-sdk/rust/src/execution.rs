//! One job from its route to its answer.
//!
//! Whatever a handler does, a job with a `reply_to` is answered once: an error or a panic becomes a 500 whose
//! details stay in the log unless this is development. It must not take jobs or talk to Redis.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tempest_protocol::{
    AnswerHead, Codec, Hold, Job, JobText, STREAM_CUT_BYTES, SessionChange, encode_answer, encode_packed_answer,
};

use crate::BoxError;
use crate::answer::{Acknowledgement, Answer, Gate, StreamPart};
use crate::answer_lists::AnswerList;
use crate::cancel::Cancellation;
use crate::handler::HandlerFuture;
use crate::outlet::Outlet;
use crate::panics::{Guarded, Panicked, guarded};
use crate::request::{self, Request};
use crate::response::{Body, Header, Response, error_chain};
use crate::router::{Matched, Router};
use crate::session;
use crate::status::{Begun, Status, count};
use crate::stream::{BoxStream, Pieces};
use crate::waiting::Claimed;

/// How long an answer without a deadline, or a part of a stream, is worth trying to deliver, in ms.
const WITHOUT_DEADLINE_MS: u64 = 60_000;

/// How far ahead the number is of a message that says: this stream has failed.
const ABORTING_GAP: u64 = 1_000_000;

/// What all jobs of a worker need.
pub(crate) struct Shared {
    pub(crate) router: Router,
    pub(crate) context: Arc<request::Context>,
    pub(crate) outlet: Outlet,
    pub(crate) status: Arc<Status>,
    /// Handlers of jobs that nobody wants any more run to their end.
    pub(crate) finish_cancelled: bool,
}

/// What came of starting a job.
pub(crate) enum Started {
    /// It has run through.
    Ended(Option<Answer>),
    /// It waits for something: what it is, and the rest of it.
    Waits(Begun, Rest),
}

/// The rest of a job that waits: gives back its answer where that is one message, or what is left to be said when it
/// has been sent otherwise.
pub(crate) type Rest = Pin<Box<dyn Future<Output = Option<Answer>> + Send>>;

/// Runs a job until it waits. Most never do, so nothing is set up for the rest before there is one.
pub(crate) fn start(shared: &Arc<Shared>, job: Box<Job>, caller: Caller, cx: &mut Context<'_>) -> Started {
    let outcome = match respond(shared, job, &caller) {
        Responding::Decided(outcome) => outcome,
        Responding::Handler(mut answering, droppable) => match Pin::new(&mut answering).poll(cx) {
            Poll::Ready(outcome) => flatten(outcome),
            Poll::Pending => {
                let (shared, begun) = (shared.clone(), caller.begun());
                return Started::Waits(
                    begun,
                    Box::pin(async move {
                        let outcome = unless_cancelled(answering, &caller, droppable).await;
                        finish(shared, caller, outcome).await
                    }),
                );
            }
        },
    };
    match conclude(shared, &caller, outcome) {
        Concluded::Answer(answer) => Started::Ended(answer),
        Concluded::Parts(parts) => {
            let (shared, begun) = (shared.clone(), caller.begun());
            Started::Waits(begun, Box::pin(async move { pump_while_wanted(&shared, &caller, parts).await }))
        }
    }
}

/// Leaves a whole job to a task of its own.
pub(crate) fn start_elsewhere(shared: &Arc<Shared>, job: Box<Job>, caller: Caller) -> Started {
    let (shared, begun) = (shared.clone(), caller.begun());
    let rest = Box::pin(async move {
        let outcome = match respond(&shared, job, &caller) {
            Responding::Decided(outcome) => Some(outcome),
            Responding::Handler(answering, droppable) => unless_cancelled(answering, &caller, droppable).await,
        };
        finish(shared, caller, outcome).await
    });
    Started::Waits(begun, rest)
}

/// What a handler says, unless nobody wants it any more.
async fn unless_cancelled(
    answering: Guarded<HandlerFuture>,
    caller: &Caller,
    droppable: bool,
) -> Option<Result<Response, BoxError>> {
    tokio::select! {
        biased;
        outcome = answering => (!caller.cancellation.is_cancelled()).then(|| flatten(outcome)),
        () = caller.cancellation.cancelled(), if droppable => None,
    }
}

/// None: nobody wants the answer.
async fn finish(shared: Arc<Shared>, caller: Caller, outcome: Option<Result<Response, BoxError>>) -> Option<Answer> {
    let Some(outcome) = outcome else {
        tracing::debug!(request = &*caller.id, "cancelled: nobody wants its answer any more");
        return caller.no_answer();
    };
    match conclude(&shared, &caller, outcome) {
        Concluded::Answer(answer) => answer,
        Concluded::Parts(parts) => {
            // Boxed, since most jobs never get here and would carry its state along.
            Box::pin(pump_while_wanted(&shared, &caller, parts)).await
        }
    }
}

/// A panic is one more error.
fn flatten<T>(outcome: Result<Result<T, BoxError>, Panicked>) -> Result<T, BoxError> {
    outcome.unwrap_or_else(|panicked| Err(panicked.into()))
}

/// Who responds to a job.
enum Responding {
    /// At work; true: it may be dropped when nobody wants its answer any more.
    Handler(Guarded<HandlerFuture>, bool),
    Decided(Result<Response, BoxError>),
}

fn respond(shared: &Arc<Shared>, job: Box<Job>, caller: &Caller) -> Responding {
    Responding::Decided(match shared.router.find(&job) {
        Matched::Handler(handler, params) => {
            let crashes = caller.crashes.unwrap_or(0);
            let request = Request::new(job, params, shared.context.clone(), caller.cancellation.clone(), crashes);
            // A thread goes on whoever waits for it, and must count as at work for as long as it is.
            let droppable = !shared.finish_cancelled && !handler.uses_threads();
            let with_trace = shared.context.development;
            match guarded(with_trace, || handler.call(request)) {
                Ok(inner) => return Responding::Handler(Guarded { inner, with_trace }, droppable),
                Err(panicked) => Err(panicked.into()),
            }
        }
        Matched::NotFound => Ok(Response::text("not found\n").with_status(404)),
        Matched::WrongMethod(allow) => {
            Ok(Response::text("method not allowed\n").with_status(405).with_header("allow", allow))
        }
        Matched::UnknownAction => {
            tracing::error!(request = job.id(), action = job.action(), "a job without a handler for its action");
            Ok(Response::text("not implemented\n").with_status(501))
        }
    })
}

/// What a response comes to.
enum Concluded {
    /// One message, where anybody waits for it.
    Answer(Option<Answer>),
    /// Several.
    Parts(Parts),
}

/// A response that is sent part by part.
struct Parts {
    status: u16,
    headers: Vec<Header>,
    body: BoxStream,
    change: Option<SessionChange>,
}

fn conclude(shared: &Shared, caller: &Caller, outcome: Result<Response, BoxError>) -> Concluded {
    let mut change = None;
    let checked = outcome.and_then(|response| {
        response.check()?;
        change = session::change(response.session.as_deref(), caller.session.as_deref())?;
        Ok(response)
    });
    count(&shared.status.done);
    let response = checked.unwrap_or_else(|error| failure(shared, &caller.id, &error));
    let Some(reply_to) = &caller.reply_to else { return Concluded::Answer(caller.no_answer()) };
    let Response { status, mut headers, body, hold, .. } = response;
    match body {
        Body::Whole(body) if body.len() <= STREAM_CUT_BYTES || caller.head_request => Concluded::Answer(Some(
            caller.whole_answer(reply_to, status, headers, &body, (hold.as_deref(), change.as_ref())),
        )),
        Body::Whole(body) => {
            headers.retain(|(name, _)| !is_content_length(name));
            headers.push(content_length(&body));
            let body = Box::pin(tokio_stream::once(Ok(body)));
            Concluded::Parts(Parts { status, headers, body, change })
        }
        Body::Stream(body) => Concluded::Parts(Parts { status, headers, body, change }),
    }
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
pub(crate) struct Caller {
    id: JobText,
    attempt: u32,
    reply_to: Option<AnswerList>,
    deadline: u64,
    head_request: bool,
    /// How the job was spelled, and so its answers.
    codec: Codec,
    /// Number of the claim; 0: the job was popped.
    claim: u64,
    /// Number of the first claim of its batch, or 0.
    batch: u64,
    crashes: Option<u32>,
    /// Set where the front keeps sessions.
    session: Option<Box<session::Known>>,
    cancellation: Arc<Cancellation>,
    /// When the job was taken up.
    began: Instant,
}

impl Caller {
    pub(crate) fn of(job: &Job, reply_to: Option<AnswerList>, shared: &Shared, claimed: &Claimed) -> Self {
        Self {
            id: job.shared_id(),
            attempt: job.attempt(),
            reply_to,
            deadline: if job.deadline() > 0 { job.deadline() } else { soon(shared) },
            head_request: job.method() == "HEAD",
            codec: job.codec(),
            claim: claimed.number,
            batch: claimed.batch,
            crashes: claimed.crashes,
            session: session::Known::of(job),
            cancellation: Arc::default(),
            began: Instant::now(),
        }
    }

    fn begun(&self) -> Begun {
        Begun { id: self.id.clone(), claim: self.claim, cancellation: self.cancellation.clone() }
    }

    fn acknowledgement(&self) -> Option<Acknowledgement> {
        let has_crashed = self.reply_to.is_none() && self.crashes != Some(0);
        let crashed = has_crashed.then(|| self.id.clone());
        (self.claim > 0).then_some(Acknowledgement { claim: self.claim, batch: self.batch, crashed, again: false })
    }

    /// What is left to be said where there is no answer.
    pub(crate) fn no_answer(&self) -> Option<Answer> {
        self.acknowledgement().map(Answer::none)
    }

    fn whole_answer(
        &self,
        reply_to: &AnswerList,
        status: u16,
        headers: Vec<Header>,
        body: &[u8],
        (hold, session): (Option<&Hold>, Option<&SessionChange>),
    ) -> Answer {
        let mut headers = headers;
        // The front counts the body itself, and would refuse the answer where a handler miscounted.
        if !self.head_request && status != 304 {
            headers.retain(|(name, _)| !is_content_length(name));
        }
        if self.head_request && !body.is_empty() && !headers.iter().any(|(name, _)| is_content_length(name)) {
            headers.push(content_length(body));
        }
        let body = if self.head_request { b"" } else { body };
        let message = borrowed(&headers, |headers| {
            self.encoded(&AnswerHead { status, headers, hold, session, ..self.first_head() }, body)
        });
        Answer {
            reply_to: reply_to.clone(),
            message,
            expires_ms: self.deadline,
            stream: None,
            claim: self.claim,
            acknowledges: self.acknowledgement(),
        }
    }

    fn encoded(&self, head: &AnswerHead<'_>, body: &[u8]) -> Vec<u8> {
        // What a head takes beside its headers: id, numbers, braces.
        const HEAD_ROOM: usize = 96;
        let headers: usize = head.headers.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
        let mut message = Vec::with_capacity(HEAD_ROOM + headers + body.len());
        match self.codec {
            Codec::Json => encode_answer(&mut message, head, body),
            Codec::MsgPack => encode_packed_answer(&mut message, head, body),
        }
        message
    }

    fn head(&self) -> AnswerHead<'_> {
        AnswerHead { id: &self.id, attempt: self.attempt, ..AnswerHead::default() }
    }

    /// The same for a first message, which says how long the job took: by that the front tells waiting from work.
    fn first_head(&self) -> AnswerHead<'_> {
        AnswerHead { took: u64::try_from(self.began.elapsed().as_micros()).ok(), ..self.head() }
    }

    /// A part of a stream, which may outlive the deadline of its first byte.
    fn part(&self, message: Vec<u8>, shared: &Shared, stream: StreamPart, last: bool) -> Option<Answer> {
        let expires_ms = self.deadline.max(soon(shared));
        let acknowledges = if last { self.acknowledgement() } else { None };
        let (reply_to, stream) = (self.reply_to.clone()?, Some(stream));
        Some(Answer { reply_to, message, expires_ms, stream, claim: self.claim, acknowledges })
    }
}

fn content_length(body: &[u8]) -> Header {
    ("content-length".into(), body.len().to_string().into())
}

/// Lends headers in the form in which they are encoded; a few of them without an allocation.
fn borrowed<R>(headers: &[Header], encode: impl FnOnce(&[(&str, &str)]) -> R) -> R {
    const FEW: usize = 8;
    let each = headers.iter().map(|(name, value)| (&**name, &**value));
    if headers.len() > FEW {
        return encode(&each.collect::<Vec<_>>());
    }
    let mut few = [("", ""); FEW];
    few.iter_mut().zip(each).for_each(|(place, header)| *place = header);
    encode(&few[..headers.len()])
}

fn soon(shared: &Shared) -> u64 {
    shared.context.clock.now_ms() + WITHOUT_DEADLINE_MS
}

/// Sends a body in parts until its client has left; gives what is left to be said.
async fn pump_while_wanted(shared: &Shared, caller: &Caller, parts: Parts) -> Option<Answer> {
    let complete = tokio::select! {
        biased;
        () = caller.cancellation.cancelled() => false,
        complete = pump(shared, caller, parts) => complete,
    };
    if complete { None } else { caller.no_answer() }
}

/// Sends each part as soon as it is there and the ones before are on their way. False: nobody read the last one.
async fn pump(shared: &Shared, caller: &Caller, parts: Parts) -> bool {
    let Parts { status, headers, body, change } = parts;
    let gate = Gate::new();
    let mut pieces = Pieces::new(body);
    for n in 0.. {
        let Some(part) = gate.enter().await else {
            tracing::warn!(request = &*caller.id, "a streamed answer was given up: nobody reads it");
            return false;
        };
        let next = Guarded { inner: Box::pin(pieces.next()), with_trace: shared.context.development };
        let piece = match flatten(next.await) {
            Ok(piece) => piece,
            Err(error) => {
                abort(shared, caller, n, &error, part);
                return true;
            }
        };
        let more = !piece.last;
        let message = if n == 0 {
            let head = AnswerHead { status, more, session: change.as_ref(), ..caller.first_head() };
            borrowed(&headers, |headers| caller.encoded(&AnswerHead { headers, ..head }, &piece.body))
        } else {
            caller.encoded(&AnswerHead { n, more, ..caller.head() }, &piece.body)
        };
        caller.part(message, shared, part, piece.last).into_iter().for_each(|answer| shared.outlet.send(answer));
        if piece.last {
            return true;
        }
    }
    false
}

/// Ends a stream without completing it, in the way of the contract: by a gap that cannot be closed.
fn abort(shared: &Shared, caller: &Caller, n: u64, error: &BoxError, part: StreamPart) {
    failure(shared, &caller.id, error);
    let message = caller.encoded(&AnswerHead { n: n + ABORTING_GAP, ..caller.head() }, b"");
    caller.part(message, shared, part, true).into_iter().for_each(|answer| shared.outlet.send(answer));
}
