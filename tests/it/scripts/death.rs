//! `reap`: what becomes of all that a dead worker held.

use super::{Queue, REAP, background, job, key, told};

/// Certain, three crashes, two dead letters, a minute.
const CERTAIN: [&str; 6] = ["w", "", "1", "3", "2", "60000"];
const SUSPECTED: [&str; 6] = ["w", "run 1 2", "0", "3", "2", "60000"];

fn lost(id: &str, attempt: u32, started: bool, certain: bool) -> String {
    format!(
        r#"{{"attempt":{attempt},"certain":{certain},"id":"{id}","reply_to":"tempest:@r.0","started":{started},"worker":"w"}}"#
    )
}

#[test]
fn a_worker_that_has_registered_anew_or_beaten_lives() {
    for (args, record) in [(["w", "run 1 9", "1", "3", "2", "60000"], false), (SUSPECTED, true)] {
        let mut queue = Queue::with_worker();
        queue.claims(&[("1", job("a"))], "1");
        queue.push("landing:w", &["b"]);
        if record {
            queue.cmd(&["SET", &key("worker:w"), "alive"]);
        }
        let before = queue.left();
        assert_eq!(told(&queue.run("reap", &REAP, &args)), "[-1]", "{args:?}");
        assert_eq!(queue.left(), before, "{args:?}");
    }
    // Somebody who was never registered has not registered as it was seen either.
    assert_eq!(told(&Queue::start().run("reap", &REAP, &SUSPECTED)), "[-1]");
}

#[test]
fn jobs_that_somebody_waits_for_are_lost_jobs_newest_first_and_landed_ones_were_not_started() {
    for (args, certain) in [(CERTAIN, true), (SUSPECTED, false)] {
        let mut queue = Queue::with_worker();
        queue.claims(&[("9", job("a")), ("10", job("b"))], "9");
        queue.push("landing:w", &["c"]);
        queue.push("normal", &["d"]);
        queue.cmd(&["ZADD", &key("workers"), "5", "w", "6", "other"]);
        if certain {
            queue.cmd(&["SET", &key("worker:w"), "it has just beaten"]);
        }
        assert_eq!(told(&queue.run("reap", &REAP, &args)), "[3 0 0]");
        let entries = [lost("c", 2, false, certain), lost("b", 2, false, certain), lost("a", 2, true, certain)];
        let lost = format!("lost: {}", entries.join(" "));
        assert_eq!(queue.left(), [&lost, "normal: d", "stats: handed=3 reaped=1", "workers: other=6"]);
    }
}

#[test]
fn an_attempt_that_is_missing_is_the_first_and_a_body_is_not_read() {
    let mut queue = Queue::with_worker();
    let jobs = [
        "{\"id\":\"a\",\"reply_to\":\"tempest:@r.0\"}".to_owned(),
        "{\"id\":\"b\"}\n{\"id\":\"c\",\"reply_to\":\"tempest:@x.0\"}".to_owned(),
        "{\"id\":\"d\",\"reply_to\":7}\n".to_owned(),
    ];
    let numbered: Vec<_> = ["1", "2", "3"].into_iter().zip(jobs).collect();
    queue.claims(&numbered, "0");
    assert_eq!(told(&queue.run("reap", &REAP, &CERTAIN)), "[1 2 0]");
    let left = queue.left();
    assert_eq!(left[0], format!("lost: {}", lost("a", 1, false, true)));
    assert_eq!(left[2], "stats: handed=1 reaped=1 requeued=2");
    assert_eq!(queue.cmd(&["LRANGE", "tempest:web", "0", "-1"]).list().len(), 2);
}

#[test]
fn background_jobs_go_back_to_the_head_in_their_order_and_started_ones_count_as_crashes() {
    let mut queue = Queue::with_worker();
    queue.claims(&[("1", background("a")), ("2", background("b")), ("3", background("c"))], "2");
    queue.push("normal", &["d"]);
    assert_eq!(told(&queue.run("reap", &REAP, &CERTAIN)), "[0 3 0]");
    assert_eq!(queue.left(), ["attempts: a=1 b=1", "normal: a b c d", "stats: reaped=1 requeued=3"]);
    assert!((1..=60_000).contains(&queue.life("attempts")), "{}", queue.life("attempts"));
}

#[test]
fn the_third_crash_makes_a_job_a_dead_letter_and_only_the_newest_are_kept() {
    let mut queue = Queue::with_worker();
    queue.cmd(&["HSET", &key("attempts"), "a", "2", "b", "1"]);
    for old in ["x", "y"] {
        queue.cmd(&["RPUSH", &key("dead"), &background(old)]);
    }
    queue.claims(&[("1", background("a")), ("2", background("b"))], "2");
    assert_eq!(told(&queue.run("reap", &REAP, &CERTAIN)), "[0 1 1]");
    assert_eq!(queue.left(), ["attempts: b=2", "dead: y a", "normal: b", "stats: dead=1 reaped=1 requeued=1"]);
}

#[test]
fn what_cannot_be_read_is_a_dead_letter_at_once() {
    let mut queue = Queue::with_worker();
    let odd = ["no JSON", "[1]", "{\"id\":7}", "", "\n{\"id\":\"a\"}"];
    let numbers = ["5", "4", "3", "2", "1"];
    queue.claims(&numbers.into_iter().zip(odd.map(str::to_owned)).collect::<Vec<_>>(), "5");
    assert_eq!(told(&queue.run("reap", &REAP, &["w", "", "1", "3", "9", "60000"])), "[0 0 5]");
    assert_eq!(queue.left().len(), 2, "dead letters and statistics: {:?}", queue.left());
    let dead = queue.cmd(&["LRANGE", &key("dead"), "0", "-1"]);
    assert_eq!(dead.list().iter().map(tempest_tests::Value::text).collect::<Vec<_>>(), odd);
}

#[test]
fn a_worker_without_registration_is_reaped_by_its_parent_and_not_counted() {
    let mut queue = Queue::start();
    assert_eq!(told(&queue.run("reap", &REAP, &CERTAIN)), "[0 0 0]");
    assert_eq!(queue.left(), [""; 0]);
    queue.claims(&[("1", background("a"))], "0");
    assert_eq!(told(&queue.run("reap", &REAP, &CERTAIN)), "[0 1 0]");
    assert_eq!(queue.left(), ["normal: a", "stats: requeued=1"]);
}

#[test]
fn a_second_reaper_finds_nothing() {
    let mut queue = Queue::with_worker();
    queue.claims(&[("1", job("a"))], "1");
    assert_eq!(told(&queue.run("reap", &REAP, &SUSPECTED)), "[1 0 0]");
    let left = queue.left();
    assert_eq!(told(&queue.run("reap", &REAP, &SUSPECTED)), "[-1]");
    assert_eq!(queue.left(), left);
}
