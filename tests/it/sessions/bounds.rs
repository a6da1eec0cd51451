//! How large a session may become, and what happens beyond.

use serde_json::{Value, json};
use tempest_tests::World;

use super::{Client, patch, world};

/// `{"a":"…"}` of so many bytes.
fn of_bytes(bytes: usize) -> Value {
    json!({"a": "x".repeat(bytes - json!({"a": ""}).to_string().len())})
}

fn problems(world: &World) -> String {
    world.front.admin().get("/status").text()
}

fn holds_at_its_edge(settings: &str, most: usize) {
    let mut world = world(settings);
    let mut client = Client::default();
    let (job, response) = client.visit(&mut world, patch(of_bytes(most)));
    assert_eq!((&job["session_max"], response.status), (&json!(most), 200));
    assert_eq!(client.session(&mut world), of_bytes(most));
    let (_, response) = client.visit(&mut world, patch(of_bytes(most + 1)));
    assert_eq!(response.status, 500);
    assert!(response.text().contains("session") && response.all("set-cookie").is_empty(), "{response:?}");
    assert_eq!(client.session(&mut world), of_bytes(most), "it is as it was");
    let (_, response) = client.visit(&mut world, patch(json!({"b": 1})));
    assert_eq!((response.status, client.session(&mut world)), (500, of_bytes(most)));
    let problems = problems(&world);
    assert!(problems.contains("session-too-large") && problems.contains(&format!("{} bytes", most + 1)), "{problems}");
    assert_eq!(world.count("tempest_sessions_total", &["too_large"]), 2);
    client.visit(&mut world, patch(json!({"a": null, "b": 2})));
    assert_eq!(client.session(&mut world), json!({"b": 2}), "it may shrink");
    world.finish();
}

#[test]
fn a_cookie_has_room_for_three_thousand_bytes() {
    holds_at_its_edge("", 3000);
}

#[test]
fn less_may_be_allowed() {
    holds_at_its_edge("max_bytes = 100", 100);
}

#[test]
fn redis_has_room_for_more() {
    holds_at_its_edge("store = \"redis\"", 65_536);
}

#[test]
fn a_change_of_the_wrong_type_is_a_malformed_answer() {
    let mut world = world("");
    let mut client = Client::default();
    client.visit(&mut world, patch(json!({"a": 1})));
    for bad in [json!("a"), json!([]), json!(1), json!(true)] {
        let (_, response) = client.visit(&mut world, patch(bad));
        assert_eq!(response.status, 502);
    }
    assert!(problems(&world).contains("bad-session"));
    assert_eq!(client.session(&mut world), json!({"a": 1}));
    world.finish();
}
