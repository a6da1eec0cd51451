//! Where the parts of one request's answer wait for the connection that sends them.
//!
//! One writer (the dispatch) and one reader (the request's own task), both on the same reactor. It must not judge
//! order or sequence; what comes in here is already in order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tempest_protocol::{Hold, SessionChange};

use crate::error::Failure;

/// A piece of an answer.
#[derive(Debug)]
pub struct Part {
    /// Bytes of the body, possibly none.
    pub body: Bytes,
    /// No more parts follow.
    pub last: bool,
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// Headers that may go to the client.
    pub headers: HeaderMap,
    /// The channels that the connection goes to.
    pub hold: Option<Box<Hold>>,
    /// What becomes of the client's session.
    pub session: Option<Box<SessionChange>>,
    /// The path of a file that is to be sent instead of a body.
    pub file: Option<Box<str>>,
}

/// What a request's task finds in its inbox.
#[derive(Default)]
pub struct Inbox(RefCell<State>);

#[derive(Default)]
struct State {
    head: Option<Head>,
    /// The first part has a place of its own: most answers have one part, and then nothing more is allocated.
    first: Option<Part>,
    rest: VecDeque<Part>,
    bytes: usize,
    failure: Option<Failure>,
    on_cut: Option<Box<dyn FnOnce()>>,
    waker: Option<Waker>,
}

impl Inbox {
    /// A shared, empty one.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Puts in the head with the first part.
    pub fn begin(&self, head: Head, part: Part) {
        self.0.borrow_mut().head = Some(head);
        self.push(part);
    }

    /// Puts in one more part.
    pub fn push(&self, part: Part) {
        let mut state = self.0.borrow_mut();
        state.bytes += part.body.len();
        if state.first.is_none() && state.rest.is_empty() {
            state.first = Some(part);
        } else {
            state.rest.push_back(part);
        }
        wake(&mut state);
    }

    /// Nothing more will come, and what came is not whole.
    pub fn fail(&self, failure: Failure) {
        let mut state = self.0.borrow_mut();
        state.failure.get_or_insert(failure);
        wake(&mut state);
    }

    /// Sets what [`Inbox::cut`] calls.
    pub(super) fn on_cut(&self, act: Box<dyn FnOnce()>) {
        self.0.borrow_mut().on_cut = Some(act);
    }

    /// Too much waits: it is dropped, and whoever sends it is told to stop. A reader that does not read would never
    /// come to see a mere failure, which stands behind what it has not taken.
    pub fn cut(&self, failure: Failure) {
        let act = {
            let mut state = self.0.borrow_mut();
            state.first = None;
            state.rest.clear();
            state.bytes = 0;
            state.on_cut.take()
        };
        self.fail(failure);
        if let Some(act) = act {
            act();
        }
    }

    /// Bytes that wait to be taken.
    pub fn bytes(&self) -> usize {
        self.0.borrow().bytes
    }

    /// The head, once it is there.
    pub fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Head, Failure>> {
        let mut state = self.0.borrow_mut();
        if let Some(head) = state.head.take() {
            return Poll::Ready(Ok(head));
        }
        poll_failure(&mut state, cx)
    }

    /// The next part. A failure comes after the parts that preceded it.
    pub fn poll_part(&self, cx: &mut Context<'_>) -> Poll<Result<Part, Failure>> {
        let mut state = self.0.borrow_mut();
        let part = state.first.take().or_else(|| state.rest.pop_front());
        if let Some(part) = part {
            state.bytes -= part.body.len();
            return Poll::Ready(Ok(part));
        }
        poll_failure(&mut state, cx)
    }

    /// The whole body, where the answer is one part that is already here; it needs no stream then.
    pub fn take_whole(&self) -> Option<Bytes> {
        let mut state = self.0.borrow_mut();
        let part = state.first.take_if(|part| part.last)?;
        state.bytes -= part.body.len();
        Some(part.body)
    }
}

fn poll_failure<T>(state: &mut State, cx: &mut Context<'_>) -> Poll<Result<T, Failure>> {
    if let Some(failure) = state.failure.take() {
        return Poll::Ready(Err(failure));
    }
    match &mut state.waker {
        Some(waker) => waker.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
    Poll::Pending
}

fn wake(state: &mut State) {
    if let Some(waker) = state.waker.take() {
        waker.wake();
    }
}
