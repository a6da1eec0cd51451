//! How long a message takes to the first stream that has written it.
//!
//! One message of a channel is timed at once, and the next one that comes after it was written: two looks at the clock
//! for it, and for all others a comparison. So a channel that is quiet has all of its messages timed, and a busy one
//! pays no more than it can show.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The message being timed: its number in the channel, and when it was published.
#[derive(Debug, Default)]
pub(super) struct Lag(Cell<Option<(u64, Instant)>>);

impl Lag {
    /// The message `number` has come, `age` after it was published. `first` is the first message that is kept: one that
    /// is timed and went without being written is given up.
    pub(super) fn came(&self, number: u64, first: u64, age: Duration) {
        if self.0.get().is_none_or(|(timed, _)| timed < first) {
            let now = Instant::now();
            self.0.set(Some((number, now.checked_sub(age).unwrap_or(now))));
        }
    }

    /// A stream has written all messages before `cursor`; gives the time of the one that is timed, once.
    pub(super) fn written(&self, cursor: u64) -> Option<Duration> {
        let (timed, since) = self.0.get()?;
        (timed < cursor).then(|| {
            self.0.set(None);
            since.elapsed()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_at_a_time_is_timed_once() {
        let lag = Lag::default();
        assert_eq!(lag.written(9), None);
        lag.came(4, 4, Duration::from_secs(2));
        lag.came(5, 4, Duration::ZERO);
        assert_eq!(lag.written(4), None, "the fourth is yet to be written");
        assert!(lag.written(5).expect("it was timed") >= Duration::from_secs(2), "its age counts");
        assert_eq!(lag.written(6), None, "the fifth was not timed");
        lag.came(6, 6, Duration::ZERO);
        lag.came(9, 7, Duration::from_secs(3));
        assert!(lag.written(10).expect("the ninth took its place") >= Duration::from_secs(3));
    }
}
