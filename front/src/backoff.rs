//! Waiting times between tries: exponential, with full jitter, so that many clients of a server that comes back do
//! not come all at once (Brooker, "Exponential Backoff And Jitter", 2015).
//!
//! Only arithmetic; whoever waits does the sleeping.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Grows from `first` to `cap` and starts anew after [`Backoff::reset`]. Never gives up.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    tries: u32,
}

impl Backoff {
    /// `first` bounds the first wait, `cap` every later one.
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, tries: 0 }
    }

    /// The next wait: between half of the bound and the bound.
    pub fn next_wait(&mut self) -> Duration {
        let bound = self.first.saturating_mul(1 << self.tries.min(16)).min(self.cap);
        self.tries = self.tries.saturating_add(1);
        bound.mul_f64(0.5 + random_unit() / 2.0)
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

/// A number from 0 to 1, good enough to spread load and for nothing else.
pub fn random_unit() -> f64 {
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u8(0);
    (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        let waits: Vec<_> = (0..40).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] <= Duration::from_millis(10));
        assert!(waits.iter().all(|w| *w <= Duration::from_millis(100)));
        assert!(waits[39] >= Duration::from_millis(50));
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(10));
    }
}
