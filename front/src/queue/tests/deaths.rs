//! Workers that die with a job.

use super::*;

impl Waiting {
    fn death(&self, attempt: u32, started: bool, certain: bool) -> String {
        self.message(&format!(
            ",\"kind\":\"died\",\"attempt\":{attempt},\"started\":{started},\"certain\":{certain},\"worker\":\"w-7\""
        ))
    }
}

#[test]
fn what_was_not_started_gets_another_worker() {
    let world = plain();
    let waiting = world.queued(Method::POST);
    world.answer(&waiting.death(1, false, true));
    assert_eq!((world.attempt(&waiting), world.sent(&waiting)), (2, Sent::Buffered));
    assert_eq!((world.metrics.deaths.get(), world.metrics.retried.get()), (1, 1));
    let problem = world.problem();
    assert_eq!((problem.what, problem.detail.as_str()), ("worker-died", "worker w-7 died, attempt 1"));
    // Told twice it does no harm.
    world.answer(&waiting.death(1, false, true));
    assert_eq!(world.attempt(&waiting), 2);
    assert_eq!((world.metrics.deaths.get(), world.counted(AnswerOutcome::Late)), (1, 1));
}

#[test]
fn what_was_started_and_may_not_run_twice_fails() {
    let world = plain();
    let waiting = world.queued(Method::POST);
    world.answer(&waiting.death(1, true, true));
    assert_eq!(waiting.failure(), Failure::WorkerDied);
    assert_eq!((world.metrics.deaths.get(), world.metrics.retried.get()), (1, 0));
    world.assert_empty();
    world.answer(&waiting.death(1, true, true));
    assert_eq!(world.counted(AnswerOutcome::Late), 1);
}

#[test]
fn a_worker_that_fell_silent_may_have_started() {
    let world = plain();
    let (post, get) = (world.queued(Method::POST), world.queued(Method::GET));
    world.answer(&post.death(1, false, false));
    assert_eq!(post.failure(), Failure::WorkerDied);
    assert_eq!(world.problem().detail, "worker w-7 fell silent, attempt 1");
    world.answer(&get.death(1, true, false));
    assert_eq!(world.attempt(&get), 2);
}

#[test]
fn attempts_come_to_an_end() {
    let world = plain();
    let waiting = world.queued(Method::GET);
    for attempt in 1..=2 {
        world.answer(&waiting.death(attempt, true, true));
        assert_eq!(world.attempt(&waiting), attempt + 1);
    }
    world.answer(&waiting.death(3, true, true));
    assert_eq!(waiting.failure(), Failure::WorkerDied);
}

#[test]
fn a_stream_is_cut() {
    let world = plain();
    let waiting = world.queued(Method::GET);
    world.answer(&waiting.message(",\"n\":0,\"more\":true,\"body\":\"one\""));
    world.answer(&waiting.death(1, true, true));
    assert_eq!(waiting.status(), 200);
    assert_eq!(&waiting.part().expect("a part").expect("it came").body[..], b"one");
    assert!(matches!(waiting.part(), Some(Err(Failure::WorkerDied))));
}

#[test]
fn deaths_of_others_jobs_are_nothing_to_us() {
    let world = plain();
    let _waiting = world.queued(Method::GET);
    let text = "{\"id\":\"x\",\"kind\":\"died\",\"attempt\":1,\"started\":true,\"certain\":true,\"worker\":\"w\"}";
    world.answer(text);
    assert_eq!((world.metrics.deaths.get(), world.counted(AnswerOutcome::Late)), (0, 0));
}
