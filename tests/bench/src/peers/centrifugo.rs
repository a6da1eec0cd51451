//! centrifugo: a server of channels with many transports, of which its unidirectional Server-Sent Events are used.
//!
//! Its engine in memory must be its only one: no Redis, no history, no presence.
//!
//! Tuning, after its documents: nothing is to be tuned for one machine; the log is off below errors, connections come
//! without a token and subscribe by the parameter of the transport ("Unidirectional SSE").

use std::fs;
use std::process::Command;

use serde_json::json;
use tempest_tests::free_port;

use super::{By, Missing, Place, Publish, Server, Streams, find, loopback, wait_listening};

/// What its API is asked with; a secret of nobody.
const KEY: &str = "bench";

/// Streams of one channel.
pub(crate) fn streams(place: &Place) -> Result<Server, Missing> {
    let program = find::go("centrifugo")?;
    let address = loopback(free_port());
    let config = json!({
        "address": "127.0.0.1", "port": address.port(), "log_level": "error", "api_key": KEY, "uni_sse": true,
        "allow_anonymous_connect_without_token": true,
        "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true,
    });
    let file = place.dir.join("centrifugo.json");
    fs::write(&file, config.to_string()).expect("the folder of a place is writable");
    let mut command = Command::new(program);
    command.arg("--config").arg(file);
    let process = place.start("centrifugo", command);
    wait_listening(address);
    let streams = Streams {
        // {"subs":{"bench":{}}}
        paths: vec!["/connection/uni_sse?cf_connect=%7B%22subs%22%3A%7B%22bench%22%3A%7B%7D%7D%7D".into()],
        publish: Publish::Post {
            address,
            path: "/api/publish".into(),
            headers: vec!["content-type: application/json".into(), format!("x-api-key: {KEY}")],
            before: r#"{"channel":"bench","data":""#.into(),
            after: r#""}"#.into(),
        },
        by: By::Plain,
    };
    Ok(Server {
        processes: vec![process],
        address,
        tuning: "1 process, memory engine".into(),
        streams: Some(streams),
        memory: 0,
    })
}
