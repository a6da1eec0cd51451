//! Answers and the requests they belong to.

use std::time::Instant;

use tempest_protocol::Reason;

use super::*;

#[test]
fn an_answer_ends_the_request() {
    let world = plain();
    let waiting = world.submit(Method::GET);
    assert_eq!(world.dispatch.waiting(), 1);
    assert!(world.lane.queue.is_waited_for());
    assert!(waiting.head().is_none());
    assert_eq!(world.metrics.jobs_pushed.get(), 0);
    world.pushed(&waiting, Pushed::Depth(1));
    assert_eq!(world.metrics.jobs_pushed.get(), 1);
    assert_eq!(world.sent(&waiting), Sent::Queued);
    world.answer(&waiting.message(",\"status\":201,\"headers\":{\"x-a\":\"b\"},\"body\":\"made\""));
    world.assert_empty();
    let head = waiting.head().expect("an answer").expect("no failure");
    assert_eq!((head.status.as_u16(), head.headers["x-a"].as_bytes()), (201, &b"b"[..]));
    assert_eq!(waiting.ticket.take_whole().as_deref(), Some(&b"made"[..]));
    assert_eq!(world.counted(AnswerOutcome::Answered), 1);
    assert!(world.lane.queue.has_worker(Instant::now()), "somebody answered");
    drop(waiting);
    assert_eq!(world.metrics.clients_gone.get(), 0, "it was answered before");
}

#[test]
fn each_answer_finds_its_own_request() {
    let world = plain();
    let (one, other) = (world.queued(Method::GET), world.queued(Method::GET));
    assert_ne!(one.id, other.id);
    world.answer(&other.message(",\"status\":202"));
    assert!(one.head().is_none());
    assert_eq!(other.status(), 202);
    assert_eq!(world.dispatch.waiting(), 1);
    assert!(world.lane.queue.is_waited_for());
    world.answer(&one.message(""));
    assert_eq!(one.status(), 200);
    world.assert_empty();
}

#[test]
fn what_nobody_waits_for_is_counted_and_dropped() {
    let world = plain();
    let waiting = world.queued(Method::GET);
    world.answer("{\"id\":\"somebody-else\"}");
    world.answer(&waiting.message(",\"attempt\":2"));
    world.answer(&waiting.message(",\"kind\":\"progress\""));
    assert_eq!(
        [AnswerOutcome::Unknown, AnswerOutcome::Fenced, AnswerOutcome::Ignored].map(|outcome| world.counted(outcome)),
        [1, 1, 1]
    );
    assert!(waiting.head().is_none());
    assert!(!world.lane.queue.has_worker(Instant::now()), "no answer of this attempt came");
    world.answer(&waiting.message(",\"attempt\":1"));
    world.answer(&waiting.message(""));
    assert_eq!((world.counted(AnswerOutcome::Answered), world.counted(AnswerOutcome::Late)), (1, 1));
}

#[test]
fn a_malformed_answer_fails_its_request_alone() {
    let world = plain();
    let (bad, good) = (world.queued(Method::GET), world.queued(Method::GET));
    world.answer(&bad.message(",\"status\":99"));
    assert_eq!(bad.failure(), Failure::Malformed(Reason::BadStatus));
    assert!(good.head().is_none());
    assert_eq!(world.counted(AnswerOutcome::Malformed), 1);
    let problem = world.problem();
    assert_eq!((problem.what, problem.queue.as_str(), problem.request), ("malformed-answer", "web", bad.id.clone()));
    assert_eq!(problem.detail, Reason::BadStatus.code());
    assert!(problem.at > 1_600_000_000_000, "milliseconds since 1970");
    // Again, and nobody waits for it any more.
    world.answer(&bad.message(",\"status\":99"));
    assert_eq!((world.counted(AnswerOutcome::Malformed), world.counted(AnswerOutcome::Late)), (1, 1));
    world.answer("{\"status\":99}");
    world.answer("no JSON");
    assert_eq!(world.counted(AnswerOutcome::Malformed), 3, "nobody's");
    assert_eq!(world.problems.recent().len(), 1);
}

#[test]
fn where_only_the_head_was_asked_for_the_length_is_that_of_no_body() {
    let world = plain();
    let (head, get) = (world.queued(Method::HEAD), world.queued(Method::GET));
    let fields = ",\"headers\":{\"content-length\":\"5000\"}";
    world.answer(&head.message(fields));
    world.answer(&get.message(fields));
    assert_eq!(head.status(), 200);
    assert!(matches!(get.failure(), Failure::Malformed(_)));
    let bad = world.queued(Method::HEAD);
    world.answer(&bad.message(",\"status\":99,\"headers\":{\"content-length\":\"5000\"}"));
    assert!(matches!(bad.failure(), Failure::Malformed(_)), "everything else holds for it, too");
}

#[test]
fn a_stream_comes_in_parts() {
    let world = plain();
    let waiting = world.queued(Method::GET);
    let before = world.look(&waiting, |pending| pending.deadline);
    std::thread::sleep(Duration::from_millis(5));
    world.answer(&waiting.message(",\"n\":0,\"more\":true,\"body\":\"one\""));
    assert!(world.look(&waiting, |pending| pending.deadline) > before, "each message moves the deadline");
    assert_eq!(waiting.status(), 200);
    let part = waiting.part().expect("a part").expect("no failure");
    assert_eq!((&part.body[..], part.last), (&b"one"[..], false));
    assert!(waiting.part().is_none());
    assert!(waiting.ticket.take_whole().is_none());
    world.answer(&waiting.message(",\"n\":0,\"more\":true,\"body\":\"one\""));
    assert_eq!(world.counted(AnswerOutcome::Duplicate), 1);
    world.answer(&waiting.message(",\"n\":1,\"body\":\"two\""));
    let part = waiting.part().expect("a part").expect("no failure");
    assert_eq!((&part.body[..], part.last), (&b"two"[..], true));
    assert_eq!(world.counted(AnswerOutcome::Answered), 2);
    world.assert_empty();
}

#[test]
fn a_gap_that_is_too_wide_cuts_the_stream() {
    let world = plain();
    let waiting = world.queued(Method::GET);
    let cut = Rc::new(std::cell::Cell::new(false));
    let seen = Rc::clone(&cut);
    waiting.ticket.on_cut(move || seen.set(true));
    world.answer(&waiting.message(",\"n\":0,\"more\":true,\"body\":\"one\""));
    world.answer(&waiting.message(",\"n\":1000000"));
    assert!(cut.get());
    assert_eq!(waiting.status(), 200);
    assert!(matches!(waiting.part(), Some(Err(Failure::Malformed(Reason::TooLarge)))), "what waited is dropped");
    assert_eq!(world.counted(AnswerOutcome::Malformed), 1);
    assert_eq!(world.problem().what, "answer-overflow");
    world.assert_empty();
}

#[test]
fn who_is_late_is_told_so() {
    let world = plain();
    let (known, unknown) = (world.queued(Method::POST), world.queued(Method::POST));
    world.pushed(&unknown, Pushed::Unknown);
    let buffered = world.submit(Method::POST);
    let last = world.look(&buffered, |pending| pending.deadline);
    world.dispatch.tick(Instant::now());
    assert_eq!(world.dispatch.waiting(), 3);
    world.dispatch.tick(last);
    assert_eq!(
        [known.failure(), unknown.failure(), buffered.failure()],
        [Failure::Deadline, Failure::DeadlineUnknown, Failure::Deadline]
    );
    assert_eq!(world.metrics.timeouts.get(), 3);
    world.assert_empty();
    assert_eq!(world.metrics.clients_gone.get(), 0);
}

#[test]
fn deadlines_are_kept_by_the_clock() {
    run(async {
        let world = world(|setup| setup.route.timeout = Duration::from_millis(60));
        tokio::task::spawn_local(Rc::clone(&world.dispatch).keep_time());
        for _ in 0..2 {
            // The table is empty for longer than the clock looks; it must be woken.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let waiting = world.submit(Method::GET);
            let begin = Instant::now();
            let other = world.submit(Method::GET);
            let failure = tokio::time::timeout(TIMEOUT, waiting.ticket.head()).await.expect("in time");
            assert!(matches!(failure, Err(Failure::Deadline)));
            assert!(begin.elapsed() >= Duration::from_millis(59));
            assert!(matches!(other.ticket.head().await, Err(Failure::Deadline)));
        }
    });
}

#[test]
fn a_client_that_leaves_is_counted() {
    let world = plain();
    drop(world.queued(Method::GET));
    world.assert_empty();
    assert_eq!(world.metrics.clients_gone.get(), 1);
}

#[test]
fn the_end_fails_all() {
    let world = plain();
    let all = [world.queued(Method::GET), world.submit(Method::POST)];
    world.dispatch.fail_all(&Failure::Draining);
    assert_eq!(all.map(|waiting| waiting.failure()), [Failure::Draining, Failure::Draining]);
    world.assert_empty();
}
