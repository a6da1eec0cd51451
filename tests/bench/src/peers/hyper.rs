//! Bare hyper, which answers by itself: the limit of what a front in this language can reach, since a front does all
//! of this and more. It runs as a process of its own, so that its processor time can be told from the load's.

use tempest_tests::{free_port, under};

use super::{Missing, Place, Server, loopback, own_server, wait_listening};

/// On one thread, as a front with one reactor.
pub(crate) fn one_thread(place: &Place) -> Result<Server, Missing> {
    Ok(start(place, "1", &[]))
}

/// On as many threads as this machine has processors (two).
pub(crate) fn two_threads(place: &Place) -> Result<Server, Missing> {
    Ok(start(place, "2", &[]))
}

/// On one thread, as the arguments of another program.
pub(crate) fn one_thread_under(place: &Place, wrapper: &[&str]) -> Server {
    start(place, "1", wrapper)
}

fn start(place: &Place, threads: &str, wrapper: &[&str]) -> Server {
    let address = loopback(free_port());
    let command = under(wrapper, own_server(&["hyper", &address.to_string(), threads]));
    let process = place.start("hyper", command);
    wait_listening(address);
    let tuning = format!("1 process, {threads} thread{}", if threads == "1" { "" } else { "s" });
    Server { processes: vec![process], address, tuning, streams: None, memory: 0 }
}
