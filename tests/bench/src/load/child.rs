//! Both ends of the conversation between the benchmark and a load: lines on the child's standard input and output.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Spec;
use crate::machine;

/// The benchmark's end.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Child {
    /// Starts a load and waits until it is ready; the value is what it says of its start.
    pub(crate) fn start(spec: &Spec) -> Result<(Self, Value), String> {
        let own = std::env::current_exe().expect("a program knows its path");
        let spec = serde_json::to_string(spec).expect("a spec is JSON");
        // The same tie that the servers have: a benchmark that is killed leaves nothing.
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(own)
            .args(["load", &spec])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("the load does not start: {error}"))?;
        let to = process.stdin.take().expect("standard input is piped");
        let from = BufReader::new(process.stdout.take().expect("standard output is piped"));
        let mut child = Self { process, to, from };
        let ready = child.line()?;
        Ok((child, ready))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Has the next phase measured. An error is what went wrong, for the report.
    pub(crate) fn phase(&mut self) -> Result<Value, String> {
        self.to.write_all(b"go\n").map_err(|error| format!("the load is gone: {error}"))?;
        self.line()
    }

    fn line(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        match self.from.read_line(&mut line) {
            Ok(count) if count > 0 => {}
            _ => return Err("the load ended without a result".into()),
        }
        let value: Value = serde_json::from_str(&line).map_err(|error| format!("the load wrote {line:?}: {error}"))?;
        match value["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(value),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The load's end.
#[derive(Debug)]
pub(crate) struct Go(mpsc::UnboundedReceiver<()>);

impl Go {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        // Reading standard input blocks, and the clients must go on meanwhile.
        std::thread::spawn(move || {
            for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
                let _ = sender.send(());
            }
        });
        Self(receiver)
    }

    /// Says something and waits for the word to go on; false at the end.
    pub(super) async fn next(&mut self, said: Value) -> bool {
        let mut out = std::io::stdout().lock();
        let told = writeln!(out, "{said}").and_then(|()| out.flush());
        drop(out);
        told.is_ok() && self.0.recv().await.is_some()
    }

    /// Says what went wrong. The process ends soon after.
    pub(super) async fn fail(&mut self, error: String) {
        self.next(json!({ "error": error })).await;
    }
}

/// Measures how busy this process is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Busy {
    start: std::time::Instant,
    cpu: f64,
}

impl Busy {
    pub(super) fn start() -> Self {
        Self { start: std::time::Instant::now(), cpu: machine::own_cpu_seconds() }
    }

    /// Seconds since the start, and the share of one processor that was used.
    pub(super) fn end(self) -> (f64, f64) {
        let seconds = self.start.elapsed().as_secs_f64();
        (seconds, (machine::own_cpu_seconds() - self.cpu) / seconds)
    }
}
