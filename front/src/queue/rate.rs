//! How fast a queue is worked off, and so how long a new job will wait.
//!
//! Only seconds in which jobs waited say anything: with an empty queue the jobs done are those that came, not those
//! that could have been done. Pure arithmetic over the numbers it is given: no clock, no I/O.

use std::collections::VecDeque;

/// Seconds remembered at most.
const WINDOW: usize = 30;
/// So many jobs are enough for an average: a fast queue is judged by its last seconds, a slow one by its last thirty.
const ENOUGH: u64 = 50;
/// But by so many seconds at least, since one alone may have been a hiccup.
const LEAST_SECONDS: usize = 3;
/// After so many seconds without a job waiting, what was measured before is forgotten.
const FORGET: u32 = 60;

/// Jobs a second of one queue, measured.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// Jobs done in each busy second, the latest last.
    seconds: VecDeque<u64>,
    quiet: u32,
}

impl Rate {
    /// A second has passed in which `done` jobs were done; `busy`: jobs waited at its end, and somebody was there to
    /// do them.
    pub(super) fn second(&mut self, done: u64, busy: bool) {
        // What was done shows what can be done, with or without a queue, where it is more than was known.
        let more_than_known = self.per_second().is_some_and(|known| done as f64 > known);
        if busy || more_than_known {
            self.quiet = 0;
            self.seconds.push_back(done);
            if self.seconds.len() > WINDOW {
                self.seconds.pop_front();
            }
            return;
        }
        self.quiet += 1;
        if self.quiet >= FORGET {
            self.seconds.clear();
        }
    }

    /// Jobs a second; None: not known, because no job waited lately, or none was done.
    pub(super) fn per_second(&self) -> Option<f64> {
        let (mut done, mut seconds) = (0, 0);
        for second in self.seconds.iter().rev() {
            if done >= ENOUGH && seconds >= LEAST_SECONDS {
                break;
            }
            done += second;
            seconds += 1;
        }
        (done > 0).then(|| done as f64 / seconds as f64)
    }

    /// Seconds that a job waits behind `depth` others; None: not known.
    pub(super) fn wait(&self, depth: f64) -> Option<f64> {
        self.per_second().map(|rate| depth / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(seconds: &[u64]) -> Rate {
        let mut rate = Rate::default();
        seconds.iter().for_each(|done| rate.second(*done, true));
        rate
    }

    #[test]
    fn a_queue_four_times_slower_makes_a_wait_four_times_longer() {
        let wait = |done: u64| busy(&[done; 5]).wait(100.0).expect("measured");
        assert_eq!(wait(40), 2.5);
        assert_eq!(wait(10), 10.0);
        assert_eq!(wait(1), 100.0);
    }

    #[test]
    fn seconds_without_a_queue_say_nothing() {
        let mut rate = busy(&[100; 4]);
        (0..FORGET - 1).for_each(|_| rate.second(3, false));
        assert_eq!(rate.per_second(), Some(100.0), "three jobs came and were done; more could have been");
        rate.second(3, false);
        assert_eq!(rate.per_second(), None, "an hour later the workers may be others");
        let mut rate = busy(&[100; 4]);
        (0..FORGET).for_each(|_| rate.second(100, false));
        assert_eq!(rate.per_second(), None, "as many as were known is nothing new");
        assert_eq!(Rate::default().wait(5.0), None);
        assert_eq!(busy(&[0; 4]).wait(5.0), None, "workers that do nothing are not workers that are slow");
    }

    #[test]
    fn more_than_was_known_counts_without_a_queue_too() {
        let mut rate = busy(&[10; 8]);
        (0..3).for_each(|_| rate.second(500, false));
        assert_eq!(rate.per_second(), Some(500.0));
    }

    #[test]
    fn a_fast_queue_is_judged_by_its_last_seconds() {
        assert_eq!(busy(&[1000, 1000, 1000, 20, 20, 20]).per_second(), Some(20.0));
        assert_eq!(busy(&[1000, 1000, 40, 20, 0]).per_second(), Some(20.0), "three seconds at least");
        assert_eq!(busy(&[49, 1, 0, 0]).per_second(), Some(12.5), "fifty jobs at least, where there are as many");
    }

    #[test]
    fn a_slow_queue_is_judged_by_half_a_minute() {
        let mut seconds = vec![1000; 5];
        seconds.extend([0, 0, 1].repeat(10));
        assert_eq!(busy(&seconds).per_second(), Some(10.0 / 30.0));
    }
}
