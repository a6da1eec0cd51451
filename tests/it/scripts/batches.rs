//! A whole list as a worker's claims: what `claim` makes of it, and what `acknowledge`, `mark`, `give_back`, `recover` and
//! `reap` do with such a batch.

use super::{CLAIM, Queue, REAP, background, job, key, told};

/// The keys of a claim that may take a whole list.
fn with_batch() -> Vec<&'static str> {
    CLAIM.into_iter().chain(["batch:w"]).collect()
}

const GIVE_BACK: [&str; 4] = ["claimed:w", "normal", "withdrawn", "batch:w"];
const RECOVER: [&str; 4] = ["claimers", "claimed:w", "landing:w", "batch:w"];

const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];

fn claim(queue: &mut Queue, first: &str, wanted: &str, marks: &str) -> String {
    told(&queue.run("claim", &with_batch(), &["w", first, wanted, marks]))
}

/// A queue whose worker has these jobs as the batch that begins with number 7, one of them started.
fn claimed(ids: &[&str]) -> Queue {
    let mut queue = Queue::with_worker();
    queue.push("normal", ids);
    assert_eq!(claim(&mut queue, "7", "9", "1"), format!("[0 0 {}]", ids.len()));
    queue.cmd(&["DEL", &key("stats")]);
    queue
}

#[test]
fn a_list_becomes_a_batch_with_what_has_landed_before_it() {
    for (landed, marks, reply, batch) in [
        (false, "1", "[0 0 5]", "batch:w: 7 7 5 a b c d e"),
        (false, "0", "[0 0 5]", "batch:w: 7 6 5 a b c d e"),
        (true, "9", "[1 0 6]", "batch:w: 7 12 6 z a b c d e"),
    ] {
        let mut queue = Queue::with_worker();
        queue.push("normal", &FIVE);
        if landed {
            queue.push("landing:w", &["z"]);
        }
        assert_eq!(claim(&mut queue, "7", "5", marks), reply);
        let taken = if landed { "stats: taken=6" } else { "stats: taken=5" };
        assert_eq!(queue.left(), [batch, "claimers: w=run 1 2", taken]);
        assert!((1..=86_400_000).contains(&queue.life("stats")));
    }
}

#[test]
fn of_a_longer_list_the_head_becomes_a_batch() {
    let mut queue = Queue::with_worker();
    queue.push("normal", &FIVE);
    assert_eq!(claim(&mut queue, "1", "4", "2"), "[0 1 4]");
    assert_eq!(queue.left(), ["batch:w: 1 2 4 a b c d", "claimers: w=run 1 2", "normal: e", "stats: taken=4"]);
}

/// Where it takes more than moving a list, jobs are claimed one by one.
#[test]
fn what_needs_a_look_at_the_jobs_or_would_cost_too_much_is_no_batch() {
    type Before = fn(&mut Queue);
    let cases: [(&str, &str, Before); 8] = [
        ("three jobs", "5", |queue| drop(queue.cmd(&["LTRIM", "tempest:web", "0", "2"]))),
        ("three are wanted", "3", |_| {}),
        ("an older batch is there", "5", |queue| drop(queue.cmd(&["RPUSH", &key("batch:w"), "1 1 1", "x"]))),
        ("a withdrawn job may be among them", "5", |queue| drop(queue.cmd(&["ZADD", &key("withdrawn"), "5", ""]))),
        ("there are urgent ones", "5", |queue| queue.push("high", &["h"])),
        ("there are others", "5", |queue| queue.push("low", &["l"])),
        ("one may have crashed workers", "5", |queue| drop(queue.cmd(&["HSET", &key("attempts"), "x", "1"]))),
        ("they are large", "4", |queue| {
            let large = "x".repeat(300_000);
            drop(queue.cmd(&["LSET", "tempest:web", "4", &large]));
        }),
    ];
    for (what, wanted, before) in cases {
        let mut queue = Queue::with_worker();
        queue.push("normal", &FIVE);
        before(&mut queue);
        let reply = queue.run("claim", &with_batch(), &["w", "7", wanted, "1"]);
        assert!(reply.list().len() > 3, "{what}: {}", told(&reply));
        assert_eq!(queue.cmd(&["HEXISTS", &key("claimed:w"), "7"]).int(), 1, "{what}");
    }
    let mut queue = Queue::with_worker();
    queue.push("normal", &["x"; 33]);
    assert_eq!(queue.run("claim", &with_batch(), &["w", "1", "4", "1"]).list().len(), 7, "eight times what is wanted");
    queue.push("normal", &["x"; 3]);
    assert_eq!(claim(&mut queue, "5", "4", "1"), "[0 1 4]", "just that");
}

#[test]
fn a_user_who_may_not_rename_claims_one_by_one() {
    let mut queue = Queue::with_worker();
    queue.push("normal", &FIVE);
    queue.cmd(&["ACL", "SETUSER", "default", "-rename", "-renamenx", "-copy"]);
    assert_eq!(claim(&mut queue, "7", "5", "1"), "[0 0 [] a b c d e]");
    queue.push("normal", &FIVE);
    assert_eq!(claim(&mut queue, "12", "4", "1"), "[0 1 [] a b c d]");
}

#[test]
fn a_batch_goes_with_the_last_job_that_is_acknowledged() {
    let mut queue = claimed(&["a", "b", "c", "d"]);
    let acknowledge = |queue: &mut Queue, args: &[&str]| told(&queue.run("acknowledge", &["batch:w"], args));
    for (args, there, batch) in [
        (&["7", "8", "10"][..], "2", "batch:w: 7 7 2 a  c "),
        (&["7", "8", "10"], "0", "batch:w: 7 7 2 a  c "),
        // Of another batch, before it, behind it.
        (&["5", "7", "9"], "0", "batch:w: 7 7 2 a  c "),
        (&["7", "6", "11"], "0", "batch:w: 7 7 2 a  c "),
        (&["7", "9"], "1", "batch:w: 7 7 1 a  "),
    ] {
        assert_eq!(acknowledge(&mut queue, args), there, "{args:?}");
        assert_eq!(queue.left()[0].trim_end(), batch.trim_end(), "{args:?}");
    }
    assert_eq!(acknowledge(&mut queue, &["7", "7"]), "1");
    assert_eq!(queue.left(), ["claimers: w=run 1 2"]);
    assert_eq!(acknowledge(&mut queue, &["7", "7"]), "0");
}

#[test]
fn a_job_of_a_batch_is_marked_like_any_other() {
    let mut queue = claimed(&["a", "b", "c", "d"]);
    let mark = |queue: &mut Queue, number: &str| told(&queue.run("mark", &["claimed:w", "batch:w"], &[number]));
    assert_eq!((mark(&mut queue, "6"), mark(&mut queue, "11")), ("0".into(), "0".into()));
    assert_eq!(mark(&mut queue, "8"), "1");
    assert_eq!(queue.left()[1], "claimed:w: started=8");
    queue.run("acknowledge", &["batch:w"], &["7", "9"]);
    assert_eq!(mark(&mut queue, "9"), "0", "it is done");
    assert_eq!(told(&Queue::start().run("mark", &["claimed:w", "batch:w"], &["1"])), "0");
}

#[test]
fn jobs_of_a_batch_go_back_in_their_order_and_once() {
    let mut queue = claimed(&["a", "b", "c", "d"]);
    queue.claims(&[("11", job("e"))], "0");
    queue.push("normal", &["f"]);
    assert_eq!(told(&queue.run("give_back", &GIVE_BACK, &["9", "10", "11", "12"])), "3");
    assert_eq!(queue.left()[0].trim_end(), "batch:w: 7 7 2 a b");
    assert_eq!(queue.left()[2], "normal: c d e f");
    assert_eq!(told(&queue.run("give_back", &GIVE_BACK, &["9"])), "0");
    assert_eq!(told(&queue.run("give_back", &GIVE_BACK, &["7", "8"])), "2");
    assert_eq!(queue.left(), ["claimers: w=run 1 2", "normal: a b c d e f"]);
}

#[test]
fn recovery_gives_what_a_batch_holds_from_a_number_on_and_says_where_it_lies() {
    let mut queue = claimed(&["a", "b", "c", "d"]);
    queue.run("acknowledge", &["batch:w"], &["7", "9"]);
    assert_eq!(told(&queue.run("recover", &RECOVER, &["w", "7"])), "[7 7 10 7 a 8 b 10 d]");
    queue.push("landing:w", &["e"]);
    assert_eq!(told(&queue.run("recover", &RECOVER, &["w", "11"])), "[7 7 10 11 e]");
    let mut queue = Queue::with_worker();
    queue.claims(&[("8", job("a"))], "8");
    assert_eq!(told(&queue.run("recover", &RECOVER, &["w", "1"])), "[8 0 0 8 a]");
}

#[test]
fn a_batch_is_taken_from_a_dead_worker() {
    let mut queue = Queue::with_worker();
    queue.push("normal", &["a", "b"]);
    queue.cmd(&["RPUSH", "tempest:web", &background("c"), &background("d"), "scribble", &job("e")]);
    claim(&mut queue, "7", "9", "3");
    queue.cmd(&["DEL", &key("stats")]);
    queue.run("acknowledge", &["batch:w"], &["7", "12"]);
    let args = ["w", "", "1", "3", "9", "60000"];
    assert_eq!(told(&queue.run("reap", &REAP, &args)), "[2 2 1]");
    let entry = |id: &str| {
        format!(r#"{{"attempt":2,"certain":true,"id":"{id}","reply_to":"tempest:@r.0","started":true,"worker":"w"}}"#)
    };
    assert_eq!(
        queue.left(),
        [
            // The third was started, the fourth was not.
            "attempts: c=1".to_owned(),
            "dead: scribble".to_owned(),
            format!("lost: {} {}", entry("b"), entry("a")),
            "normal: c d".to_owned(),
            "stats: dead=1 handed=2 reaped=1 requeued=2".to_owned(),
        ]
    );
}
