//! The scripts of those who look after workers: `lease`, `trim`, `look`.

use super::{Queue, key, told};

const LOOK: [&str; 6] = ["normal", "high", "low", "stats", "workers", "claimers"];

#[test]
fn a_lease_is_taken_renewed_and_refused() {
    let mut queue = Queue::start();
    assert_eq!(told(&queue.run("lease", &["lease"], &["a", "60000"])), "1");
    assert!((1..=60_000).contains(&queue.life("lease")));
    assert_eq!(told(&queue.run("lease", &["lease"], &["b", "600000"])), "0");
    assert_eq!(queue.left(), ["lease: a"]);
    assert!(queue.life("lease") <= 60_000, "somebody else does not lengthen it");
    assert_eq!(told(&queue.run("lease", &["lease"], &["a", "600000"])), "1");
    assert!(queue.life("lease") > 60_000, "its holder renews it");
}

#[test]
fn only_the_holder_removes_lost_jobs() {
    let mut queue = Queue::start();
    queue.cmd(&["RPUSH", &key("lost"), "1", "2", "3"]);
    assert_eq!(told(&queue.run("trim", &["lease", "lost"], &["a", "2"])), "0", "nobody has the lease");
    queue.cmd(&["SET", &key("lease"), "b"]);
    assert_eq!(told(&queue.run("trim", &["lease", "lost"], &["a", "2"])), "0");
    assert_eq!(queue.left(), ["lease: b", "lost: 1 2 3"]);
    assert_eq!(told(&queue.run("trim", &["lease", "lost"], &["b", "2"])), "1");
    assert_eq!(queue.left(), ["lease: b", "lost: 3"]);
    assert_eq!(told(&queue.run("trim", &["lease", "lost"], &["b", "5"])), "1");
    assert_eq!(queue.left(), ["lease: b"]);
}

#[test]
fn a_look_counts_and_leaves_all_as_it_is() {
    let mut queue = Queue::with_worker();
    assert_eq!(told(&queue.run("look", &LOOK, &["5", "60000"])), "[0 0 0 0 0 1]");
    queue.push("normal", &["a"]);
    queue.push("high", &["b", "c"]);
    queue.push("low", &["d", "e", "f"]);
    queue.cmd(&["HSET", &key("stats"), "taken", "7"]);
    queue.cmd(&["ZADD", &key("workers"), "4", "old", "5", "w", "6", "v"]);
    let before = queue.left();
    assert_eq!(told(&queue.run("look", &LOOK, &["5", "60000"])), "[1 2 3 7 2 1]");
    assert_eq!(queue.left(), before);
    assert!((1..=60_000).contains(&queue.life("stats")), "the statistics age");
}

#[test]
fn a_look_brings_forward_what_waits_behind_an_empty_normal_list() {
    let mut queue = Queue::start();
    queue.push("high", &["h"]);
    queue.push("low", &["l"]);
    assert_eq!(told(&queue.run("look", &LOOK, &["5", "60000"])), "[1 0 1 0 0 0]");
    assert_eq!(queue.left(), ["low: l", "normal: h"]);
    queue.cmd(&["DEL", "tempest:web"]);
    assert_eq!(told(&queue.run("look", &LOOK, &["5", "60000"])), "[1 0 0 0 0 0]");
    assert_eq!(queue.left(), ["normal: l"]);
}
