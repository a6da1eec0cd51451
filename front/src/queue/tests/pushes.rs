//! What Redis says of pushes, and what is pushed again.

use std::time::Instant;

use super::super::lane::Look;
use super::*;

#[test]
fn what_redis_refuses_fails_with_its_words() {
    let world = plain();
    let waiting = world.submit(Method::GET);
    world.pushed(&waiting, Pushed::Refused("OOM".into()));
    assert_eq!(waiting.failure(), Failure::BrokerRefused("OOM".into()));
    assert_eq!(world.refused(Refusal::RedisDown), 1);
    let problem = world.problem();
    assert_eq!((problem.what, problem.detail.as_str(), problem.queue.as_str()), ("broker-refused", "OOM", "web"));
    world.assert_empty();
}

#[test]
fn a_refusal_of_a_second_attempt_is_no_refusal_of_the_request() {
    let world = plain();
    let get = world.queued(Method::GET);
    world.pushed(&get, Pushed::Unknown);
    world.pushed(&get, Pushed::Refused("LOADING".into()));
    assert!(get.head().is_none(), "the first attempt may have been run");
    assert_eq!((world.attempt(&get), world.sent(&get)), (2, Sent::Again));
    world.dispatch.connected(false);
    assert_eq!((world.attempt(&get), world.sent(&get)), (2, Sent::Buffered), "it is pushed with the next connection");
    world.answer(&get.message(",\"attempt\":2"));
    assert_eq!(get.status(), 200);
}

#[test]
fn what_never_left_is_pushed_again_as_the_same_attempt() {
    let world = plain();
    let waiting = world.submit(Method::POST);
    world.pushed(&waiting, Pushed::Unwritten);
    assert_eq!((world.attempt(&waiting), world.sent(&waiting)), (1, Sent::Buffered));
    assert_eq!(world.metrics.retried.get(), 0);
    assert!(waiting.head().is_none());
}

#[test]
fn what_is_unknown_is_pushed_again_where_it_may_run_twice() {
    let world = plain();
    let (get, post) = (world.queued(Method::GET), world.queued(Method::POST));
    world.pushed(&get, Pushed::Unknown);
    world.pushed(&post, Pushed::Unknown);
    assert_eq!((world.attempt(&get), world.sent(&get)), (2, Sent::Buffered));
    assert_eq!((world.attempt(&post), world.sent(&post)), (1, Sent::Unknown));
    assert_eq!(world.metrics.retried.get(), 1);
    let job = world.look(&get, |pending| pending.job.clone());
    assert!(job.windows(12).any(|bytes| bytes == b"\"attempt\":2,"), "the job says which attempt it is");
    // The limit is three.
    world.pushed(&get, Pushed::Unknown);
    assert_eq!((world.attempt(&get), world.sent(&get)), (3, Sent::Buffered));
    world.pushed(&get, Pushed::Unknown);
    assert_eq!((world.attempt(&get), world.sent(&get)), (3, Sent::Unknown));
    assert_eq!(world.metrics.retried.get(), 2);
    // An answer of an attempt before is nobody's.
    world.answer(&get.message(",\"attempt\":1"));
    assert!(get.head().is_none());
    world.answer(&get.message(",\"attempt\":3"));
    assert_eq!(get.status(), 200);
}

#[test]
fn a_stream_that_has_begun_is_not_pushed_again() {
    let world = plain();
    let waiting = world.queued(Method::GET);
    world.answer(&waiting.message(",\"n\":0,\"more\":true"));
    world.pushed(&waiting, Pushed::Unknown);
    assert_eq!((world.attempt(&waiting), world.sent(&waiting)), (1, Sent::Queued));
    world.dispatch.connected(true);
    assert_eq!((world.attempt(&waiting), world.sent(&waiting)), (1, Sent::Queued));
}

/// Room for one job and a half.
fn narrow(method: Method) -> (World, Waiting) {
    let world = world(|setup| setup.options.outgoing_bytes = 600);
    let waiting = world.submit(method);
    let length = world.look(&waiting, |pending| pending.job.len());
    assert!((300..550).contains(&length), "{length}");
    (world, waiting)
}

#[test]
fn a_first_attempt_for_which_there_is_no_room_is_refused() {
    let (world, waiting) = narrow(Method::GET);
    world.pushed(&waiting, Pushed::Unwritten);
    assert!(matches!(waiting.failure(), Failure::Overload(_)));
    assert_eq!(world.refused(Refusal::RedisDown), 1);
    world.assert_empty();
}

#[test]
fn a_later_attempt_for_which_there_is_no_room_waits_for_it() {
    let (world, waiting) = narrow(Method::GET);
    world.pushed(&waiting, Pushed::Unknown);
    assert_eq!((world.attempt(&waiting), world.sent(&waiting)), (2, Sent::Again));
    world.dispatch.connected(false);
    assert_eq!((world.attempt(&waiting), world.sent(&waiting)), (2, Sent::Again), "the same attempt is tried again");
    assert_eq!(world.metrics.retried.get(), 1);
    assert_eq!(world.refused(Refusal::RedisDown), 0);
    let deadline = world.look(&waiting, |pending| pending.deadline);
    world.dispatch.tick(deadline);
    assert_eq!(waiting.failure(), Failure::DeadlineUnknown, "an earlier one may have been seen");
}

#[test]
fn what_waited_for_redis_is_pushed_when_it_is_back() {
    let world = plain();
    let waiting = world.submit(Method::GET);
    world.dispatch.pending.borrow_mut().get_mut(&waiting.serial).expect("it waits").sent = Sent::Again;
    world.dispatch.connected(false);
    assert_eq!((world.attempt(&waiting), world.sent(&waiting)), (1, Sent::Buffered));
}

#[test]
fn a_redis_that_is_away_is_said_at_once() {
    let world = world(|setup| setup.options.patience = Duration::ZERO);
    assert_eq!(world.refusal(), Failure::BrokerDown);
    assert_eq!(world.refused(Refusal::RedisDown), 1);
    world.assert_empty();
}

#[test]
fn a_redis_that_forgot_gets_again_what_may_run_twice() {
    let world = plain();
    let (get, post, buffered) = (world.queued(Method::GET), world.queued(Method::POST), world.submit(Method::GET));
    let unknown = world.queued(Method::POST);
    world.pushed(&unknown, Pushed::Unknown);
    let sent = || [&get, &post, &buffered, &unknown].map(|waiting| (world.attempt(waiting), world.sent(waiting)));
    let before = sent();
    world.dispatch.connected(false);
    assert_eq!(sent(), before, "a broken connection alone loses nothing that was acknowledged");
    world.dispatch.connected(true);
    assert_eq!(sent(), [(2, Sent::Buffered), (1, Sent::Unknown), (1, Sent::Buffered), (1, Sent::Unknown)]);
    assert_eq!(world.metrics.retried.get(), 1);
    for _ in 0..3 {
        world.pushed(&get, Pushed::Depth(1));
        world.dispatch.connected(true);
    }
    assert_eq!((world.attempt(&get), world.sent(&get)), (3, Sent::Unknown), "no more than three attempts");
}

#[test]
fn what_was_unknown_goes_again_to_a_redis_that_forgot() {
    let world = plain();
    let waiting = world.queued(Method::GET);
    world.dispatch.pending.borrow_mut().get_mut(&waiting.serial).expect("it waits").sent = Sent::Unknown;
    world.dispatch.connected(true);
    assert_eq!((world.attempt(&waiting), world.sent(&waiting)), (2, Sent::Buffered));
}

#[test]
fn what_is_taken_back_is_refused_for_its_reason() {
    let world = plain();
    let (full, taken) = (world.queued(Method::GET), world.queued(Method::GET));
    world.pushed(&taken, Pushed::TakenBack(false));
    assert!(taken.head().is_none(), "a worker has it");
    world.pushed(&full, Pushed::TakenBack(true));
    assert_eq!(full.failure(), Failure::QueueFull(Duration::from_secs(1)));
    assert_eq!(world.refused(Refusal::QueueFull), 1);
    assert_eq!(world.refusal(), Failure::QueueFull(Duration::from_secs(1)), "the next is not even pushed");
    assert_eq!(world.refused(Refusal::QueueFull), 2);
    let untaken = world.queued_untaken();
    world.pushed(&untaken, Pushed::TakenBack(true));
    assert_eq!(untaken.failure(), Failure::NoWorker);
    assert_eq!((world.refused(Refusal::NoWorker), world.refused(Refusal::QueueFull)), (1, 2));
}

impl World {
    /// A request that was pushed although no worker is known.
    fn queued_untaken(&self) -> Waiting {
        std::thread::sleep(Duration::from_millis(110)); // the queue was found full for a tenth of a second
        let waiting = self.queued(Method::GET);
        self.dispatch.pending.borrow_mut().get_mut(&waiting.serial).expect("it waits").untaken = true;
        waiting
    }
}

#[test]
fn depths_and_answers_say_how_long_one_would_wait() {
    let world = plain();
    let now = Instant::now();
    for second in 0..4 {
        world.lane.queue.looked(Look { depth: 1, taken: second * 10, workers: 1 }, now);
    }
    let waiting = world.submit(Method::GET);
    world.pushed(&waiting, Pushed::Depth(90));
    // Nine seconds at ten a second, where seven and a half are the most.
    assert_eq!(world.refusal(), Failure::TooLong(Duration::from_secs(9)));
    assert_eq!((world.refused(Refusal::TooLong), world.refused(Refusal::QueueFull)), (1, 0));
}

#[test]
fn no_more_wait_than_may() {
    let world = world(|setup| setup.limits.pending = 2);
    let _waiting = [world.submit(Method::GET), world.submit(Method::GET)];
    assert!(matches!(world.refusal(), Failure::Overload(_)));
    assert_eq!(world.refused(Refusal::TooManyPending), 1);
}
