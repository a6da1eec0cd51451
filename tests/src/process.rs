//! Child processes whose output is kept, that are ended by their own pid and never outlive their owner.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::wait::{PATIENCE, wait_until};

/// Lines kept of a process; older ones are dropped.
const KEPT_LINES: usize = 5_000;

/// The variable by which every process of one test, grandchildren included, is known.
pub(crate) const MARK: &str = "TEST_WORLD";

/// What a process wrote, standard output and standard error together, as lines.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    dropped: usize,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: String) {
        let mut lines = self.lock();
        lines.kept.push_back(line);
        if lines.kept.len() > KEPT_LINES {
            lines.kept.pop_front();
            lines.dropped += 1;
        }
        self.0.changed.notify_all();
    }

    fn follow(&self, source: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                log.push(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }

    /// The number of lines so far; a mark from which [`Log::wait_from`] looks.
    pub fn len(&self) -> usize {
        let lines = self.lock();
        lines.kept.len() + lines.dropped
    }

    /// True before the first line.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lines that are kept.
    pub fn lines(&self) -> Vec<String> {
        self.lock().kept.iter().cloned().collect()
    }

    /// The first line, old or yet to come, of which `found` makes something.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, found: impl FnMut(&str) -> Option<T>) -> T {
        self.wait_from(0, what, found)
    }

    /// The same, from the line numbered `from`.
    #[track_caller]
    pub fn wait_from<T>(&self, from: usize, what: &str, mut found: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut next = from;
        let mut lines = self.lock();
        loop {
            let at = next.saturating_sub(lines.dropped).min(lines.kept.len());
            if let Some(it) = lines.kept.range(at..).find_map(|line| found(line)) {
                return it;
            }
            next = lines.kept.len() + lines.dropped;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let tail: Vec<_> = lines.kept.iter().rev().take(30).rev().cloned().collect();
                panic!("waited {PATIENCE:?} for {what}; the log ends with\n{}", tail.join("\n"));
            }
            lines = self.0.changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a line that contains `text`, old or yet to come, and returns it.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait(&format!("a line with {text:?}"), |line| line.contains(text).then(|| line.to_owned()))
    }
}

/// A child process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    ended: Option<ExitStatus>,
    /// What it wrote.
    pub log: Log,
}

impl Process {
    /// Starts `command`; `mark` is the test it belongs to. Settings of the caller's environment that steer the
    /// front or workers do not reach it.
    pub fn start(name: &str, mark: &str, command: Command) -> Self {
        Self::start_with(Stdio::null(), name, mark, command)
    }

    /// The same with this as its standard input: a socket that is passed on, for instance.
    pub fn start_with(input: Stdio, name: &str, mark: &str, mut command: Command) -> Self {
        for (key, _) in std::env::vars_os() {
            let text = key.to_string_lossy();
            let given = command.get_envs().any(|(set, _)| set == key);
            if !given && (text.starts_with("TEMPEST_") || text == "REDIS_URL") {
                command.env_remove(&key);
            }
        }
        let mut command = dying_with_us(&command);
        command.env(MARK, mark).process_group(0);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let log = Log::default();
        log.follow(child.stdout.take().expect("standard output is piped"));
        log.follow(child.stderr.take().expect("standard error is piped"));
        Self { child, name: name.to_owned(), ended: None, log }
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True until it has ended.
    pub fn is_running(&mut self) -> bool {
        self.poll().is_none()
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("it is our child");
        }
        self.ended
    }

    /// Sends a signal to this process alone.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            kill(self.pid(), signal);
        }
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        wait_until(&format!("{} to end", self.name.clone()), || self.poll().is_some());
        self.ended.expect("it has ended")
    }

    /// SIGTERM, then waits.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// SIGKILL, then waits.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Lets it have this many descriptors more than it has, and no others; `None`: as many as we may.
    pub fn limit_descriptors(&self, more: Option<usize>) {
        let own = getrlimit(Resource::Nofile);
        let current = more.map_or(own.current, |more| self.free_descriptors().nth(more));
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a child's id is not 0");
        prlimit(Some(pid), Resource::Nofile, Rlimit { current, maximum: own.maximum }).expect("it is our child");
    }

    /// The numbers that its next descriptors will have, in this order.
    fn free_descriptors(&self) -> impl Iterator<Item = u64> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        let number = |name: std::ffi::OsString| name.to_str().and_then(|name| name.parse::<u64>().ok());
        let taken: BTreeSet<u64> = entries.filter_map(|entry| number(entry.ok()?.file_name())).collect();
        (0..).filter(move |number| !taken.contains(number))
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a live process has memory");
        let kilobytes = line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number");
        kilobytes * 1024
    }

    /// Open file descriptors.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            kill(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
        if thread::panicking() {
            let lines = self.log.lines();
            let tail = lines.iter().skip(lines.len().saturating_sub(40));
            let text: Vec<_> = tail.map(|line| format!("  {} | {line}", self.name)).collect();
            let _ = std::io::Write::write_all(&mut std::io::stderr(), (text.join("\n") + "\n").as_bytes());
        }
    }
}

/// The same program and arguments as arguments of another command, `wrapper`; where that is empty, as they are.
pub fn under(wrapper: &[&str], command: Command) -> Command {
    let Some((program, words)) = wrapper.split_first() else { return command };
    let mut wrapped = Command::new(program);
    wrapped.args(words).arg(command.get_program()).args(command.get_args());
    wrapped
}

/// The same command, ended by the kernel when the test's thread is gone: a killed test run must leave nothing either.
fn dying_with_us(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    wrapped
}

/// Sends a signal to a process by its id; one that has ended is no error.
pub fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Sends a signal to all processes of the group that this one began; where there is none any more is no error.
pub fn kill_group(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// True while a process with this id exists and is no zombie.
pub fn alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Every live process of one test: id and command line. A process is known by the mark in its environment, or, since
/// some overwrite theirs (Redis does), by a working folder that lies in the test's.
pub fn processes_of(mark: &str) -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| alive(*pid) && is_marked(*pid, mark)).map(|pid| (pid, command_line(pid))).collect()
}

fn is_marked(pid: u32, mark: &str) -> bool {
    let wanted = format!("{MARK}={mark}");
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
        || folder.iter().any(|part| part == mark)
}

fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// How long a process may take to go once nothing holds it: the grace period of 10 s that children get, and some more.
pub(crate) const GOING: Duration = Duration::from_secs(20);
