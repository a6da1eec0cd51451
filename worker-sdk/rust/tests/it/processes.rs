//! Whole worker processes: environment, log and signals.
//!
//! The process is this very test binary: one of its tests is a worker when the environment says so.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempest_worker::connection::Connection;
use tempest_worker::{Address, App, Request};

use crate::harness::{QUEUE, Redis, get};

/// Set where this binary is to be a worker.
const BE_A_WORKER: &str = "TEMPEST_TEST_BE_A_WORKER";

#[test]
fn be_a_worker() {
    if std::env::var_os(BE_A_WORKER).is_some() {
        let app = App::new()
            .any("/wait", wait)
            .get("/fail", fail)
            .get("/spin", spin)
            .any("/block", block)
            .action("test.wait", wait);
        app.run().expect("good settings");
    }
}

/// Says that it runs and waits to be let go, by lists in Redis.
async fn wait(request: Request) -> Result<&'static str, tempest_worker::BoxError> {
    let address = Address::parse(&std::env::var("REDIS_URL")?)?;
    let mut connection = Connection::open(&address, "handler").await?;
    connection.command(&[b"RPUSH", b"entered", request.id().as_bytes()]).await?;
    connection.command(&[b"BLPOP", b"leave", b"20"]).await?;
    Ok("finished")
}

async fn fail(_: Request) -> Result<(), &'static str> {
    Err("for this reason")
}

/// Waits, so that the worker goes on to claim, and then blocks its thread for a while.
async fn block(_: Request) {
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    // Without an `await`: what is pushed from here on is claimed while nobody reads.
    let url = std::env::var("REDIS_URL").expect("an address");
    let mut socket = std::net::TcpStream::connect(&url["redis://".len()..]).expect("a Redis");
    std::io::Write::write_all(&mut socket, b"PUBLISH entered block\r\n").expect("published");
    std::thread::sleep(std::time::Duration::from_millis(1500));
}

/// Never gives its thread back.
async fn spin(request: Request) {
    request.publisher().publish("entered", None, "spin").await.expect("published");
    loop {
        std::hint::spin_loop();
    }
}

pub(crate) struct Process {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Process {
    pub(crate) fn start(redis: &Redis) -> Self {
        Self::with(redis, &[])
    }

    /// With further variables.
    pub(crate) fn with(redis: &Redis, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "processes::be_a_worker", "--nocapture"])
            .env(BE_A_WORKER, "1")
            .env("REDIS_URL", redis.url())
            .env("TEMPEST_QUEUE", QUEUE)
            .env("TEMPEST_WORKER_ID", "given")
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let log = BufReader::new(child.stderr.take().expect("its log is piped")).lines();
        Self { child, log }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a living process");
    }

    /// Waits for a line of its log.
    pub(crate) fn said(&mut self, text: &str) -> String {
        let line = self.log.by_ref().map_while(Result::ok).find(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("it never said {text:?}"))
    }

    pub(crate) fn ended(mut self) -> ExitStatus {
        self.child.wait().expect("its end")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended in every test that passes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn sigterm_lets_a_running_job_finish() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let process = Process::start(&redis);
    front.push(&get("r-1", "/wait"), b"").await;
    front.command(&["BLPOP", "entered", "20"]).await;
    front.until_waiting(2).await;
    assert_eq!(front.record(|_| true).await["id"], "given");
    process.signal(Signal::TERM);
    // Its pop has ended; what waits is the handler.
    front.until_waiting(1).await;
    front.push(&get("r-2", "/wait"), b"").await;
    front.command(&["RPUSH", "leave", "now"]).await;
    let answer = front.answer().await;
    assert_eq!((answer.id.as_str(), answer.text().as_str()), ("r-1", "finished"));
    assert!(process.ended().success());
    assert_eq!(front.number(&["LLEN", QUEUE]).await, 1, "the second job was not taken");
    assert_eq!(front.number(&["EXISTS", "{tempest:web}:worker:given", "{tempest:web}:workers"]).await, 0);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let mut reader = redis.front().await;
    reader.command(&["SUBSCRIBE", "entered"]).await;
    let mut process = Process::start(&redis);
    process.said("taking jobs");
    front.push(&get("r-1", "/spin"), b"").await;
    reader.connection.reply().await.expect("it runs");
    process.signal(Signal::INT);
    process.said("once more");
    process.signal(Signal::INT);
    assert_eq!(process.ended().code(), Some(130));
}

#[tokio::test]
async fn failures_are_logged_with_their_request() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let mut process = Process::start(&redis);
    front.push(&get("r-17", "/fail"), b"").await;
    assert_eq!(front.answer().await.status, 500);
    let line = process.said("a handler failed");
    assert!(line.contains("r-17") && line.contains("for this reason"), "{line}");
    process.signal(Signal::TERM);
    assert!(process.ended().success());
}
