//! Requests as jobs.

use serde_json::{Value, json};

use super::super::BySerial;
use super::*;

/// The head of a waiting request's job, and its body.
fn job(world: &World, waiting: &Waiting) -> (Value, Vec<u8>) {
    let job = world.look(waiting, |pending| pending.job.clone());
    let end = job.iter().position(|byte| *byte == b'\n').expect("a line feed ends the head");
    (serde_json::from_slice(&job[..end]).expect("a head is JSON"), job[end + 1..].to_vec())
}

#[test]
fn a_job_says_what_the_request_was() {
    let world = plain();
    let before = world.broker.now_ms();
    let headers = [("x-a", "1"), ("accept", "*/*"), ("x-a", "2"), ("x-b", "3")];
    let waiting = world.try_submit(Method::POST, &headers, b"body\n").unwrap_or_else(|failure| panic!("{failure:?}"));
    let (mut head, body) = job(&world, &waiting);
    assert_eq!(body, b"body\n");
    let (deadline, enqueued) = (head["deadline"].as_u64().expect("ms"), head["enqueued"].as_u64().expect("ms"));
    assert!((before..=world.broker.now_ms()).contains(&enqueued));
    assert_eq!(deadline - enqueued, 10_000);
    head["deadline"].take();
    head["enqueued"].take();
    let expected = json!({
        "v": 1, "id": waiting.id, "attempt": 1, "deadline": null, "timeout_ms": 10_000, "reply_to": "tempest:@test.0",
        "queue": "web", "action": "http", "method": "POST", "path": "/a%2Fb", "query": "c=d", "host": "shop.example",
        "scheme": "http", "http": "1.1", "peer": "192.0.2.7:61000", "server": "192.0.2.1:1337", "enqueued": null,
        "headers": {"x-a": "1, 2", "accept": "*/*", "x-b": "3"},
    });
    assert_eq!(head, expected);
}

#[test]
fn headers_of_the_connection_stay_there() {
    let world = plain();
    let headers = [
        ("connection", "x-mine, close"),
        ("connection", "X-Other"),
        ("x-mine", "1"),
        ("x-mine", "2"),
        ("x-other", "3"),
        ("keep-alive", "4"),
        ("proxy-connection", "5"),
        ("expect", "100-continue"),
        ("te", "6"),
        ("x-kept", "7"),
    ];
    let waiting = world.try_submit(Method::GET, &headers, b"").unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(job(&world, &waiting).0["headers"], json!({"x-kept": "7"}));
}

#[test]
fn jobs_of_every_size_are_written_whole() {
    let world = plain();
    for size in [0, 1, 15_000, 16 * 1024, 17_000, 70_000, 3] {
        let sent = vec![b'b'; size];
        let waiting = world.try_submit(Method::PUT, &[], &sent).unwrap_or_else(|failure| panic!("{failure:?}"));
        let (head, body) = job(&world, &waiting);
        assert!(body == sent, "{size} bytes");
        assert_eq!(head["id"], json!(waiting.id));
    }
}

#[test]
fn many_headers_and_long_paths_have_room() {
    let world = plain();
    let names: Vec<String> = (0..90).map(|nth| format!("x-{nth}")).collect();
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "value")).collect();
    let waiting = world.try_submit(Method::GET, &headers, b"").unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(job(&world, &waiting).0["headers"].as_object().map(serde_json::Map::len), Some(90));
    let path = format!("/{}", "a".repeat(2_000));
    let id = world.dispatch.next_id();
    let request = Request {
        lane: &world.lane,
        method: &Method::GET,
        uri: &path.parse().expect("a path"),
        host: None,
        scheme: "http",
        http: "1.1",
        peer: "",
        server: "",
        headers: &HeaderMap::new(),
        body: b"",
        session: None,
        own_cookie: None,
        trace: None,
    };
    let ticket = world.dispatch.submit(&request, &id).unwrap_or_else(|failure| panic!("{failure:?}"));
    let waiting = Waiting { ticket, serial: id.serial(), id: id.to_string() };
    let (head, _) = job(&world, &waiting);
    assert_eq!((&head["path"], &head["query"], &head["host"]), (&json!(path), &json!(null), &json!(null)));
}

#[test]
fn a_route_says_what_may_run_twice() {
    let repeatable = |world: &World, method| {
        let waiting = world.submit(method);
        world.look(&waiting, |pending| pending.repeatable)
    };
    let auto = plain();
    assert!(repeatable(&auto, Method::GET));
    assert!(!repeatable(&auto, Method::POST));
    let always = world(|setup| setup.route.retry = crate::config::Retry::Always);
    assert!(repeatable(&always, Method::POST));
    let head_only = |method| auto.look(&auto.submit(method), |pending| pending.head_only);
    assert_eq!((head_only(Method::GET), head_only(Method::HEAD)), (false, true));
}

#[test]
fn ids_count_upwards() {
    let world = plain();
    let ids: Vec<_> = (0..3).map(|_| world.dispatch.next_id().serial()).collect();
    assert_eq!(ids, [0, 1, 2]);
}

#[test]
fn serial_numbers_spread() {
    use std::hash::Hasher;
    let hash = |number: u64| {
        let mut hasher = BySerial::default();
        hasher.write_u64(number);
        hasher.finish()
    };
    // The table tells entries by the top seven bits and finds their places by the lowest ones.
    let top: std::collections::HashSet<_> = (0..64).map(|number| hash(number) >> 57).collect();
    let low: std::collections::HashSet<_> = (0..64).map(|number| hash(number) & 63).collect();
    assert!(top.len() > 40, "{}", top.len());
    assert_eq!(low.len(), 64);
    let of_bytes = |bytes: &[u8]| {
        let mut hasher = BySerial::default();
        hasher.write(bytes);
        hasher.finish()
    };
    let mut two = BySerial::default();
    [5, 5].into_iter().for_each(|number| two.write_u64(number));
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    assert_eq!(two.finish(), (5_u64.wrapping_mul(GOLDEN) ^ 5).wrapping_mul(GOLDEN));
    assert_ne!(of_bytes(b"ab"), of_bytes(b"ba"));
    assert_ne!(of_bytes(b"ab"), of_bytes(b"b"));
    let mut one_by_one = BySerial::default();
    b"ab".iter().for_each(|byte| one_by_one.write_u64(u64::from(*byte)));
    assert_eq!(one_by_one.finish(), of_bytes(b"ab"));
}
