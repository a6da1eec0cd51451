//! A worker's scripts: `register`, `claim`, `recover`, `mark`, `give_back`.

use super::{CLAIM, Queue, background, job, key, told};

const REGISTER: [&str; 1] = ["claimers"];
const RECOVER: [&str; 3] = ["claimers", "claimed:w", "landing:w"];

#[test]
fn a_worker_registers_fresh_once_and_again_while_it_is_known() {
    let mut queue = Queue::start();
    for (args, reply, left) in [
        (["w", "run 1 2", "0"], "0", &[][..]),
        (["w", "run 1 2", "1"], "1", &["claimers: w=run 1 2"]),
        (["w", "run 3 4", "1"], "0", &["claimers: w=run 1 2"]),
        (["w", "run 3 2", "0"], "1", &["claimers: w=run 3 2"]),
        (["v", "run 5 6", "1"], "1", &["claimers: v=run 5 6 w=run 3 2"]),
    ] {
        assert_eq!(told(&queue.run("register", &REGISTER, &args)), reply, "{args:?}");
        assert_eq!(queue.left(), left, "{args:?}");
    }
}

#[test]
fn a_worker_that_is_not_registered_claims_nothing_and_gives_back_what_has_landed() {
    let mut queue = Queue::start();
    queue.push("normal", &["c"]);
    queue.push("landing:w", &["a", "b"]);
    assert_eq!(told(&queue.run("claim", &CLAIM, &["w", "1", "5", "1"])), "UNREGISTERED");
    assert_eq!(queue.left(), ["normal: a b c"]);
}

#[test]
fn a_claim_of_empty_lists_leaves_nothing() {
    let mut queue = Queue::with_worker();
    assert_eq!(told(&queue.run("claim", &CLAIM, &["w", "1", "5", "1"])), "[0 0 []]");
    assert_eq!(queue.left(), ["claimers: w=run 1 2"]);
}

#[test]
fn a_claim_takes_from_the_head_and_says_whether_there_is_more() {
    for (wanted, marks, reply, left) in [
        ("2", "1", "[0 1 [] a b]", ["claimed:w: 7=a 8=b started=7", "normal: c", "stats: taken=2"].as_slice()),
        ("2", "0", "[0 1 [] a b]", &["claimed:w: 7=a 8=b", "normal: c", "stats: taken=2"]),
        ("5", "9", "[0 0 [] a b c]", &["claimed:w: 7=a 8=b 9=c started=9", "stats: taken=3"]),
        ("0", "1", "[0 1 []]", &["normal: a b c"]),
    ] {
        let mut queue = Queue::with_worker();
        queue.push("normal", &["a", "b", "c"]);
        assert_eq!(told(&queue.run("claim", &CLAIM, &["w", "7", wanted, marks])), reply);
        queue.cmd(&["DEL", &key("claimers")]);
        assert_eq!(queue.left(), left);
    }
}

#[test]
fn a_job_that_has_landed_is_the_first_claim_and_is_not_sent_again() {
    for (wanted, reply, claims) in
        [("0", "[1 1 []]", "claimed:w: 1=a started=1"), ("1", "[1 0 [] b]", "claimed:w: 1=a 2=b started=1")]
    {
        let mut queue = Queue::with_worker();
        queue.push("landing:w", &["a"]);
        queue.push("normal", &["b"]);
        assert_eq!(told(&queue.run("claim", &CLAIM, &["w", "1", wanted, "1"])), reply);
        assert!(queue.left().contains(&claims.to_owned()), "{:?}", queue.left());
        assert_eq!(queue.cmd(&["EXISTS", &key("landing:w")]).int(), 0);
    }
}

#[test]
fn a_job_is_moved_byte_by_byte() {
    let odd = b"{\"v\":1,\"id\":\"a\",\"x\":[],\"y\":12345678901234567890}\n\x00\xff\r\n{\"id\":\"b\"}";
    let mut queue = Queue::with_worker();
    queue.redis.cmd(&[b"RPUSH".as_ref(), b"tempest:web", odd]);
    assert_eq!(queue.run("claim", &CLAIM, &["w", "1", "1", "1"]).list()[3].bytes(), Some(odd.as_ref()));
    assert_eq!(queue.cmd(&["HGET", &key("claimed:w"), "1"]).bytes(), Some(odd.as_ref()));
    assert_eq!(queue.run("give_back", &["claimed:w", "normal", "withdrawn"], &["1"]).int(), 1);
    assert_eq!(queue.cmd(&["LINDEX", "tempest:web", "0"]).bytes(), Some(odd.as_ref()));
}

#[test]
fn of_ten_claims_seven_begin_with_high_two_with_normal_and_one_with_low() {
    let mut queue = Queue::with_worker();
    for class in ["high", "normal", "low"] {
        queue.push(class, &[class; 10]);
    }
    let reply = told(&queue.run("claim", &CLAIM, &["w", "1", "10", "1"]));
    assert_eq!(reply, "[0 1 [] high normal high high high high normal high low high]");
    // The same numbers one by one, a script each.
    let mut queue = Queue::with_worker();
    for class in ["high", "normal", "low"] {
        queue.push(class, &[class; 10]);
    }
    let one = |number: i32| told(&queue.run("claim", &CLAIM, &["w", &number.to_string(), "1", "1"]));
    let ones: Vec<_> = (1..=10).map(one).collect();
    let classes = ["high", "normal", "high", "high", "high", "high", "normal", "high", "low", "high"];
    assert_eq!(ones, classes.map(|class| format!("[0 1 [] {class}]")));
}

#[test]
fn where_a_class_is_empty_the_next_is_taken() {
    for (number, classes, reply) in [
        ("1", [("low", "l"), ("normal", "n")], "[0 1 [] n]"),
        ("2", [("low", "l"), ("high", "h")], "[0 1 [] h]"),
        ("9", [("high", "h"), ("normal", "n")], "[0 1 [] h]"),
    ] {
        let mut queue = Queue::with_worker();
        for (class, id) in classes {
            queue.push(class, &[id]);
        }
        assert_eq!(told(&queue.run("claim", &CLAIM, &["w", number, "1", "1"])), reply, "{number}");
    }
}

#[test]
fn a_claim_that_empties_the_normal_list_brings_another_forward() {
    for (high, low, left) in [
        (&["h", "i"][..], &["l"][..], ["high: i", "low: l", "normal: h"].as_slice()),
        (&[], &["l", "m"], &["low: m", "normal: l"]),
    ] {
        let mut queue = Queue::with_worker();
        queue.push("normal", &["n"]);
        queue.push("high", high);
        queue.push("low", low);
        // The second claim begins with the normal list.
        assert_eq!(told(&queue.run("claim", &CLAIM, &["w", "2", "1", "1"])), "[0 1 [] n]");
        queue.cmd(&["DEL", &key("claimers"), &key("claimed:w"), &key("stats")]);
        assert_eq!(queue.left(), left);
    }
}

#[test]
fn a_withdrawn_job_is_dropped_where_it_is_met_and_never_the_landed_one() {
    let mut queue = Queue::with_worker();
    queue.push("landing:w", &["a"]);
    queue.push("normal", &["b", "c"]);
    queue.cmd(&["RPUSH", "tempest:web", "no JSON"]);
    for id in ["", "a", "b", "other"] {
        queue.cmd(&["ZADD", &key("withdrawn"), "5", id]);
    }
    assert_eq!(told(&queue.run("claim", &CLAIM, &["w", "1", "9", "1"])), "[1 0 [] c no JSON]");
    let left = ["claimed:w: 1=a 2=c 3=no JSON started=1", "claimers: w=run 1 2", "stats: taken=4 withdrawn=1"];
    assert_eq!(queue.left(), [&left[..], &["withdrawn: =5 a=5 other=5"]].concat());

    let mut queue = Queue::with_worker();
    queue.push("normal", &["a"]);
    queue.cmd(&["ZADD", &key("withdrawn"), "5", "a", "5", ""]);
    assert_eq!(told(&queue.run("claim", &CLAIM, &["w", "1", "9", "1"])), "[0 0 []]");
    assert_eq!(queue.left(), ["claimers: w=run 1 2", "stats: taken=1 withdrawn=1", "withdrawn: =5"]);
}

#[test]
fn a_withdrawn_job_is_found_however_its_json_is_written() {
    let mut queue = Queue::with_worker();
    let jobs = [
        r#"{"id":"b","v":1}"#,
        r#"{ "v" : 1, "id" : "b" }"#,
        r#"{"v":1,"id":"\u0062"}"#,
        "{\"v\":1,\"id\":\"b\"}\nbody",
        // These are others.
        r#"{"id":"x","v":1,"note":{"id":"b"}}"#,
        "{\"v\":1,\"id\":\"y\"}\n{\"v\":1,\"id\":\"b\"}",
        r#"{"v":1,"id":7}"#,
    ];
    for (at, job) in jobs.iter().enumerate() {
        queue.cmd(&["ZADD", &key("withdrawn"), "5", "b", "5", ""]);
        queue.cmd(&["RPUSH", "tempest:web", job]);
        let claimed = queue.run("claim", &CLAIM, &["w", &(at + 1).to_string(), "9", "1"]);
        assert_eq!(claimed.list().len(), if at < 4 { 3 } else { 4 }, "{job}");
    }
}

#[test]
fn what_is_dropped_does_not_shift_who_has_crashed_whom() {
    let mut queue = Queue::with_worker();
    queue.push("normal", &["a", "b", "c"]);
    queue.cmd(&["ZADD", &key("withdrawn"), "5", "a", "5", ""]);
    queue.cmd(&["HSET", &key("attempts"), "a", "1", "c", "2"]);
    assert_eq!(told(&queue.run("claim", &CLAIM, &["w", "1", "9", "1"])), "[0 0 [0 2] b c]");
}

#[test]
fn a_claim_tells_how_many_workers_each_job_has_crashed() {
    let mut queue = Queue::with_worker();
    queue.push("landing:w", &["a"]);
    queue.push("normal", &["b", "c"]);
    queue.cmd(&["HSET", &key("attempts"), "a", "1", "c", "2"]);
    assert_eq!(told(&queue.run("claim", &CLAIM, &["w", "1", "9", "1"])), "[1 0 [1 0 2] b c]");
}

#[test]
fn recovery_gives_claims_from_a_number_on_in_order_and_what_has_landed_behind_them() {
    let mut queue = Queue::start();
    queue.push("landing:w", &["z"]);
    assert_eq!(told(&queue.run("recover", &RECOVER, &["w", "1"])), "UNREGISTERED");
    assert_eq!(queue.left(), ["landing:w: z"]);

    let mut queue = Queue::with_worker();
    assert_eq!(told(&queue.run("recover", &RECOVER, &["w", "1"])), "[0]");
    queue.claims(&[("8", job("a")), ("9", job("b")), ("10", job("c"))], "9");
    assert_eq!(told(&queue.run("recover", &RECOVER, &["w", "9"])), "[9 9 b 10 c]");
    queue.push("landing:w", &["d"]);
    assert_eq!(told(&queue.run("recover", &RECOVER, &["w", "11"])), "[9 11 d]");
    assert_eq!(queue.left(), ["claimed:w: 10=c 11=d 8=a 9=b started=9", "claimers: w=run 1 2"]);
    assert_eq!(told(&queue.run("recover", &RECOVER, &["w", "11"])), "[9 11 d]", "a second time gives the same");
}

#[test]
fn a_mark_rises_and_never_falls_and_needs_the_claim() {
    let mut queue = Queue::start();
    assert_eq!(told(&queue.run("mark", &["claimed:w"], &["1"])), "0");
    assert_eq!(queue.left(), [""; 0]);
    queue.claims(&[("1", job("a")), ("2", job("b"))], "0");
    for (number, reply, started) in [("2", "1", "2"), ("1", "1", "2"), ("3", "0", "2")] {
        assert_eq!(told(&queue.run("mark", &["claimed:w"], &[number])), reply, "{number}");
        assert_eq!(queue.left(), [format!("claimed:w: 1=a 2=b started={started}")]);
    }
}

#[test]
fn claims_go_back_to_the_head_in_their_order() {
    let mut queue = Queue::start();
    queue.claims(&[("1", job("a")), ("2", background("b")), ("3", job("c"))], "1");
    queue.push("normal", &["d"]);
    assert_eq!(told(&queue.run("give_back", &["claimed:w", "normal", "withdrawn"], &["2", "3", "4"])), "2");
    assert_eq!(queue.left(), ["claimed:w: 1=a started=1", "normal: b c d"]);
    assert_eq!(
        told(&queue.run("give_back", &["claimed:w", "normal", "withdrawn"], &["2"])),
        "0",
        "it is given back once"
    );
}

#[test]
fn a_withdrawn_job_that_was_given_back_is_not_claimed_again() {
    let mut queue = Queue::with_worker();
    queue.claims(&[("1", job("a")), ("2", job("b"))], "0");
    queue.cmd(&["ZADD", &key("withdrawn"), "5", "a", "7", "other"]);
    let give_back =
        |queue: &mut Queue, number| queue.run("give_back", &["claimed:w", "normal", "withdrawn"], &[number]).int();
    assert_eq!((give_back(&mut queue, "1"), give_back(&mut queue, "9")), (1, 0));
    assert_eq!(queue.cmd(&["ZSCORE", &key("withdrawn"), ""]).text(), "7", "as long as any of them");
    assert_eq!(told(&queue.run("claim", &CLAIM, &["w", "3", "9", "1"])), "[0 0 []]");
}
