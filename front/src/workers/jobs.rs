//! Which jobs run in which process, and since when: told by whoever hands jobs to processes that do not register.
//!
//! The limits `job_time` and `max_jobs` are held by it. A worker that registers says the same in its record; nobody has
//! to call this for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Jobs of one process that are timed at once; further ones are not.
const JOBS: usize = 1024;

/// A handle; clones share what is known.
#[derive(Clone, Debug, Default)]
pub struct Jobs(Arc<Mutex<HashMap<String, Work>>>);

/// What one process does.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    /// Running jobs by their ids, and since when.
    running: BTreeMap<String, Instant>,
    /// Jobs that have ended.
    pub(super) done: u64,
}

impl Work {
    /// Since when the oldest of the running jobs runs.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.running.values().min().copied()
    }
}

impl Jobs {
    /// The process with this worker id has begun to run a job. Nothing happens where no such process runs.
    pub fn began(&self, worker: &str, job: &str) {
        self.with(|all| {
            if let Some(work) = all.get_mut(worker).filter(|work| work.running.len() < JOBS) {
                work.running.entry(job.to_owned()).or_insert_with(Instant::now);
            }
        });
    }

    /// It has ended that job, whichever way.
    pub fn ended(&self, worker: &str, job: &str) {
        self.with(|all| {
            if let Some(work) = all.get_mut(worker) {
                work.done += u64::from(work.running.remove(job).is_some());
            }
        });
    }

    /// A process is there.
    pub(super) fn enter(&self, worker: &str) {
        self.with(|all| drop(all.insert(worker.to_owned(), Work::default())));
    }

    /// It is gone.
    pub(super) fn leave(&self, worker: &str) {
        self.with(|all| drop(all.remove(worker)));
    }

    /// What the process does, as far as anybody told.
    pub(super) fn of(&self, worker: &str) -> Work {
        self.with(|all| all.get(worker).cloned().unwrap_or_default())
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Work>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_processes_are_timed_and_each_job_once() {
        let jobs = Jobs::default();
        jobs.began("w", "1");
        assert!(jobs.of("w").oldest().is_none(), "nobody runs under this id");
        jobs.enter("w");
        jobs.began("w", "1");
        let first = jobs.of("w").oldest();
        jobs.began("w", "1");
        assert!(first.is_some() && jobs.of("w").oldest() == first, "the first word counts");
        jobs.ended("w", "1");
        jobs.ended("w", "1");
        assert_eq!((jobs.of("w").done, jobs.of("w").oldest()), (1, None));
        jobs.leave("w");
        assert_eq!(jobs.of("w").done, 0);
    }

    #[test]
    fn the_number_of_jobs_is_bounded() {
        let jobs = Jobs::default();
        jobs.enter("w");
        (0..JOBS + 1).for_each(|job| jobs.began("w", &job.to_string()));
        assert_eq!(jobs.of("w").running.len(), JOBS);
    }
}
