//! The guard and its lifeline.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempest::supervisor::child::{Child, Exit, Program, Socket};

use crate::support::{DEADLINE, Folder, TEMPEST, await_gone, kill9, lines, parent, shell, signal, within};

/// A guard without a supervisor around it: its process, the lifeline, and what its program writes.
struct Bare {
    guard: std::process::Child,
    lifeline: Option<UnixStream>,
    reports: BufReader<UnixStream>,
    output: BufReader<std::process::ChildStdout>,
}

impl Bare {
    fn start(options: &[&str], script: &str) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        let mut guard = Command::new(TEMPEST)
            .arg("guard")
            .args(options)
            .args(["--", "sh", "-c", script])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .spawn()
            .expect("a guard");
        let reports = BufReader::new(ours.try_clone().expect("a second handle"));
        let output = BufReader::new(guard.stdout.take().expect("piped"));
        Self { guard, lifeline: Some(ours), reports, output }
    }

    fn report(&mut self) -> String {
        let mut line = String::new();
        self.reports.read_line(&mut line).expect("a report");
        line.trim_end().to_owned()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// The end of the output: nobody who holds it runs any more, grandchildren included.
    fn await_end_of_output(&mut self) {
        let mut rest = Vec::new();
        self.output.read_to_end(&mut rest).expect("the rest");
    }

    /// As the death of the supervisor is seen by the guard.
    fn cut(&mut self) {
        let lifeline = self.lifeline.take().expect("not cut twice");
        lifeline.shutdown(std::net::Shutdown::Both).expect("an open lifeline");
    }
}

#[test]
fn reports_and_exits_as_the_program_does() {
    let mut bare = Bare::start(&[], "exit 7");
    assert!(bare.report().starts_with("pid "));
    assert_eq!(bare.report(), "exit code 7");
    assert_eq!(bare.guard.wait().expect("reaped").code(), Some(7));
    let mut bare = Bare::start(&[], "kill -KILL $$");
    bare.report();
    assert_eq!(bare.report(), "exit signal 9");
    assert_eq!(bare.guard.wait().expect("reaped").code(), Some(137));
}

#[test]
fn the_program_has_no_input_and_its_own_group() {
    let mut bare = Bare::start(&[], "cat; echo end of input; ps -o pgid= -p $$; echo $$");
    assert_eq!(bare.line(), "end of input");
    let (group, pid) = (bare.line(), bare.line());
    assert_eq!(group.trim(), pid, "the program leads a group");
    assert_ne!(pid, bare.guard.id().to_string());
    bare.guard.wait().expect("reaped");
}

#[test]
fn a_stop_reaches_the_program_first_and_then_what_it_leaves() {
    let other = "sh -c 'trap \"echo other; exit\" TERM; echo up; while :; do sleep 0.01; done'";
    let mut bare = Bare::start(&[], &format!("trap 'echo program; exit 3' TERM; {other} & while :; do wait; done"));
    assert_eq!(bare.line(), "up");
    let lifeline = bare.lifeline.as_mut().expect("open");
    lifeline.write_all(b"term\n").expect("an order");
    assert_eq!([bare.line(), bare.line()], ["program", "other"]);
    assert_eq!(bare.guard.wait().expect("reaped").code(), Some(3));
}

#[test]
fn a_death_is_reported_before_the_rest_of_the_group_is_gone() {
    let mut bare = Bare::start(&["--grace", "100000"], "sh -c 'trap \"\" TERM; echo up; exec sleep 1000' & wait");
    assert_eq!(bare.line(), "up");
    let pid: i32 = bare.report().strip_prefix("pid ").and_then(|pid| pid.parse().ok()).expect("a process id");
    kill9(pid);
    assert_eq!(bare.report(), "exit signal 9");
    assert!(bare.guard.try_wait().expect("our child").is_none(), "the guard still waits for the other");
    bare.lifeline.as_mut().expect("open").write_all(b"kill\n").expect("an order");
    bare.await_end_of_output();
    assert_eq!(bare.guard.wait().expect("reaped").code(), Some(128 + 9));
}

#[test]
fn a_program_that_is_stopped_is_said_to_be() {
    let mut bare = Bare::start(&[], "echo up; exec sleep 1000");
    assert_eq!(bare.line(), "up");
    let pid: i32 = bare.report().strip_prefix("pid ").and_then(|pid| pid.parse().ok()).expect("a process id");
    for _ in 0..2 {
        signal(pid, Signal::STOP);
        assert_eq!(bare.report(), "stopped");
        signal(pid, Signal::CONT);
        assert_eq!(bare.report(), "continued");
    }
    signal(pid, Signal::STOP);
    assert_eq!(bare.report(), "stopped");
    kill9(pid);
    assert_eq!(bare.report(), "exit signal 9");
    bare.guard.wait().expect("reaped");
}

#[test]
fn a_dead_supervisor_ends_the_group() {
    let mut bare = Bare::start(&[], "sleep 1000 & echo up; sleep 1000");
    assert_eq!(bare.line(), "up");
    bare.cut();
    bare.await_end_of_output();
    assert_eq!(bare.guard.wait().expect("reaped").code(), Some(128 + 15));
}

#[test]
fn a_dead_supervisor_ends_a_group_that_ignores_sigterm() {
    let mut bare = Bare::start(&["--grace", "50"], "trap '' TERM; sleep 1000 & echo up; while :; do sleep 1000; done");
    assert_eq!(bare.line(), "up");
    bare.cut();
    bare.await_end_of_output();
    assert_eq!(bare.guard.wait().expect("reaped").code(), Some(128 + 9));
}

#[test]
fn what_the_program_leaves_in_its_group_is_killed() {
    let mut bare = Bare::start(&["--grace", "50"], "trap '' TERM; sleep 1000 & sh -c 'sleep 1000 & exit' & exit 0");
    bare.await_end_of_output();
    assert_eq!(bare.guard.wait().expect("reaped").code(), Some(0));
}

#[test]
fn a_daemon_that_left_the_group_does_not_hold_the_guard() {
    // What stands in $(…) is over once the daemon has let go of its output.
    let daemon = "setsid sh -c 'echo $$; exec sleep 1000 > /dev/null' &";
    let mut bare = Bare::start(&[], &format!("daemon=$({daemon}); echo $daemon; exit 0"));
    let daemon = bare.line().parse().expect("a process id");
    assert_eq!(bare.guard.wait().expect("reaped").code(), Some(0));
    kill9(daemon);
}

#[test]
fn supervisor_and_guard_killed_at_once_still_end_the_program() {
    let mut bare =
        Bare::start(&["--grace", "100000"], "trap '' TERM; echo up; while :; do read -r x < /dev/zero; done");
    assert_eq!(bare.line(), "up");
    bare.guard.kill().expect("SIGKILL");
    bare.cut();
    bare.await_end_of_output();
    bare.guard.wait().expect("reaped");
}

#[test]
fn a_guard_is_there_within_milliseconds() {
    let best = (0..10).map(|_| {
        let start = Instant::now();
        let mut bare = Bare::start(&[], "exit 0");
        bare.guard.wait().expect("reaped");
        start.elapsed()
    });
    let best = best.min().expect("ten runs");
    assert!(best < Duration::from_millis(100), "{best:?}");
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_named() {
    let mut program = shell("");
    program.program = "/nowhere/program".into();
    let mut child = Child::spawn(&program, lines().0).expect("a guard");
    let Exit::NotStarted(text) = within("the end", child.wait()).await else { panic!("it cannot have started") };
    assert!(text.contains("/nowhere/program") && text.contains("No such file"), "{text}");
}

#[tokio::test]
async fn a_dead_guard_takes_its_group_along() {
    let (sink, mut lines) = lines();
    let mut child = Child::spawn(&shell("trap '' TERM; sleep 1000 & echo $!; sleep 1000"), sink).expect("a guard");
    let pid = within("the program", child.pid()).await.expect("it runs");
    let grandchild: i32 = within("a line", lines.recv()).await.expect("a line").parse().expect("a process id");
    kill9(parent(pid).expect("its guard"));
    assert_eq!(within("the end", child.wait()).await, Exit::GuardDied);
    assert_eq!(within("the end of its output", lines.recv()).await, None);
    await_gone(pid);
    await_gone(grandchild);
}

#[tokio::test]
async fn stopping_is_gentle_first_and_then_not() {
    let (sink, mut lines) = lines();
    let gentle = "trap 'echo stopping; exit 0' TERM; echo up; while :; do sleep 0.01; done";
    let mut child = Child::spawn(&shell(gentle), sink.clone()).expect("a guard");
    assert_eq!(within("a line", lines.recv()).await.as_deref(), Some("up"));
    assert_eq!(within("the stop", child.stop(DEADLINE, std::future::pending())).await, Exit::Code(0));
    assert_eq!(within("a line", lines.recv()).await.as_deref(), Some("stopping"));
    let deaf = "trap '' TERM; echo up; while :; do sleep 0.01; done";
    for (patience, hasten) in [(Duration::from_millis(20), false), (DEADLINE * 2, true)] {
        let mut child = Child::spawn(&shell(deaf), sink.clone()).expect("a guard");
        assert_eq!(within("a line", lines.recv()).await.as_deref(), Some("up"));
        let hasten = async move {
            if !hasten {
                std::future::pending().await
            }
        };
        assert_eq!(within("the stop", child.stop(patience, hasten)).await, Exit::Signal(9));
    }
}

#[tokio::test]
async fn a_dropped_child_ends() {
    let (sink, mut lines) = lines();
    let mut child = Child::spawn(&shell("echo up; sleep 1000"), sink).expect("a guard");
    let pid = within("the program", child.pid()).await.expect("it runs");
    within("a line", lines.recv()).await;
    drop(child);
    await_gone(pid);
}

#[tokio::test]
async fn a_lock_lasts_as_long_as_its_holder() {
    let folder = Folder::new();
    let path = folder.path().join("lock");
    let mut program = shell("echo up; sleep 1000");
    program.lock = Some(path.clone());
    let (sink, mut lines) = lines();
    let mut child = Child::spawn(&program, sink).expect("a guard");
    within("a line", lines.recv()).await;
    let lock = std::fs::File::open(&path).expect("the lock's file");
    assert!(lock.try_lock().is_err(), "held by the program");
    within("the stop", child.stop(DEADLINE, std::future::pending())).await;
    assert!(lock.try_lock().is_ok(), "free once it is gone");
}

#[tokio::test]
async fn sockets_reach_the_program_and_stay_with_nobody_else() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let shown = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).expect("an open file");
    let listener = Arc::new(OwnedFd::from(listener));
    let sockets = ["http", "admin"].map(|name| Socket { name, listener: Arc::clone(&listener) });
    let script = "echo $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES; readlink /proc/$$/fd/3 /proc/$$/fd/4; exec sleep 60";
    let program = Program { sockets: sockets.into(), ..shell(script) };
    let (take, mut said) = lines();
    let mut child = Child::spawn(&program, take).expect("a guard");
    let pid = within("the id", child.pid()).await.expect("it runs");
    let mut line = async || within("a line", said.recv()).await.expect("it speaks");
    assert_eq!(line().await, format!("{pid} 2 http:admin"));
    for _ in 0..2 {
        assert_eq!(line().await, shown.to_string_lossy());
    }
    let guard = parent(pid).expect("it has a guard");
    let files = std::fs::read_dir(format!("/proc/{guard}/fd")).expect("it runs").flatten();
    let held = files.filter(|file| std::fs::read_link(file.path()).is_ok_and(|link| link == shown)).count();
    assert_eq!(held, 0, "the guard holds what it passed on");
    child.kill().await;
}
