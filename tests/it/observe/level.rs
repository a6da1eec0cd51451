//! The log's level, changed while a front runs.

use serde_json::{Value, json};
use tempest_tests::{Http, World, tempest, wait_until};

fn tempest_in(world: &World, args: &[&str]) -> tempest_tests::Ran {
    tempest(world.dir(), args, &[("REDIS_URL", &world.redis.url())], "")
}

/// What the admin listener says of the log.
fn shown(world: &World) -> Value {
    serde_json::from_slice(&world.front.admin().get("/log").body).expect("JSON")
}

/// True once a request that is wrong leaves a line that only `debug` shows.
fn logs_debug(world: &World) -> bool {
    let lines = || world.front.process.log.lines().iter().filter(|line| line.contains("connection ended")).count();
    let before = lines();
    let mut http = Http::connect(world.front.address());
    http.send("nonsense\r\n\r\n");
    http.response();
    tempest_tests::within(std::time::Duration::from_millis(500), || lines() > before)
}

#[test]
fn a_level_is_set_for_a_while_shown_and_goes_back_by_itself() {
    let world = World::start();
    assert_eq!(shown(&world), json!({"level": "info", "configured": "info"}));
    assert!(!logs_debug(&world));
    let said = tempest_in(&world, &["log", "debug", "--for", "3s"]).ok();
    assert!(said.contains("logs debug for "), "{said}");
    let now = shown(&world);
    assert!(now["level"] == "debug" && now["until"].is_u64(), "{now}");
    assert!(logs_debug(&world));
    wait_until("the record to be written", || tempest_in(&world, &["status"]).ok().contains("debug, "));
    wait_until("the level to go back", || shown(&world) == json!({"level": "info", "configured": "info"}));
    assert!(!logs_debug(&world));
    world.finish();
}

#[test]
fn a_level_without_a_time_holds_until_it_is_taken_back() {
    let world = World::start();
    let front = {
        let status: Value = serde_json::from_slice(&world.front.admin().get("/status").body).expect("JSON");
        status["id"].as_str().expect("an id").to_owned()
    };
    let said = tempest_in(&world, &["log", "warn,tempest::connection=debug", "--front", &front]).ok();
    assert_eq!(said.trim_end(), format!("{front}: logs warn,tempest::connection=debug"));
    assert!(logs_debug(&world));
    tempest_in(&world, &["log", "default"]).ok();
    assert_eq!(shown(&world), json!({"level": "info", "configured": "info"}));
    world.finish();
}

#[test]
fn what_is_wrong_is_named_and_changes_nothing() {
    let world = World::start();
    for (args, named) in [
        (vec!["log", "loud"], "\"loud\" is no level: expected off, error, warn, info, debug, trace"),
        (vec!["log", "debug", "--for", "soon"], "a level is set for 1 s to 24 h"),
        (vec!["log", "debug", "--for", "25h"], "a level is set for 1 s to 24 h"),
        (vec!["log", "debug", "--front", "nobody"], "no front nobody runs"),
    ] {
        let ran = tempest_in(&world, &args);
        assert!(ran.code == 1 && ran.err.contains(named), "{args:?}: {ran:?}");
    }
    let mut admin = world.front.admin();
    admin.request("POST", "/log?level=debug", &["Origin: http://evil.example"], b"");
    assert_eq!(admin.response().status, 403, "a page may not");
    assert_eq!(shown(&world)["level"], "info");
    let mut http = world.http();
    http.request("POST", "/log?level=debug", &[], b"");
    drop(http);
    assert_eq!(shown(&world)["level"], "info", "the browsers' listener knows no such thing");
    world.finish();
}
