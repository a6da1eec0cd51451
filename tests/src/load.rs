//! Clients that ask all the time while a test does something to a front: nobody who asks may notice.
//!
//! The worker behind it has to answer `METHOD TARGET LENGTH` ([`Load::answer`]).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;

use crate::http::Http;
use crate::wait::wait_until;
use crate::worker::{Job, Reply};

/// Clients that ask without a pause until they are told to stop, and note every request that failed.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Client {
    /// Keeps its connection until an answer says «close».
    KeepAlive,
    /// The same, with a body.
    Post,
    /// Keeps its connection and thinks between two requests, up to so many ms.
    Slow(u64),
    /// A connection for each request.
    OneShot,
}

impl Load {
    /// What these clients expect of a worker.
    pub fn answer(job: &Job) -> Reply {
        vec![job.answer(json!({"status": 200}), format!("{} {}", job.line(), job.body.len()).as_bytes())]
    }

    /// Starts these clients.
    pub fn start(address: SocketAddr, clients: &[Client]) -> Self {
        let (stop, asked) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
        let start = |(number, client): (usize, &Client)| {
            let (client, stop, asked) = (*client, Arc::clone(&stop), Arc::clone(&asked));
            thread::spawn(move || client.run(number, address, &stop, &asked))
        };
        let clients = clients.iter().enumerate().map(start).collect();
        Self { stop, asked, clients }
    }

    /// Requests answered so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Waits until so many more requests have been answered.
    #[track_caller]
    pub fn go_on(&self, more: usize) {
        let from = self.asked();
        wait_until("more requests to be answered", || self.asked() >= from + more);
    }

    /// Ends it; what failed.
    pub fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().flat_map(|client| client.join().expect("a client ends")).collect()
    }
}

impl Client {
    /// Some of each.
    pub const ALL: [Self; 8] = [
        Self::KeepAlive,
        Self::KeepAlive,
        Self::Post,
        Self::Post,
        Self::OneShot,
        Self::OneShot,
        Self::Slow(100),
        Self::Slow(600),
    ];

    fn run(self, number: usize, address: SocketAddr, stop: &AtomicBool, asked: &AtomicUsize) -> Vec<String> {
        let (mut failed, mut kept) = (Vec::new(), None);
        for round in 0.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let target = format!("/{number}/{round}");
            match self.ask(kept.take(), address, &target) {
                Ok(http) => kept = http,
                Err(error) => failed.push(format!("{self:?} {target}: {error}")),
            }
            asked.fetch_add(1, Ordering::SeqCst);
            if let Client::Slow(most) = self {
                thread::sleep(Duration::from_millis(round * 37 % most)); // what a person does between two requests
            }
        }
        failed
    }

    /// One request and its answer; the connection where the answer leaves it open.
    fn ask(self, kept: Option<Http>, address: SocketAddr, target: &str) -> io::Result<Option<Http>> {
        let used = kept.is_some();
        let wrong =
            |what: String| io::Error::other(format!("{what}, on a connection {}", if used { "kept" } else { "new" }));
        let mut http = kept.map_or_else(|| Http::try_connect(address), Ok).map_err(|error| wrong(error.to_string()))?;
        let (method, headers, body): (_, &[&str], &[u8]) = match self {
            Self::Post => ("POST", &[], &[b'x'; 4000]),
            Self::OneShot => ("GET", &["Connection: close"], b""),
            Self::KeepAlive | Self::Slow(_) => ("GET", &[], b""),
        };
        http.request(method, target, headers, body);
        let answer = http.try_response(false).map_err(|error| wrong(error.to_string()))?;
        let expected = format!("{method} {target} {}", body.len());
        if answer.status != 200 || answer.text() != expected || !answer.complete {
            return Err(wrong(format!("{answer:?}")));
        }
        Ok((answer.header("connection") != Some("close")).then_some(http))
    }
}
