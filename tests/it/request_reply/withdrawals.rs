//! A client that leaves: its job is taken back if nobody has it yet, its answer dropped if somebody had.

use serde_json::json;
use tempest_tests::{World, wait_until};

#[test]
fn a_job_whose_client_left_is_withdrawn() {
    let mut world = World::start();
    let mut stays = world.http();
    stays.request("GET", "/stays", &[], b"");
    wait_until("the job to be queued", || world.redis.llen("tempest:web") == 1);
    let mut leaves = world.http();
    leaves.request("GET", "/leaves", &[], b"");
    wait_until("the job to be queued", || world.redis.llen("tempest:web") == 2);
    drop(leaves);
    wait_until("the job to be withdrawn", || world.redis.llen("tempest:web") == 1);
    wait_until("it to be counted", || world.count("tempest_jobs_withdrawn_total", &[]) == 1);
    assert_eq!(world.count("tempest_clients_gone_total", &[]), 1);
    let job = world.take();
    assert_eq!(job.line(), "GET /stays", "the other job is untouched");
    world.ok(&job, "");
    assert_eq!(stays.response().status, 200);
    world.finish();
}

#[test]
fn an_answer_for_a_client_that_left_is_dropped() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    drop(http);
    wait_until("the front to notice", || world.count("tempest_clients_gone_total", &[]) == 1);
    world.ok(&job, "for nobody");
    wait_until("the answer to be counted", || world.count("tempest_answers_total", &["late"]) == 1);
    assert_eq!(world.count("tempest_jobs_withdrawn_total", &[]), 0, "there was nothing to withdraw");
    world.finish();
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_stream_is_let_go() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.answer(&job, json!({"status": 200, "n": 0, "more": true}), "begin");
    assert_eq!(http.read_head().expect("a head").status, 200);
    drop(http);
    for n in 1..=50 {
        world.answer(&job, json!({"n": n, "more": true}), "x".repeat(1_000));
    }
    wait_until("the connection to go", || world.front.open_connections() == 0);
    world.answer(&job, json!({"n": 51}), "end");
    world.finish();
}

#[test]
fn a_hundred_clients_that_leave_at_once_leave_nothing() {
    let mut world = World::start();
    let mut clients: Vec<_> = (0..100).map(|_| world.http()).collect();
    for http in &mut clients {
        http.request("POST", "/", &[], b"body");
    }
    wait_until("all jobs to be queued", || world.redis.llen("tempest:web") == 100);
    drop(clients);
    wait_until("all jobs to be withdrawn", || world.redis.llen("tempest:web") == 0);
    assert_eq!(world.count("tempest_jobs_withdrawn_total", &[]), 100);
    world.finish();
}
