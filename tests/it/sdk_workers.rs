//! The SDKs' workers beside the raw ones: on one queue, through a Redis restart, registered while they live.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use tempest_tests::{RAW_LANGUAGES, Value, World, wait_until};

const SDKS: [&str; 2] = ["rust", "python"];

/// Asks until each of `expected` has begun an answer with its greeting.
#[track_caller]
fn all_answer(world: &World, expected: &[&str]) {
    let mut missing: BTreeSet<String> = expected.iter().map(|language| format!("hello from {language}, ")).collect();
    wait_until(&format!("answers of {expected:?}"), || {
        let mut clients: Vec<_> = (0..20).map(|_| world.http()).collect();
        for http in &mut clients {
            http.request("GET", "/who", &[], b"");
        }
        for http in &mut clients {
            let response = http.response();
            assert_eq!(response.status, 200, "{response:?}");
            missing.retain(|greeting| !response.text().starts_with(greeting));
        }
        missing.is_empty()
    });
}

/// Records of live workers.
fn records(world: &mut World) -> Vec<Json> {
    let keys = world.redis.cmd(&["KEYS", "{tempest:web}:worker:*"]);
    let keys: Vec<_> = keys.list().iter().map(Value::text).collect();
    keys.iter().filter_map(|key| serde_json::from_str(&world.redis.cmd(&["GET", key]).text()).ok()).collect()
}

#[test]
fn each_sdk_serves_registers_and_takes_itself_out() {
    for language in SDKS {
        let mut world = World::start();
        world.sdk_worker(language);
        all_answer(&world, &[language]);
        wait_until("a record", || records(&mut world).len() == 1);
        let record = records(&mut world).remove(0);
        assert_eq!((record["queue"].as_str(), record["language"].as_str()), (Some("web"), Some(language)), "{record}");
        for field in ["id", "host", "pid", "sdk", "version", "started", "state", "current", "done"] {
            assert!(!record[field].is_null(), "{field} in {record}");
        }
        world.stop_workers();
        assert_eq!(records(&mut world), Vec::<Json>::new(), "{language} takes its record out at its end");
        assert_eq!(world.redis.cmd(&["ZCARD", "{tempest:web}:workers"]).int(), 0);
        world.finish();
    }
}

#[test]
fn each_sdk_survives_a_restart_of_redis() {
    for language in SDKS {
        let mut world = World::start();
        world.sdk_worker(language);
        all_answer(&world, &[language]);
        for _ in 0..3 {
            world.restart_redis();
            all_answer(&world, &[language]);
        }
        world.finish();
    }
}

#[test]
fn sdk_workers_share_a_queue_with_the_raw_ones() {
    let mut world = World::start();
    for language in RAW_LANGUAGES.into_iter().filter(|language| *language != "python") {
        world.raw_worker(language);
    }
    for language in SDKS {
        world.sdk_worker(language);
    }
    all_answer(&world, &["bash", "node", "ruby", "php", "go", "perl", "rust", "python"]);
    world.finish();
}
