//! Scripts that die with a job in hand, and the seven raw workers as they are.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;
use tempest_tests::{RAW_LANGUAGES, Signal, World, kill, packed, prepare_raw_workers, repository, wait_until};

use super::played::{Played, popped};
use super::{said, supervise};

/// A worker in bash: it says its process and the attempt, takes its time with the first, and says which one it answers.
const SLOW: &str = r#"
cli=(redis-cli --raw -u "$REDIS_URL")
while :; do
  job=$("${cli[@]}" BLPOP "$TEMPEST_QUEUE" 1 | sed -n 2p)
  [[ $job ]] || continue
  [[ $job =~ '"id":"'([^\"]+) ]] && id=${BASH_REMATCH[1]}
  [[ $job =~ '"attempt":'([0-9]+) ]] && attempt=${BASH_REMATCH[1]}
  [[ $job =~ '"reply_to":"'([^\"]+) ]] && to=${BASH_REMATCH[1]}
  echo "begun $attempt $$"
  [[ $attempt == 1 ]] && sleep 1000
  "${cli[@]}" RPUSH "$to" '{"id":"'$id'","body":"attempt '$attempt'"}'
done
"#;

/// A world with two such workers, and their log.
fn slow() -> (World, tempest_tests::Log) {
    let mut world = World::start();
    fs::create_dir_all(world.dir().join("workers")).expect("the folder can be made");
    fs::write(world.dir().join("workers/slow.sh"), SLOW).expect("a file");
    let redis = world.redis.url();
    let log =
        supervise(&mut world, &redis, "[workers.slow]\ncommand = 'bash slow.sh'\nprocesses = 2\nstop_time = '1s'\n");
    (world, log)
}

#[track_caller]
fn begun(log: &tempest_tests::Log, from: usize, attempt: u32) -> u32 {
    said(log, from, &format!("begun {attempt} ")).parse().expect("a process id")
}

#[test]
fn a_script_that_is_killed_with_a_request_leaves_it_to_the_next() {
    let (mut world, log) = slow();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    kill(begun(&log, 0, 1), Signal::KILL);
    let response = http.response();
    assert_eq!((response.status, response.text()), (200, "attempt 2".to_owned()));
    // What may not be done twice is not.
    let from = log.len();
    http.request("POST", "/", &[], b"x");
    kill(begun(&log, from, 1), Signal::KILL);
    assert_eq!(http.response().status, 502);
    // The front has heard of it before; the entry goes when the holder of the lease looks next, within a second.
    wait_until("what is lost to be handed over", || world.redis.llen("{tempest:web}:lost") == 0);
    drop(http);
    world.finish();
}

#[test]
fn a_script_that_is_stopped_for_long_is_killed_and_its_request_goes_on() {
    let (world, log) = slow();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let pid = begun(&log, 0, 1);
    kill(pid, Signal::STOP);
    assert_eq!(http.response().text(), "attempt 2");
    wait_until("the stopped one to be gone", || !tempest_tests::alive(pid));
    drop(http);
    world.finish();
}

#[test]
fn a_script_that_goes_on_in_time_keeps_its_job() {
    let mut played = Played::start();
    let mut worker = played.connect();
    played.push("j1");
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j1");
    kill(played.pid, Signal::STOP);
    let record = played.key(&format!("worker:{}", played.id));
    wait_until("it to be known as stopped", || played.world.redis.cmd(&["PTTL", &record]).int() > 3_500);
    kill(played.pid, Signal::CONT);
    wait_until("it to beat again", || (1..=3_000).contains(&played.world.redis.cmd(&["PTTL", &record]).int()));
    assert_eq!(played.claims(), ["j1"]);
    played.finish();
}

#[test]
fn a_background_job_goes_back_to_the_queue_unless_its_script_ends_in_order() {
    let mut played = Played::start();
    let mut worker = played.connect();
    played.push("j1");
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j1");
    kill(played.pid, Signal::KILL);
    wait_until("the job to be back", || played.depth() == 1);
    assert!(worker.try_cmd(&["PING"]).is_err(), "what a dead worker has left to say is not said");
    let crashes = played.world.redis.cmd(&["HGET", &played.key("attempts"), "j1"]).text();
    assert_eq!(crashes, "1");
    played.world.redis.cmd(&["DEL", "tempest:web"]);
    played.world.finish();

    // A script that pops once and ends content.
    let mut world = World::start();
    let redis = world.redis.url();
    world.redis.cmd(&["RPUSH", "tempest:web", r#"{"v":1,"id":"j2","attempt":1,"queue":"web","action":"t.x"}"#]);
    let once = "redis-cli -u \"$REDIS_URL\" BLPOP \"$TEMPEST_QUEUE\" 9 > taken";
    supervise(&mut world, &redis, &format!("[workers.once]\ncommand = ['sh', '-c', '{once}']\nrestart_wait = '1h'\n"));
    let reaped = |world: &mut World| world.redis.cmd(&["HGET", "{tempest:web}:stats", "reaped"]).text();
    wait_until("it to have ended", || reaped(&mut world) == "1");
    assert_eq!(world.redis.llen("tempest:web"), 0);
    assert_eq!(world.redis.cmd(&["EXISTS", "{tempest:web}:attempts", "{tempest:web}:dead"]).int(), 0);
    world.finish();
}

/// The workers that each job has crashed.
fn counted(played: &mut Played) -> Vec<String> {
    let fields = played.world.redis.cmd(&["HGETALL", &played.key("attempts")]);
    let mut counts: Vec<_> =
        fields.list().chunks(2).map(|pair| format!("{}={}", pair[0].text(), pair[1].text())).collect();
    counts.sort();
    counts
}

#[test]
fn crashes_are_forgotten_when_a_job_is_done_and_not_when_it_was_taken_away() {
    let mut played = Played::start();
    let mut worker = played.connect();
    let (counts, claimed) = (played.key("attempts"), played.key(&format!("claimed:{}", played.id)));
    played.world.redis.cmd(&["HSET", &counts, "j1", "1", "j2", "1"]);
    played.push("j1");
    played.push("j2");
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j1");
    // As a reaper does, but for the registration.
    played.world.redis.cmd(&["HDEL", &claimed, "1"]);
    played.world.redis.cmd(&["HINCRBY", &counts, "j1", "1"]);
    // Coming back for more says that a job is done.
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j2");
    assert_eq!(counted(&mut played), ["j1=2", "j2=1"]);
    played.push("j3");
    assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), "j3");
    assert_eq!(counted(&mut played), ["j1=2"]);
    assert_eq!(played.claims(), ["j3"]);
    played.world.redis.cmd(&["DEL", &counts]);
    played.finish();
}

#[test]
fn a_job_in_messagepack_is_known_by_its_id() {
    let mut played = Played::start();
    let mut worker = played.connect();
    let counts = played.key("attempts");
    for id in ["j1", "j2"] {
        let job =
            packed::write(&json!({"v": 1, "id": id, "attempt": 1, "queue": "web", "action": "test.run"}), b"\xff");
        played.world.redis.cmd(&[&b"RPUSH"[..], b"tempest:web", &job]);
        played.world.redis.cmd(&["HSET", &counts, id, "1"]);
    }
    for id in ["j1", "j2"] {
        assert_eq!(popped(&worker.cmd(&["BLPOP", "tempest:web", "5"])), id);
    }
    assert_eq!(counted(&mut played), ["j2=1"], "the first is done, and its crashes are forgotten");
    assert_eq!(played.claims(), ["j2"]);
    played.world.redis.cmd(&["DEL", &counts]);
    played.finish();
}

#[test]
fn seven_languages_claim_without_knowing_it_and_survive_a_restart_of_redis() {
    prepare_raw_workers();
    let mut world = World::start();
    let ready = repository().join("examples/raw/.build/ready");
    let table = |language: &&str| format!("[workers.{language}]\ncommand = '{}'\n", ready.join(language).display());
    let redis = world.redis.url();
    supervise(&mut world, &redis, &RAW_LANGUAGES.iter().map(table).collect::<String>());
    let all = |world: &World| {
        let expected: BTreeSet<String> = RAW_LANGUAGES.iter().map(ToString::to_string).collect();
        let mut seen = BTreeSet::new();
        wait_until("every language to answer", || {
            let mut clients: Vec<_> = (0..14).map(|_| world.http()).collect();
            clients.iter_mut().for_each(|http| http.request("GET", "/who", &[], b""));
            for http in &mut clients {
                let response = http.response();
                assert_eq!(response.status, 200, "{response:?}");
                seen.insert(response.header("x-worker").expect("an example names itself").to_owned());
            }
            seen == expected
        });
    };
    all(&world);
    assert_eq!(world.redis.cmd(&["HLEN", "{tempest:web}:claimers"]).int(), 7);
    world.restart_redis();
    all(&world);
    assert_eq!(world.redis.cmd(&["HLEN", "{tempest:web}:claimers"]).int(), 7);
    world.finish();
}
