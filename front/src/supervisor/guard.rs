//! The guard: a small process between the supervisor and each program it runs, so that nothing is left behind.
//!
//! A process that dies by SIGKILL cannot clean up. So each program has a guard, and guard and supervisor hold the two
//! ends of one socket, the *lifeline*. Whatever dies, somebody is left who knows the program's process group:
//!
//! - the supervisor dies: the guard reads the end of the lifeline, sends SIGTERM to the group, after a grace SIGKILL;
//! - the guard dies: the supervisor reads the end of the lifeline and sends SIGKILL to the group it was told of;
//! - both die at once (`killall -9`): on Linux the kernel sends SIGKILL to the program itself;
//! - the program dies: what it leaves in its group gets SIGTERM, after a grace SIGKILL, and the guard ends last.
//!
//! The guard is the program's parent and the same executable as the supervisor (`tempest guard -- PROGRAM ARGS…`). In
//! between there is a second stage, which announces its process id, asks the kernel for that last signal and then
//! becomes the program; so the id is known before the first instruction of the program runs. Sockets that are passed
//! to the program go through both stages; the second says for which process they are (`LISTEN_PID`), the guard keeps
//! none: a socket that it held would take connections that nobody accepts.
//!
//! The lifeline is the guard's standard input. It carries lines. Towards the guard: `term`, which reaches the program
//! alone, since a script that is told to stop may want the answer of the tool it is just running, and `kill`, which
//! reaches the whole group. From it: `pid N`, `failed TEXT`, `stopped`, `continued`, and, at once when the program is
//! gone and before anybody waits for the rest of its group, `exit code N` or `exit signal N`; its end of the lifeline
//! closes when the rest is gone, too. What a member moves into a group of its own (a daemon) is out of reach. No runtime
//! here: a guard must be there within milliseconds and cost next to nothing.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getppid, kill_process, kill_process_group, wait,
    waitid,
};

use crate::descriptors;

/// From SIGTERM to SIGKILL for those who have lost supervisor or program, unless `--grace` says otherwise.
const GRACE: Duration = Duration::from_secs(5);
/// How long the program waits for its lock, which a dying predecessor may still hold.
const LOCK_TIME: Duration = Duration::from_secs(10);
/// Time between two tries to take the lock.
const LOCK_RETRY: Duration = Duration::from_millis(10);
/// Longest command line read from the lifeline.
const COMMAND_BYTES: usize = 64;

/// The executable that is a guard when called as `guard …`: this very one, even if its file was replaced meanwhile.
pub fn this_executable() -> PathBuf {
    if cfg!(target_os = "linux") {
        PathBuf::from("/proc/self/exe")
    } else {
        std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tempest"))
    }
}

/// Runs the hidden command `guard [--grace MS] [--lock FILE] [--sockets N] [--files N] -- PROGRAM ARGS…`; `args` begin after the word `guard`.
///
/// Returns the program's exit code, or 128 plus the number of the signal that ended it; 2 for a wrong command line.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let task = match Task::parse(args) {
        Ok(task) => task,
        Err(text) => return complain(2, &text),
    };
    if let Some(files) = task.files {
        descriptors::lower(files);
    }
    match task.guard {
        Some(guard) => become_program(&task, guard),
        None => guard(&task).unwrap_or_else(|error| complain(1, &error.to_string())),
    }
}

fn complain(code: u8, text: &str) -> ExitCode {
    // Nobody is left to tell where even standard error is gone.
    let _ = writeln!(io::stderr(), "tempest guard: {text}");
    ExitCode::from(code)
}

/// A guard's command line.
struct Task {
    grace: Duration,
    lock: Option<PathBuf>,
    /// How many sockets are passed on.
    sockets: usize,
    /// Files that the program may have open.
    files: Option<u64>,
    /// The second stage's parent.
    guard: Option<i32>,
    program: OsString,
    args: Vec<OsString>,
}

impl Task {
    fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut args = args.into_iter();
        let (mut grace, mut lock, mut sockets, mut files, mut guard) = (GRACE, None, 0, None, None);
        loop {
            let option = args.next().ok_or("expected `-- PROGRAM ARGS…`")?;
            if option == "--" {
                break;
            }
            let value = args.next().ok_or_else(|| format!("{} needs a value", option.display()))?;
            match option.to_str() {
                Some("--grace") => grace = Duration::from_millis(number(&value)?),
                Some("--exec") => guard = Some(number(&value)?),
                Some("--sockets") => sockets = number(&value)?,
                Some("--files") => files = Some(number(&value)?),
                Some("--lock") => lock = Some(value.into()),
                _ => return Err(format!("{} is not an option of the guard", option.display())),
            }
        }
        let program = args.next().ok_or("expected a program after `--`")?;
        Ok(Self { grace, lock, sockets, files, guard, program, args: args.collect() })
    }
}

fn number<N: std::str::FromStr>(text: &OsStr) -> Result<N, String> {
    text.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| format!("{} is not a number", text.display()))
}

/// The lifeline; any kind of standard input will do, so that a guard can be tried by hand.
fn lifeline() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

// The first stage: the guard.

fn guard(task: &Task) -> io::Result<ExitCode> {
    let lifeline = lifeline()?;
    let adopts = adopt_orphans();
    let group = Arc::new(Group::of(&second_stage(task, &lifeline)?));
    if task.sockets > 0 {
        close_sockets(task.sockets)?;
    }
    let (watched, commands, grace) = (Arc::clone(&group), lifeline.try_clone()?, task.grace);
    thread::Builder::new().name("lifeline".into()).spawn(move || obey(commands, &watched, grace))?;
    // The supervisor may be gone; then nobody asks.
    let report = |line: &str| drop((&lifeline).write_all(line.as_bytes()));
    let end = group.outlive(adopts, grace, report);
    Ok(ExitCode::from(end.code()))
}

/// Makes the guard the parent of what its program leaves behind, so that it learns of their end; else init is.
fn adopt_orphans() -> bool {
    #[cfg(target_os = "linux")]
    return rustix::process::set_child_subreaper(Some(rustix::process::getpid())).is_ok();
    #[cfg(not(target_os = "linux"))]
    false
}

/// Closes the sockets that the second stage has inherited by now.
fn close_sockets(count: usize) -> io::Result<()> {
    let mut sockets = listenfd::ListenFd::from_env();
    for at in 0..count {
        // What is of the other kind stays where it is.
        if sockets.take_unix_listener(at).is_err() {
            drop(sockets.take_tcp_listener(at)?);
        }
    }
    Ok(())
}

fn second_stage(task: &Task, lifeline: &File) -> io::Result<Child> {
    let mut command = Command::new(this_executable());
    command.arg0("tempest").args(["guard", "--exec"]).arg(std::process::id().to_string());
    if let Some(lock) = &task.lock {
        command.arg("--lock").arg(lock);
    }
    if task.sockets > 0 {
        command.arg("--sockets").arg(task.sockets.to_string());
    }
    command.arg("--").arg(&task.program).args(&task.args);
    command.stdin(lifeline.try_clone()?).process_group(0).spawn()
}

/// A program's process group. Its number is given to nobody else before the last member is reaped, so signals and the
/// reaping exclude each other: no signal can reach a stranger.
struct Group {
    id: Pid,
    left: Mutex<Left>,
}

/// Who of a group is not reaped yet.
#[derive(Clone, Copy)]
struct Left {
    program: bool,
    anybody: bool,
}

impl Group {
    fn of(program: &Child) -> Self {
        Self { id: Pid::from_child(program), left: Mutex::new(Left { program: true, anybody: true }) }
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Signals fail only if nobody is there to get them, which is what was wanted.

    fn signal_program(&self, signal: Signal) {
        if let Left { program: true, .. } = *self.left() {
            let _ = kill_process(self.id, signal);
        }
    }

    fn signal_all(&self, signal: Signal) {
        if let Left { anybody: true, .. } = *self.left() {
            let _ = kill_process_group(self.id, signal);
        }
    }

    /// Waits for the program and then for what it leaves in its group, which is told to end and gets `grace` for it. Where
    /// the guard does not adopt, it could not learn of their end, so they are killed at once. What happens to the program
    /// is reported before anything else is done: somebody may be waiting for its work.
    fn outlive(self: &Arc<Self>, adopts: bool, grace: Duration, report: impl Fn(&str)) -> End {
        let mut end = End::Code(1);
        while let Some(changed) = self.next_change(adopts) {
            let Some((_, status)) = changed.filter(|(pid, _)| *pid == self.id) else { continue };
            if status.stopped() {
                report("stopped\n");
            } else if status.continued() {
                report("continued\n");
            } else {
                end = End::of(status);
                report(&end.report());
                self.end_rest(grace);
            }
        }
        end
    }

    fn end_rest(self: &Arc<Self>, grace: Duration) {
        let group = Arc::clone(self);
        let end = move || group.end_within(grace);
        if self.left().anybody && thread::Builder::new().name("rest".into()).spawn(end).is_err() {
            self.signal_all(Signal::KILL);
        }
    }

    fn end_within(&self, grace: Duration) {
        self.signal_all(Signal::TERM);
        thread::sleep(grace);
        self.signal_all(Signal::KILL);
    }

    /// Waits until any child, of the group or adopted from outside it, ends (then it is reaped), is stopped or goes on; the
    /// inner None: somebody else's affair. The outer None: the group is empty.
    fn next_change(&self, adopts: bool) -> Option<Option<(Pid, WaitStatus)>> {
        if !self.left().anybody {
            return None;
        }
        let any = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::CONTINUED;
        let seen = loop {
            match waitid(WaitId::All, any | WaitIdOptions::NOWAIT) {
                Err(Errno::INTR) => {}
                seen => break seen.ok().flatten(),
            }
        };
        let mut left = self.left();
        let ended = seen.is_some_and(|status| !status.stopped() && !status.continued());
        // Before it is reaped: the number is the program's until then.
        if !adopts && ended {
            let _ = kill_process_group(self.id, Signal::KILL);
        }
        let changed = wait(WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED).ok().flatten();
        left.program &= !changed.is_some_and(|(pid, status)| pid == self.id && has_ended(status));
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        left.anybody = !matches!(waitid(WaitId::Pgid(Some(self.id)), look), Err(Errno::CHILD));
        Some(changed)
    }
}

fn has_ended(status: WaitStatus) -> bool {
    status.exited() || status.signaled()
}

/// Does what the supervisor says, and ends the group when there is no supervisor any more.
fn obey(commands: File, group: &Group, grace: Duration) {
    let mut commands = BufReader::with_capacity(COMMAND_BYTES, commands);
    let mut line = String::new();
    while commands.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.len() < COMMAND_BYTES {
        match line.trim_end() {
            "term" => {
                group.signal_program(Signal::TERM);
                // One that is stopped could not act on it.
                group.signal_program(Signal::CONT);
            }
            "kill" => group.signal_all(Signal::KILL),
            _ => {}
        }
        line.clear();
    }
    group.end_within(grace);
}

/// How the program ended.
enum End {
    Code(i32),
    Signal(i32),
}

impl End {
    fn of(status: WaitStatus) -> Self {
        match status.terminating_signal() {
            Some(signal) => Self::Signal(signal),
            None => Self::Code(status.exit_status().unwrap_or(1)),
        }
    }

    fn report(&self) -> String {
        match self {
            Self::Code(code) => format!("exit code {code}\n"),
            Self::Signal(signal) => format!("exit signal {signal}\n"),
        }
    }

    /// As a shell says it.
    fn code(&self) -> u8 {
        let code = match self {
            Self::Code(code) => *code,
            Self::Signal(signal) => 128 + signal,
        };
        u8::try_from(code).unwrap_or(u8::MAX)
    }
}

// The second stage: announces itself and becomes the program.

fn become_program(task: &Task, guard: i32) -> ExitCode {
    // A second handle: standard input is another file by the time there may be a failure to tell of.
    let mut lifeline = match lifeline() {
        Ok(lifeline) => lifeline,
        Err(error) => return complain(126, &error.to_string()),
    };
    let Err(error) = try_become_program(task, guard, &mut lifeline);
    let text = format!("cannot start `{}`: {error}", task.program.display()).replace('\n', " ");
    let _ = writeln!(lifeline, "failed {text}");
    // The codes a shell gives: 127 not found, 126 found but not started.
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
}

fn try_become_program(task: &Task, guard: i32, lifeline: &mut File) -> io::Result<std::convert::Infallible> {
    writeln!(lifeline, "pid {}", std::process::id())?;
    die_with(guard)?;
    let stdin = match &task.lock {
        Some(path) => Stdio::from(lock(path)?),
        None => Stdio::null(),
    };
    let mut program = Command::new(&task.program);
    program.args(&task.args).stdin(stdin);
    if task.sockets > 0 {
        program.env("LISTEN_PID", std::process::id().to_string());
    }
    Err(program.exec())
}

/// Asks the kernel for SIGKILL at the guard's death; the request survives the change into the program.
fn die_with(guard: i32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died just before.
    match getppid() {
        Some(parent) if parent.as_raw_nonzero().get() == guard => Ok(()),
        _ => Err(io::Error::other("the guard is gone")),
    }
}

/// Takes an exclusive lock on `path`. The program gets the file as its standard input, so the lock lasts exactly as
/// long as the program or any child of it, whatever becomes of everybody else.
fn lock(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
    let deadline = Instant::now() + LOCK_TIME;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other(format!("{} is still locked by another process", path.display())));
            }
        }
    }
}
