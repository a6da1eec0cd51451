//! What differs between two configurations, and what of it cannot change while a process runs.
//!
//! Only comparing: who applies the rest, and to whom, is decided elsewhere. Secrets are said to have changed, no more.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::{Held, Loaded, Mode};

/// What belongs to a process from its start to its end: sockets, threads, the way to Redis and the names in it. A key
/// that ends with a dot stands for all that begin with it.
const OF_A_FRONT: &[&str] = &[
    "prefix",
    "redis.url",
    "redis.stall",
    "redis.patience",
    "front.listen",
    "front.tls.",
    "front.redirect",
    "front.redirect_port",
    "front.unix_mode",
    "front.admin",
    "front.reactors",
    "limits.outgoing_bytes",
    "channels.prefix",
    "log.format",
    "telemetry.otlp",
    "telemetry.otlp_queue",
    "telemetry.otlp_batch",
    "telemetry.otlp_wait",
    "telemetry.otlp_time",
    "telemetry.service",
];
/// The same of `tempest up`, beside that of its front.
const OF_UP: &[&str] = &[
    "redis.server",
    "redis.port",
    "redis.dir",
    "front.processes",
    "limits.crashes",
    "limits.dead_letters",
    "workers.",
];
/// And where its fronts are processes: how long it waits for them.
const OF_UP_WITH_PROCESSES: &[&str] = &["front.grace", "front.ready_time"];
/// The same of `tempest supervise`. What concerns fronts alone is nothing to it.
const OF_SUPERVISE: &[&str] =
    &["prefix", "redis.url", "log.format", "workers.", "limits.crashes", "limits.dead_letters"];
/// What is nothing to a front on its own.
const NOT_OF_A_FRONT: &[&str] =
    &["redis.server", "redis.port", "redis.dir", "front.processes", "front.ready_time", "workers."];

fn is_one_of(key: &str, keys: &[&str]) -> bool {
    keys.iter().any(|one| if one.ends_with('.') { key.starts_with(one) } else { key == *one })
}

/// One setting that differs, or one table of several that came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it stands: `limits.pending`, `route "/a" timeout`, `route "/a"`.
    pub setting: String,
    /// What it was, as it may be shown; None: there was no such table.
    pub old: Option<String>,
    /// What it is; None: there is no such table any more.
    pub new: Option<String>,
    /// It cannot change while the process runs.
    pub fixed: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, old, new, .. } = self;
        match (old, new) {
            (None, _) => write!(f, "{setting}: added"),
            (_, None) => write!(f, "{setting}: removed"),
            (Some(_), Some(new)) if new == HIDDEN => write!(f, "{setting}: \u{2026}changed"),
            (Some(old), Some(new)) => write!(f, "{setting}: {old} -> {new}"),
        }
    }
}

/// How a secret shows.
const HIDDEN: &str = "***";

/// All that differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(pub Vec<Change>);

impl Changes {
    /// From one configuration to the next of the same command.
    pub fn between(old: &Loaded, new: &Loaded, mode: Mode) -> Self {
        let (before, after) = (of(mode, &old.held), of(mode, &new.held));
        let (items_before, items_after) = (items(&before), items(&after));
        let fixed = |held: &Held| is_fixed(mode, old, held.key());
        let mut all = Vec::new();
        let known: HashMap<&str, &Held> = before.iter().map(|held| (held.setting(), *held)).collect();
        let mut told = HashSet::new();
        for held in &after {
            match known.get(held.setting()) {
                Some(was) if was.is_same(held) => {}
                Some(was) => all.push(Change {
                    setting: held.setting().to_owned(),
                    old: Some(shown(was)),
                    new: Some(shown(held)),
                    fixed: fixed(held),
                }),
                None if items_before.contains(&held.item()) => all.push(Change {
                    setting: held.setting().to_owned(),
                    old: Some(NOT_SET.to_owned()),
                    new: Some(shown(held)),
                    fixed: fixed(held),
                }),
                None if told.insert(held.item()) => {
                    let (setting, new) = (held.item().to_owned(), Some(String::new()));
                    all.push(Change { setting, old: None, new, fixed: fixed(held) });
                }
                None => {}
            }
        }
        let there: HashSet<&str> = after.iter().map(|held| held.setting()).collect();
        for held in before.iter().filter(|held| !there.contains(held.setting())) {
            let (setting, old, new) = match items_after.contains(&held.item()) {
                true => (held.setting(), shown(held), Some(NOT_SET.to_owned())),
                false if told.insert(held.item()) => (held.item(), String::new(), None),
                false => continue,
            };
            all.push(Change { setting: setting.to_owned(), old: Some(old), new, fixed: fixed(held) });
        }
        let kept = |all: &[&str], there: &[&str]| -> Vec<String> {
            all.iter().filter(|item| there.contains(item)).map(|item| (*item).to_owned()).collect()
        };
        if kept(&items_before, &items_after) != kept(&items_after, &items_before) {
            let order = |text: &str| Some(text.to_owned());
            let (setting, old, new) =
                ("the order of tables".to_owned(), order("another"), order("that of the file now"));
            all.push(Change { setting, old, new, fixed: false });
        }
        Self(all)
    }

    /// Those that cannot change while the process runs.
    pub fn fixed(&self) -> Vec<&str> {
        self.0.iter().filter(|change| change.fixed).map(|change| change.setting.as_str()).collect()
    }
}

/// What a setting of a table is where the table does not have it.
const NOT_SET: &str = "not set";

fn shown(held: &Held) -> String {
    if held.is_secret() { HIDDEN.to_owned() } else { held.shown().to_owned() }
}

/// What means something to a command.
fn of(mode: Mode, held: &[Held]) -> Vec<&Held> {
    let is_its = |held: &&Held| match mode {
        Mode::Front => !is_one_of(held.key(), NOT_OF_A_FRONT),
        Mode::Supervise => is_one_of(held.key(), OF_SUPERVISE) || held.key() == "log.level",
        Mode::Up | Mode::Client => true,
    };
    held.iter().filter(is_its).collect()
}

fn is_fixed(mode: Mode, old: &Loaded, key: &str) -> bool {
    let processes = old.config.front.processes > 0;
    match mode {
        Mode::Front => is_one_of(key, OF_A_FRONT),
        Mode::Supervise => is_one_of(key, OF_SUPERVISE),
        Mode::Up | Mode::Client => {
            is_one_of(key, OF_A_FRONT) || is_one_of(key, OF_UP) || (processes && is_one_of(key, OF_UP_WITH_PROCESSES))
        }
    }
}

/// The tables of arrays and names, each once, in their order.
fn items<'a>(all: &[&'a Held]) -> Vec<&'a str> {
    // One that stands by itself is in none of several, and so is there before and after.
    let mut items = vec![""];
    for held in all {
        if !items.contains(&held.item()) {
            items.push(held.item());
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load::parse_text;
    use super::super::{Config, Flags};
    use super::*;

    fn loaded(text: &str) -> Loaded {
        let parsed = parse_text("t", text, Path::new("/")).expect("a good configuration");
        let (config, held): (Config, _) = (parsed.config, parsed.held);
        Loaded { config, held, file: None, notices: Vec::new(), flags: Flags::default() }
    }

    fn between(mode: Mode, old: &str, new: &str) -> (Vec<String>, Vec<String>) {
        let changes = Changes::between(&loaded(old), &loaded(new), mode);
        let fixed = changes.fixed().into_iter().map(str::to_owned).collect();
        (changes.0.iter().map(ToString::to_string).collect(), fixed)
    }

    fn said(old: &str, new: &str) -> Vec<String> {
        between(Mode::Front, old, new).0
    }

    const A: &str = "[[route]]\npath = \"/a\"\nqueue = \"a\"\n";
    const B: &str = "[[route]]\npath = \"/b\"\nqueue = \"b\"\n";

    #[test]
    fn what_is_written_otherwise_and_means_the_same_is_no_change() {
        let none: Vec<String> = Vec::new();
        assert_eq!(said("limits.body_time = 30\nlimits.head_bytes = 16384", "[limits]\nbody_time = \"30s\""), none);
        assert_eq!(said("channels.public = \"a,b\"", "channels.public = [\"a\", \"b\"]"), none);
        assert_eq!(said("limits.body_time = 1", "limits.body_time = 2"), ["limits.body_time: 1 -> 2"]);
        assert_eq!(said("", "redis.url = \"redis://:a@h\""), ["redis.url: \u{2026}changed"]);
    }

    #[test]
    fn tables_come_go_and_change_places() {
        assert_eq!(said(A, &[A, B].concat()), ["route \"/b\": added"]);
        assert_eq!(said(&[A, B].concat(), B), ["route \"/a\": removed"]);
        assert_eq!(said(&[A, B].concat(), &[B, A].concat()), ["the order of tables: another -> that of the file now"]);
        let twice = said(&[A, A].concat(), &[A, &A.replace("\"a\"", "\"c\"")].concat());
        assert_eq!(twice, ["route \"/a#2\" queue: \"a\" -> \"c\""]);
        let other_kind = A.replace("queue = \"a\"", "kind = \"files\"\ndir = \"d\"").replace("/a", "/{a...}");
        let was = A.replace("/a", "/{a...}");
        assert!(said(&was, &other_kind).contains(&"route \"/{a...}\" queue: \"a\" -> not set".to_owned()));
    }

    #[test]
    fn what_takes_a_restart_depends_on_the_command() {
        let worker = "[workers.a]\ncommand = \"x\"\n";
        let fixed = |mode, old: &str, new: &str| between(mode, old, new).1;
        assert_eq!(fixed(Mode::Front, "", "front.reactors = 2\nlimits.pending = 2"), ["front.reactors"]);
        assert_eq!(between(Mode::Front, "", &format!("redis.port = 7\n{worker}")), (vec![], vec![]));
        assert_eq!(fixed(Mode::Up, "", &format!("redis.port = 7\n{worker}")), ["redis.port", "workers.a"]);
        assert_eq!(fixed(Mode::Up, "", "front.grace = 7"), Vec::<String>::new());
        let processes = "front.processes = 1\n";
        assert_eq!(fixed(Mode::Up, processes, &format!("{processes}front.grace = 7")), ["front.grace"]);
        assert_eq!(between(Mode::Supervise, worker, &format!("front.reactors = 3\n{worker}")), (vec![], vec![]));
        assert_eq!(fixed(Mode::Supervise, worker, &format!("{worker}processes = 3")), ["workers.a.processes"]);
        assert_eq!(fixed(Mode::Supervise, worker, &format!("{worker}env = {{ A = 1 }}")), ["workers.a.env.A"]);
    }

    #[test]
    fn every_fixed_setting_is_one() {
        let tls = "[[front.tls]]\nlisten = \"unix:/s\"\ncertificates = [{ cert = \"a\", key = \"b\" }]\n";
        let all = loaded(&format!("front.processes = 1\n[workers.a]\ncommand = \"x\"\n{tls}{A}"));
        for key in [OF_A_FRONT, OF_UP, OF_UP_WITH_PROCESSES, OF_SUPERVISE, NOT_OF_A_FRONT].concat() {
            assert!(all.held.iter().any(|held| is_one_of(held.key(), &[key])), "{key}");
        }
    }
}
