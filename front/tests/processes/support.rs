//! What these tests share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempest::supervisor::child::{Lines, Program, Stream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The binary under test.
pub(crate) const TEMPEST: &str = env!("CARGO_BIN_EXE_tempest");
/// Everything here happens within it, or never.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A folder of its own, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tempest-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new folder");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `sh -c script` under a guard with half a second of grace.
pub(crate) fn shell(script: &str) -> Program {
    Program {
        program: "sh".into(),
        args: vec!["-c".into(), script.into()],
        env: Vec::new(),
        dir: None,
        grace: Duration::from_millis(500),
        lock: None,
        guard: Some(TEMPEST.into()),
        sockets: Vec::new(),
    }
}

/// What a child writes to standard output, as it comes; the channel ends when nobody can write any more.
pub(crate) fn lines() -> (Lines, UnboundedReceiver<String>) {
    let (sender, receiver) = unbounded_channel();
    let take = move |stream, line: &str| {
        if stream == Stream::Stdout {
            let _ = sender.send(line.to_owned());
        }
    };
    (std::sync::Arc::new(take), receiver)
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

pub(crate) fn kill9(pid: i32) {
    signal(pid, Signal::KILL);
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a process id"), signal).expect("the process is there");
}

/// True where the process runs; one that only waits to be reaped does not.
fn runs(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z" && fields[0] != "X")
}

pub(crate) fn parent(pid: i32) -> Option<i32> {
    stat(pid)?[1].parse().ok()
}

fn stat(pid: i32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, parentheses included; the fields begin after the last of them.
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

/// Waits until the process does not run; there is no event for a process that is not our child.
pub(crate) fn await_gone(pid: i32) {
    let start = Instant::now();
    while runs(pid) {
        assert!(start.elapsed() < DEADLINE, "process {pid} still runs");
        std::thread::sleep(Duration::from_millis(2));
    }
}
