//! The load: clients in a process of their own, so that their processor time can be told from the servers'.
//!
//! The benchmark starts `bench load SPEC` with one of the [`Spec`]s as JSON. The child connects, warms up and writes a
//! line `ready`; on each line that it reads it measures one phase and answers with a line of JSON. It runs on one
//! thread and says how busy that was: a load that is the bottleneck measures itself. Clients check every byte.

mod child;
mod client;
mod crowd;
mod exactly;
mod hold;
mod message;
mod overload;
mod publisher;
mod requests;
mod response;
mod several;
mod slowloris;
mod sources;
mod streams;

use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::task::LocalSet;

pub(crate) use child::Child;
pub(crate) use hold::Hold;
pub(crate) use sources::Sources;
pub(crate) use streams::OPENING;

use crate::peers::Streams;

/// Descriptors a load may have.
const MOST_FILES: u64 = 20_000;

/// What a load does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Spec {
    /// So many clients, each asking again as soon as it is answered.
    Requests {
        /// The server.
        address: SocketAddr,
        /// Clients, one connection each.
        clients: usize,
        /// What they ask for.
        ask: Ask,
        /// Milliseconds before measuring.
        warm_up_ms: u64,
        /// Milliseconds of measuring.
        run_ms: u64,
    },
    /// So many requests in all, by so many clients, each asking again as soon as it is answered.
    Exactly {
        /// The server.
        address: SocketAddr,
        /// Clients, one connection each.
        clients: usize,
        /// What they ask for.
        ask: Ask,
        /// Requests before measuring.
        warm_up: u64,
        /// Requests while measuring.
        requests: u64,
    },
    /// Slow clients that send a byte a second and read 1 KiB a second, beside fast ones, which are measured.
    Crowd {
        /// The server.
        address: SocketAddr,
        /// Slow clients.
        slow: usize,
        /// Fast clients.
        fast: usize,
        /// Milliseconds of measuring.
        run_ms: u64,
    },
    /// Clients that never finish the head of a request, until they are dropped.
    Slowloris {
        /// The server.
        address: SocketAddr,
        /// Clients, one connection each.
        clients: usize,
        /// Milliseconds between two bytes of each.
        pause_ms: u64,
    },
    /// Requests at fixed times, whatever becomes of the ones before, each by a client that leaves when it has waited too
    /// long.
    Overload {
        /// The server.
        address: SocketAddr,
        /// Requests a second.
        per_second: f64,
        /// Milliseconds that a client waits.
        patience_ms: u64,
        /// Milliseconds before measuring.
        warm_up_ms: u64,
        /// Milliseconds of measuring.
        run_ms: u64,
    },
    /// Streams that are opened and held, and not fed.
    Hold(Hold),
    /// So many streams of one channel.
    Streams {
        /// The server.
        address: SocketAddr,
        /// How to read and to feed it.
        streams: Streams,
        /// Streams opened at the start.
        count: usize,
        /// What is measured, in this order.
        phases: Vec<Phase>,
    },
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// `GET /hello`.
    Hello,
    /// `GET /sleep`: 20 ms of waiting.
    Sleep,
    /// `GET /work`: 5 ms of waiting.
    Work,
    /// `POST /echo` with so many bytes.
    Echo(usize),
}

/// One measurement of open streams.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Always so many messages under way: the next is published when all streams have got the oldest.
    Backlog {
        /// Messages under way.
        window: u64,
        /// Milliseconds of measuring.
        run_ms: u64,
    },
    /// A message at fixed times, whatever becomes of the ones before.
    Rate {
        /// Messages a second.
        per_second: f64,
        /// Messages in all.
        messages: u64,
    },
}

/// The child's side: does what `spec` says.
pub(crate) fn run(spec: &str) {
    let spec: Spec = serde_json::from_str(spec).expect("the benchmark wrote the spec");
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(LocalSet::new().run_until(async {
        let go = child::Go::new();
        match spec {
            Spec::Requests { address, clients, ask, warm_up_ms, run_ms } => {
                requests::run(address, clients, ask, warm_up_ms, run_ms, go).await;
            }
            Spec::Exactly { address, clients, ask, warm_up, requests } => {
                exactly::run(address, clients, ask, [warm_up, requests], go).await;
            }
            Spec::Overload { address, per_second, patience_ms, warm_up_ms, run_ms } => {
                overload::run(address, per_second, patience_ms, [warm_up_ms, run_ms], go).await;
            }
            Spec::Crowd { address, slow, fast, run_ms } => crowd::run(address, slow, fast, run_ms, go).await,
            Spec::Slowloris { address, clients, pause_ms } => slowloris::run(address, clients, pause_ms, go).await,
            Spec::Hold(hold) => hold::run(hold, go).await,
            Spec::Streams { address, streams, count, phases } => {
                streams::run(address, streams, count, &phases, go).await;
            }
        }
    }));
}

/// Raises the soft limit on open files as far as it may be.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = limit.maximum.unwrap_or(MOST_FILES).min(MOST_FILES);
    if limit.current.is_some_and(|current| current < raised) {
        let wanted = Rlimit { current: Some(raised), maximum: limit.maximum };
        setrlimit(Resource::Nofile, wanted).expect("a limit may be raised up to the hard one");
    }
}
