//! Which claimed jobs may be started.
//!
//! A job that must not run twice is marked in Redis before its handler is called, so that it is known afterwards
//! whether a dead worker can have begun it. And what was claimed a while ago may be somebody else's by now. This module
//! decides when to ask; it must not ask by itself.

use std::time::Duration;

use tempest_protocol::Job;
use tokio::time::Instant;

use crate::waiting::Claimed;

/// A claim, or a mark, is good for this long: less than the silence after which a worker counts as dead.
const GOOD_FOR: Duration = Duration::from_secs(2);

/// What may be done with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    Start,
    /// A mark comes first.
    Ask,
    /// It was taken away.
    Gone,
}

/// What Redis has said about marks.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Claims up to this number are marked, as of this moment.
    confirmed: Option<(u64, Instant)>,
    /// Claims up to this number were taken away where they are not confirmed.
    refused: u64,
    /// Under way, and since when.
    asked: Option<(u64, Instant)>,
    /// Nobody makes marks: this is base mode by now.
    off: bool,
}

impl Marks {
    pub(super) fn permit(&self, claimed: &Claimed, job: &Job, now: Instant) -> Permit {
        if claimed.number == 0 || self.off || may_run_twice(job) {
            return Permit::Start;
        }
        let good = |since: Instant| now.saturating_duration_since(since) < GOOD_FOR;
        let confirmed = self.confirmed.is_some_and(|(to, at)| claimed.number <= to && good(at));
        if confirmed || (claimed.marked && good(claimed.since)) {
            Permit::Start
        } else if claimed.number <= self.refused {
            Permit::Gone
        } else {
            Permit::Ask
        }
    }

    /// A job waits for the reply to a mark.
    pub(super) fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    pub(super) fn asked(&mut self, number: u64, now: Instant) {
        self.asked = Some((number, now));
    }

    /// The reply; true: the mark was made.
    pub(super) fn answered(&mut self, marked: bool) {
        match self.asked.take() {
            Some((number, at)) if marked => self.confirmed = Some((number, at)),
            Some((number, _)) => self.refused = self.refused.max(number),
            None => {}
        }
    }

    /// Jobs start without marks from now on.
    pub(super) fn turn_off(&mut self) {
        *self = Self { off: true, ..Self::default() };
    }

    /// There will be no reply.
    pub(super) fn reset(&mut self) {
        self.asked = None;
    }
}

fn may_run_twice(job: &Job) -> bool {
    job.action() == "http" && matches!(job.method(), "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
}

#[cfg(test)]
mod tests {
    use tempest_protocol::JobFields;

    use super::*;

    fn job(action: &str, method: &str) -> Job {
        Job::from(JobFields { action: action.into(), method: method.into(), ..JobFields::default() })
    }

    fn claimed(number: u64, marked: bool, since: Instant) -> Claimed {
        Claimed { message: bytes::Bytes::new(), number, batch: 0, crashes: Some(0), marked, since }
    }

    #[test]
    fn what_may_run_twice_needs_no_mark() {
        let (marks, now) = (Marks::default(), Instant::now());
        let permit = |job: &Job| marks.permit(&claimed(1, false, now), job, now);
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
            assert_eq!(permit(&job("http", method)), Permit::Start, "{method}");
        }
        for method in ["POST", "PATCH", "get", "QUERY", ""] {
            assert_eq!(permit(&job("http", method)), Permit::Ask, "{method}");
        }
        assert_eq!(permit(&job("mail.send", "GET")), Permit::Ask);
        assert_eq!(marks.permit(&claimed(0, true, now), &job("http", "POST"), now), Permit::Start, "base mode");
    }

    #[test]
    fn a_mark_is_good_for_a_while() {
        let (mut marks, now, post) = (Marks::default(), Instant::now(), job("http", "POST"));
        assert_eq!(marks.permit(&claimed(1, true, now), &post, now), Permit::Start);
        assert_eq!(marks.permit(&claimed(1, true, now), &post, now + GOOD_FOR), Permit::Ask);
        marks.asked(3, now);
        assert!(marks.is_asking());
        marks.answered(true);
        assert_eq!(marks.permit(&claimed(3, false, now), &post, now), Permit::Start);
        assert_eq!(marks.permit(&claimed(4, false, now), &post, now), Permit::Ask);
        assert_eq!(marks.permit(&claimed(3, false, now), &post, now + GOOD_FOR), Permit::Ask);
        marks.asked(4, now);
        marks.answered(false);
        assert_eq!(marks.permit(&claimed(4, false, now), &post, now), Permit::Gone);
        assert_eq!(marks.permit(&claimed(5, false, now), &post, now), Permit::Ask);
    }
}
