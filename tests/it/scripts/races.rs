//! Orders of events that the model found (`tests/model`), with a real server: why old connections are ended first, and
//! why a worker signs off behind its last claim. A server that is stopped meanwhile reads both events in one turn.

use tempest_tests::{Resp, Value, wait_until};

use super::{CLAIM, Queue, REAP, background, key, text, told};

/// A worker's claim connection, waiting, with `claim.lua` behind the wait; and its id.
fn waiting(queue: &mut Queue) -> (Resp, String) {
    let mut claims = queue.redis.connect();
    let id = claims.cmd(&["CLIENT", "ID"]).int().to_string();
    claims.send(&["BLMOVE", "tempest:web", &key("landing:w"), "LEFT", "RIGHT", "20"]).expect("it is open");
    let keys = CLAIM.map(key);
    let mut command = vec!["EVAL".to_owned(), text("claim"), keys.len().to_string()];
    command.extend(keys);
    command.extend(["w", "1", "0", "1"].map(str::to_owned));
    claims.send(&command).expect("it is open");
    wait_until("the wait", || queue.cmd(&["CLIENT", "LIST"]).text().contains("cmd=blmove"));
    (claims, id)
}

#[test]
fn a_wait_that_was_ended_before_its_process_is_reaped_takes_no_job() {
    let mut queue = Queue::with_worker();
    let (claims, id) = waiting(&mut queue);
    assert_eq!(queue.cmd(&["CLIENT", "KILL", "ID", &id]), Value::Int(1));
    assert_eq!(told(&queue.run("reap", &REAP, &["w", "", "1", "3", "9", "60000"])), "[0 0 0]");
    let mut front = queue.redis.connect();
    queue.redis.stall();
    drop(claims);
    front.send(&["RPUSH", "tempest:web", &background("a")]).expect("it is open");
    queue.redis.resume();
    assert_eq!(front.read().expect("a reply"), Value::Int(1));
    assert_eq!(queue.left(), ["normal: a", "stats: reaped=1"]);
}

#[test]
fn a_worker_that_signs_off_behind_its_last_claim_leaves_no_job() {
    let mut queue = Queue::with_worker();
    let (mut claims, _) = waiting(&mut queue);
    let mut front = queue.redis.connect();
    queue.redis.stall();
    front.send(&["RPUSH", "tempest:web", &background("a")]).expect("it is open");
    queue.redis.resume();
    assert_eq!(told(&claims.read().expect("what BLMOVE gives")), "a");
    assert_eq!(told(&claims.read().expect("what the claim gives")), "[1 0 []]");
    // Now it knows what it holds, and can give it back.
    assert_eq!(told(&queue.run("give_back", &["claimed:w", "normal", "withdrawn"], &["1"])), "1");
    queue.cmd(&["HDEL", &key("claimers"), "w"]);
    queue.cmd(&["DEL", &key("claimed:w"), &key("landing:w")]);
    assert_eq!(queue.left(), ["normal: a", "stats: taken=1"]);
}

#[test]
fn a_claim_behind_the_end_of_its_registration_gives_back_what_its_wait_took() {
    let mut queue = Queue::with_worker();
    let (mut claims, _) = waiting(&mut queue);
    queue.cmd(&["HDEL", &key("claimers"), "w"]);
    queue.cmd(&["RPUSH", "tempest:web", &background("a")]);
    assert_eq!(told(&claims.read().expect("what BLMOVE gives")), "a");
    assert_eq!(told(&claims.read().expect("what the claim gives")), "UNREGISTERED");
    assert_eq!(queue.left(), ["normal: a"]);
}
