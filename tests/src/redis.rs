//! A real Redis server of a test's own: free port, own folder, no persistence unless asked for; can be killed,
//! restarted, stalled.
//!
//! It is `redis-server` on PATH, or what `TEMPEST_TEST_REDIS` names: `./dev test` runs a part of the tests with each server
//! that the contract names.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::ports::free_port;
use crate::process::Process;
use crate::resp::{Resp, Value};

/// The executable that tests start.
fn redis_server() -> OsString {
    env::var_os("TEMPEST_TEST_REDIS").unwrap_or_else(|| "redis-server".into())
}

/// One server.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    dir: PathBuf,
    mark: String,
    keeping: Option<&'static str>,
    process: Option<Process>,
    client: Option<Resp>,
}

impl Redis {
    /// Starts one in `dir`.
    pub fn start(dir: &Path, mark: &str) -> Self {
        fs::create_dir_all(dir).expect("the folder can be made");
        let (port, dir, mark) = (free_port(), dir.to_owned(), mark.to_owned());
        let mut redis = Self { port, dir, mark, keeping: None, process: None, client: None };
        redis.launch();
        redis
    }

    /// From its next start on: an append-only file with this `appendfsync`, or None: nothing on disk. Without
    /// one, what an earlier server left there is removed.
    pub fn keep(&mut self, appendfsync: Option<&'static str>) {
        self.keeping = appendfsync;
    }

    fn launch(&mut self) {
        let mut command = Command::new(redis_server());
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        match self.keeping {
            Some(appendfsync) => command.args(["--appendonly", "yes", "--appendfsync", appendfsync]),
            None => {
                // A file of earlier days would be read by the next server that keeps one.
                let _ = fs::remove_dir_all(self.dir.join("appendonlydir"));
                command.args(["--appendonly", "no"])
            }
        };
        command.args(["--daemonize", "no", "--dir"]).arg(&self.dir);
        let process = Process::start("redis", &self.mark, command);
        process.log.wait_for("Ready to accept connections");
        self.process = Some(process);
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:PORT/0`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// SIGKILL; its memory is lost.
    pub fn kill(&mut self) {
        self.client = None;
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// `SHUTDOWN`, then waits for its end: all that it keeps is kept.
    pub fn shutdown(&mut self) {
        let _ = self.connect().try_cmd(&["SHUTDOWN"]);
        self.client = None;
        if let Some(mut process) = self.process.take() {
            process.wait();
        }
    }

    /// Starts it again on the same port, with what it kept: by default nothing.
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    /// SIGSTOP: connections stay open, nothing answers.
    pub fn stall(&mut self) {
        self.running().signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.running().signal(Signal::CONT);
    }

    fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server was started")
    }

    /// A connection of the caller's own.
    pub fn connect(&self) -> Resp {
        Resp::connect(self.port).expect("the server accepts connections")
    }

    /// The connection that tests share.
    pub fn client(&mut self) -> &mut Resp {
        let port = self.port;
        self.client.get_or_insert_with(|| Resp::connect(port).expect("the server accepts connections"))
    }

    /// Makes the shared connection anew when it is used next: it may have been ended.
    pub fn renew_client(&mut self) {
        self.client = None;
    }

    /// One command on the shared connection.
    #[track_caller]
    pub fn cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.client().cmd(args)
    }

    /// `PUBLISH`; returns how many connections were subscribed.
    #[track_caller]
    pub fn publish(&mut self, channel: &str, payload: impl AsRef<[u8]>) -> i64 {
        self.cmd(&[b"PUBLISH".as_ref(), channel.as_bytes(), payload.as_ref()]).int()
    }

    /// The length of a list.
    #[track_caller]
    pub fn llen(&mut self, key: &str) -> i64 {
        self.cmd(&["LLEN", key]).int()
    }

    /// Connections subscribed to a channel.
    #[track_caller]
    pub fn subscribers(&mut self, channel: &str) -> i64 {
        self.cmd(&["PUBSUB", "NUMSUB", channel]).list()[1].int()
    }

    /// Ends every connection whose name begins with `start`, as fronts name theirs; returns how many there were.
    #[track_caller]
    pub fn cut_clients_named(&self, start: &str) -> usize {
        let mut own = self.connect();
        let wanted = format!("name={start}");
        let list = own.cmd(&["CLIENT", "LIST"]).text();
        let field = |line: &str, start: &str| line.split(' ').find(|word| word.starts_with(start)).map(str::to_owned);
        let ids = list.lines().filter(|line| field(line, &wanted).is_some()).filter_map(|line| field(line, "id="));
        // One may have gone by itself since the list was made.
        ids.filter(|id| own.try_cmd(&["CLIENT", "KILL", "ID", &id[3..]]).is_ok_and(|reply| reply == Value::Int(1)))
            .count()
    }

    /// Ends every connection that is subscribed to something; those of fronts have no name to know them by. Returns how many
    /// there were.
    #[track_caller]
    pub fn cut_subscriptions(&self) -> usize {
        self.connect().cmd(&["CLIENT", "KILL", "TYPE", "pubsub"]).int() as usize
    }
}
