//! Who takes part in the life of the processes hears of everything, and of a death at once.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempest::config::Config;
use tempest::supervisor::child::Exit;
use tempest::workers::{Hooks, Jobs, Process, Roster, Told, Workers};
use tempest_protocol::Keys;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::support::{Folder, TEMPEST, signal, within};

#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Starting(Process),
    Started(i32),
    Stopped,
    Continued,
    Died(Process, Exit, Instant),
}

#[derive(Debug)]
struct Recorder(UnboundedSender<Heard>);

impl Hooks for Recorder {
    fn starting(&self, process: &Process) -> Vec<(OsString, OsString)> {
        let _ = self.0.send(Heard::Starting(process.clone()));
        vec![("REDIS_URL".into(), "redis://elsewhere".into())]
    }
    fn started(&self, _: &Process, pid: i32) {
        let _ = self.0.send(Heard::Started(pid));
    }
    fn stopped(&self, _: &Process) {
        let _ = self.0.send(Heard::Stopped);
    }
    fn continued(&self, _: &Process) {
        let _ = self.0.send(Heard::Continued);
    }
    fn died(&self, process: &Process, exit: &Exit) {
        let _ = self.0.send(Heard::Died(process.clone(), exit.clone(), Instant::now()));
    }
}

fn start(folder: &Folder, command: &str) -> (Workers, Jobs, UnboundedReceiver<Heard>) {
    let settings = "queue = 'mail'\nrestart_wait = '1ms'\nready_time = '1ms'\njob_time = '100ms'\n";
    let text = format!("[workers.w]\ncommand = [\"sh\", \"-c\", \"{command}\"]\n{settings}");
    let config = Config::from_toml(&text, folder.path()).expect("a good configuration");
    let (sender, heard) = unbounded_channel();
    let (hooks, jobs) = (Arc::new(Recorder(sender)), Jobs::default());
    let told = Told {
        redis: "redis://127.0.0.1:1".parse().expect("a URL"),
        keys: Keys::new("tempest"),
        base: "/".into(),
        development: false,
        guard: Some(TEMPEST.into()),
        hooks,
        jobs: jobs.clone(),
    };
    (Workers::start(&config.workers, &told, &Roster::default()), jobs, heard)
}

async fn next(heard: &mut UnboundedReceiver<Heard>) -> Heard {
    within("a hook", heard.recv()).await.expect("somebody speaks")
}

async fn next_start(heard: &mut UnboundedReceiver<Heard>) -> (Process, i32) {
    let Heard::Starting(process) = next(heard).await else { panic!("a start begins it") };
    let Heard::Started(pid) = next(heard).await else { panic!("and then it runs") };
    (process, pid)
}

#[tokio::test]
async fn every_turn_is_heard_and_a_death_at_once() {
    // What it leaves behind holds the guard for as long as it lives, but not the news.
    let child = "(trap '' TERM; echo > $TEMPEST_WORKER_ID; sleep 5) &";
    let folder = Folder::new();
    let (mut workers, _, mut heard) =
        start(&folder, &format!("[ $REDIS_URL = redis://elsewhere ] || exit 9; {child} exec sleep 1000"));
    let mut best = Duration::MAX;
    let mut last = None;
    for _ in 0..3 {
        let (process, pid) = next_start(&mut heard).await;
        assert_eq!((process.queue.as_str(), process.group.as_str(), process.place.as_str()), ("mail", "w", "w"));
        assert_ne!(last.as_ref(), Some(&process.id), "another process, another id");
        within("its child", async {
            while !folder.path().join(&process.id).exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        signal(pid, Signal::STOP);
        assert_eq!(next(&mut heard).await, Heard::Stopped);
        signal(pid, Signal::CONT);
        assert_eq!(next(&mut heard).await, Heard::Continued);
        let killed = Instant::now();
        signal(pid, Signal::KILL);
        let Heard::Died(dead, exit, at) = next(&mut heard).await else { panic!("a death") };
        assert_eq!((&dead.id, exit), (&process.id, Exit::Signal(9)));
        best = best.min(at - killed);
        last = Some(process.id);
    }
    // The promise is a millisecond or two; the best of some, since others use this machine.
    assert!(best < Duration::from_millis(20), "{best:?}");
    within("the stop", workers.stop(std::future::ready(()))).await;
}

#[tokio::test]
async fn whoever_hands_out_jobs_says_when_they_run() {
    let folder = Folder::new();
    let (mut workers, jobs, mut heard) = start(&folder, "exec sleep 1000");
    let (process, _) = next_start(&mut heard).await;
    jobs.began(&process.id, "job-1");
    let Heard::Died(dead, exit, _) = next(&mut heard).await else { panic!("it ran too long") };
    assert_eq!((dead.id, exit), (process.id, Exit::Signal(9)));
    let (second, _) = next_start(&mut heard).await;
    jobs.began(&second.id, "job-2");
    jobs.ended(&second.id, "job-2");
    within("the stop", workers.stop(std::future::pending())).await;
    assert!(matches!(next(&mut heard).await, Heard::Died(_, Exit::Signal(15), _)), "it was not killed");
}

#[tokio::test]
async fn a_program_that_cannot_start_dies_as_well() {
    let folder = Folder::new();
    let (mut workers, _, mut heard) = start(&folder, "exec /nowhere/program");
    for _ in 0..2 {
        next_start(&mut heard).await;
        assert!(matches!(next(&mut heard).await, Heard::Died(_, Exit::Code(127), _)));
    }
    within("the stop", workers.stop(std::future::pending())).await;
}
