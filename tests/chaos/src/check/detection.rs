//! How long it takes from a worker's death to the next attempt of what it was doing.

use std::collections::BTreeMap;

use serde::Serialize;
use tempest_chaos::clock::MILLISECOND;

use super::Finding;
use super::book::{Book, Worker};

/// Below this many a median says nothing.
const ENOUGH: usize = 5;

/// A class of deaths: its name, and the most that its median and its longest may take, in milliseconds. The promises
/// are 20 ms, 150 ms and 3500 ms; what is asserted leaves room for a machine that has other things to do, and for the
/// next worker to begin.
const CLASSES: [(&str, u64, u64); 3] =
    [("supervised", 500, 2_500), ("unsupervised", 1_000, 3_000), ("stopped", 4_500, 8_000)];

/// Milliseconds from death to the next attempt's start, by class, ascending.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Detection(pub(crate) BTreeMap<&'static str, Vec<f64>>);

impl Detection {
    /// A quantile of a class in milliseconds.
    pub(crate) fn quantile(&self, class: &str, share: f64) -> Option<f64> {
        let times = self.0.get(class).filter(|times| !times.is_empty())?;
        let at = (times.len() as f64 * share) as usize;
        times.get(at.min(times.len() - 1)).copied()
    }

    pub(super) fn check(&self, findings: &mut Vec<Finding>) {
        for (class, median, longest) in CLASSES {
            let enough = self.0.get(class).is_some_and(|times| times.len() >= ENOUGH);
            let mut hold = |what: &str, share: f64, most: u64| {
                let took = self.quantile(class, share).filter(|took| enough && *took > most as f64);
                if let Some(took) = took {
                    let what = format!("{class}: {what} {took:.0} ms from death to the next attempt, at most {most}");
                    findings.push(Finding { rule: "D", what, id: String::new() });
                }
            };
            hold("median", 0.5, median);
            hold("longest", 1.0, longest);
        }
        // However busy the machine is, a parent knows before anybody else.
        let median = |class: &str| self.quantile(class, 0.5).filter(|_| self.0[class].len() >= ENOUGH);
        if let (Some(parent), Some(others)) = (median("supervised"), median("unsupervised"))
            && parent > others
        {
            let what = format!("supervised: median {parent:.0} ms, and {others:.0} ms without a supervisor");
            findings.push(Finding { rule: "D", what, id: String::new() });
        }
    }
}

/// Looks at GETs and POSTs with a key that ran when their worker was killed or stopped, while Redis was well.
pub(super) fn measure(book: &Book) -> Detection {
    let mut found = Detection::default();
    for (id, request) in book.requests.iter().filter(|(_, request)| !request.kind.once()) {
        let starts = book.starts_of(id);
        for start in starts {
            let Some(worker) = book.worker(start.pid, start.t) else { continue };
            let Some((class, death)) = death(worker, start.t, start.end.unwrap_or(u64::MAX)) else { continue };
            let next = starts.iter().find(|next| next.t > death && next.attempt > start.attempt);
            let Some(next) = next.filter(|next| !book.redis_troubled(request.sent, next.t)) else { continue };
            found.0.entry(class).or_default().push((next.t - death) as f64 / MILLISECOND as f64);
        }
    }
    found.0.values_mut().for_each(|times| times.sort_by(f64::total_cmp));
    found
}

/// What happened to a worker while it ran a job.
fn death(worker: &Worker, from: u64, to: u64) -> Option<(&'static str, u64)> {
    if let Some(killed) = worker.killed.filter(|t| (from..to).contains(t)) {
        // One that was stopped before it was killed is found in either way.
        let stopped = worker.stops.iter().any(|(begin, end)| *begin <= killed && *end >= killed);
        let class = if worker.class.starts_with("supervised") { "supervised" } else { "unsupervised" };
        return (!stopped).then_some((class, killed));
    }
    let stop = worker.stops.iter().find(|(begin, _)| (from..to).contains(begin))?;
    Some(("stopped", stop.0))
}
