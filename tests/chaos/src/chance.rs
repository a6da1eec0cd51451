//! Chance that can be had again: every choice of a run comes from its seed.
//!
//! The order of events between processes does not, so a seed repeats the plan of a run and not its course.

use std::time::Duration;

/// A sequence of numbers (SplitMix64; Steele, Lea, Flood, 2014).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The sequence of a seed and of one who uses it, so that the others' choices do not depend on how many it makes.
    pub(crate) fn new(seed: u64, user: u64) -> Self {
        let mut mixed = Self(seed ^ user.wrapping_mul(0xA076_1D64_78BD_642F));
        mixed.next();
        mixed
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From `low` to below `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    /// One of several; None: there are none.
    pub(crate) fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        if among.is_empty() { None } else { among.get((self.next() % among.len() as u64) as usize) }
    }

    /// The wait until the next event of a Poisson process, ten times the mean at most.
    pub(crate) fn poisson(&mut self, mean: Duration) -> Duration {
        mean.mul_f64((-(1.0 - self.unit()).ln()).min(10.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_users_differ() {
        let take = |seed, user| {
            let mut chance = Chance::new(seed, user);
            (0..4).map(|_| chance.between(0, 1000)).collect::<Vec<_>>()
        };
        assert_eq!(take(1, 1), take(1, 1));
        assert_ne!(take(1, 1), take(1, 2));
        assert_ne!(take(1, 1), take(2, 1));
    }

    #[test]
    fn waits_have_their_mean() {
        let mut chance = Chance::new(7, 0);
        let sum: Duration = (0..10_000).map(|_| chance.poisson(Duration::from_millis(100))).sum();
        assert!((900..1100).contains(&sum.as_secs()), "{sum:?}");
    }
}
