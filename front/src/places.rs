//! Who holds how much: places under the limits of an address, a user or a route, in one map for a whole process.
//!
//! All reactors count in one map, behind a lock that is held for a look and an addition when a place is taken and when
//! it is given back, never for a message, and not at all where there is no limit. Whoever holds no place has no entry, so
//! the map is bounded by what is open. Kept are hashes with a key of this process: a number, however long the name of a
//! user is, and nobody can choose two names that meet. It must not know what is held, nor who says whose it is.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Method;

/// Places taken, by the hash of who holds them; those that are limited only.
#[derive(Debug, Default)]
pub struct Places {
    key: RandomState,
    taken: Mutex<HashMap<u64, usize>>,
}

/// What is counted together. An address of IPv6 stands for its /64: a household or a server has all of that and would
/// have 2^64 times the limit otherwise.
#[derive(Clone, Copy, Debug, Hash)]
pub enum Holder<'a> {
    /// Streams of an address.
    Streams(IpAddr),
    /// Streams of a user.
    UserStreams(&'a str),
    /// Connections of an address.
    Connections(IpAddr),
    /// Requests of an address.
    Requests(IpAddr),
    /// Requests of a route, which is known by what it matches.
    Route {
        /// Its pattern.
        path: &'a str,
        /// Its host.
        host: Option<&'a str>,
        /// Its methods.
        methods: Option<&'a [Method]>,
    },
}

/// One or more places; given back when it is dropped. Without limits it is one word, since everything has one.
#[derive(Debug, Default)]
pub struct Place(Option<Box<Held>>);

#[derive(Debug)]
struct Held {
    places: Arc<Places>,
    holder: u64,
    /// What is held besides.
    other: Place,
}

impl Places {
    /// A place for one more.
    ///
    /// None where there are `most` already; with 0 there is no limit, and nothing is counted.
    pub fn take(self: &Arc<Self>, holder: Holder<'_>, most: usize) -> Option<Place> {
        // One who has come by a Unix socket has no address: whoever connects so would be counted together.
        if most == 0 || has_no_address(holder) {
            return Some(Place::default());
        }
        let holder = self.key.hash_one(together(holder));
        let mut taken = self.lock();
        let count = taken.get(&holder).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        taken.insert(holder, count + 1);
        drop(taken);
        Some(Place(Some(Box::new(Held { places: Arc::clone(self), holder, other: Place::default() }))))
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

impl Place {
    /// This and another, to be held as one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let Some(mut held) = self.0 else { return other };
        held.other = std::mem::take(&mut held.other).and(other);
        Self(Some(held))
    }

    /// True where there is nothing to give back.
    pub fn is_free(&self) -> bool {
        self.0.is_none()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.places.give_back(self.holder);
    }
}

fn has_no_address(holder: Holder<'_>) -> bool {
    match holder {
        Holder::Streams(ip) | Holder::Connections(ip) | Holder::Requests(ip) => ip.is_unspecified(),
        Holder::UserStreams(_) | Holder::Route { .. } => false,
    }
}

/// The same holder, with its address as far as it counts.
fn together(holder: Holder<'_>) -> Holder<'_> {
    match holder {
        Holder::Streams(address) => Holder::Streams(network(address)),
        Holder::Connections(address) => Holder::Connections(network(address)),
        Holder::Requests(address) => Holder::Requests(network(address)),
        Holder::UserStreams(_) | Holder::Route { .. } => holder,
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

    fn at(address: &str) -> Holder<'_> {
        Holder::Streams(address.parse().expect("an address"))
    }

    #[test]
    fn one_more_than_the_limit_is_refused_and_an_end_makes_room() {
        let places: Arc<Places> = Arc::default();
        let held: Vec<_> = (0..3).map(|_| places.take(at("192.0.2.1"), 3).expect("room")).collect();
        assert!(places.take(at("192.0.2.1"), 3).is_none());
        drop(places.take(at("192.0.2.2"), 3).expect("another address has its own"));
        let address = [192, 0, 2, 1].into();
        drop(places.take(Holder::Connections(address), 3).expect("and so has what is of another kind"));
        drop(places.take(Holder::Requests(address), 3).expect("and this one"));
        drop(held.into_iter().next());
        drop(places.take(at("192.0.2.1"), 3).expect("room again"));
        assert_eq!(places.lock().len(), 0, "whoever holds nothing has no entry");
    }

    #[test]
    fn several_are_held_and_given_back_as_one() {
        let places: Arc<Places> = Arc::default();
        let take = |name| places.take(Holder::UserStreams(name), 1);
        let both = take("ann").expect("room").and(Place::default()).and(take("bob").expect("room"));
        let all = Place::default().and(both).and(take("eve").expect("room"));
        assert!(!all.is_free() && take("ann").is_none() && take("bob").is_none() && take("eve").is_none());
        drop(all);
        assert_eq!(places.lock().len(), 0);
    }

    #[test]
    fn no_limit_counts_nobody() {
        let places: Arc<Places> = Arc::default();
        let held: Vec<_> = (0..100).map(|_| places.take(at("::1"), 0).expect("no limit")).collect();
        assert!(held.iter().all(Place::is_free));
        assert_eq!(places.lock().len(), 0);
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_a_mapped_address_is_ipv4() {
        let same = |a: &str, b: &str| network(a.parse().expect("a")) == network(b.parse().expect("b"));
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1") && !same("::ffff:192.0.2.1", "192.0.2.2"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        let places: Arc<Places> = Arc::default();
        let _held = places.take(at("2001:db8:1:2::1"), 1).expect("room");
        assert!(places.take(at("2001:db8:1:2::2"), 1).is_none());
        assert!(places.take(at("2001:db8:1:3::1"), 1).is_some());
    }

    #[test]
    fn threads_do_not_get_more_than_the_limit_together() {
        let places: Arc<Places> = Arc::default();
        let tries = |places: Arc<Places>| {
            std::thread::spawn(move || (0..100).flat_map(|_| places.take(at("::1"), 50)).collect::<Vec<_>>())
        };
        let threads: Vec<_> = (0..4).map(|_| tries(Arc::clone(&places))).collect();
        let held: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect();
        assert_eq!(held.len(), 50);
        drop(held);
        assert_eq!(places.lock().len(), 0);
    }
}
