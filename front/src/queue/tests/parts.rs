//! The inbox in which the parts of an answer wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use http::StatusCode;

use super::super::Inbox;
use super::*;

fn part(text: &'static str, last: bool) -> Part {
    Part { body: Bytes::from_static(text.as_bytes()), last }
}

fn head() -> Head {
    Head { status: StatusCode::OK, headers: HeaderMap::new(), hold: None, session: None, file: None }
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn taken(inbox: &Inbox) -> Option<Result<(Bytes, bool), Failure>> {
    match inbox.poll_part(&mut context()) {
        Poll::Ready(result) => Some(result.map(|part| (part.body, part.last))),
        Poll::Pending => None,
    }
}

#[test]
fn parts_come_in_their_order() {
    let inbox = Inbox::new();
    assert!(inbox.poll_head(&mut context()).is_pending());
    inbox.begin(head(), part("one", false));
    inbox.push(part("four", false));
    inbox.push(part("", true));
    assert_eq!(inbox.bytes(), 7);
    assert!(matches!(inbox.poll_head(&mut context()), Poll::Ready(Ok(_))));
    assert_eq!(taken(&inbox), Some(Ok(("one".into(), false))));
    assert_eq!(inbox.bytes(), 4);
    // The place of the first is free, but there are others before this one.
    inbox.push(part("five!", false));
    let rest: Vec<_> = std::iter::from_fn(|| taken(&inbox)).map(|part| part.expect("no failure")).collect();
    assert_eq!(rest, [("four".into(), false), (Bytes::new(), true), ("five!".into(), false)]);
    assert_eq!(inbox.bytes(), 0);
}

#[test]
fn a_whole_answer_is_taken_at_once() {
    let inbox = Inbox::new();
    assert_eq!(inbox.take_whole(), None);
    inbox.begin(head(), part("whole", true));
    assert_eq!(inbox.take_whole(), Some("whole".into()));
    assert_eq!((inbox.bytes(), inbox.take_whole()), (0, None));
    let inbox = Inbox::new();
    inbox.begin(head(), part("a part", false));
    assert_eq!(inbox.take_whole(), None);
    assert_eq!((inbox.bytes(), taken(&inbox)), (6, Some(Ok(("a part".into(), false)))));
}

#[test]
fn a_failure_comes_behind_what_came_before_it() {
    let inbox = Inbox::new();
    inbox.push(part("one", false));
    inbox.fail(Failure::WorkerDied);
    inbox.fail(Failure::Deadline);
    assert_eq!(taken(&inbox), Some(Ok(("one".into(), false))));
    assert_eq!(taken(&inbox), Some(Err(Failure::WorkerDied)), "the first reason counts");
    assert_eq!(taken(&inbox), None);
    inbox.fail(Failure::Deadline);
    assert!(matches!(inbox.poll_head(&mut context()), Poll::Ready(Err(Failure::Deadline))));
}

#[test]
fn what_is_cut_is_dropped_and_its_sender_told() {
    let inbox = Inbox::new();
    let told = Rc::new(std::cell::Cell::new(0));
    let count = Rc::clone(&told);
    inbox.on_cut(Box::new(move || count.set(count.get() + 1)));
    inbox.push(part("one", false));
    inbox.push(part("two", false));
    inbox.cut(Failure::WorkerDied);
    inbox.cut(Failure::WorkerDied);
    assert_eq!((told.get(), inbox.bytes()), (1, 0));
    assert_eq!(taken(&inbox), Some(Err(Failure::WorkerDied)));
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn who_waits_is_woken() {
    let inbox = Inbox::new();
    let (first, count) = (Arc::new(Count(AtomicUsize::new(0))), Arc::new(Count(AtomicUsize::new(0))));
    let woken = || count.0.load(Ordering::Relaxed);
    assert!(inbox.poll_part(&mut Context::from_waker(&Waker::from(Arc::clone(&first)))).is_pending());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    assert!(inbox.poll_part(&mut cx).is_pending());
    inbox.push(part("one", false));
    assert_eq!((woken(), first.0.load(Ordering::Relaxed)), (1, 0), "who asked last waits");
    assert!(inbox.poll_part(&mut cx).is_ready());
    assert!(inbox.poll_part(&mut cx).is_pending());
    inbox.fail(Failure::Deadline);
    assert_eq!(woken(), 2);
}
