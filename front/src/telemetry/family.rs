//! Metrics of which there is one for each thing that the configuration names: a route, a queue.
//!
//! Whoever counts asks for its member once, when it is made, and holds it: nothing is looked up while requests pass. A
//! member lasts as long as somebody holds it, so a configuration that is read anew keeps the counts of what is still
//! there and drops the rest. Labels come from the configuration; nothing that a client sends may become one.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::kinds::Kind;

/// The labels of a family.
pub trait Labels: 'static {
    /// Their names, as the manual lists them.
    const NAMES: &'static str;
    /// Whose they are.
    type Of<'a>: Copy;

    /// `name="value",…`.
    fn text(of: Self::Of<'_>) -> String;
}

/// All members, by their labels, in the order in which they were asked for first.
pub struct Family<L, K> {
    members: Mutex<Vec<(String, Weak<K>)>>,
    labels: PhantomData<L>,
}

impl<L, K> Default for Family<L, K> {
    fn default() -> Self {
        Self { members: Mutex::default(), labels: PhantomData }
    }
}

impl<L, K: fmt::Debug> fmt::Debug for Family<L, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.lock().iter().map(|(labels, member)| (labels, member))).finish()
    }
}

impl<L, K> Family<L, K> {
    /// Held for a look over a list as long as the configuration: nobody who holds it waits for anything.
    fn lock(&self) -> MutexGuard<'_, Vec<(String, Weak<K>)>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Labels, K: Default> Family<L, K> {
    /// The member with these labels: the same for all who ask while one of them holds it.
    pub fn of(&self, of: L::Of<'_>) -> Arc<K> {
        let labels = L::text(of);
        let mut members = self.lock();
        members.retain(|(_, member)| member.strong_count() > 0);
        if let Some(member) =
            members.iter().find(|(known, _)| *known == labels).and_then(|(_, member)| member.upgrade())
        {
            return member;
        }
        let member = Arc::<K>::default();
        members.push((labels, Arc::downgrade(&member)));
        member
    }
}

impl<L: Labels, K: Kind> Kind for Family<L, K> {
    const TYPE: &'static str = K::TYPE;
    const LABEL: &'static str = L::NAMES;
    const INNER_LABEL: &'static str = K::LABEL;

    fn samples(&self, name: &str, _: &str, out: &mut String) {
        for (labels, member) in self.lock().iter() {
            if let Some(member) = member.upgrade() {
                member.samples(name, labels, out);
            }
        }
    }
}

/// A value of a label, escaped as Prometheus' text format wants it.
fn value(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The label of a queue.
#[derive(Debug)]
pub enum OfQueue {}

impl Labels for OfQueue {
    const NAMES: &'static str = "queue";
    type Of<'a> = &'a str;

    fn text(queue: &str) -> String {
        format!("queue=\"{}\"", value(queue))
    }
}

/// The labels of a route: its place in the configuration, from 1 (0: none), and its path. Both, since a path may have several routes
/// (by host and method) and a number alone says nothing to a reader.
#[derive(Debug)]
pub enum OfRoute {}

impl Labels for OfRoute {
    const NAMES: &'static str = "route, path";
    type Of<'a> = (usize, &'a str);

    fn text((number, path): (usize, &str)) -> String {
        let number = if number == 0 { "none".to_owned() } else { number.to_string() };
        format!("route=\"{number}\",path=\"{}\"", value(path))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::Counter;
    use super::*;

    fn text(family: &Family<OfRoute, Counter>) -> String {
        let mut out = String::new();
        family.samples("x_total", "", &mut out);
        out
    }

    #[test]
    fn who_asks_for_the_same_counts_in_the_same_place() {
        let family = Family::<OfRoute, Counter>::default();
        let (one, again, other) = (family.of((1, "/a")), family.of((1, "/a")), family.of((2, "/a\"\\")));
        one.inc();
        again.inc();
        other.inc();
        assert_eq!(text(&family), "x_total{route=\"1\",path=\"/a\"} 2\nx_total{route=\"2\",path=\"/a\\\"\\\\\"} 1\n");
    }

    #[test]
    fn what_nobody_holds_any_more_is_gone_and_what_one_of_two_holds_stays() {
        let family = Family::<OfRoute, Counter>::default();
        let old = (family.of((1, "/a")), family.of((2, "/b")));
        old.0.add(5);
        let new = family.of((1, "/a"));
        drop(old);
        assert_eq!(text(&family), "x_total{route=\"1\",path=\"/a\"} 5\n");
        drop(new);
        assert_eq!(text(&family), "");
        assert_eq!(family.of((1, "/a")).get(), 0);
    }
}
