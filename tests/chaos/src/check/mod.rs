//! The checker: reads what everybody wrote down and says what must not have been.
//!
//! It knows the contract and the ledgers, and neither front nor SDK. Whatever it allows, it allows for a deed that the
//! monkey has noted: a request may only fail of something that happened in its time.

mod background;
mod book;
mod detection;
mod requests;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

pub(crate) use book::Book;
pub(crate) use detection::Detection;
pub(crate) use state::{State, check_state, drained};

/// Something that must not have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The rule, as in [`RULES`].
    pub(crate) rule: &'static str,
    /// What was broken, in words.
    pub(crate) what: String,
    /// The request or job; empty: none.
    pub(crate) id: String,
}

/// What is checked, by the names under which it is reported.
pub(crate) const RULES: [(&str, &str); 9] = [
    ("I1", "every request of a living front has exactly one outcome, and a failure has a cause in its time"),
    ("I2", "no part of an attempt reaches a client after a later attempt was made"),
    ("I3", "no answer, and no part of a job, reaches another request"),
    ("I4", "a POST without a key is started at most once; nothing is started twice under one attempt"),
    ("I5", "no acknowledged background job is lost, and none is run again without a cause"),
    ("I6", "what a dead worker held is taken from it; idle workers hold nothing; nothing is left over"),
    ("I7", "a dead front's lists are gone within 10 s"),
    ("I8", "after a return of Redis everything works again by itself"),
    ("D", "a death is noticed in the time that is promised for its kind"),
];

/// What came of a run besides its findings.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Counts {
    /// Outcomes, by kind of request and status.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// Whatever else is worth a number.
    pub(crate) others: BTreeMap<String, u64>,
}

impl Counts {
    fn add(&mut self, name: &str) {
        *self.others.entry(name.to_owned()).or_default() += 1;
    }
}

/// Checks all that was written down; `handed`: how many jobs the statistics of the queue say were given back to fronts.
pub(crate) fn check(book: &Book, handed: Option<i64>) -> (Vec<Finding>, Counts, Detection) {
    let (mut findings, mut counts) = (Vec::new(), Counts::default());
    requests::check(book, &mut findings, &mut counts);
    background::check(book, &mut findings, &mut counts);
    requests::check_handed(book, handed, &mut findings, &mut counts);
    let detection = detection::measure(book);
    detection.check(&mut findings);
    (findings, counts, detection)
}
