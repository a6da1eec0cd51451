//! The least that streams of a channel of Redis can cost with tokio: the limit of what a front can reach by delivering.

use tempest_tests::free_port;

use super::{By, Missing, Place, Publish, Server, Streams, loopback, own_server, redis, wait_listening};

const CHANNEL: &str = "bench";

/// On as many threads as this machine has processors (two), of a work-stealing runtime.
pub(crate) fn two_threads(place: &Place) -> Result<Server, Missing> {
    let (redis, _, socket) = redis::start(place);
    let address = loopback(free_port());
    let path = socket.to_string_lossy();
    let process = place.start("fan-out", own_server(&["fan-out", &address.to_string(), "2", &path, CHANNEL]));
    wait_listening(address);
    let publish = Publish::Redis { socket, channels: vec![CHANNEL.to_owned()] };
    let streams = Streams { paths: vec!["/".to_owned()], publish, by: By::Plain };
    let tuning = "1 process, 2 threads, 1 Redis".to_owned();
    Ok(Server { processes: vec![process, redis], address, tuning, streams: Some(streams), memory: 0 })
}
