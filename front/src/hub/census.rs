//! Which channels have most streams: what a front says of its channels in its record.
//!
//! Channels belong to reactors, so each says once a second which are its busiest, and they are added up where the record
//! is written. Everything is bounded: how many, and how much of a name, since names are strangers' text.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::Hub;
use super::channel::Channel;

/// Channels in a record.
const TOLD: usize = 50;
/// Channels that one reactor tells of: more, since one that is last here may be first elsewhere.
const TOLD_BY_REACTOR: usize = 4 * TOLD;
/// Bytes of a name that are told; a longer one is cut, and ends in `…`.
const NAME_BYTES: usize = 200;

/// A channel, as the record of a front tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Busy {
    /// Its name, as the browser gives it.
    pub name: String,
    /// Streams open.
    pub streams: u64,
    /// Publications received since it was subscribed.
    pub published: u64,
}

/// What each reactor of a process said last.
#[derive(Debug, Default)]
pub struct Census(Mutex<HashMap<usize, Vec<Busy>>>);

impl Census {
    /// Reactor number `reactor` says which of its channels are busy.
    pub fn tell(&self, reactor: usize, busy: Vec<Busy>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(reactor, busy);
    }

    /// The busiest of all reactors together, most streams first. A publication comes to every reactor that has the
    /// channel, so it is not added up.
    pub fn busiest(&self) -> Vec<Busy> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: HashMap<&str, (u64, u64)> = HashMap::new();
        for Busy { name, streams, published } in told.values().flatten() {
            let sums = all.entry(name).or_default();
            *sums = (sums.0 + streams, sums.1.max(*published));
        }
        let busy = |(name, (streams, published)): (&str, _)| Busy { name: name.to_owned(), streams, published };
        let mut all: Vec<Busy> = all.into_iter().map(busy).collect();
        all.sort_unstable_by(|a, b| b.streams.cmp(&a.streams).then_with(|| a.name.cmp(&b.name)));
        all.truncate(TOLD);
        all
    }
}

impl Hub {
    /// The channels of this reactor with most streams, in no order.
    pub fn busy_channels(&self) -> Vec<Busy> {
        let channels = self.channels.borrow();
        let mut all: Vec<&Channel> = channels.values().map(|channel| &**channel).collect();
        if all.len() > TOLD_BY_REACTOR {
            all.select_nth_unstable_by_key(TOLD_BY_REACTOR, |channel| std::cmp::Reverse(channel.seats.get()));
            all.truncate(TOLD_BY_REACTOR);
        }
        let busy = |channel: &Channel| Busy {
            name: short(&channel.kind.name),
            streams: channel.seats.get() as u64,
            published: channel.published.get(),
        };
        all.into_iter().map(busy).collect()
    }
}

fn short(name: &str) -> String {
    if name.len() <= NAME_BYTES {
        return name.to_owned();
    }
    format!("{}…", &name[..name.floor_char_boundary(NAME_BYTES)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(name: &str, streams: u64, published: u64) -> Busy {
        Busy { name: name.to_owned(), streams, published }
    }

    #[test]
    fn reactors_are_added_up_and_the_busiest_come_first() {
        let census = Census::default();
        assert!(census.busiest().is_empty());
        census.tell(0, vec![busy("a", 1, 5), busy("b", 2, 7)]);
        census.tell(1, vec![busy("a", 3, 6), busy("c", 2, 0)]);
        assert_eq!(census.busiest(), [busy("a", 4, 6), busy("b", 2, 7), busy("c", 2, 0)]);
        census.tell(1, Vec::new());
        assert_eq!(census.busiest(), [busy("b", 2, 7), busy("a", 1, 5)]);
    }

    #[test]
    fn no_more_are_told_than_fit() {
        let census = Census::default();
        census.tell(0, (0..TOLD_BY_REACTOR as u64).map(|n| busy(&format!("room-{n}"), n, 0)).collect());
        let told = census.busiest();
        assert_eq!((told.len(), told[0].streams, told[TOLD - 1].streams), (TOLD, 199, 150));
    }

    #[test]
    fn long_names_are_cut_between_two_characters() {
        assert_eq!(short(&"x".repeat(NAME_BYTES)), "x".repeat(NAME_BYTES));
        assert_eq!(short(&"x".repeat(NAME_BYTES + 1)), format!("{}…", "x".repeat(NAME_BYTES)));
        assert_eq!(short(&format!("x{}", "ü".repeat(NAME_BYTES))), format!("x{}…", "ü".repeat((NAME_BYTES - 1) / 2)));
    }
}
