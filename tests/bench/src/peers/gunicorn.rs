//! gunicorn with threaded workers: how most WSGI applications are served. It must answer by itself, without a proxy;
//! `nginx::before_gunicorn` is the pair that its documents advise.
//!
//! Tuning, after gunicorn's settings reference: `gthread` for connections that are kept, threads in the range of 2–4
//! per processor (`threads`), the parser in C (`http_parser fast`). As many workers as the other Python servers here
//! have, one per processor. Raised are only limits that a benchmark's clients would meet: `worker_connections`,
//! `keep_alive`, `backlog`.

use std::fs;
use std::process::Command;

use tempest_tests::{free_port, repository};

use super::{Missing, Place, Server, find, loopback, ready, wait_listening};

/// A hook of gunicorn's (settings reference, "Server hooks") says when a worker is ready: one that comes later would
/// find all connections taken by the first.
const CONFIG: &str = "def post_worker_init(worker):\n    worker.log.info('a worker is ready')\n";
const WORKERS: usize = 2;

/// Two workers with four threads each.
pub(crate) fn gthread(place: &Place) -> Result<Server, Missing> {
    with_threads(place, WORKERS, 4)
}

/// One worker with four threads: four requests at a time.
pub(crate) fn four_threads(place: &Place) -> Result<Server, Missing> {
    with_threads(place, 1, 4)
}

/// Two workers with 500 threads each: for handlers that wait, since a thread is what waits here.
pub(crate) fn many_threads(place: &Place) -> Result<Server, Missing> {
    with_threads(place, WORKERS, 500)
}

fn with_threads(place: &Place, workers: usize, threads: usize) -> Result<Server, Missing> {
    let address = loopback(free_port());
    let config = place.dir.join("gunicorn.conf.py");
    fs::write(&config, CONFIG).expect("the folder of a place is writable");
    let mut command = Command::new(find::python("gunicorn")?);
    command.arg("--config").arg(config).arg("--chdir").arg(repository().join("tests/bench/python"));
    command.args(["--bind", &address.to_string(), "--workers", &workers.to_string()]);
    command.args(["--worker-class", "gthread", "--threads", &threads.to_string(), "--http-parser", "fast"]);
    command.args(["--worker-connections", "16000", "--keep-alive", "75", "--backlog", "4096"]);
    command.args(["--graceful-timeout", "1", "--no-control-socket", "hello_wsgi:app"]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let process = place.start("gunicorn", command);
    ready::lines(&process.log, "a worker is ready", workers);
    wait_listening(address);
    let plural = if workers == 1 { "" } else { "s" };
    let tuning = format!("{workers} worker{plural} × {threads} threads, parser in C");
    Ok(Server { processes: vec![process], address, tuning, streams: None, memory: 0 })
}
