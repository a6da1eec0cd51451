//! The hub of mercure.rocks, which publishes to Server-Sent Events over HTTP as ours does by Redis.
//!
//! The hub is its library mounted in Go's own server, as its documents show; its makers' packages put it into Caddy,
//! which would only add to it. It must not keep a history.
//!
//! Tuning, after its configuration reference: the local transport, which keeps nothing; no limit on the life of a
//! stream (`write_timeout`) and no heartbeats, which would fall into what is measured.

use std::process::Command;

use tempest_tests::free_port;

use super::{By, Missing, Place, Publish, Server, Streams, find, loopback, wait_listening};

/// What publishers' tokens are signed with: the key of its documents, a secret of nobody.
const KEY: &str = "!ChangeThisMercureHubJWTSecretKey!";
/// `{"mercure":{"publish":["*"]}}`, signed by HS256 with that key.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJtZXJjdXJlIjp7InB1Ymxpc2giOlsiKiJdfX0.\
                     a8cjcSRUAcHdnGNMKifA4BK5epRXxQI0UBp2XpNrBdw";

/// Streams of one topic.
pub(crate) fn streams(place: &Place) -> Result<Server, Missing> {
    let address = loopback(free_port());
    let mut command = Command::new(find::go("mercure")?);
    command.args([&address.to_string(), KEY]);
    let process = place.start("mercure", command);
    wait_listening(address);
    let streams = Streams {
        paths: vec!["/.well-known/mercure?topic=bench".into()],
        publish: Publish::Post {
            address,
            path: "/.well-known/mercure".into(),
            headers: vec![
                "content-type: application/x-www-form-urlencoded".into(),
                format!("authorization: Bearer {TOKEN}"),
            ],
            before: "topic=bench&data=".into(),
            after: String::new(),
        },
        by: By::Plain,
    };
    Ok(Server {
        processes: vec![process],
        address,
        tuning: "1 process, local transport".into(),
        streams: Some(streams),
        memory: 0,
    })
}
