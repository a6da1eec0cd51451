//! Whose streams: how many one address and one user have open in a process, and the limits on that.
//!
//! All reactors count in one map, behind a lock that is held for a look and an addition when a stream opens and when it
//! ends, never for a message. Whoever has no stream has no entry, so there are never more than two for each stream, and
//! `channels.streams` bounds those. Kept are hashes with a key of this process: a number, however long the name of a
//! user is, and nobody can choose two names that meet. It must not know what a user is, nor who says so.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Hub, Refused, Totals};

/// Streams by the hash of whose they are; those that are limited only.
#[derive(Debug, Default)]
pub(super) struct Places {
    key: RandomState,
    taken: Mutex<HashMap<u64, usize>>,
}

/// Whose streams are counted together.
#[derive(Hash)]
enum Holder<'a> {
    /// An address of IPv4, or the network of one of IPv6: a household or a server has all of a /64 and would have
    /// 2^64 times the limit otherwise.
    Address(IpAddr),
    User(&'a str),
}

/// A stream's place under the limits of its address and its user; given back when it is dropped. Without limits it is
/// one word, since every stream has one.
#[derive(Debug)]
pub struct Place {
    _held: Option<Box<Held>>,
}

#[derive(Debug)]
struct Held {
    totals: Arc<Totals>,
    address: Option<u64>,
    user: Option<u64>,
}

impl Hub {
    /// A place for one more stream of a client: of its address, and of its user where one is known.
    ///
    /// # Errors
    /// [`Refused::Address`] or [`Refused::User`]: as many are open as may be. While the front drains nobody is refused
    /// for that: an EventSource would not come back.
    pub fn place(&self, address: IpAddr, user: Option<&str>) -> Result<Place, Refused> {
        if self.draining.get() {
            return Err(Refused::Draining);
        }
        let config = self.config();
        let limits = (config.streams_per_address, config.streams_per_user);
        Place::take(&self.totals, address, user, limits)
    }
}

impl Place {
    fn take(
        totals: &Arc<Totals>,
        address: IpAddr,
        user: Option<&str>,
        (per_address, per_user): (usize, usize),
    ) -> Result<Self, Refused> {
        let user = user.filter(|_| per_user > 0);
        if per_address == 0 && user.is_none() {
            return Ok(Self { _held: None });
        }
        let places = &totals.places;
        let mut held = Box::new(Held { totals: Arc::clone(totals), address: None, user: None });
        if per_address > 0 {
            let taken = places.take(&Holder::Address(network(address)), per_address);
            held.address = Some(taken.ok_or(Refused::Address)?);
        }
        if let Some(user) = user {
            // Refused here, the address gets back what was taken above: `held` is dropped.
            held.user = Some(places.take(&Holder::User(user), per_user).ok_or(Refused::User)?);
        }
        Ok(Self { _held: Some(held) })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for holder in [self.address, self.user].into_iter().flatten() {
            self.totals.places.give_back(holder);
        }
    }
}

impl Places {
    /// Counts one more; None where there are `most` already.
    fn take(&self, holder: &Holder<'_>, most: usize) -> Option<u64> {
        let holder = self.key.hash_one(holder);
        let mut taken = self.lock();
        let count = taken.get(&holder).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        taken.insert(holder, count + 1);
        Some(holder)
    }

    fn give_back(&self, holder: u64) {
        let mut taken = self.lock();
        match taken.get_mut(&holder) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&holder)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is counted together: an address, for IPv6 the first half of it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(totals: &Arc<Totals>, address: &str, user: Option<&str>, limits: (usize, usize)) -> Result<Place, Refused> {
        Place::take(totals, address.parse().expect("an address"), user, limits)
    }

    fn entries(totals: &Totals) -> usize {
        totals.places.lock().len()
    }

    #[test]
    fn one_more_than_the_limit_is_refused_and_an_end_makes_room() {
        let totals = Arc::default();
        let held: Vec<_> = (0..3).map(|_| take(&totals, "192.0.2.1", None, (3, 0)).expect("room")).collect();
        assert_eq!(take(&totals, "192.0.2.1", None, (3, 0)).err(), Some(Refused::Address));
        drop(take(&totals, "192.0.2.2", None, (3, 0)).expect("another address has its own"));
        drop(held.into_iter().next());
        drop(take(&totals, "192.0.2.1", None, (3, 0)).expect("room again"));
        assert_eq!(entries(&totals), 0, "whoever has no stream has no entry");
    }

    #[test]
    fn a_user_is_counted_over_all_addresses_and_gives_back_what_it_did_not_get() {
        let totals = Arc::default();
        let _held = take(&totals, "192.0.2.1", Some("ann"), (2, 1)).expect("room");
        assert_eq!(take(&totals, "192.0.2.2", Some("ann"), (2, 1)).err(), Some(Refused::User));
        assert_eq!(entries(&totals), 2, "the address of the refused one is not counted");
        let _other = take(&totals, "192.0.2.1", Some("bob"), (2, 1)).expect("another user");
        assert_eq!(take(&totals, "192.0.2.1", Some("eve"), (2, 1)).err(), Some(Refused::Address));
        let _nobody = take(&totals, "192.0.2.3", None, (2, 1)).expect("who has no name is in no user's way");
    }

    #[test]
    fn no_limit_counts_nobody() {
        let totals = Arc::default();
        let held: Vec<_> = (0..100).map(|_| take(&totals, "::1", Some("ann"), (0, 0)).expect("no limit")).collect();
        assert_eq!(entries(&totals), 0);
        drop(held);
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_a_mapped_address_is_ipv4() {
        let same = |a: &str, b: &str| network(a.parse().expect("a")) == network(b.parse().expect("b"));
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1") && !same("::ffff:192.0.2.1", "192.0.2.2"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }

    #[test]
    fn threads_do_not_get_more_than_the_limit_together() {
        let totals: Arc<Totals> = Arc::default();
        let tries = |totals: Arc<Totals>| {
            std::thread::spawn(move || (0..100).flat_map(|_| take(&totals, "::1", None, (50, 0))).collect::<Vec<_>>())
        };
        let threads: Vec<_> = (0..4).map(|_| tries(Arc::clone(&totals))).collect();
        let held: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect();
        assert_eq!(held.len(), 50);
        drop(held);
        assert_eq!(entries(&totals), 0);
    }
}
