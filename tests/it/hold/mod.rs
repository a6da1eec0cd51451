//! Holds: a worker's answer hands the connection to channels, and from there on the worker does not matter.

mod history;
mod lifetimes;
mod malformed;
mod once;
mod opening;
mod raw;

use serde_json::{Value, json};
use tempest_tests::{Http, Item, Response, Sse, World};

/// Asks for `path`, plays the worker that answers with `fields`, and gives the connection.
#[track_caller]
fn asked(world: &mut World, request: &str, fields: Value) -> Http {
    let mut http = world.http();
    http.send(format!("{request}\r\nHost: test\r\n\r\n"));
    let job = world.take();
    world.answer(&job, fields, "");
    http
}

/// The head of what a GET gets.
#[track_caller]
fn got(world: &mut World, fields: Value) -> (Http, Response) {
    let mut http = asked(world, "GET /events HTTP/1.1", fields);
    let head = http.read_head().expect("a head");
    (http, head)
}

/// A stream of events that the worker's answer holds, past its head.
#[track_caller]
fn held(world: &mut World, hold: Value) -> Sse {
    let (http, head) = got(world, json!({"hold": hold}));
    assert_eq!(head.status, 200, "{head:?}");
    Sse::after(http, head)
}

/// Past the comment and the reconnection time that every stream begins with.
#[track_caller]
fn past_first_lines(stream: &mut Sse) {
    assert!(matches!(stream.item(), Item::Comment(_)));
    assert!(matches!(stream.item(), Item::Retry(_)));
}
