//! The limits of one process: after how many jobs, at what age, with how much memory it is replaced.
//!
//! Each process draws its own, up to a tenth below what is configured, so that those that were started together are not
//! all replaced together. Only what is asked of a process is here; what is done about it is not.

use std::fs;
use std::time::Duration;

use super::reason::Reason;
use crate::backoff::random_unit;
use crate::config::Worker;

/// The limits of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    jobs: Option<u64>,
    age: Option<Duration>,
    rss: Option<u64>,
}

impl Limits {
    /// Draws them for a new process.
    pub(super) fn draw(worker: &Worker) -> Self {
        let part = 1.0 - random_unit() / 10.0;
        let of = |most: u64| ((most as f64 * part).ceil() as u64).clamp(1, most.max(1));
        Self {
            jobs: worker.max_jobs.map(of),
            age: worker.max_age.map(|age| age.mul_f64(part)),
            rss: worker.max_rss.map(of),
        }
    }

    /// The limit that a process of this age has reached, if any. Its memory is asked only if it counts.
    pub(super) fn reached(&self, done: u64, age: Duration, pid: Option<i32>) -> Option<Reason> {
        if self.jobs.is_some_and(|most| done >= most) {
            return Some(Reason::MaxJobs);
        }
        if self.age.is_some_and(|most| age >= most) {
            return Some(Reason::MaxAge);
        }
        let most = self.rss?;
        let rss = pid.and_then(rss_bytes)?;
        (rss > most).then_some(Reason::MaxRss)
    }
}

/// Resident memory of a process in bytes; None: it is gone, or this system does not say.
pub(super) fn rss_bytes(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_at_its_edge() {
        let limits = Limits { jobs: Some(3), age: Some(Duration::from_secs(5)), rss: None };
        assert_eq!(limits.reached(2, Duration::from_secs(4), None), None);
        assert_eq!(limits.reached(3, Duration::ZERO, None), Some(Reason::MaxJobs));
        assert_eq!(limits.reached(0, Duration::from_secs(5), None), Some(Reason::MaxAge));
        let own = i32::try_from(std::process::id()).expect("a process id");
        let tight = Limits { jobs: None, age: None, rss: Some(1024) };
        assert_eq!(tight.reached(0, Duration::ZERO, Some(own)), Some(Reason::MaxRss));
        let wide = Limits { jobs: None, age: None, rss: Some(u64::MAX) };
        assert_eq!(wide.reached(0, Duration::ZERO, Some(own)), None);
    }
}
