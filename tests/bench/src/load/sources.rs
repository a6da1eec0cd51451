//! Addresses that a load connects from. It must not open anything.
//!
//! Where a socket is bound to an address and to no port, the kernel goes through the ports of that address until it finds
//! a free one: with more than half of its 28,000 in use that takes a millisecond, and a load then measures this search. No
//! option that puts it off until the other end is known (`IP_BIND_ADDRESS_NO_PORT`) can be set without unsafe code. So
//! few streams have the same address; the loopback interface accepts all of 127/8.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

/// Streams of one address: a small part of its ports, with those of streams that have just ended.
const EACH: usize = 1_000;

/// Some addresses that nobody else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sources {
    first: u32,
    count: u32,
}

impl Sources {
    /// As many as so many streams need; no load of this run has connected from them, since streams that ended keep their
    /// ports a while.
    pub(crate) fn take(streams: usize) -> Self {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let count = u32::try_from(streams.div_ceil(EACH).max(1)).expect("there are fewer than 2³² streams");
        Self { first: TAKEN.fetch_add(count, Ordering::Relaxed), count }
    }

    /// Where the stream of this number is to come from.
    pub(crate) fn of(self, nth: usize) -> Ipv4Addr {
        const FIRST: u32 = u32::from_be_bytes([127, 0, 1, 1]);
        let nth = self.first + nth as u32 % self.count;
        // The last byte goes round below 250, so that no broadcast address is among them.
        Ipv4Addr::from(FIRST + nth / 250 * 256 + nth % 250)
    }

    /// Whether it is one of them.
    pub(crate) fn has(self, address: Ipv4Addr) -> bool {
        (0..self.count as usize).any(|nth| self.of(nth) == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_has_an_address_of_theirs() {
        let (one, two) = (Sources::take(2 * EACH + 1), Sources::take(1));
        let own: Vec<_> = (0..3).map(|nth| one.of(nth)).collect();
        assert!(own.iter().all(|address| address.is_loopback() && one.has(*address) && !two.has(*address)));
        assert!(own[0] != own[1] && own[1] != own[2] && own[0] == one.of(3));
        assert!(two.has(two.of(0)) && two.of(0) == two.of(1));
    }
}
