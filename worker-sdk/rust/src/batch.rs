//! How many jobs to claim at a time.
//!
//! A batch saves a round trip and two wake-ups for each job but the first. What it costs is latency, since the
//! answers of a batch leave together, and fairness, since a claimed job can go to no other worker. So a batch is
//! what runs in about [`BATCH_TIME`], by moving averages of the time that jobs have taken.

use std::time::Duration;

/// What a batch should take at most.
pub(crate) const BATCH_TIME: Duration = Duration::from_millis(20);
/// Jobs that start within this time are marked as started together.
const TOGETHER: Duration = Duration::from_millis(2);
/// Share of the newest job in an average; 1/16 forgets a burst of slow jobs within some forty quick ones.
const NEWEST: f64 = 1.0 / 16.0;

/// What jobs have cost so far.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Seconds from a job's start to its answer.
    service: Option<f64>,
    /// Seconds that a job held the loop itself; jobs that wait, or run on threads, hold it hardly at all.
    held: Option<f64>,
}

impl Pace {
    pub(crate) fn served(&mut self, took: Duration) {
        average(&mut self.service, took);
    }

    pub(crate) fn held(&mut self, took: Duration) {
        average(&mut self.held, took);
    }

    /// Jobs that are likely to start within [`TOGETHER`], one after another: one at least.
    pub(crate) fn start_together(&self) -> usize {
        self.held.map_or(1, |held| in_time(TOGETHER, held))
    }

    /// Jobs to claim now, given that `claimed` are running or waiting to; at most `limit`, at least one.
    pub(crate) fn batch(&self, concurrency: usize, claimed: usize, limit: usize) -> usize {
        // Nothing is known before the first job: it may take a minute, and the next one is better off elsewhere.
        let (Some(service), Some(held)) = (self.service, self.held) else { return 1 };
        let rounds = in_batch_time(service);
        let wanted = concurrency.saturating_mul(rounds).min(concurrency + limit);
        wanted.saturating_sub(claimed).min(in_batch_time(held)).clamp(1, limit)
    }
}

fn average(mean: &mut Option<f64>, newest: Duration) {
    let newest = newest.as_secs_f64();
    *mean = Some(mean.map_or(newest, |mean| mean + (newest - mean) * NEWEST));
}

fn in_batch_time(seconds: f64) -> usize {
    in_time(BATCH_TIME, seconds)
}

/// How often something of this length fits into a time: once at least.
fn in_time(time: Duration, seconds: f64) -> usize {
    // A cast from a float saturates; the division by zero of an immeasurably short job gives infinity.
    (time.as_secs_f64() / seconds).max(1.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(service: Duration, held: Duration) -> Pace {
        let mut pace = Pace::default();
        pace.served(service);
        pace.held(held);
        pace
    }

    const MS: Duration = Duration::from_millis(1);
    const NO_TIME: Duration = Duration::ZERO;

    #[test]
    fn the_first_job_comes_alone() {
        assert_eq!(Pace::default().batch(64, 0, 64), 1);
    }

    #[test]
    fn quick_jobs_come_by_the_limit() {
        assert_eq!(pace(MS / 200, MS / 200).batch(1, 0, 64), 64);
        assert_eq!(pace(NO_TIME, NO_TIME).batch(64, 0, 64), 64);
    }

    #[test]
    fn a_batch_takes_about_twenty_milliseconds() {
        assert_eq!(pace(MS, MS).batch(1, 0, 64), 20);
        assert_eq!(pace(5 * MS, NO_TIME).batch(2, 0, 64), 8);
        // Jobs that compute share one thread, whatever the concurrency.
        assert_eq!(pace(4 * MS, 4 * MS).batch(64, 0, 64), 5);
    }

    #[test]
    fn slow_jobs_come_as_many_as_can_start_at_once() {
        assert_eq!(pace(1000 * MS, NO_TIME).batch(8, 5, 64), 3);
        assert_eq!(pace(1000 * MS, 1000 * MS).batch(8, 0, 64), 1);
    }

    #[test]
    fn what_starts_together_is_marked_together() {
        assert_eq!(Pace::default().start_together(), 1);
        assert_eq!(pace(MS, MS).start_together(), 2);
        assert_eq!(pace(MS, 50 * MS).start_together(), 1);
        assert_eq!(pace(1000 * MS, MS / 100).start_together(), 200);
    }

    #[test]
    fn one_slow_job_is_forgotten() {
        let mut pace = pace(1000 * MS, 1000 * MS);
        for _ in 0..200 {
            pace.served(MS / 100);
            pace.held(MS / 100);
        }
        assert_eq!(pace.batch(1, 0, 64), 64);
    }
}
