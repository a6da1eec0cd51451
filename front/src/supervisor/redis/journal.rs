//! What the server says: kept for the moment something goes wrong, otherwise passed on only where it warns.
//!
//! A server that starts or ends says a dozen lines that help nobody, until it does not start.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::super::child::{Lines, Stream};

/// Lines kept.
const KEPT: usize = 20;

pub(super) struct Journal {
    lines: Lines,
    verbose: bool,
    state: Mutex<State>,
}

struct State {
    kept: VecDeque<String>,
    /// It is starting or ending.
    quiet: bool,
}

impl Journal {
    pub(super) fn new(lines: Lines, verbose: bool) -> Self {
        let state = State { kept: VecDeque::with_capacity(KEPT), quiet: true };
        Self { lines, verbose, state: Mutex::new(state) }
    }

    /// Forgets what another start has said.
    pub(super) fn begin(&self) {
        self.with(|state| state.kept.clear());
    }

    /// Takes one line of the server.
    pub(super) fn take(&self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let (warns, text) = read(line);
        let shown = self.with(|state| {
            if state.kept.len() == KEPT {
                state.kept.pop_front();
            }
            state.kept.push_back(text.to_owned());
            if text.starts_with("Ready to accept connections") {
                state.quiet = false;
            } else if text.contains("scheduling shutdown") {
                state.quiet = true;
            }
            warns && !state.quiet
        });
        if shown || self.verbose {
            (self.lines)(Stream::Stdout, text);
        }
    }

    /// The server ended without being told to: passes on what it said last, and begins anew.
    pub(super) fn show_held(&self) {
        let held = self.with(|state| {
            state.quiet = true;
            std::mem::take(&mut state.kept)
        });
        if !self.verbose {
            held.iter().for_each(|line| (self.lines)(Stream::Stdout, line));
        }
    }

    /// What it said last, a line each, indented.
    pub(super) fn words(&self) -> String {
        self.with(|state| state.kept.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
    }

    /// True where the server could not have its port.
    pub(super) fn says_port_taken(&self) -> bool {
        self.with(|state| state.kept.iter().any(|line| line.contains("Address already in use")))
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Splits `123:M 21 Nov 2025 13:51:05.123 # text` into whether it warns, and the text.
fn read(line: &str) -> (bool, &str) {
    let mut words = line.splitn(7, ' ');
    let stamped = words.next().is_some_and(|word| word.contains(':'));
    match (words.nth(4), words.next()) {
        (Some(level @ ("." | "-" | "*" | "#")), Some(text)) if stamped => (level == "#", text),
        _ => (true, line),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn reads_levels() {
        assert_eq!(read("12:M 21 Nov 2025 13:51:05.123 # Disk is full"), (true, "Disk is full"));
        assert_eq!(read("12:C 01 Jan 2025 13:51:05.123 * Ready to"), (false, "Ready to"));
        assert_eq!(read("*** FATAL CONFIG FILE ERROR ***"), (true, "*** FATAL CONFIG FILE ERROR ***"));
    }

    #[test]
    fn only_warnings_of_a_ready_server_are_passed_on() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let push: Lines = Arc::new(move |_, line| into.lock().expect("no panic").push(line.to_owned()));
        let journal = Journal::new(push, false);
        for line in [
            "# overcommit",
            "* Ready to accept connections tcp",
            "* saved",
            "# disk full",
            "# Received SIGTERM scheduling shutdown...",
            "# bye",
        ] {
            journal.take(&format!("12:M 21 Nov 2025 13:51:05.123 {line}"));
        }
        assert_eq!(*seen.lock().expect("no panic"), ["disk full"]);
        journal.show_held();
        assert_eq!(seen.lock().expect("no panic").len(), 7);
    }
}
