//! What the admin listener of `tempest up` shows of its front processes.
//!
//! It is ready while any of them is. It shows which there are and how they are, and not what they count: each has an
//! admin listener of its own for that.

use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::process::State;
use crate::admin::Subject;

/// The processes by their places.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Vec<(String, watch::Receiver<State>)>>);

impl Board {
    /// The process in a place is another now.
    pub(super) fn set(&self, at: usize, name: &str, state: watch::Receiver<State>) {
        let mut rows = self.rows();
        match rows.get_mut(at) {
            Some(row) => row.1 = state,
            None => rows.push((name.to_owned(), state)),
        }
    }

    fn rows(&self) -> MutexGuard<'_, Vec<(String, watch::Receiver<State>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn states(&self) -> Vec<(String, State)> {
        self.rows().iter().map(|(name, state)| (name.clone(), state.borrow().clone())).collect()
    }
}

impl Subject for Board {
    fn not_ready(&self) -> Vec<String> {
        let states = self.states();
        let reasons: Vec<_> = states.iter().filter_map(|(name, state)| Some((name, state.not_ready()?))).collect();
        if reasons.len() < states.len() {
            return Vec::new();
        }
        reasons.into_iter().map(|(name, why)| format!("{name}: {why}")).collect()
    }

    fn health(&self) -> Map<String, Value> {
        let one = |(name, state): (String, State)| {
            let why = state.not_ready();
            (name, json!({"ready": why.is_none(), "reason": why, "pid": state.pid}))
        };
        Map::from_iter([("fronts".to_owned(), Value::Object(self.states().into_iter().map(one).collect()))])
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        let states = self.states();
        let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&State) -> u64| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (place, state) in &states {
                let _ = writeln!(text, "{name}{{front=\"{place}\"}} {}", value(state));
            }
        };
        let ready = |state: &State| u64::from(state.not_ready().is_none());
        family("tempest_up_front_ready", "gauge", "1 while the front process takes requests.", &ready);
        let again = |state: &State| state.starts.saturating_sub(1);
        let help = "Starts again since the front process was last replaced, each after it had ended by itself.";
        family("tempest_up_front_starts_again", "gauge", help, &again);
        text
    }

    fn status(&self) -> Vec<u8> {
        let one =
            |(name, state): (String, State)| json!({"name": name, "pid": state.pid, "not_ready": state.not_ready()});
        let all: Vec<_> = self.states().into_iter().map(one).collect();
        serde_json::to_vec(&json!({"pid": std::process::id(), "fronts": all})).expect("plain data")
    }
}
