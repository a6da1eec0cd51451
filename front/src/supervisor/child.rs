//! One program under its guard: start it, read what it says, ask it to stop, learn how it ended.
//!
//! This side of the lifeline belongs to the supervisor (`guard` is the other). Dropping a [`Child`] cuts the lifeline, so
//! its guard ends the program; nothing here needs to run for that. It must not decide whether to start again.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::descriptors;

use super::guard::this_executable;
use super::lines::for_each_line;

/// How long the last words of a child are waited for once it is gone; something it left behind may hold its pipes.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// The file that the first of the passed sockets is; systemd's protocol says so.
const FIRST_SOCKET: i32 = 3;
/// From SIGKILL until a child that is not gone is given up: it hangs in the kernel.
const KILL_TIME: Duration = Duration::from_secs(5);

/// What to start.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program: a path, or a name found on PATH.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Additions to the environment.
    pub env: Vec<(OsString, OsString)>,
    /// Working folder; None: ours.
    pub dir: Option<PathBuf>,
    /// From SIGTERM to SIGKILL if we die, and for what the program leaves in its group.
    pub grace: Duration,
    /// A file that is locked for as long as the program lives; the program finds it as its standard input.
    pub lock: Option<PathBuf>,
    /// The executable that is called as `guard …`; None: this one.
    pub guard: Option<PathBuf>,
    /// Listening sockets that it is given by systemd's protocol: as the files 3 and up, in this order.
    pub sockets: Vec<Socket>,
}

/// A listening socket for a program.
#[derive(Clone, Debug)]
pub struct Socket {
    /// What it is called, without a colon.
    pub name: &'static str,
    /// The socket; whoever starts the program keeps it, so that it outlives the program.
    pub listener: Arc<OwnedFd>,
}

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes a child's lines; must not block.
pub type Lines = Arc<dyn Fn(Stream, &str) + Send + Sync>;

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It could not be started; the text says why.
    NotStarted(String),
    /// Its guard died, so it was killed.
    GuardDied,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(0) => f.write_str("ended"),
            Self::Code(code) => write!(f, "ended with code {code}"),
            Self::Signal(number) => write!(f, "was ended by {}", signal_name(*number)),
            Self::NotStarted(text) => f.write_str(text),
            Self::GuardDied => f.write_str("was killed because its guard died"),
        }
    }
}

/// What is known of a program from its guard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its process id, also the id of its process group.
    pub pid: Option<i32>,
    /// It is stopped (SIGSTOP, a terminal, a debugger) and does nothing until it is told to go on.
    pub stopped: bool,
    /// How it ended. The rest of its group may still be there.
    pub exit: Option<Exit>,
}

/// `SIGTERM`; a number for those without a name.
pub fn signal_name(number: i32) -> String {
    match Signal::from_named_raw(number) {
        Some(Signal::ABORT) => "SIGABRT".to_owned(),
        Some(Signal::ALARM) => "SIGALRM".to_owned(),
        Some(signal) => format!("{signal:?}").trim_matches('"').replace("Signal::", "SIG"),
        None => format!("signal {number}"),
    }
}

/// A running program.
#[derive(Debug)]
pub struct Child {
    orders: OwnedWriteHalf,
    seen: watch::Receiver<Seen>,
    end: JoinHandle<Exit>,
    exit: Option<Exit>,
}

impl Child {
    /// Starts a guard and tells it to start `program`. Needs a tokio runtime.
    ///
    /// Fails only if the guard cannot be started; that the program could not is an [`Exit`].
    pub fn spawn(program: &Program, lines: Lines) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = theirs.into_std()?;
        // The guard reads it without a runtime.
        theirs.set_nonblocking(false)?;
        let mut guard = command(program, theirs.into())?.spawn()?;
        let said = [
            tokio::spawn(read(guard.stdout.take(), Stream::Stdout, Arc::clone(&lines))),
            tokio::spawn(read(guard.stderr.take(), Stream::Stderr, lines)),
        ];
        let (reports, orders) = ours.into_split();
        let (announce, seen) = watch::channel(Seen::default());
        let end = tokio::spawn(attend(guard, reports, announce, said));
        Ok(Self { orders, seen, end, exit: None })
    }

    /// The program's process id, once it is known; also the id of its process group.
    pub async fn pid(&mut self) -> Option<i32> {
        let known = self.seen.wait_for(|seen| seen.pid.is_some()).await.ok()?;
        known.pid
    }

    /// Follows what happens to the program, each change at once. The channel ends with the group.
    pub fn watch(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }

    /// Waits for the end of the program and its group. May be dropped and called again.
    pub async fn wait(&mut self) -> Exit {
        if self.exit.is_none() {
            // The task ends early only with the runtime.
            self.exit = Some((&mut self.end).await.unwrap_or(Exit::GuardDied));
        }
        self.exit.clone().unwrap_or(Exit::GuardDied)
    }

    /// Sends SIGTERM to the program and, after `patience` or once `hasten` completes, SIGKILL to its whole group; waits for
    /// the end of the program and its group.
    pub async fn stop(&mut self, patience: Duration, hasten: impl Future<Output = ()>) -> Exit {
        self.order_term().await;
        tokio::select! {
            exit = self.wait() => return exit,
            () = tokio::time::sleep(patience) => {}
            () = hasten => {}
        }
        self.kill().await
    }

    /// Sends SIGKILL to the whole group and waits for the end.
    pub async fn kill(&mut self) -> Exit {
        self.order_kill().await;
        match timeout(KILL_TIME, self.wait()).await {
            Ok(exit) => exit,
            Err(_) => self.abandon(),
        }
    }

    /// Sends SIGTERM to the program and does not wait.
    pub async fn order_term(&mut self) {
        self.order("term\n").await;
    }

    /// Sends SIGKILL to the whole group and does not wait.
    pub async fn order_kill(&mut self) {
        self.order("kill\n").await;
    }

    /// Gives up a group that SIGKILL has not ended: once more without its guard, and then it is the kernel's.
    pub fn abandon(&self) -> Exit {
        end_group(self.seen.borrow().pid);
        Exit::Signal(Signal::KILL.as_raw())
    }

    async fn order(&mut self, order: &str) {
        // A guard that is gone has left nothing to signal. The few bytes always fit the socket's buffer.
        let _ = self.orders.write_all(order.as_bytes()).await;
    }
}

fn command(program: &Program, lifeline: OwnedFd) -> io::Result<Command> {
    let mut command = Command::new(program.guard.clone().unwrap_or_else(this_executable));
    command.arg0("tempest").arg("guard").arg("--grace").arg(program.grace.as_millis().to_string());
    if let Some(files) = descriptors::before() {
        command.arg("--files").arg(files.to_string());
    }
    if let Some(lock) = &program.lock {
        command.arg("--lock").arg(lock);
    }
    // Said to us, not to those we start: they would speak to the service manager in our name.
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
        command.env_remove(name);
    }
    if !program.sockets.is_empty() {
        pass(&mut command, &program.sockets)?;
    }
    command.arg("--").arg(&program.program).args(&program.args);
    command.envs(program.env.iter().map(|(name, value)| (name, value)));
    if let Some(dir) = &program.dir {
        command.current_dir(dir);
    }
    command.stdin(Stdio::from(lifeline)).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    Ok(command)
}

/// Gives the sockets to the guard, which gives them to the program and keeps none.
fn pass(command: &mut Command, sockets: &[Socket]) -> io::Result<()> {
    let names: Vec<&str> = sockets.iter().map(|socket| socket.name).collect();
    command.arg("--sockets").arg(sockets.len().to_string());
    command
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"))
        .env_remove("LISTEN_PID");
    let one = |(child_fd, socket): (i32, &Socket)| {
        Ok(FdMapping { parent_fd: socket.listener.as_fd().try_clone_to_owned()?, child_fd })
    };
    let mappings = (FIRST_SOCKET..).zip(sockets).map(one).collect::<io::Result<Vec<_>>>()?;
    command.as_std_mut().fd_mappings(mappings).map_err(io::Error::other)?;
    Ok(())
}

async fn read(source: Option<impl AsyncRead + Unpin>, stream: Stream, lines: Lines) {
    if let Some(source) = source {
        for_each_line(source, |line| lines(stream, line)).await;
    }
}

/// Follows one guard to its end, and sees to it that the program has ended by then.
async fn attend(
    mut guard: tokio::process::Child,
    reports: OwnedReadHalf,
    announce: watch::Sender<Seen>,
    said: [JoinHandle<()>; 2],
) -> Exit {
    for_each_line(reports, |line| {
        if let Some(report) = Report::parse(line) {
            announce.send_modify(|seen| report.note(seen));
        }
    })
    .await;
    let Seen { pid, exit, .. } = announce.borrow().clone();
    let exit = exit.unwrap_or_else(|| {
        end_group(pid);
        announce.send_modify(|seen| Report::Exit(Exit::GuardDied).note(seen));
        Exit::GuardDied
    });
    // Nothing hangs on the guard's own exit code; this reaps it.
    let _ = guard.wait().await;
    for mut said in said {
        if timeout(LAST_WORDS, &mut said).await.is_err() {
            said.abort();
        }
    }
    exit
}

fn end_group(group: Option<i32>) {
    if let Some(group) = group.and_then(Pid::from_raw) {
        // Fails only if nobody is left in it.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// What a guard reports.
enum Report {
    Pid(i32),
    Stopped,
    Continued,
    Exit(Exit),
}

impl Report {
    fn parse(line: &str) -> Option<Self> {
        match line {
            "stopped" => return Some(Self::Stopped),
            "continued" => return Some(Self::Continued),
            _ => {}
        }
        let (word, rest) = line.split_once(' ')?;
        match word {
            "pid" => rest.parse().ok().filter(|pid| *pid > 0).map(Self::Pid),
            "failed" => Some(Self::Exit(Exit::NotStarted(rest.to_owned()))),
            "exit" => match rest.split_once(' ')? {
                ("code", code) => Some(Self::Exit(Exit::Code(code.parse().ok()?))),
                ("signal", number) => Some(Self::Exit(Exit::Signal(number.parse().ok()?))),
                _ => None,
            },
            _ => None,
        }
    }

    fn note(self, seen: &mut Seen) {
        match self {
            Self::Pid(pid) => seen.pid = Some(pid),
            Self::Stopped => seen.stopped = true,
            Self::Continued => seen.stopped = false,
            // The first word counts: that it could not be started is followed by its exit code.
            Self::Exit(exit) => drop(seen.exit.get_or_insert(exit)),
        }
    }
}
