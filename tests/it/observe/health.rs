//! Health during start, without Redis and while draining, as a probe and as a person asks.

use serde_json::{Value, json};
use tempest_tests::{Front, Signal, World, assert_no_process, free_port, scratch, wait_until};

const JSON: &str = "accept: application/json";

/// The status and the JSON of a path of the admin listener.
fn ask(front: &Front, path: &str) -> (u16, Value) {
    let mut http = front.admin();
    http.request("GET", path, &[JSON], b"");
    let response = http.response();
    assert_eq!(response.header("content-type"), Some("application/json"));
    (response.status, serde_json::from_slice(&response.body).expect("JSON"))
}

#[test]
fn a_front_that_starts_without_redis_lives_and_is_not_ready() {
    let (dir, mark) = scratch();
    let config = format!(
        "redis.url = \"redis://127.0.0.1:{}\"\nfront.listen = [\"127.0.0.1:0\"]\nfront.admin = \"127.0.0.1:0\"\n\
         log.format = \"json\"\nfront.reactors = 2\n",
        free_port()
    );
    let mut front = Front::start(&dir, &mark, &config);
    let (status, detail) = ask(&front, "/ready");
    assert_eq!((status, &detail["ready"]), (503, &json!(false)));
    assert_eq!(detail["reasons"], json!(["no connection to Redis"]));
    assert_eq!((&detail["reactors"], &detail["reactors_connected"]), (&json!(2), &json!(0)));
    let (status, detail) = ask(&front, "/live");
    assert_eq!((status, &detail["live"], &detail["reactors_stuck"]), (200, &json!(true), &json!([])));
    assert!(front.terminate().success());
    assert_no_process(&mark);
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn readiness_follows_redis() {
    let mut world = World::start();
    let (status, detail) = ask(&world.front, "/ready");
    assert_eq!((status, &detail["ready"], &detail["phase"]), (200, &json!(true), &json!("running")));
    assert_eq!((&detail["reasons"], &detail["reactors_connected"]), (&json!([]), &json!(1)));
    world.redis.kill();
    wait_until("the front to notice", || ask(&world.front, "/ready").0 == 503);
    assert_eq!(ask(&world.front, "/ready").1["reasons"], json!(["no connection to Redis"]));
    assert_eq!(ask(&world.front, "/live").0, 200);
    world.restart_redis();
    assert_eq!(ask(&world.front, "/ready").0, 200);
    world.finish();
}

#[test]
fn a_drain_is_told_with_what_it_waits_for() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.front.process.signal(Signal::TERM);
    wait_until("the front to say so", || ask(&world.front, "/ready").0 == 503);
    let (_, detail) = ask(&world.front, "/ready");
    assert_eq!((&detail["phase"], &detail["reasons"]), (&json!("draining"), &json!(["shutting down"])));
    assert_eq!(detail["requests_in_flight"], 1);
    assert_eq!(ask(&world.front, "/live").0, 200);
    world.ok(&job, "");
    assert_eq!(http.response().status, 200);
    assert!(world.front.process.wait().success());
    world.finish_without_front();
}
