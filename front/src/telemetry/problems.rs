//! The last things that went wrong, for `tempest status`: what an operator asks first.
//!
//! A short ring; the log has the rest. It must not hold anything that a client may not have sent by accident, such as
//! bodies or cookies.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// How many are kept.
const KEPT: usize = 20;

/// One thing that went wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// Milliseconds since the epoch.
    pub at: u64,
    /// What, in a word: `malformed-answer`, `broker-refused`.
    pub what: &'static str,
    /// The queue it concerns.
    pub queue: String,
    /// The request it concerns.
    pub request: String,
    /// The reason.
    pub detail: String,
}

/// The ring. Locked for a push or a copy only, and only when something goes wrong: a mutex of the standard library.
#[derive(Debug, Default)]
pub struct Problems(Mutex<VecDeque<Problem>>);

impl Problems {
    /// Adds one; the oldest goes.
    pub fn note(&self, problem: Problem) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(problem);
    }

    /// A copy, oldest first.
    pub fn recent(&self) -> Vec<Problem> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes() {
        let problems = Problems::default();
        for at in 0..=KEPT as u64 {
            let text = String::new;
            problems.note(Problem { at, what: "x", queue: text(), request: text(), detail: text() });
        }
        let recent = problems.recent();
        assert_eq!((recent.len(), recent[0].at), (KEPT, 1));
    }
}
