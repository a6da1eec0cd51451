//! Many requests at once: every answer reaches the request it belongs to, and exactly one.

use std::net::SocketAddr;
use std::thread;

use serde_json::json;
use tempest_tests::{Http, World};

/// Sends `count` requests over one connection, each with text of its own, and checks that it comes back.
fn echoes(address: SocketAddr, client: usize, count: usize) {
    let mut http = Http::connect(address);
    for n in 0..count {
        let text = format!("client {client} request {n} {}", "x".repeat(n * 37 % 2_000));
        http.request("POST", "/echo", &[], text.as_bytes());
        let response = http.response();
        assert_eq!((response.status, response.text()), (200, text));
    }
}

fn all_at_once(world: &World, clients: usize, count: usize) {
    let address = world.front.address();
    let threads: Vec<_> = (0..clients).map(|client| thread::spawn(move || echoes(address, client, count))).collect();
    for thread in threads {
        thread.join().expect("every request was answered by its own text");
    }
}

#[test]
fn every_answer_reaches_its_own_request() {
    let mut world = World::start();
    for _ in 0..4 {
        world.worker(|job| vec![job.answer(json!({"status": 200}), &job.body)]);
    }
    all_at_once(&world, 20, 50);
    assert_eq!(world.count("tempest_http_requests_total", &["200"]), 1_000);
    assert_eq!(world.count("tempest_answers_total", &["answered"]), 1_000);
    world.finish();
}

#[test]
fn several_reactors_serve_side_by_side() {
    let mut world = World::builder().set("front.reactors = 3").start();
    for _ in 0..3 {
        world.worker(|job| vec![job.answer(json!({"status": 200}), &job.body)]);
    }
    all_at_once(&world, 12, 30);
    let reactors = world.redis.cmd(&["ZRANGE", "tempest:@fronts", "0", "-1"]).list().len();
    assert_eq!(reactors, 3);
    world.finish();
}

#[test]
fn a_reader_of_answers_takes_what_comes_in_any_order() {
    let mut world = World::start();
    let mut clients: Vec<_> = (0..50).map(|_| world.http()).collect();
    for (n, http) in clients.iter_mut().enumerate() {
        http.request("GET", &format!("/{n}"), &[], b"");
    }
    let mut jobs: Vec<_> = clients.iter().map(|_| world.take()).collect();
    jobs.reverse();
    for job in &jobs {
        world.ok(job, job["path"].as_str().expect("a path"));
    }
    for (n, http) in clients.iter_mut().enumerate() {
        assert_eq!(http.response().text(), format!("/{n}"));
    }
    world.finish();
}

#[test]
fn two_fronts_on_one_redis_get_their_own_answers() {
    let mut world = World::start();
    let config = format!(
        "redis.url = \"{}\"\nfront.listen = [\"127.0.0.1:0\"]\nfront.admin = \"127.0.0.1:0\"\n",
        world.redis.url()
    );
    let mut other = tempest_tests::Front::start(&world.dir().join("other"), world.mark(), &config);
    other.wait_ready();
    for _ in 0..2 {
        world.worker(|job| vec![job.answer(json!({"status": 200}), &job.body)]);
    }
    let addresses = [world.front.address(), other.address()];
    let threads: Vec<_> =
        (0..8).map(|client| thread::spawn(move || echoes(addresses[client % 2], client, 30))).collect();
    for thread in threads {
        thread.join().expect("every request was answered by its own text");
    }
    assert_eq!(world.redis.cmd(&["ZCARD", "tempest:@fronts"]).int(), 2);
    assert!(other.terminate().success());
    world.finish();
}
