//! Jobs in MessagePack: the scripts read of them what they read of JSON, whatever they look like.

use serde_json::json;
use tempest_tests::{Value, packed};

use super::{CLAIM, Queue, REAP, key, text, told};

/// A job that somebody waits for.
fn awaited(id: &str) -> Vec<u8> {
    let head = json!({"v": 1, "id": id, "attempt": 2, "reply_to": "tempest:@r.0", "queue": "web", "action": "http"});
    packed::write(&head, b"\n{\"id\":\"forged\"}\xff")
}

/// A job that nobody waits for.
fn background(id: &str) -> Vec<u8> {
    packed::write(&json!({"v": 1, "id": id, "attempt": 1, "queue": "web", "action": "mail.send"}), b"\xff")
}

/// The same with a map whose number of fields takes two bytes, as fronts write it.
fn map_16(job: &[u8]) -> Vec<u8> {
    [&[0xde, 0, job[0] & 0x0f], &job[1..]].concat()
}

impl Queue {
    fn push_bytes(&mut self, list: &str, job: &[u8]) {
        self.cmd_bytes(&[b"RPUSH", key(list).as_bytes(), job]);
    }

    fn cmd_bytes(&mut self, args: &[&[u8]]) -> Value {
        self.redis.cmd(args)
    }

    fn list(&mut self, name: &str) -> Vec<Vec<u8>> {
        let values = self.cmd(&["LRANGE", &key(name), "0", "-1"]);
        values.list().iter().map(|value| value.bytes().unwrap_or_default().to_vec()).collect()
    }

    fn held(&mut self, number: usize, job: &[u8]) {
        self.cmd_bytes(&[b"HSET", key("claimed:w").as_bytes(), number.to_string().as_bytes(), job]);
    }
}

const CERTAIN: [&str; 6] = ["w", "", "1", "3", "9", "60000"];

#[test]
fn a_withdrawn_job_is_found_however_it_is_written() {
    let mut queue = Queue::with_worker();
    let long = "x".repeat(40);
    let jobs = [
        (map_16(&awaited("b")), true),
        (awaited("b"), true),
        (packed::write(&json!({"id": "b", "v": 1}), b""), true),
        (map_16(&packed::write(&json!({"id": "b", "v": 1}), b"")), true),
        (map_16(&awaited(&long)), true),
        // These are others, or none.
        (packed::write(&json!({"id": "y", "x": {"id": "b"}}), b"\n{\"id\":\"b\"}"), false),
        (map_16(&packed::write(&json!({"v": 1, "id": 7}), b"")), false),
        (b"\xde\x00\x01\xa1v\x01\xa2id".to_vec(), false),
        (b"\xde".to_vec(), false),
        (b"\xdf\xff\xff\xff\xff\xa2id\xa1b".to_vec(), false),
        (vec![0x91; 100_000], false),
        ([b"\x81\xa1x".as_slice(), &vec![0x91; 100_000]].concat(), false),
    ];
    for (at, (job, found)) in jobs.iter().enumerate() {
        queue.cmd(&["ZADD", &key("withdrawn"), "5", "b", "5", &long, "5", ""]);
        queue.push_bytes("normal", job);
        let claimed = queue.run("claim", &CLAIM, &["w", &(at + 1).to_string(), "9", "1"]);
        assert_eq!(claimed.list().len(), if *found { 3 } else { 4 }, "number {at}");
        if !found {
            assert_eq!(claimed.list()[3].bytes(), Some(&job[..]), "moved byte by byte");
        }
    }
}

#[test]
fn a_claim_tells_how_many_workers_each_job_has_crashed() {
    let mut queue = Queue::with_worker();
    for job in [map_16(&background("a")), background("b"), map_16(&background("c"))] {
        queue.push_bytes("normal", &job);
    }
    queue.cmd(&["HSET", &key("attempts"), "a", "1", "c", "2"]);
    let claimed = queue.run("claim", &CLAIM, &["w", "1", "9", "1"]);
    assert_eq!(told(&claimed.list()[2]), "[1 0 2]");
}

#[test]
fn what_a_dead_worker_held_goes_where_json_goes() {
    let mut queue = Queue::with_worker();
    queue.cmd(&["HSET", &key("attempts"), "d", "2"]);
    for (at, job) in [awaited("a"), map_16(&awaited("b")), background("c"), map_16(&background("d"))].iter().enumerate()
    {
        queue.held(at + 1, job);
    }
    queue.cmd(&["HSET", &key("claimed:w"), "started", "4"]);
    assert_eq!(told(&queue.run("reap", &REAP, &CERTAIN)), "[2 1 1]");
    let lost: Vec<serde_json::Value> =
        queue.list("lost").iter().map(|entry| serde_json::from_slice(entry).expect("JSON")).collect();
    let entry = |id| json!({"id": id, "attempt": 2, "reply_to": "tempest:@r.0", "started": true, "certain": true, "worker": "w"});
    assert_eq!(lost, [entry("b"), entry("a")]);
    assert_eq!((queue.list("normal"), queue.list("dead")), (vec![background("c")], vec![map_16(&background("d"))]));
    assert_eq!(queue.cmd(&["HGETALL", &key("attempts")]).list().len(), 2, "the crash of c");
}

#[test]
fn what_cannot_be_read_is_a_dead_letter_at_once() {
    let whole = background("a");
    let odd = [
        whole[..whole.len() - 1].to_vec(),
        [&whole[..], b"\n"].concat(),
        [&whole[..], &whole].concat(),
        packed::write(&json!({"id": 7}), b""),
        b"\x80".to_vec(),
        b"\xdf\xff\xff\xff\xff\xa2id\xa1a".to_vec(),
        b"\x82\xa2id\xa1a\xa4body\xc6\xff\xff\xff\xffx".to_vec(),
        b"\x82\xa2id\xa1a\xa1x\xdd\xff\xff\xff\xff\x01".to_vec(),
        b"\x82\xa2id\xa1a\xc0\x01".to_vec(),
        b"\x82\xa2id\xa1a\xa1x\xc1".to_vec(),
    ];
    for job in odd {
        let mut queue = Queue::with_worker();
        queue.held(1, &job);
        assert_eq!(told(&queue.run("reap", &REAP, &CERTAIN)), "[0 0 1]", "{job:x?}");
        assert_eq!(queue.list("dead"), [job]);
    }
}

#[test]
fn both_scripts_read_a_map_with_the_same_words() {
    let block = |script: &str| -> Vec<String> {
        let text = text(script);
        let start = text.find("local function packed(job)").expect("the function");
        let lines = text[start..].lines().map(|line| line.trim().to_owned());
        lines.take_while(|line| !line.starts_with("return at == #job")).collect()
    };
    assert_eq!(block("claim"), block("reap"));
    assert!(block("claim").len() > 20);
}

#[test]
fn every_shape_of_value_is_passed_over() {
    let values: [&[u8]; 28] = [
        b"\xc0",
        b"\xc3",
        b"\x07",
        b"\xff",
        b"\xc4\x02ab",
        b"\xc5\0\x02ab",
        b"\xc6\0\0\0\x02ab",
        b"\xc7\x02\x05ab",
        b"\xc8\0\x02\x05ab",
        b"\xc9\0\0\0\x02\x05ab",
        b"\xca\0\0\0\0",
        b"\xcb\0\0\0\0\0\0\0\0",
        b"\xcc\xff",
        b"\xcd\xff\xff",
        b"\xce\xff\xff\xff\xff",
        b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xd0\xff",
        b"\xd1\xff\xff",
        b"\xd3\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xd4\x05a",
        b"\xd5\x05ab",
        b"\xd8\x050123456789abcdef",
        b"\xd9\x02ab",
        b"\xda\0\x02ab",
        b"\xdb\0\0\0\x02ab",
        b"\xdc\0\x02\x92\x01\xa1x\x80",
        b"\xdd\0\0\0\x01\x90",
        b"\xdf\0\0\0\x01\xa1k\xde\0\x01\xa1k\x81\xa1k\xd7\x0501234567",
    ];
    let mut queue = Queue::with_worker();
    for (at, value) in values.iter().enumerate() {
        let number = (b'A' + u8::try_from(at).expect("few")) as char;
        queue.held(at + 1, &[b"\x83\xa1x".as_slice(), value, b"\xa2id\xa1", &[number as u8], b"\xa1y", value].concat());
    }
    // However deeply it is nested: whoever reads it next says that it is too deep.
    queue.held(99, &[b"\x82\xa1x".as_slice(), &vec![0x91; 100_000], b"\x90\xa2id\xa4deep"].concat());
    queue.cmd(&["HSET", &key("claimed:w"), "started", "99"]);
    assert_eq!(told(&queue.run("reap", &REAP, &CERTAIN)), "[0 29 0]");
    assert_eq!(queue.cmd(&["HLEN", &key("attempts")]).int(), 29, "each is known by its id");
}

#[test]
fn the_last_of_two_fields_counts_and_nil_is_no_list() {
    let twice = b"\x84\xa2id\xa1a\xa2id\xa1b\xa8reply_to\xactempest:@r.0\xa8reply_to\xc0";
    let mut queue = Queue::with_worker();
    queue.held(1, twice);
    queue.cmd(&["HSET", &key("claimed:w"), "started", "1"]);
    assert_eq!(told(&queue.run("reap", &REAP, &CERTAIN)), "[0 1 0]", "a background job");
    assert_eq!(queue.cmd(&["HGET", &key("attempts"), "b"]).text(), "1");
}
