//! The Redis of a contender that needs one: its own, which keeps nothing on disk.

use std::path::PathBuf;
use std::process::Command;

use tempest_tests::{Process, free_port};

use super::Place;

/// Starts it; its port on the loopback interface, and its unix socket.
pub(super) fn start(place: &Place) -> (Process, u16, PathBuf) {
    let socket = place.dir.join("redis.sock");
    let port = free_port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--maxclients", "1000", "--unixsocket"]).arg(&socket);
    let redis = place.start("redis", command);
    redis.log.wait_for("Ready to accept connections");
    (redis, port, socket)
}
