//! How the table of waiting requests finds one by its serial number.
//!
//! Nothing but the hash: the numbers are given out elsewhere.

use std::hash::Hasher;

/// Hashes serial numbers, which are ours and count upwards: nobody can choose them, so they need no defence against
/// chosen collisions. Multiplied so that neighbours differ in the top bits, too, which the table tells entries by
/// (Fibonacci hashing: 2^64 divided by the golden ratio).
#[derive(Default)]
pub(super) struct BySerial(u64);

impl Hasher for BySerial {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
