//! A front's scripts: `push` and `withdraw`.

use super::{Queue, job, key, told};

const PUSH: [&str; 3] = ["normal", "high", "low"];
const WITHDRAW: [&str; 4] = ["normal", "high", "low", "withdrawn"];

#[test]
fn an_urgent_job_goes_to_the_normal_list_where_nobody_waits_before_it() {
    for class in ["high", "low"] {
        let mut queue = Queue::start();
        assert_eq!(told(&queue.run("push", &PUSH, &[&job("a"), class])), "1");
        assert_eq!(queue.left(), ["normal: a"]);
        assert_eq!(told(&queue.run("push", &PUSH, &[&job("b"), class])), "2");
        assert_eq!(queue.left(), [format!("{class}: b"), "normal: a".to_owned()]);
    }
}

#[test]
fn a_push_to_an_empty_normal_list_brings_forward_the_most_urgent() {
    for (waiting, class, left) in [
        ("high", "high", ["high: b", "normal: a"]),
        ("high", "low", ["low: b", "normal: a"]),
        ("low", "low", ["low: b", "normal: a"]),
        ("low", "high", ["low: a", "normal: b"]),
    ] {
        let mut queue = Queue::start();
        queue.push(waiting, &["a"]);
        assert_eq!(told(&queue.run("push", &PUSH, &[&job("b"), class])), "2", "{waiting} {class}");
        assert_eq!(queue.left(), left, "{waiting} {class}");
    }
}

/// Deadline 9000, now 1000, three ids at most.
fn withdraw(queue: &mut Queue, id: &str, deadline: &str, depth: &str, side: &str) -> String {
    told(&queue.run("withdraw", &WITHDRAW, &[&job(id), id, deadline, depth, side, "1000", "3"]))
}

#[test]
fn a_job_is_taken_out_of_whichever_list_it_is_in() {
    for list in PUSH {
        let mut queue = Queue::start();
        queue.push(list, &["a", "b", "c"]);
        assert_eq!(withdraw(&mut queue, "b", "9000", "3", "1"), "1");
        assert_eq!(queue.left(), [format!("{list}: a c")]);
    }
}

#[test]
fn one_of_two_equal_jobs_is_taken_from_the_side_that_is_named() {
    for (side, left) in [("1", "normal: b a"), ("-1", "normal: a b")] {
        let mut queue = Queue::start();
        queue.push("normal", &["a", "b", "a"]);
        assert_eq!(withdraw(&mut queue, "a", "9000", "3", side), "1");
        assert_eq!(queue.left(), [left]);
    }
}

#[test]
fn a_job_that_is_claimed_or_too_deep_is_noted_until_its_deadline() {
    let mut queue = Queue::start();
    queue.push("normal", &["a", "b", "c"]);
    assert_eq!(withdraw(&mut queue, "c", "9000", "2", "1"), "0", "the list is deeper than is searched");
    assert_eq!(queue.left(), ["normal: a b c", "withdrawn: =9000 c=9000"]);
    assert!((1..=8_000).contains(&queue.life("withdrawn")));
    for late in ["0", "999", "1000"] {
        assert_eq!(withdraw(&mut queue, "x", late, "9", "1"), "0");
    }
    assert_eq!(queue.left(), ["normal: a b c", "withdrawn: =9000 c=9000"], "nothing is noted of a job that is late");
    assert_eq!(withdraw(&mut queue, "d", "8000", "2", "1"), "0");
    assert_eq!(
        queue.left(),
        ["normal: a b c", "withdrawn: d=8000 =9000 c=9000"],
        "claims look until the last of them is late"
    );
    // The front knows that a worker has it, and does not have the lists searched.
    let mut queue = Queue::start();
    queue.push("normal", &["a"]);
    assert_eq!(withdraw(&mut queue, "a", "9000", "-1", "1"), "0");
    assert_eq!(queue.left(), ["normal: a", "withdrawn: a=9000"]);
    // All lists were searched: some worker has it, and there is nothing for claims to look for.
    let mut queue = Queue::start();
    queue.push("normal", &["a"]);
    assert_eq!(withdraw(&mut queue, "x", "9000", "1", "1"), "0");
    assert_eq!(queue.left(), ["normal: a", "withdrawn: x=9000"]);
}

#[test]
fn notes_are_bounded_and_late_ones_go() {
    let mut queue = Queue::start();
    for (id, deadline) in [("late", "999"), ("now", "1000"), ("a", "50000"), ("b", "40000")] {
        queue.cmd(&["ZADD", &key("withdrawn"), deadline, id]);
    }
    queue.cmd(&["PEXPIRE", &key("withdrawn"), "60000"]);
    assert_eq!(withdraw(&mut queue, "c", "30000", "9", "1"), "0");
    assert_eq!(queue.left(), ["withdrawn: c=30000 b=40000 a=50000"], "those whose deadline is nearest go first");
    assert!(queue.life("withdrawn") > 30_000, "a nearer deadline does not shorten the life of the others");
    assert_eq!(withdraw(&mut queue, "d", "900000", "9", "1"), "0");
    assert_eq!(queue.left(), ["withdrawn: b=40000 a=50000 d=900000"]);
    assert!(queue.life("withdrawn") > 800_000);
}
