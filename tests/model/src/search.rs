//! Breadth-first search over all states that can be reached. It knows nothing of what it searches.
//!
//! Fifty lines of our own instead of a library: all that is asked is "does this hold in every state, and in every state
//! where nothing more can happen", with the shortest way to where it does not. The library at hand brought forty crates,
//! and its `eventually` forgets a path that joins another. Only the hash of a state is kept (64 bits: with five million
//! states one chance in a million that two are taken for one), so memory is 24 bytes a state and the frontier.

use std::collections::hash_map::{Entry, HashMap};
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// What can be searched.
pub trait Model {
    /// All that can change.
    type State: Clone + Hash;
    /// One step; its `Debug` is a line of a trace.
    type Action: Copy + Debug;
    /// Where it begins.
    fn initial(&self) -> Self::State;
    /// Every step that is possible.
    fn actions(&self, state: &Self::State) -> Vec<Self::Action>;
    /// Takes one of them.
    fn step(&self, state: &Self::State, action: Self::Action) -> Self::State;
    /// What is wrong with a state, `last` where nothing more can happen.
    fn fault(&self, state: &Self::State, last: bool) -> Option<String>;
}

/// What a search found.
#[derive(Debug)]
pub struct Outcome<A> {
    /// States seen.
    pub states: usize,
    /// Of these, those where nothing more can happen.
    pub last: usize,
    /// The first fault, and the shortest way to it.
    pub fault: Option<(String, Vec<A>)>,
}

#[derive(Default)]
struct Fingerprint(u64);

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are hashes already");
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Seen<A> = HashMap<u64, Option<(u64, A)>, BuildHasherDefault<Fingerprint>>;

/// Folded multiplication: a state is a few hundred small numbers, for which the standard hasher takes half of the time.
struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }
    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }
    fn write_u64(&mut self, number: u64) {
        let mixed = self.0.rotate_left(23) ^ number ^ 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(mixed) * 0xe703_7ed1_a0b4_28db;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

fn hash<S: Hash>(state: &S) -> u64 {
    let mut hasher = Folded(0);
    state.hash(&mut hasher);
    hasher.finish()
}

/// Searches until a fault is found or all states are seen; more than `most` of them panic, so that a model that has
/// grown without a bound fails instead of filling the memory.
pub fn search<M: Model>(model: &M, most: usize) -> Outcome<M::Action> {
    let mut seen: Seen<M::Action> = HashMap::default();
    let (mut last, mut layer) = (0, vec![model.initial()]);
    seen.insert(hash(&layer[0]), None);
    while !layer.is_empty() {
        let mut next = Vec::new();
        for state in &layer {
            let from = hash(state);
            let actions = model.actions(state);
            last += usize::from(actions.is_empty());
            if let Some(fault) = model.fault(state, actions.is_empty()) {
                return Outcome { states: seen.len(), last, fault: Some((fault, way(&seen, from))) };
            }
            for action in actions {
                let reached = model.step(state, action);
                if let Entry::Vacant(place) = seen.entry(hash(&reached)) {
                    place.insert(Some((from, action)));
                    next.push(reached);
                }
            }
        }
        assert!(seen.len() <= most, "more than {most} states: the model has become too large for its purpose");
        layer = next;
    }
    Outcome { states: seen.len(), last, fault: None }
}

fn way<A: Copy>(seen: &Seen<A>, mut to: u64) -> Vec<A> {
    let mut actions = Vec::new();
    while let Some(Some((from, action))) = seen.get(&to) {
        actions.push(*action);
        to = *from;
    }
    actions.reverse();
    actions
}

/// A way as text, a step a line.
pub fn trace<A: Debug>(way: &[A]) -> String {
    way.iter().map(|action| format!("  {action:?}\n")).collect()
}
