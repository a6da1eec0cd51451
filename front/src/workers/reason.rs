//! Why a process ended: what the system says, and what only its supervisor knows.

use std::fmt;
use std::fs;

use crate::supervisor::child::{Exit, signal_name};

/// Why a process ended or is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// By itself, or by somebody else.
    Exit(Exit),
    /// The kernel killed it because memory had run out.
    OutOfMemory,
    /// It ran as many jobs as it may.
    MaxJobs,
    /// It lived as long as it may.
    MaxAge,
    /// It had more memory than it may.
    MaxRss,
    /// One job ran longer than it may; it was killed.
    JobTime,
    /// A file changed that is watched.
    FileChanged,
    /// Somebody asked for a rolling restart.
    Reload,
    /// There was not enough to do.
    ScaledDown,
    /// Its replacement was out of date before it was ready.
    Outdated,
    /// Everything stops.
    Stop,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exit(Exit::Code(code)) => return write!(f, "code {code}"),
            Self::Exit(Exit::Signal(signal)) => return f.write_str(&signal_name(*signal)),
            Self::Exit(Exit::NotStarted(text)) => text,
            Self::Exit(Exit::GuardDied) => "guard died",
            Self::OutOfMemory => "out of memory",
            Self::MaxJobs => "max_jobs",
            Self::MaxAge => "max_age",
            Self::MaxRss => "max_rss",
            Self::JobTime => "job_time",
            Self::FileChanged => "file changed",
            Self::Reload => "rolling restart",
            Self::ScaledDown => "scaled down",
            Self::Outdated => "outdated",
            Self::Stop => "stop",
        })
    }
}

/// Counts the processes that the kernel has killed for want of memory where this process runs: in its control group, or
/// on the machine where there is none. A SIGKILL that came with a higher count was the kernel's.
#[derive(Debug)]
pub(super) struct OomCount(u64);

impl OomCount {
    /// Begins at the count of now.
    pub(super) fn new() -> Self {
        Self(read_count().unwrap_or_default())
    }

    /// True where one more was killed since this was asked last, or begun.
    pub(super) fn rose(&mut self) -> bool {
        let now = read_count().unwrap_or(self.0);
        let rose = now > self.0;
        // Each is the reason of one death: two that die at once ask twice.
        self.0 += u64::from(rose);
        rose
    }
}

fn read_count() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let file = count_files(&groups).into_iter().find_map(|file| fs::read_to_string(file).ok());
    let text = file.or_else(|| fs::read_to_string("/proc/vmstat").ok())?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Where the count may stand, by the lines of `/proc/self/cgroup`: version 2, then version 1.
fn count_files(groups: &str) -> Vec<String> {
    let of = |wanted: fn(&str) -> bool| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let kinds = parts.next()?;
            wanted(kinds).then(|| parts.next()).flatten()
        })
    };
    let second = of(str::is_empty).map(|path| format!("/sys/fs/cgroup{path}/memory.events"));
    let memory = |kinds: &str| kinds.split(',').any(|kind| kind == "memory");
    let first = of(memory).map(|path| format!("/sys/fs/cgroup/memory{path}/memory.oom_control"));
    second.into_iter().chain(first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_named_as_people_know_them() {
        let said = [Reason::Exit(Exit::Signal(11)), Reason::Exit(Exit::Signal(6)), Reason::Exit(Exit::Code(3))];
        assert_eq!(said.map(|reason| reason.to_string()), ["SIGSEGV", "SIGABRT", "code 3"]);
    }

    #[test]
    fn the_count_is_found_in_either_version_of_control_groups() {
        let both = "4:cpu,memory:/a/b:c\n1:cpu:/\n0::/x\n";
        let files = ["/sys/fs/cgroup/x/memory.events", "/sys/fs/cgroup/memory/a/b:c/memory.oom_control"];
        assert_eq!(count_files(both), files);
        assert_eq!(count_files("0::/\n"), ["/sys/fs/cgroup//memory.events"]);
        assert!(count_files("").is_empty());
        assert!(!OomCount::new().rose(), "nothing was killed meanwhile");
    }
}
