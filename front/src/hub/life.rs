//! How streams end from this side without anybody's fault: their time is over, or the front goes.
//!
//! What ends many streams brings as many browsers back, so both are spread: a life by chance for each stream, the
//! goodbyes of a drain evenly over a time, and the `retry:` of every one by chance. A stream ends between two messages,
//! after all that waits for it; that is the stream's own to see to.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, interval};

use super::reader::Reader;
use super::{Hub, SWEEP};
use crate::backoff::random_unit;

/// Time between two steps of the goodbyes.
const STEP: Duration = Duration::from_millis(10);
/// What a reader that is sent away is told: come back after this many ms, and up to as many more.
const COME_BACK_MS: f64 = 1000.0;

/// The last lines of a stream whose reader is to come back.
pub(super) fn come_back(why: &str) -> String {
    let wait = (COME_BACK_MS * (1.0 + random_unit())) as u64;
    format!("retry: {wait}\n: {why}\n\n")
}

impl Hub {
    /// The sweep that ends a stream which begins now.
    pub(super) fn ends_at(&self) -> u32 {
        let lasts = self.config().stream_life.map(|life| lasts(life, random_unit()));
        lasts.map_or(u32::MAX, |sweeps| self.clock.get().saturating_add(sweeps))
    }

    /// Takes no more streams; those that are being opened end at once.
    pub fn drain(&self) {
        self.draining.set(true);
        self.taps.drain();
    }

    /// Sends every reader away with a hint when to come back, evenly spread over `within`.
    pub async fn say_goodbye(self: Rc<Self>, within: Duration) {
        let readers: Vec<Rc<Reader>> = self.channels.borrow().values().flat_map(|channel| channel.readers()).collect();
        send_away(readers, within).await;
    }
}

/// Sends these readers away, evenly spread over `within`.
pub(super) async fn send_away(readers: Vec<Rc<Reader>>, within: Duration) {
    {
        let (started, mut steps) = (Instant::now(), interval(STEP));
        let mut told = 0;
        while told < readers.len() {
            steps.tick().await;
            let due = share(readers.len(), started.elapsed() + STEP, within);
            readers[told..due].iter().for_each(|reader| reader.send_away());
            told = due;
        }
    }
}

/// How many of `all` have been told at this time: the first at once, the last before `within` is over.
fn share(all: usize, elapsed: Duration, within: Duration) -> usize {
    if elapsed >= within {
        return all;
    }
    ((all as f64 * elapsed.as_secs_f64() / within.as_secs_f64()).ceil() as usize).min(all)
}

/// 80 to 100 % of a life, in sweeps; `luck` is from 0 to 1.
fn lasts(life: Duration, luck: f64) -> u32 {
    (life.as_secs_f64() * (0.8 + luck / 5.0) / SWEEP.as_secs_f64()).ceil().max(1.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goodbyes_begin_at_once_are_even_and_end_in_time() {
        let (step, second) = (STEP, Duration::from_secs(1));
        let at = |all, steps| share(all, step * steps, second);
        assert_eq!((at(1, 1), at(10, 1), at(19_000, 1)), (1, 1, 190));
        assert_eq!((at(10, 50), at(19_000, 50)), (5, 9_500));
        for all in [0, 1, 7, 100, 19_000] {
            assert_eq!(at(all, 100), all);
            assert_eq!(share(all, step, Duration::ZERO), all, "no time: all at once");
            assert!((1..100).all(|steps| at(all, steps) <= at(all, steps + 1)), "{all}");
        }
    }

    #[test]
    fn a_life_lasts_four_fifths_to_all_of_it() {
        let hour = Duration::from_secs(3600);
        assert_eq!((lasts(hour, 0.0), lasts(hour, 0.5), lasts(hour, 1.0)), (2880, 3240, 3600));
        assert_eq!((lasts(Duration::from_secs(1), 0.0), lasts(Duration::from_secs(1), 1.0)), (1, 1));
    }

    #[test]
    fn readers_are_told_different_times_to_come_back() {
        let time = |text: &str| {
            let digits = text.strip_prefix("retry: ").and_then(|rest| rest.split('\n').next()).map(str::parse::<u64>);
            digits.expect("a retry line").expect("a number")
        };
        let mut times: Vec<u64> = (0..1000).map(|_| time(&come_back("why"))).collect();
        times.sort_unstable();
        assert!(times[0] >= 1000 && times[999] <= 2000, "{} to {}", times[0], times[999]);
        assert!(times[250] < 1350 && times[750] > 1650, "spread over all of it: {} and {}", times[250], times[750]);
        assert!(come_back("why").ends_with("\n: why\n\n"));
    }
}
