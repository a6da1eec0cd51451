//! Holds that break the contract: the client gets a 502 that tells nothing, the operator the reason.

use serde_json::{Value, json};
use tempest_tests::{World, wait_until};

use super::got;

#[test]
fn a_hold_that_breaks_the_contract_is_a_502_with_its_reason_in_the_status() {
    let mut world = World::start();
    let cases = [
        json!({"hold": "orders"}),
        json!({"hold": {}}),
        json!({"hold": {"channels": []}}),
        json!({"hold": {"channels": "orders"}}),
        json!({"hold": {"channels": ["a", 5]}}),
        json!({"hold": {"channels": vec!["a"; 65]}}),
        json!({"hold": {"channels": [""]}}),
        json!({"hold": {"channels": ["a\nb"]}}),
        json!({"hold": {"channels": ["x".repeat(1025)]}}),
        json!({"hold": {"channels": ["a"], "mode": "twice"}}),
        json!({"hold": {"channels": ["a"], "timeout": 0}}),
        json!({"hold": {"channels": ["a"], "timeout": "1"}}),
        json!({"hold": {"channels": ["a"], "first": 1}}),
        json!({"hold": {"channels": ["a"], "mode": "once", "first": "x"}}),
        json!({"hold": {"channels": ["a"], "history": 1}}),
        json!({"hold": {"channels": ["a"]}, "n": 0, "more": true}),
        json!({"hold": {"channels": ["a"]}, "body": "x"}),
        json!({"hold": {"channels": ["a"]}, "status": 404}),
        json!({"hold": {"channels": ["a"], "mode": "once"}, "status": 204}),
        json!({"hold": {"channels": ["a", "tempest:web"]}}),
        json!({"hold": {"channels": ["{tempest:web}:workers"]}}),
        json!({"hold": {"channels": ["__keyspace@0__:x"]}}),
        json!({"hold": {"channels": ["tempest:@x.0"], "mode": "once"}}),
    ];
    let count = i64::try_from(cases.len()).expect("few");
    for fields in cases {
        let mark = world.front.process.log.len();
        let (_, head) = got(&mut world, fields.clone());
        assert_eq!(head.status, 502, "{fields}");
        let named = |line: &str| line.contains("bad-hold").then_some(());
        world.front.process.log.wait_from(mark, &format!("a line about {fields}"), named);
    }
    assert_eq!(world.count("tempest_answers_total", &["malformed"]), count);
    assert_eq!(world.gauge("tempest_channels_subscribed"), 0, "nothing was subscribed");
    wait_until("the reason to stand in the front's record", || {
        let keys = world.redis.cmd(&["KEYS", "tempest:@front:*"]);
        keys.list().iter().any(|key| {
            let record: Value =
                serde_json::from_str(&world.redis.cmd(&["GET", &key.text()]).text()).unwrap_or_default();
            record["problems"].to_string().contains("bad-hold")
        })
    });
    world.finish();
}

#[test]
fn a_hold_behind_the_first_message_cuts_the_stream() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.answer(&job, json!({"n": 0, "more": true}), "begun");
    assert_eq!(http.read_head().expect("a head").status, 200);
    world.answer(&job, json!({"n": 1, "hold": {"channels": ["a"]}}), "");
    assert_eq!(http.chunk(), tempest_tests::Chunk::Data(b"begun".to_vec()));
    assert_eq!(http.chunk(), tempest_tests::Chunk::Cut);
    world.finish();
}
