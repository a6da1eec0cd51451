//! The scripts that publish: `publish`, for channels with history, and `once`, for those without.

use std::process::Command;

use tempest_tests::{Redis, Value, repository, wait_until};

use super::{Queue, text, told};

const LOG: &str = "tempest:log:news";
const ONCE: &str = "{tempest:log:news}:once:k";
const DAY: i64 = 86_400_000;

/// Runs a script with keys that are spelled out.
fn run(redis: &mut Redis, script: &str, keys: &[&str], args: &[&str]) -> Value {
    let (text, count) = (text(script), keys.len().to_string());
    let command = [&["EVAL", &text, &count], keys, args].concat();
    redis.client().try_cmd(&command).expect("the server answers")
}

/// Publishes and gives the id, which must be new.
#[track_caller]
fn publish(redis: &mut Redis, payload: &str, messages: &str, ms: &str) -> String {
    let reply = run(redis, "publish", &[LOG], &[payload, messages, ms]);
    assert_eq!(reply.list()[2].int(), 0, "{reply:?}");
    reply.list()[0].text()
}

fn parts(id: &str) -> (i64, i64) {
    let (ms, number) = id.split_once('-').expect("time and number");
    (ms.parse().expect("a time"), number.parse().expect("a number"))
}

/// The log, a line an entry: id, and its fields and values.
fn log(redis: &mut Redis) -> Vec<String> {
    let entries = redis.cmd(&["XRANGE", LOG, "-", "+"]);
    let line = |entry: &Value| {
        let fields: Vec<_> = entry.list()[1].list().iter().map(Value::text).collect();
        format!("{} {}", entry.list()[0].text(), fields.join(" "))
    };
    entries.list().iter().map(line).collect()
}

fn now(redis: &mut Redis) -> i64 {
    let time = redis.cmd(&["TIME"]);
    let part = |at: usize| time.list()[at].text().parse::<i64>().expect("a number");
    part(0) * 1000 + part(1) / 1000
}

#[test]
fn a_message_is_kept_and_announced() {
    let mut queue = Queue::start();
    let mut reader = queue.redis.connect();
    reader.cmd(&["SUBSCRIBE", LOG]);
    let before = now(&mut queue.redis);
    let reply = run(&mut queue.redis, "publish", &[LOG], &["[\"a b\"]", "10", "60000"]);
    let after = now(&mut queue.redis);
    let id = reply.list()[0].text();
    assert_eq!((reply.list()[1].int(), reply.list()[2].int()), (1, 0), "one subscriber was told");
    let (ms, number) = parts(&id);
    assert!((before..=after).contains(&ms), "{before} {id} {after}");
    assert_eq!(number, 1);
    assert_eq!(log(&mut queue.redis), [format!("{id} prev 0-0 data [\"a b\"]")]);
    let announced = reader.read().expect("an announcement");
    assert_eq!(announced.list()[2].text(), format!("{id} 0-0 [\"a b\"]"));
    let life = queue.cmd(&["PTTL", LOG]).int();
    assert!((DAY + 50_000..=DAY + 60_000).contains(&life), "{life}");
}

#[test]
fn each_message_names_the_one_before_and_numbers_have_no_gaps() {
    let mut queue = Queue::start();
    let ids: Vec<_> = (0..5).map(|n| publish(&mut queue.redis, &n.to_string(), "10", "60000")).collect();
    assert_eq!(ids.iter().map(|id| parts(id).1).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let before = std::iter::once("0-0").chain(ids.iter().map(String::as_str));
    let lines: Vec<_> =
        ids.iter().zip(before).zip(0..).map(|((id, prev), n)| format!("{id} prev {prev} data {n}")).collect();
    assert_eq!(log(&mut queue.redis), lines);
}

#[test]
fn so_many_are_kept() {
    let mut queue = Queue::start();
    let ids: Vec<_> = (0..4).map(|n| publish(&mut queue.redis, &n.to_string(), "2", "60000")).collect();
    assert_eq!(
        log(&mut queue.redis),
        [format!("{} prev {} data 2", ids[2], ids[1]), format!("{} prev {} data 3", ids[3], ids[2])]
    );
}

#[test]
fn for_so_long_they_are_kept() {
    let mut queue = Queue::start();
    let now = now(&mut queue.redis);
    let (old, young) = (format!("{}-7", now - 60_000), format!("{}-8", now - 20_000));
    for id in [&old, &young] {
        queue.cmd(&["XADD", LOG, id, "prev", "0-0", "data", "x"]);
    }
    let id = publish(&mut queue.redis, "y", "10", "40000");
    assert_eq!(log(&mut queue.redis), [format!("{young} prev 0-0 data x"), format!("{id} prev {young} data y")]);
    let next = publish(&mut queue.redis, "z", "10", "1");
    assert_eq!(log(&mut queue.redis).last(), Some(&format!("{next} prev {id} data z")), "its own message stays");
    let longest = publish(&mut queue.redis, "z", "10", "9999999999999");
    assert_eq!(parts(&longest).1, 11, "a time before 1970 is none");
}

#[test]
fn a_message_of_a_stranger_is_part_of_the_chain() {
    let mut queue = Queue::start();
    publish(&mut queue.redis, "a", "10", "60000");
    // Redis numbers by itself: from 0 in each millisecond.
    wait_until("another millisecond", || {
        let ms = now(&mut queue.redis);
        ms > parts(&queue.redis.cmd(&["XREVRANGE", LOG, "+", "-", "COUNT", "1"]).list()[0].list()[0].text()).0
    });
    let stranger = queue.cmd(&["XADD", LOG, "*", "data", "b"]).text();
    assert_eq!(parts(&stranger).1, 0);
    let id = publish(&mut queue.redis, "c", "10", "60000");
    assert_eq!(parts(&id).1, 1);
    assert_eq!(log(&mut queue.redis)[1..], [format!("{stranger} data b"), format!("{id} prev {stranger} data c")]);
}

#[test]
fn a_clock_that_goes_back_does_not_bring_ids_back() {
    let mut queue = Queue::start();
    let ahead = now(&mut queue.redis) + 3_600_000;
    queue.cmd(&["XADD", LOG, &format!("{ahead}-4"), "prev", "0-0", "data", "a"]);
    assert_eq!(publish(&mut queue.redis, "b", "10", "60000"), format!("{ahead}-5"));
}

#[test]
fn a_log_that_is_gone_begins_anew_with_a_later_time() {
    let mut queue = Queue::start();
    let first = publish(&mut queue.redis, "a", "10", "60000");
    queue.cmd(&["DEL", LOG]);
    wait_until("another millisecond", || now(&mut queue.redis) > parts(&first).0);
    let id = publish(&mut queue.redis, "b", "10", "60000");
    assert!(parts(&id).0 > parts(&first).0 && parts(&id).1 == 1, "{first} {id}");
    assert_eq!(log(&mut queue.redis), [format!("{id} prev 0-0 data b")]);
}

#[test]
fn a_key_publishes_once() {
    let mut queue = Queue::start();
    let mut again =
        |payload: &str| told(&run(&mut queue.redis, "publish", &[LOG, ONCE], &[payload, "10", "60000", "5000"]));
    let first = again("a");
    let id = first.trim_start_matches('[').split(' ').next().expect("an id").to_owned();
    assert_eq!(first, format!("[{id} 0 0]"));
    assert_eq!(again("b"), format!("[{id} 0 1]"), "whatever the message is");
    assert_eq!(log(&mut queue.redis), [format!("{id} prev 0-0 data a")]);
    assert!((1..=5000).contains(&queue.cmd(&["PTTL", ONCE]).int()));
    queue.cmd(&["DEL", ONCE]);
    let other = told(&run(&mut queue.redis, "publish", &[LOG, ONCE], &["b", "10", "60000", "5000"]));
    assert!(other.ends_with(" 0 0]") && !other.contains(&id), "a key that is forgotten is new: {other}");
}

#[test]
fn without_history_a_key_publishes_once_too() {
    let mut queue = Queue::start();
    let mut reader = queue.redis.connect();
    reader.cmd(&["SUBSCRIBE", "news"]);
    let mut again = |payload: &str| told(&run(&mut queue.redis, "once", &[ONCE], &["news", payload, "5000"]));
    assert_eq!((again("a"), again("b")), ("[ 1 0]".to_owned(), "[ 0 1]".to_owned()));
    assert!((1..=5000).contains(&queue.cmd(&["PTTL", ONCE]).int()));
    queue.redis.publish("news", "the next one");
    let read: Vec<_> = (0..2).map(|_| reader.read().expect("a message").list()[2].text()).collect();
    assert_eq!(read, ["a", "the next one"]);
}

#[test]
fn a_key_is_the_same_where_a_channel_gets_or_loses_its_history() {
    let mut queue = Queue::start();
    let id = run(&mut queue.redis, "publish", &[LOG, ONCE], &["a", "10", "60000", "5000"]).list()[0].text();
    assert_eq!(told(&run(&mut queue.redis, "once", &[ONCE], &["news", "a", "5000"])), format!("[{id} 0 1]"));
    queue.cmd(&["DEL", ONCE]);
    run(&mut queue.redis, "once", &[ONCE], &["news", "a", "5000"]);
    let kept = run(&mut queue.redis, "publish", &[LOG, ONCE], &["a", "10", "60000", "5000"]);
    assert_eq!(told(&kept), "[ 0 1]");
}

#[test]
fn what_is_wrong_is_refused_before_anything_is_written() {
    let mut queue = Queue::start();
    let wrong: [(&[&str], &[&str]); 6] = [
        (&[LOG], &["a"]),
        (&[LOG], &["a", "10"]),
        (&[LOG], &["a", "many", "60000"]),
        (&[LOG], &["a", "-1", "60000"]),
        (&[LOG], &["a", "10", "1h"]),
        (&[LOG, ONCE], &["a", "10", "60000"]),
    ];
    for (keys, args) in wrong {
        let reply = run(&mut queue.redis, "publish", keys, args);
        assert!(matches!(reply, Value::Error(_)), "{args:?}: {reply:?}");
    }
    queue.cmd(&["SET", LOG, "no log"]);
    let reply = run(&mut queue.redis, "publish", &[LOG, ONCE], &["a", "10", "60000", "5000"]);
    assert!(matches!(&reply, Value::Error(words) if words.contains("WRONGTYPE")), "{reply:?}");
    assert_eq!(queue.cmd(&["KEYS", "*"]).list().len(), 1);
}

#[test]
fn redis_cli_publishes_with_history() {
    let mut queue = Queue::start();
    let port = queue.redis.port().to_string();
    let mut command = Command::new("redis-cli");
    command.args([
        "-p",
        &port,
        "--eval",
        "worker-sdk/protocol/scripts/publish.lua",
        LOG,
        ",",
        "[\"hi\"]",
        "1000",
        "3600000",
    ]);
    let ran = command.current_dir(repository()).output().expect("redis-cli is there");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let id = said.split_whitespace().find(|word| word.contains('-')).expect("an id").trim_matches('"').to_owned();
    assert_eq!(log(&mut queue.redis), [format!("{id} prev 0-0 data [\"hi\"]")]);
    let manual = std::fs::read_to_string(repository().join("protocol.md")).expect("the contract");
    let line = "redis-cli --eval worker-sdk/protocol/scripts/publish.lua tempest:log:news , '[\"hi\"]' 1000 3600000";
    assert!(manual.contains(line), "as the contract says it");
}

#[test]
fn scripts_are_called_by_the_names_that_redis_gives_them() {
    let mut queue = Queue::start();
    let source = std::fs::read_to_string(repository().join("worker-sdk/protocol/src/scripts.rs")).expect("it is there");
    for script in ["publish", "once"] {
        let name = queue.cmd(&["SCRIPT", "LOAD", &text(script)]).text();
        assert!(source.contains(&format!("\"{name}\"")), "{script}.lua is {name} now");
    }
}
