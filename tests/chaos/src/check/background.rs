//! What must hold for background jobs: none that was acknowledged is lost, none runs again without a cause.

use tempest_chaos::clock::SECOND;
use tempest_chaos::ledger::Persistence;

use super::book::{Book, FORGOTTEN, Start};
use super::{Counts, Finding};

/// A worker that is gone so soon after the end of a job may not have acknowledged it.
const UNACKNOWLEDGED: u64 = SECOND;
/// Workers that a job may crash before it is a dead letter.
const CRASHES: usize = 3;

pub(super) fn check(book: &Book, findings: &mut Vec<Finding>, counts: &mut Counts) {
    for (id, push) in &book.pushes {
        let starts = book.starts_of(id);
        let mut broken = |what: String| findings.push(Finding { rule: "I5", what, id: id.clone() });
        for (before, start) in starts.iter().zip(starts.iter().skip(1)) {
            counts.add("background jobs started again");
            if let Some(what) = again(book, before, start, counts) {
                broken(what);
            }
        }
        let Some(pushed) = push.pushed else { continue };
        counts.add("background jobs acknowledged");
        if starts.iter().any(|start| start.end.is_some()) {
            continue;
        }
        if book.dead.contains(id) {
            counts.add("background jobs given up");
            if starts.len() < CRASHES {
                broken(format!("a dead letter after {} starts", starts.len()));
            }
        } else if let Some(keeps) = forgotten(book, pushed, starts) {
            counts.add(&format!("background jobs that Redis forgot ({keeps:?})"));
        } else {
            broken(format!("acknowledged in phase {} and never done, {} starts", book.phase(pushed), starts.len()));
        }
    }
}

/// What is wrong with a second start.
fn again(book: &Book, before: &Start, start: &Start, counts: &mut Counts) -> Option<String> {
    let rolled_back = book.rolled_back(before.t, start.t);
    let until = before.end.map_or(start.t, |end| (end + UNACKNOWLEDGED).min(start.t));
    let died = book.trouble_of(before.pid, before.t, until).is_some();
    // A script without an SDK cannot be told how many it has crashed.
    let script = book.worker(start.pid, start.t).is_some_and(|worker| worker.class.ends_with("script"));
    let told = start.attempt > before.attempt || script;
    if rolled_back && !told {
        counts.add("started again because Redis forgot that they were (everysec)");
        return None;
    }
    if !died && !book.redis_troubled(before.t, until) {
        return Some(format!("run again by {}, and {} was well when it ended it", start.pid, before.pid));
    }
    (!told).then(|| format!("run again as attempt {}", start.attempt))
}

/// How Redis kept it when it may have forgotten it.
fn forgotten(book: &Book, pushed: u64, starts: &[Start]) -> Option<Persistence> {
    let last = starts.last().map_or(pushed, |start| start.t.max(pushed));
    let ends = book.away.iter().filter(|away| away.to >= pushed);
    ends.filter(|away| match away.keeps {
        Persistence::None => true,
        // What is forgotten is the push, or that the job went back to its queue.
        Persistence::Everysec => away.killed && away.from <= last + FORGOTTEN,
        Persistence::Always => false,
    })
    .map(|away| away.keeps)
    .next()
}
