//! What the operating system says of this process, under the names that Prometheus' own libraries give it.
//!
//! Read when somebody asks, from `/proc` (Linux); elsewhere these metrics have no series. Nothing is kept.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::kinds::{Kind, sample};

/// One number of the process.
pub(super) trait Reading: Default {
    /// `counter` or `gauge`.
    const TYPE: &'static str;

    /// What it is now; None: this system does not say.
    fn read() -> Option<f64>;
}

/// A metric that is read when it is asked for.
#[derive(Debug, Default)]
pub struct Read<R>(R);

impl<R: Reading> Kind for Read<R> {
    const TYPE: &'static str = R::TYPE;

    fn samples(&self, name: &str, labels: &str, out: &mut String) {
        if let Some(value) = R::read() {
            sample(out, name, &[labels], value);
        }
    }
}

/// Processor time of all threads, user and system, in seconds.
#[derive(Debug, Default)]
pub struct Cpu;

/// Resident memory in bytes.
#[derive(Debug, Default)]
pub struct Resident;

/// Open file descriptors.
#[derive(Debug, Default)]
pub struct Files;

/// Most file descriptors that may be open.
#[derive(Debug, Default)]
pub struct MostFiles;

/// When the process began, in seconds since 1970.
#[derive(Debug, Default)]
pub struct Started;

impl Reading for Cpu {
    const TYPE: &'static str = "counter";

    fn read() -> Option<f64> {
        let [user, system] = [11, 12].map(stat);
        Some((user? + system?) / ticks())
    }
}

impl Reading for Resident {
    const TYPE: &'static str = "gauge";

    fn read() -> Option<f64> {
        Some(stat(21)? * rustix::param::page_size() as f64)
    }
}

impl Reading for Files {
    const TYPE: &'static str = "gauge";

    fn read() -> Option<f64> {
        // The look itself has one open.
        Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
    }
}

impl Reading for MostFiles {
    const TYPE: &'static str = "gauge";

    fn read() -> Option<f64> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current.map(|most| most as f64)
    }
}

impl Reading for Started {
    const TYPE: &'static str = "gauge";

    fn read() -> Option<f64> {
        // Once: uptime and clock are read one after the other, and a start that wavers would look like restarts.
        static STARTED: OnceLock<Option<f64>> = OnceLock::new();
        *STARTED.get_or_init(|| {
            let uptime: f64 = fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()?;
            let age = Duration::try_from_secs_f64(uptime - stat(19)? / ticks()).unwrap_or_default();
            Some((SystemTime::now() - age).duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
        })
    }
}

/// A number of `/proc/self/stat`, counted from the field behind the program's name, which may hold anything.
fn stat(at: usize) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(at)?.parse().ok()
}

/// Units of the kernel's clock in a second.
fn ticks() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// Which program this is: always 1, with its version as a label.
#[derive(Debug, Default)]
pub struct Build;

impl Kind for Build {
    const TYPE: &'static str = "gauge";
    const LABEL: &'static str = "version";

    fn samples(&self, name: &str, _: &str, out: &mut String) {
        sample(out, name, &[concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"")], 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_files_and_an_age() {
        let mebibyte = 1024.0 * 1024.0;
        assert!(Resident::read().is_some_and(|bytes| (mebibyte..1e5 * mebibyte).contains(&bytes)));
        let file = fs::File::open("/proc/self/stat").expect("Linux");
        let (with, most) = (Files::read().expect("files"), MostFiles::read());
        drop(file);
        assert!(with >= 4.0 && most.is_none_or(|most| most >= with), "{with} {most:?}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let started = Started::read().expect("a start");
        assert!((now - 3600.0..=now + 1.0).contains(&started), "{started} {now}");
        assert_eq!(Some(started), Started::read());
        assert!(Cpu::read().is_some_and(|seconds| (0.0..1e6).contains(&seconds)));
    }
}
