//! uvicorn: how most ASGI applications are served. It must answer by itself, without a proxy.
//!
//! Tuning, after uvicorn's documents: the event loop and the parser in C that `uvicorn[standard]` brings ("uvloop",
//! "httptools"), no access log, no lifespan messages, which the application has no use for. Raised are only limits that
//! a benchmark's clients would meet: the backlog and the time for which a connection is kept.

use std::process::Command;

use tempest_tests::{free_port, repository};

use super::{Missing, Place, Server, find, loopback, ready, wait_listening};

/// One worker.
pub(crate) fn one_worker(place: &Place) -> Result<Server, Missing> {
    start(place, 1)
}

/// A worker per processor (two).
pub(crate) fn two_workers(place: &Place) -> Result<Server, Missing> {
    start(place, 2)
}

fn start(place: &Place, workers: usize) -> Result<Server, Missing> {
    let address = loopback(free_port());
    let mut command = Command::new(find::python("uvicorn")?);
    command.arg("--app-dir").arg(repository().join("tests/bench/python"));
    command.args(["--host", "127.0.0.1", "--port", &address.port().to_string(), "--workers", &workers.to_string()]);
    command.args(["--loop", "uvloop", "--http", "httptools", "--lifespan", "off", "--no-access-log"]);
    command.args(["--backlog", "4096", "--timeout-keep-alive", "75", "--timeout-graceful-shutdown", "1"]);
    command.arg("hello_asgi:app").env("PYTHONDONTWRITEBYTECODE", "1");
    let process = place.start("uvicorn", command);
    // A worker that comes later would find all connections taken by the first.
    ready::lines(&process.log, "Started server process", workers);
    wait_listening(address);
    let tuning = format!("{workers} worker{}, uvloop, httptools", if workers == 1 { "" } else { "s" });
    Ok(Server { processes: vec![process], address, tuning, streams: None, memory: 0 })
}
