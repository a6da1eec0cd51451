//! granian: a server for Python applications that is built on hyper, as our front is. It must answer by itself,
//! without a proxy.
//!
//! Tuning, after granian's README ("Workers and threads", "Backpressure"): a worker per processor at most, threads as
//! it chooses them, and a backpressure above the number of kept connections, without which it would not accept the
//! last of them; for the WSGI interface a bounded number of threads that meet in Python, for an application that
//! answers within a millisecond. uvloop, HTTP/1 alone and no websockets, as in its own benchmarks.

use std::process::Command;

use tempest_tests::{free_port, repository};

use super::{Missing, Place, Server, find, loopback, ready, wait_listening};

/// One worker, ASGI.
pub(crate) fn one_worker(place: &Place) -> Result<Server, Missing> {
    start(place, "asginl", "hello_asgi:app", 1)
}

/// A worker per processor (two), ASGI.
pub(crate) fn two_workers(place: &Place) -> Result<Server, Missing> {
    start(place, "asginl", "hello_asgi:app", 2)
}

/// A worker per processor (two), WSGI.
pub(crate) fn two_workers_wsgi(place: &Place) -> Result<Server, Missing> {
    start(place, "wsgi", "hello_wsgi:app", 2)
}

/// `asginl` is ASGI without lifespan messages, which the application has no use for.
fn start(place: &Place, interface: &str, application: &str, workers: usize) -> Result<Server, Missing> {
    let address = loopback(free_port());
    let mut command = Command::new(find::python("granian")?);
    command.arg("--working-dir").arg(repository().join("tests/bench/python"));
    command.args(["--host", "127.0.0.1", "--port", &address.port().to_string(), "--workers", &workers.to_string()]);
    command.args(["--interface", interface, "--loop", "uvloop", "--http", "1", "--no-ws"]);
    command.args(["--backlog", "4096", "--backpressure", "16000", "--workers-kill-timeout", "2"]);
    if interface == "wsgi" {
        command.args(["--blocking-threads", "4"]);
    }
    command.arg(application).env("PYTHONDONTWRITEBYTECODE", "1");
    let process = place.start("granian", command);
    // A worker that comes later would find all connections taken by the first.
    ready::lines(&process.log, "Started worker-", workers);
    wait_listening(address);
    let name = if interface == "wsgi" { "WSGI, 4 threads each" } else { "ASGI, uvloop" };
    let tuning = format!("{workers} worker{}, {name}", if workers == 1 { "" } else { "s" });
    Ok(Server { processes: vec![process], address, tuning, streams: None, memory: 0 })
}
