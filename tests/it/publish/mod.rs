//! Publishing over HTTP and by the command line: what arrives, what is kept, what is refused, and what the publisher is
//! told, also while Redis is away.

mod batches;
mod command;
mod counts;
mod messages;
mod outages;
mod refusals;
mod repeats;

use serde_json::Value as Json;
use tempest_tests::{Front, Http, Redis, Response, World, WorldBuilder};

/// Channels whose name begins with `kept.` have a history of three messages.
const RULES: &str = "[[channels.rule]]\npattern = \"kept.*\"\nhistory = { messages = 3, time = \"1h\" }";

/// Anybody may publish on every channel, and some have a history.
fn open() -> WorldBuilder {
    World::builder().set("channels.publish = [\"*\"]").table(RULES)
}

/// A world where anybody may publish, with a history for some channels.
fn with_history() -> World {
    open().start()
}

/// Rules that no front has written, and none writes over.
fn forge_rules(redis: &mut Redis, rules: &str) {
    redis.cmd(&["ACL", "SETUSER", "default", "-set"]);
    redis.cmd(&["DEL", "tempest:@history"]);
    redis.cmd(&["APPEND", "tempest:@history", rules]);
    redis.cmd(&["EXPIRE", "tempest:@history", "60"]);
}

/// Another front of the same Redis, with these settings besides.
fn another_front(world: &World, name: &str, settings: &str) -> Front {
    let config = format!(
        "redis.url = \"{}\"\nfront.listen = \"127.0.0.1:0\"\nfront.admin = \"127.0.0.1:0\"\nlog.format = \"json\"\n\
         channels.public = [\"*\"]\nchannels.publish = [\"*\"]\n{settings}\n{RULES}",
        world.redis.url()
    );
    let front = Front::start(&world.dir().join(name), world.mark(), &config);
    front.wait_ready();
    front
}

fn post_to(mut http: Http, target: &str, headers: &[&str], body: &[u8]) -> Response {
    let length = format!("Content-Length: {}", body.len());
    // A body of no bytes has a length, too.
    let all: Vec<&str> = if body.is_empty() { [headers, &[&length]].concat() } else { headers.to_vec() };
    http.request("POST", target, &all, body);
    http.response()
}

fn post(world: &World, target: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Response {
    post_to(world.http(), target, headers, body.as_ref())
}

#[track_caller]
fn json_of(response: &Response) -> Json {
    assert_eq!(response.header("content-type"), Some("application/json"), "{response:?}");
    serde_json::from_slice(&response.body).expect("JSON")
}

/// The answer to a publication that went well.
#[track_caller]
fn published(world: &World, target: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Json {
    let response = post(world, target, headers, body);
    assert_eq!(response.status, 200, "{response:?} {}", response.text());
    json_of(&response)
}

/// The ids in the log of a channel.
fn kept_ids(redis: &mut Redis, channel: &str) -> Vec<String> {
    let entries = redis.cmd(&["XRANGE", &format!("tempest:log:{channel}"), "-", "+"]);
    entries.list().iter().map(|entry| entry.list()[0].text()).collect()
}

/// The payloads in the log of a channel.
fn kept(redis: &mut Redis, channel: &str) -> Vec<String> {
    let entries = redis.cmd(&["XRANGE", &format!("tempest:log:{channel}"), "-", "+"]);
    entries.list().iter().map(|entry| entry.list()[1].list()[3].text()).collect()
}
