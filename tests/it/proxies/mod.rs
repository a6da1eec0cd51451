//! Proxies in front: whose word is taken of who the client is, and what becomes of everybody else's.

mod forwarded;
mod nginx;
mod protocol;

use tempest_tests::{Http, Job, World};

/// Sends a request with these header lines, takes its job, and answers it.
#[track_caller]
fn job_of(world: &mut World, http: &mut Http, headers: &[&str]) -> Job {
    http.request("GET", "/who", headers, b"");
    let job = world.take();
    world.ok(&job, "you");
    assert_eq!(http.response().text(), "you");
    job
}

/// What a job says of its client.
fn facts(job: &Job) -> [&str; 3] {
    ["peer", "scheme", "host"].map(|name| job[name].as_str().expect("text"))
}
