//! Requests of one route: `max_requests`.

use serde_json::json;
use tempest_tests::{Chunk, World};

use super::refused;

const ROUTES: &str = r#"
[[route]]
path = "/few/{rest...}"
queue = "few"
max_requests = 2

[[route]]
path = "/{rest...}"
queue = "web"
"#;

#[test]
fn one_request_more_than_a_route_may_have_is_a_503_on_whichever_reactor() {
    let mut world = World::builder().set("front.reactors = 2").table(ROUTES).start();
    let mut held = [world.http(), world.http()];
    for http in &mut held {
        http.request("GET", "/few/a", &[], b"");
    }
    let jobs = [world.take_from("tempest:few"), world.take_from("tempest:few")];
    let mut others = [world.http(), world.http()];
    for (nth, http) in (1..).zip(&mut others) {
        let response = http.get("/few/b");
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
        assert_eq!(refused(&world, "requests_per_route"), nth);
        http.request("GET", "/many", &[], b"");
        let job = world.take();
        world.ok(&job, "another route has room");
        assert_eq!(http.response().status, 200);
    }
    assert_eq!(world.redis.llen("tempest:few"), 0);
    for job in &jobs {
        world.ok(job, "done");
    }
    assert!(held.iter_mut().all(|http| http.response().status == 200));
    others[0].request("GET", "/few/c", &[], b"");
    let job = world.take_from("tempest:few");
    world.ok(&job, "room again");
    assert_eq!(others[0].response().text(), "room again");
    drop((held, others));
    world.finish();
}

#[test]
fn an_answer_has_its_place_until_its_last_byte_and_a_client_that_leaves_gives_it_back() {
    let mut world = World::builder().table(&ROUTES.replace("max_requests = 2", "max_requests = 1")).start();
    let mut streamed = world.http();
    streamed.request("GET", "/few/a", &[], b"");
    let job = world.take_from("tempest:few");
    world.answer(&job, json!({"status": 200, "n": 0, "more": true}), "one");
    assert_eq!(streamed.read_head().expect("a head").status, 200);
    assert_eq!(streamed.chunk(), Chunk::Data(b"one".to_vec()));
    let mut other = world.http();
    assert_eq!(other.get("/few/b").status, 503, "the answer goes on");
    world.answer(&job, json!({"n": 1}), "two");
    assert_eq!(streamed.chunk(), Chunk::Data(b"two".to_vec()));
    assert_eq!(streamed.chunk(), Chunk::End);

    let mut leaves = world.http();
    leaves.request("GET", "/few/c", &[], b"");
    let job = world.take_from("tempest:few");
    assert_eq!(other.get("/few/d").status, 503);
    drop(leaves);
    tempest_tests::wait_until("the place to be given back", || world.gauge("tempest_requests_waiting") == 0);
    other.request("GET", "/few/e", &[], b"");
    let next = world.take_from("tempest:few");
    assert_ne!(job["id"], next["id"]);
    world.ok(&next, "mine");
    assert_eq!(other.response().text(), "mine");
    drop((streamed, other));
    world.finish();
}
