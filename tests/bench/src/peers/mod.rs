//! Contenders: each file here starts one server as its own documents advise, and says how it was tuned.
//!
//! A peer file provides plain functions `fn(&Place) -> Result<Server, Missing>`, one for each role it plays
//! (`nginx::proxy`, `nginx::streams`). Such a function writes its configuration into the folder of its place, starts
//! processes by [`Place::start`], waits until they answer, and returns. It must not measure anything, nor leave
//! anything outside its folder. What a contender answers is a contract of all of them:
//!
//! - `GET /hello?n=XXXXXXXX` → 200, `hello XXXXXXXX\n`;
//! - `GET /sleep?n=XXXXXXXX` → the same after 20 ms;
//! - `GET /work?n=XXXXXXXX` → the same after 5 ms, four at a time (where overload is measured);
//! - `GET /long?n=XXXXXXXX` → the same after 15 s (workers only);
//! - `POST /echo?n=XXXXXXXX` → 200, the request's body.

pub(crate) mod centrifugo;
pub(crate) mod fan_out;
mod find;
pub(crate) mod granian;
pub(crate) mod gunicorn;
mod hyper;
pub(crate) mod mercure;
pub(crate) mod mongrel2;
pub(crate) mod nginx;
pub(crate) mod pushpin;
mod ready;
mod redis;
pub(crate) mod tempest;
mod tls;
pub(crate) mod uvicorn;

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};
use tempest_tests::{Process, target_folder, wait_until};

use crate::machine;

pub(crate) use self::hyper::{
    one_thread as hyper_one_thread, one_thread_under as hyper_one_thread_under, two_threads as hyper_two_threads,
};
pub(crate) use self::tls::{By, HOST, Speaks};

/// A folder and a mark for the processes of one contender in one round.
#[derive(Debug)]
pub(crate) struct Place {
    /// Its own folder, empty at the start; removed when it has ended.
    pub(crate) dir: PathBuf,
    /// What its processes carry in their environment, so that a left one can be found.
    pub(crate) mark: String,
}

/// A contender that cannot run here, and why: shown in the report instead of figures.
#[derive(Debug, Clone)]
pub(crate) struct Missing(pub(crate) String);

/// A running contender.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its processes by role, in the order in which they are to end; their descendants are found by the measuring.
    pub(crate) processes: Vec<Process>,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// Bytes of memory that all of them had before any load; set by whoever started it.
    pub(crate) memory: u64,
    /// Processes and tuning in a few words, for the report: `2 workers × 4 threads`.
    pub(crate) tuning: String,
    /// How streams are read and fed, where it serves any.
    pub(crate) streams: Option<Streams>,
}

/// How streams of one channel are read and fed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Streams {
    /// The paths (with their queries) of which a GET is a stream: the first stream takes the first, and so on round.
    pub(crate) paths: Vec<String>,
    /// How a message gets to them.
    pub(crate) publish: Publish,
    /// How clients come to them.
    pub(crate) by: By,
}

/// How one message is published. A message is printable ASCII without quotes or backslashes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Publish {
    /// `PUBLISH channel message` for each channel, in one write, to a Redis at a path of a unix socket.
    Redis {
        /// The socket's path.
        socket: PathBuf,
        /// The channels.
        channels: Vec<String>,
    },
    /// A POST over one connection, kept alive where the server keeps it.
    Post {
        /// Where to.
        address: SocketAddr,
        /// The path, with its query.
        path: String,
        /// Header lines besides Host and Content-Length, each `Name: value`.
        headers: Vec<String>,
        /// What stands before the message in the body.
        before: String,
        /// What stands behind it.
        after: String,
    },
}

impl Server {
    /// All of its processes, descendants included.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes.iter().flat_map(|process| machine::tree(process.pid())).collect()
    }
}

impl Place {
    /// Starts a process of this contender. `role` names it in the report, with its descendants.
    pub(crate) fn start(&self, role: &str, mut command: Command) -> Process {
        command.current_dir(&self.dir);
        Process::start(role, &self.mark, command)
    }
}

/// Waits until a server accepts connections.
#[track_caller]
pub(crate) fn wait_listening(address: SocketAddr) {
    wait_until("a contender to listen", || TcpStream::connect(address).is_ok());
}

/// The address of a port on the loopback interface.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The folder into which `tests/bench/install` puts what the benchmark compares with.
pub(crate) fn installed() -> PathBuf {
    target_folder().join("bench")
}

/// This program as another process: `bench serve WHAT…`.
pub(crate) fn own_server(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a program knows its path"));
    command.arg("serve").args(arguments);
    command
}
