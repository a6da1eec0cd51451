//! Every setting as it holds: where it stands, what it is, and who said so.
//!
//! Noted while a configuration is read, for `tempest config` and for the changes of a reload. What may not be printed is
//! known by its type ([`super::Secret`] shows as `***`), so no list of secret settings has to be kept.

use std::fmt::{self, Debug};

use super::Secret;

/// How a secret shows.
const HIDDEN: &str = "***";

/// Where a setting stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    /// `route "/a" timeout` or `limits.pending`.
    full: String,
    /// The table of several that it is in: `route "/a"`; empty: in none of such.
    item: String,
    /// The same for all tables of a kind: `route.timeout`, `workers.NAME.queue`.
    key: String,
}

impl Address {
    /// A setting, or a table, in here.
    pub(super) fn below(&self, key: &str) -> Self {
        let space = if self.item.is_empty() || self.full != self.item || !self.item.ends_with('"') { "." } else { " " };
        let join = |before: &str, between| match before {
            "" => key.to_owned(),
            before => format!("{before}{between}{key}"),
        };
        Self { full: join(&self.full, space), item: self.item.clone(), key: join(&self.key, ".") }
    }

    /// The same for all tables of a kind.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// One table of an array; `same`: how many before it have its label, too.
    pub(super) fn one_of(&self, key: &str, label: &str, same: usize) -> Self {
        let Self { full, key, .. } = self.below(key);
        let number = if same > 0 { format!("#{}", same + 1) } else { String::new() };
        let full = format!("{full} \"{label}{number}\"");
        Self { item: full.clone(), full, key }
    }

    /// A table that has its name from the file.
    pub(super) fn named(&self, name: &str) -> Self {
        let full = self.below(name).full;
        Self { item: full.clone(), full, key: format!("{}.NAME", self.key) }
    }
}

/// Who said what a setting is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody.
    Default,
    /// The file (`tempest.toml:12`), a flag (`--listen`) or a variable (`TEMPEST_LISTEN`).
    Given(String),
    /// Nobody, and it is not the default: why it is what it is.
    Assumed(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Given(place) => f.write_str(place),
            Self::Assumed(why) => f.write_str(why),
        }
    }
}

/// One setting as it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    address: Address,
    /// As it was written; what may not be shown is `***`.
    shown: String,
    /// Who said so.
    pub origin: Origin,
    /// What it is, spelled alike whoever wrote it; not to be shown.
    value: Secret,
}

impl Held {
    /// Of a value that was read from `text`, or of a default.
    pub(super) fn new(address: Address, value: &dyn Debug, text: &str, origin: Origin) -> Self {
        let spelled = format!("{value:?}");
        let is_secret = spelled.contains(HIDDEN);
        let words = || text.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = if is_secret || text.is_empty() { spelled.clone() } else { words() };
        // Two secrets are spelled alike: what tells them apart is what was written.
        let value = Secret::new(if is_secret { spelled + text } else { spelled });
        Self { address, shown, origin, value }
    }

    /// Where it stands: `limits.pending`, `route "/a" timeout`.
    pub fn setting(&self) -> &str {
        &self.address.full
    }

    /// The same for all tables of a kind: `route.timeout`.
    pub fn key(&self) -> &str {
        &self.address.key
    }

    /// The table of several that it is in: `route "/a"`; empty: none.
    pub fn item(&self) -> &str {
        &self.address.item
    }

    /// As it may be shown: as it was written, a default as the reference has it, a secret as `***`.
    pub fn shown(&self) -> &str {
        match self.origin {
            Origin::Default if !self.shown.contains(HIDDEN) => super::reference::default_of(self.key()),
            _ => None,
        }
        .unwrap_or(&self.shown)
    }

    /// As it was written.
    pub(super) fn written(&self) -> &str {
        &self.shown
    }

    /// True where it may not be shown.
    pub fn is_secret(&self) -> bool {
        self.shown.contains(HIDDEN)
    }

    /// True where it is the same, however it was written.
    pub fn is_same(&self, other: &Self) -> bool {
        self.value == other.value
    }

    /// It is something else, which nobody has said.
    pub(super) fn assume(&mut self, value: &dyn Debug, why: &'static str) {
        *self = Self::new(self.address.clone(), value, "", Origin::Assumed(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_known_by_where_it_stands() {
        let root = Address::default();
        let routes = |label, same| root.one_of("route", label, same).below("timeout");
        assert_eq!(
            (routes("/a", 0).full, routes("/a", 1).full),
            ("route \"/a\" timeout".into(), "route \"/a#2\" timeout".into())
        );
        assert_eq!((routes("/a", 0).key, routes("/a", 1).item), ("route.timeout".into(), "route \"/a#2\"".into()));
        let rule = root.below("channels").one_of("rule", "a*", 0).below("history").below("time");
        assert_eq!(
            (rule.full.as_str(), rule.key.as_str()),
            ("channels.rule \"a*\" history.time", "channels.rule.history.time")
        );
        let worker = root.below("workers").named("api").below("queue");
        assert_eq!((worker.full.as_str(), worker.key.as_str()), ("workers.api.queue", "workers.NAME.queue"));
    }

    #[test]
    fn secrets_differ_and_are_not_shown() {
        let held = |text: &str| Held::new(Address::default().below("x"), &Secret::new(text), text, Origin::Default);
        assert!(!held("hunter2").is_same(&held("hunter3")) && held("hunter2").is_same(&held("hunter2")));
        assert_eq!((held("hunter2").shown(), held("hunter2").is_secret()), ("***", true));
        assert!(!format!("{:?}", held("hunter2")).contains("hunter"));
    }
}
