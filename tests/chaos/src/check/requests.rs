//! What must hold for requests: one outcome each, their own answer, the last attempt's, and no failure without a cause.

use std::collections::BTreeSet;

use tempest_chaos::clock::SECOND;
use tempest_chaos::ledger::Outcome;

use super::book::{Book, Got, Request};
use super::{Counts, Finding};
use crate::stage::DEADLINE;

/// Attempts that a request has.
const ATTEMPTS: usize = 3;
/// A death so shortly before the deadline may leave no time for another try: to notice that a worker has fallen silent
/// takes 3.5 s, and the work up to 3 s.
const TOO_LATE: u64 = 8 * SECOND;

/// One line of a body, as workers write it.
#[derive(Debug, PartialEq, Eq)]
struct Part<'a> {
    id: &'a str,
    attempt: u32,
    part: u32,
    parts: u32,
    pid: u32,
}

impl<'a> Part<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let ["chaos", id, attempt, part, parts, pid] = words[..] else { return None };
        let number = |text: &str| text.parse().ok();
        Some(Self { id, attempt: number(attempt)?, part: number(part)?, parts: number(parts)?, pid: number(pid)? })
    }
}

/// What is said of one request.
struct Case<'a> {
    book: &'a Book,
    id: &'a str,
    request: &'a Request,
    findings: &'a mut Vec<Finding>,
}

pub(super) fn check(book: &Book, findings: &mut Vec<Finding>, counts: &mut Counts) {
    for what in &book.mixed {
        let what = format!("a job contradicts itself: {what}");
        findings.push(Finding { rule: "I3", what, id: String::new() });
    }
    for (id, request) in &book.requests {
        let mut case = Case { book, id, request, findings };
        case.starts(counts);
        match &request.got[..] {
            [got] => {
                let name = format!("{:?} {} {}", request.kind, outcome(got), book.phase(request.sent));
                *counts.outcomes.entry(name).or_default() += 1;
                case.outcome(got);
            }
            outcomes => case.broken("I1", format!("{} outcomes", outcomes.len())),
        }
    }
}

/// Whatever is tried again or failed for a death was given back to its front before, and counted. Where Redis was not
/// well there are other reasons, and the count may have been forgotten.
pub(super) fn check_handed(book: &Book, handed: Option<i64>, findings: &mut Vec<Finding>, counts: &mut Counts) {
    let deaths = |(id, request): (&String, &Request)| {
        let attempts = book.starts_of(id).iter().map(|start| start.attempt).max().unwrap_or(1);
        let failed = request.got.iter().any(|got| got.status == 502 && got.outcome == Outcome::Whole);
        i64::from(attempts) - 1 + i64::from(failed)
    };
    let felt: i64 = book.requests.iter().map(deaths).sum();
    counts.others.insert("attempts that died with their worker, by their requests".into(), felt.unsigned_abs());
    let Some(handed) = handed.filter(|handed| *handed < felt && book.redis_was_well()) else { return };
    let what = format!("{handed} jobs were given back to their fronts, and {felt} attempts have died");
    findings.push(Finding { rule: "I6", what, id: String::new() });
}

fn outcome(got: &Got) -> String {
    match got.outcome {
        Outcome::Whole => got.status.to_string(),
        other => format!("{other:?}").to_lowercase(),
    }
}

impl Case<'_> {
    fn broken(&mut self, rule: &'static str, what: String) {
        let phase = self.book.phase(self.request.sent);
        let what = format!("{:?} in phase {phase}: {what}", self.request.kind);
        self.findings.push(Finding { rule, what, id: self.id.to_owned() });
    }

    fn starts(&mut self, counts: &mut Counts) {
        let (book, starts) = (self.book, self.book.starts_of(self.id));
        for (before, start) in starts.iter().zip(starts.iter().skip(1)) {
            counts.add("requests started again");
            let same = starts.iter().filter(|other| other.attempt == start.attempt).count() > 1;
            if (same || self.request.kind.once()) && book.rolled_back(before.t, start.t) {
                counts.add("started again because Redis forgot that they were (everysec)");
                continue;
            }
            if self.request.kind.once() {
                self.broken("I4", "started twice".into());
            }
            if same {
                self.broken("I4", format!("started twice as attempt {}", start.attempt));
            }
            let (from, to) = (self.request.sent, start.t);
            if book.worker_troubles(from, to) == 0 && !book.redis_troubled(from, to) {
                self.broken("I1", "tried again though nothing had happened".into());
            }
        }
        let jobs: BTreeSet<&str> = starts.iter().map(|start| start.job.as_str()).collect();
        if jobs.len() > 1 {
            self.broken("I3", format!("several jobs for one request: {jobs:?}"));
        }
    }

    fn outcome(&mut self, got: &Got) {
        let (sent, t) = (self.request.sent, got.t);
        let front_down = self.book.front_down(self.request.front, sent, t);
        match (got.outcome, got.status) {
            (Outcome::Left, _) => {}
            (Outcome::Whole, 200) => self.answered(got, true),
            (Outcome::Whole, 502) => self.bad_gateway(got),
            (Outcome::Whole, 503) => self.refused(got),
            (Outcome::Whole, 504) => self.late(got),
            (Outcome::Cut, _) => self.cut(got, front_down),
            (Outcome::Lost, _) if front_down => {}
            (Outcome::Lost, _) => self.broken("I1", "the connection was lost and its front was not killed".into()),
            (Outcome::Silent, _) => self.broken("I1", "no outcome at all".into()),
            (Outcome::Whole, status) => self.broken("I1", format!("status {status}: {}", got.body)),
        }
    }

    /// The body, or as much as came of it.
    fn answered(&mut self, got: &Got, whole: bool) {
        // What a cut left of the last line names nothing.
        let lines = got.body.split_inclusive('\n').filter(|line| whole || line.ends_with('\n'));
        let lines: Vec<&str> = lines.map(str::trim_end).collect();
        let parts: Option<Vec<Part<'_>>> = lines.iter().map(|line| Part::read(line)).collect();
        let Some(parts) = parts else { return self.broken("I3", format!("not a worker's body: {:?}", got.body)) };
        if let Some(other) = parts.iter().find(|part| part.id != self.id) {
            self.broken("I3", format!("got the answer of {}", other.id));
        }
        let first = parts.first().map(|part| (part.attempt, part.pid, part.parts));
        let Some((attempt, pid, count)) = first else {
            if whole {
                self.broken("I1", "an empty answer".into());
            }
            return;
        };
        if parts.iter().any(|part| (part.attempt, part.pid) != (attempt, pid)) {
            self.broken("I2", format!("parts of several attempts: {:?}", got.body));
        }
        let in_order = parts.iter().zip(0..).all(|(part, number)| part.part == number);
        if !in_order || (whole && parts.len() as u32 != count) {
            self.broken("I1", format!("parts are missing or out of order: {:?}", got.body));
        }
        let starts = self.book.starts_of(self.id);
        if !starts.iter().any(|start| (start.attempt, start.pid) == (attempt, pid)) {
            self.broken("I3", format!("answered by {pid} in attempt {attempt}, who has not started it"));
        }
        // A later attempt is pushed only when nothing of this one has been sent, and from then on nothing may be.
        if let Some(later) = starts.iter().find(|start| start.attempt > attempt) {
            self.broken("I2", format!("answered by attempt {attempt}, and attempt {} was made", later.attempt));
        }
    }

    fn bad_gateway(&mut self, got: &Got) {
        let (sent, t) = (self.request.sent, got.t);
        let (deaths, redis) = (self.book.worker_troubles(sent, t), self.book.redis_troubled(sent, t));
        let starts = self.book.starts_of(self.id);
        let died = starts.iter().filter(|start| self.book.trouble_of(start.pid, start.t, t).is_some()).count();
        // An attempt may have died with its worker before it was started, but hardly two of them.
        let enough = if self.request.kind.once() { deaths > 0 } else { deaths >= ATTEMPTS && died + 1 >= ATTEMPTS };
        if !enough && !redis {
            self.broken("I1", format!("502 with {deaths} workers in trouble, {died} of its own: {}", got.body));
        }
    }

    /// 503 says that no worker can have seen it.
    fn refused(&mut self, got: &Got) {
        let (sent, t) = (self.request.sent, got.t);
        if !self.book.starts_of(self.id).is_empty() {
            self.broken("I1", format!("503, and a worker has started it: {}", got.body));
        }
        if !self.book.redis_troubled(sent, t) && !self.book.front_down(self.request.front, sent, t) {
            self.broken("I1", format!("503 without a cause: {}", got.body));
        }
    }

    fn late(&mut self, got: &Got) {
        let (sent, t) = (self.request.sent, got.t);
        let deadline = sent + DEADLINE * SECOND;
        if self.book.redis_troubled(sent, t) {
            return;
        }
        let starts = self.book.starts_of(self.id);
        let died = |pid: u32, from: u64| self.book.trouble_of(pid, from, t);
        let too_late = starts.iter().filter_map(|s| died(s.pid, s.t)).any(|death| death + TOO_LATE > deadline);
        if !too_late {
            self.broken("I1", format!("504 without a cause, {} starts: {}", starts.len(), got.body));
        }
    }

    fn cut(&mut self, got: &Got, front_down: bool) {
        let (sent, t) = (self.request.sent, got.t);
        if got.status == 200 {
            self.answered(got, false);
        }
        let starts = self.book.starts_of(self.id);
        let died = starts.iter().any(|start| self.book.trouble_of(start.pid, start.t, t).is_some());
        if !died && !front_down && !self.book.redis_troubled(sent, t) {
            self.broken("I1", format!("an answer was cut and its worker lives: {:?}", got.body));
        }
    }
}
