//! When a group of workers grows and when it shrinks.
//!
//! It grows by one when jobs have waited for a second, or more of them wait than there are processes for a second; and
//! not again before that one is there. It shrinks by one each time the queue was empty for the idle time. Only the
//! decision is here.

use std::time::{Duration, Instant};

use crate::broker::control::Waiting;
use crate::config::Processes;

/// A job that waits longer, and a queue that is deeper than the group is large for longer, makes it grow.
const PATIENCE: Duration = Duration::from_secs(1);
/// Least time between two steps.
const PAUSE: Duration = Duration::from_secs(1);
/// What was seen of a queue this long ago says nothing any more: Redis is away.
const STALE: Duration = Duration::from_secs(5);

/// What a group looks like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Processes it is to have.
    pub(super) target: usize,
    /// Of them, those that are ready.
    pub(super) ready: usize,
    /// Of them, those that are known to run a job.
    pub(super) busy: usize,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Grow,
    Shrink,
}

/// What was seen of the queue over time.
#[derive(Clone, Debug, Default)]
pub(super) struct Scale {
    deep_since: Option<Instant>,
    idle_since: Option<Instant>,
    last: Option<Instant>,
}

impl Scale {
    /// The step to take now, if any; taken by asking.
    pub(super) fn step(
        &mut self,
        now: Instant,
        size: Size,
        seen: Option<(Waiting, Instant)>,
        bounds: Processes,
        idle_time: Duration,
    ) -> Option<Step> {
        let Some((waiting, _)) = seen.filter(|(_, at)| now.saturating_duration_since(*at) < STALE) else {
            (self.deep_since, self.idle_since) = (None, None);
            return None;
        };
        let deep = waiting.depth > size.target as u64;
        self.deep_since = deep.then(|| self.deep_since.unwrap_or(now));
        let idle = waiting.depth == 0 && (size.busy < size.target || size.target == 0);
        self.idle_since = idle.then(|| self.idle_since.unwrap_or(now));
        let for_long = |since: Option<Instant>, time| since.is_some_and(|at| now.saturating_duration_since(at) >= time);
        if self.last.is_some() && !for_long(self.last, PAUSE) {
            return None;
        }
        let pressed = waiting.oldest.is_some_and(|age| age >= PATIENCE) || for_long(self.deep_since, PATIENCE);
        if pressed && size.target < bounds.most && size.ready >= size.target {
            self.last = Some(now);
            return Some(Step::Grow);
        }
        if for_long(self.idle_since, idle_time) && size.target > bounds.least {
            (self.last, self.idle_since) = (Some(now), Some(now));
            return Some(Step::Shrink);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Processes = Processes { least: 1, most: 3 };
    const IDLE: Duration = Duration::from_secs(10);

    fn run(steps: &[(u64, u64, Option<u64>, usize, usize)]) -> Vec<Option<Step>> {
        let (mut scale, start) = (Scale::default(), Instant::now());
        let one = |&(second, depth, oldest, target, ready): &(u64, u64, Option<u64>, usize, usize)| {
            let now = start + Duration::from_secs(second);
            let waiting = Waiting { depth, oldest: oldest.map(Duration::from_secs) };
            scale.step(now, Size { target, ready, busy: 0 }, Some((waiting, now)), BOUNDS, IDLE)
        };
        steps.iter().map(one).collect()
    }

    #[test]
    fn grows_one_at_a_time_while_jobs_wait() {
        let grow = Some(Step::Grow);
        assert_eq!(run(&[(0, 1, Some(0), 1, 1), (1, 1, Some(1), 1, 1)]), [None, grow], "a job has waited a second");
        assert_eq!(run(&[(0, 5, None, 1, 1), (1, 5, None, 1, 1)]), [None, grow], "too deep for a second");
        assert_eq!(run(&[(0, 5, None, 1, 1), (1, 0, None, 1, 1), (2, 5, None, 1, 1)]), [None; 3], "not all the time");
        let waits = Some(9);
        assert_eq!(run(&[(0, 5, waits, 1, 1), (1, 5, waits, 2, 1), (2, 5, waits, 2, 2)]), [grow, None, grow]);
        assert_eq!(run(&[(0, 5, waits, 3, 3)]), [None], "never beyond the most");
    }

    #[test]
    fn shrinks_after_an_idle_time_each() {
        let shrink = Some(Step::Shrink);
        let steps =
            [(0, 0, None, 3, 3), (9, 0, None, 3, 3), (10, 0, None, 3, 3), (19, 0, None, 2, 2), (20, 0, None, 2, 2)];
        assert_eq!(run(&steps), [None, None, shrink, None, shrink]);
        assert_eq!(run(&[(0, 0, None, 1, 1), (99, 0, None, 1, 1)]), [None; 2], "never below the least");
    }

    #[test]
    fn what_is_not_known_changes_nothing() {
        let (mut scale, now) = (Scale::default(), Instant::now());
        let size = Size { target: 2, ready: 2, busy: 0 };
        let old = (Waiting { depth: 9, oldest: Some(PATIENCE) }, now);
        assert_eq!(scale.step(now + STALE, size, Some(old), BOUNDS, IDLE), None);
        assert_eq!(scale.step(now, size, None, BOUNDS, IDLE), None);
    }

    #[test]
    fn busy_processes_are_not_given_up_for_an_empty_queue() {
        let (mut scale, now) = (Scale::default(), Instant::now());
        let size = Size { target: 2, ready: 2, busy: 2 };
        let empty = |now| Some((Waiting { depth: 0, oldest: None }, now));
        assert_eq!(scale.step(now, size, empty(now), BOUNDS, IDLE), None);
        assert_eq!(scale.step(now + IDLE, size, empty(now + IDLE), BOUNDS, IDLE), None);
    }
}
