//! What is taken over and what passes, command by command.

use std::time::{Duration, Instant};

use tempest_tests::{Value, World, wait_until};

use super::played::{Played, id_of, popped};

fn ids(jobs: &Value) -> Vec<String> {
    jobs.list().iter().map(id_of).collect()
}

#[test]
fn a_pop_is_a_claim_until_the_next() {
    let mut played = Played::start();
    assert_ne!(played.url, played.direct);
    assert_eq!(played.direct, played.world.redis.url());
    (1..=3).for_each(|n| played.push(&format!("j{n}")));
    let mut worker = played.connect();
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j1");
    assert_eq!((played.claims(), played.depth()), (vec!["j1".to_owned()], 2));
    // What is no pop of the queue acknowledges nothing.
    worker.cmd(&["RPUSH", "other", "x"]);
    assert_eq!(worker.cmd(&["LPOP", "other"]).text(), "x");
    assert_eq!(played.claims(), ["j1"]);
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j2");
    assert_eq!(played.claims(), ["j2"]);
    assert_eq!(popped(&worker.cmd(&["blpop", "tempest:web", "0"])), "j3");
    assert_eq!(worker.cmd(&["LPOP", "tempest:web"]), Value::Nil);
    assert_eq!(played.claims(), Vec::<String>::new());
    let statistics = played.world.redis.cmd(&["HGET", &played.key("stats"), "taken"]).text();
    assert_eq!(statistics, "3");
    played.finish();
}

#[test]
fn every_pop_has_the_reply_it_asks_for() {
    let mut played = Played::start();
    let mut worker = played.connect();
    (1..=9).for_each(|n| played.push(&format!("j{n}")));
    assert_eq!(id_of(&worker.cmd(&["LPOP", "tempest:web"])), "j1");
    assert_eq!(ids(&worker.cmd(&["LPOP", "tempest:web", "2"])), ["j2", "j3"]);
    let named = worker.cmd(&["LMPOP", "1", "tempest:web", "LEFT"]);
    assert_eq!((named.list()[0].text(), ids(&named.list()[1])), ("tempest:web".to_owned(), vec!["j4".to_owned()]));
    let named = worker.cmd(&["BLMPOP", "1", "1", "tempest:web", "LEFT", "COUNT", "3"]);
    assert_eq!(ids(&named.list()[1]), ["j5", "j6", "j7"]);
    assert_eq!(played.claims(), ["j5", "j6", "j7"]);
    // From the other end it is Redis that pops; and it refuses what is no command.
    assert_eq!(id_of(&worker.cmd(&["RPOP", "tempest:web"])), "j9");
    assert!(matches!(worker.try_cmd(&["BLPOP", "tempest:web", "soon"]), Ok(Value::Error(_))));
    assert!(matches!(worker.try_cmd(&["BLPOP", "tempest:web"]), Ok(Value::Error(_))));
    assert_eq!(played.claims(), ["j5", "j6", "j7"]);
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "1"])), "j8");
    for (command, wait) in
        [(vec!["BLPOP", "tempest:web", "0.2"], 200), (vec!["BLMPOP", "0.1", "1", "tempest:web", "LEFT"], 100)]
    {
        let start = Instant::now();
        assert_eq!(worker.cmd(&command), Value::Nil);
        assert!(start.elapsed() >= Duration::from_millis(wait), "{command:?} waits");
    }
    assert_eq!(worker.cmd(&["LPOP", "tempest:web", "5"]), Value::Nil);
    assert_eq!(played.claims(), Vec::<String>::new());
    played.finish();
}

#[test]
fn a_waiting_pop_gets_what_comes_whatever_its_priority() {
    let mut played = Played::start();
    let mut worker = played.connect();
    for (list, id) in [("tempest:web", "a"), ("{tempest:web}:high", "b"), ("{tempest:web}:low", "c")] {
        worker.send(&["BLPOP", "{tempest:web}:high", "tempest:web", "{tempest:web}:low", "0"]).expect("sent");
        wait_until("it to wait in Redis", || {
            played.world.redis.cmd(&["INFO", "clients"]).text().contains("blocked_clients:2")
        });
        played.world.redis.cmd(&[
            "RPUSH",
            list,
            &format!("{{\"v\":1,\"id\":\"{id}\",\"attempt\":1,\"queue\":\"web\",\"action\":\"t.x\"}}"),
        ]);
        assert_eq!(popped(&worker.read().expect("a reply")), id);
        assert_eq!(played.claims(), [id]);
    }
    played.finish();
}

#[test]
fn other_lists_keep_their_place_in_the_order() {
    let mut played = Played::start();
    let mut worker = played.connect();
    let pop = ["BLPOP", "urgent", "tempest:web", "idle", "5"];
    for list in ["idle", "urgent"] {
        played.world.redis.cmd(&["RPUSH", list, list]);
    }
    played.push("j1");
    let mut came = Vec::new();
    for _ in 0..3 {
        came.push(worker.cmd(&pop).list()[0].text());
    }
    assert_eq!(came, ["urgent", "tempest:web", "idle"]);
    worker.send(&pop).expect("sent");
    played.world.redis.cmd(&["RPUSH", "idle", "late"]);
    assert_eq!(worker.read().expect("a reply").list()[1].text(), "late");
    worker.send(&pop).expect("sent");
    played.push("j2");
    assert_eq!(popped(&worker.read().expect("a reply")), "j2");
    played.finish();
}

#[test]
fn what_is_written_at_once_is_answered_in_order() {
    let mut played = Played::start();
    (1..=3).for_each(|n| played.push(&format!("j{n}")));
    let mut worker = played.connect();
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j1");
    // As a worker does that sends its answer and the next pop in one write, and more.
    let mut raw = played.connect_raw();
    raw.send("SET a 1\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$4\r\nLPOP\r\n$11\r\ntempest:web\r\nPING\r\nLPOP tempest:web\r\nDEL a\r\n");
    raw.expect(
        "+OK\r\n$1\r\n1\r\n$63\r\n{\"action\":\"test.run\",\"attempt\":1,\"id\":\"j2\",\"queue\":\"web\",\"v\":1}\r\n",
    );
    raw.expect(
        "+PONG\r\n$63\r\n{\"action\":\"test.run\",\"attempt\":1,\"id\":\"j3\",\"queue\":\"web\",\"v\":1}\r\n:1\r\n",
    );
    // The other connection is open: what it took is its own.
    assert_eq!(played.claims(), ["j1", "j3"]);
    drop(worker);
    wait_until("its end to be seen and its job to be acknowledged by the next pop", || {
        raw.send("LPOP tempest:web\r\n");
        raw.expect("$-1\r\n");
        played.claims().is_empty()
    });
    played.finish();
}

#[test]
fn the_third_version_of_the_protocol_has_its_own_nothing() {
    let mut played = Played::start();
    let mut raw = played.connect_raw();
    raw.send("HELLO 3 SETNAME x\r\nBLPOP tempest:web 0.1\r\nLPOP tempest:web\r\n");
    raw.expect("%");
    let mut seen = String::new();
    while !seen.ends_with("_\r\n_\r\n") {
        let mut byte = [0];
        raw.read_into(&mut byte);
        seen.push(char::from(byte[0]));
    }
    played.push("j1");
    raw.send("CLIENT TRACKING ON BCAST\r\nBLPOP tempest:web 5\r\n");
    raw.expect("+OK\r\n");
    let mut seen = String::new();
    while !seen.ends_with("\"v\":1}\r\n") {
        let mut byte = [0];
        raw.read_into(&mut byte);
        seen.push(char::from(byte[0]));
    }
    assert!(seen.contains("*2\r\n$11\r\ntempest:web\r\n$63\r\n"), "{seen}");
    assert_eq!(played.claims(), ["j1"]);
    played.finish();
}

#[test]
fn garbage_ends_its_own_connection_alone() {
    let mut played = Played::start();
    let mut worker = played.connect();
    worker.cmd(&["PING"]);
    for garbage in ["*1\r\n+PING\r\n", "*x\r\n", "*1\r\n$-5\r\n", "*2\r\n$5\r\nBLPOP\r\n$9999999999999999999\r\n"] {
        let mut raw = played.connect_raw();
        raw.send(garbage);
        assert!(raw.rest().starts_with("-ERR Protocol error"), "{garbage:?}: Redis says what is wrong");
    }
    played.push("j1");
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j1");
    played.finish();
}

#[test]
fn subscriptions_and_transactions_pass_as_they_are() {
    let mut played = Played::start();
    let mut subscriber = played.connect();
    subscriber.cmd(&["SUBSCRIBE", "news"]);
    played.world.redis.publish("news", "hello");
    assert_eq!(subscriber.read().expect("a message").list()[2].text(), "hello");
    played.push("j1");
    played.push("j2");
    let mut worker = played.connect();
    worker.cmd(&["MULTI"]);
    assert_eq!(worker.cmd(&["LPOP", "tempest:web"]).text(), "QUEUED");
    assert_eq!(ids(&worker.cmd(&["EXEC"])), ["j1"]);
    assert_eq!(played.claims(), Vec::<String>::new(), "Redis has popped it");
    worker.cmd(&["SELECT", "1"]);
    assert_eq!(worker.cmd(&["LPOP", "tempest:web"]), Value::Nil);
    worker.cmd(&["SELECT", "0"]);
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j2");
    assert_eq!(played.claims(), ["j2"]);
    played.finish();
}

#[test]
fn large_messages_pass_both_ways() {
    let mut played = Played::start();
    let mut worker = played.connect();
    let body = "x".repeat(3 * 1024 * 1024);
    for round in 0..3 {
        played.push_job(&format!(
            "{{\"v\":1,\"id\":\"j{round}\",\"attempt\":1,\"queue\":\"web\",\"action\":\"t.x\"}}\n{body}"
        ));
        let reply = worker.cmd(&["BLPOP", "tempest:web", "5"]);
        assert_eq!(
            (popped(&reply), reply.list()[1].bytes().map(<[u8]>::len)),
            (format!("j{round}"), Some(body.len() + 59))
        );
        assert_eq!(worker.cmd(&["RPUSH", "other", &body]).int(), round + 1);
    }
    assert_eq!(worker.cmd(&["LPOP", "other"]).bytes().map(<[u8]>::len), Some(body.len()));
    played.finish();
}

#[test]
fn two_connections_wait_and_each_gets_its_job() {
    let mut played = Played::start();
    let (mut one, mut two) = (played.connect(), played.connect());
    for round in 0..3 {
        one.send(&["BLPOP", "tempest:web", "0"]).expect("sent");
        two.send(&["BLPOP", "tempest:web", "0"]).expect("sent");
        let expected = [format!("{round}a"), format!("{round}b")];
        expected.iter().for_each(|id| played.push(id));
        let mut came = [&mut one, &mut two].map(|worker| popped(&worker.read().expect("a reply")));
        came.sort();
        assert_eq!(came, expected);
        assert_eq!(played.claims(), expected);
    }
    played.finish();
}

#[test]
fn a_pop_that_nobody_waits_for_any_more_takes_nothing() {
    let mut played = Played::start();
    let mut worker = played.connect();
    worker.send(&["BLPOP", "tempest:web", "0"]).expect("sent");
    wait_until("it to wait in Redis", || {
        played.world.redis.cmd(&["INFO", "clients"]).text().contains("blocked_clients:2")
    });
    drop(worker);
    played.push("j1");
    wait_until("the job to be in the queue again", || played.claims().is_empty() && played.depth() == 1);
    assert_eq!(popped(&played.connect().cmd(&["BLPOP", "tempest:web", "5"])), "j1");
    played.finish();
}

#[test]
fn redis_itself_asks_for_the_password() {
    let world = World::start();
    world.redis.connect().cmd(&["ACL", "SETUSER", "w", "on", ">p@ss", "~*", "&*", "+@all"]);
    let mut played = Played::start_with(world, "w:p%40ss@", "");
    assert!(played.url.starts_with("redis://w:p%40ss@127.0.0.1:"), "{}", played.url);
    played.world.redis.connect().cmd(&[
        "ACL",
        "SETUSER",
        "default",
        "nopass",
        "resetchannels",
        "-@all",
        "+auth",
        "+ping",
    ]);
    let mut worker = played.connect();
    let refused = |reply| matches!(reply, Ok(Value::Error(words)) if words.starts_with("NOPERM"));
    assert!(refused(worker.try_cmd(&["BLPOP", "tempest:web", "1"])), "nobody has said who it is");
    worker.cmd(&["AUTH", "w", "p@ss"]);
    worker.cmd(&["ACL", "SETUSER", "default", "+@all", "allchannels"]);
    played.push("j1");
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j1");
    assert_eq!(played.claims(), ["j1"]);
    played.finish();
}

#[test]
fn a_redis_that_forgets_is_told_again() {
    let mut played = Played::start();
    let mut worker = played.connect();
    played.push("j1");
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j1");
    played.world.redis.cmd(&["SCRIPT", "FLUSH"]);
    played.push("j2");
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j2");
    assert_eq!(played.claims(), ["j2"]);
    // As if a front had taken it for dead.
    let (claimers, claimed) = (played.key("claimers"), played.key(&format!("claimed:{}", played.id)));
    played.world.redis.cmd(&["HDEL", &claimers, &played.id]);
    played.world.redis.cmd(&["DEL", &claimed]);
    played.push("j3");
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j3");
    assert_eq!(played.claims(), ["j3"]);
    // Empty, and another one.
    played.world.restart_redis();
    assert!(worker.try_cmd(&["PING"]).is_err(), "the connection has ended with that of Redis");
    let mut worker = played.connect();
    played.push("j4");
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j4");
    assert_eq!(played.claims(), ["j4"]);
    played.finish();
}

#[test]
fn a_worker_in_base_mode_is_told_of_redis_itself() {
    let played = Played::start_with(World::start(), "", "claims = 'base'");
    assert_eq!((&played.url, &played.url), (&played.direct, &played.world.redis.url()));
    played.finish();
}
