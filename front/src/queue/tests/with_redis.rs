//! What becomes of the lists in a real Redis, which a test starts on a socket of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tempest_protocol::scripts;

use super::super::Keeper;
use super::*;
use crate::broker::Sink;
use crate::config::{ClientGone, Priority, WhenNoWorker};
use crate::lifecycle::Lifecycle;

/// A Redis without anything in it; ended with the test.
struct Redis {
    process: Child,
    folder: PathBuf,
}

impl Redis {
    fn start() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tempest-queue-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        // The kernel ends it, too, where the test cannot.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "redis-server", "--port", "0", "--save", "", "--unixsocket"])
            .arg(folder.join("redis.sock"))
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is installed");
        let mut redis = Self { process, folder };
        let mut out = BufReader::new(redis.process.stdout.take().expect("it is piped"));
        let mut line = String::new();
        while !line.contains("Ready to accept connections") && !line.contains("ready to accept connections") {
            line.clear();
            assert!(out.read_line(&mut line).expect("a line") > 0, "redis-server ended");
        }
        std::thread::spawn(move || out.read_to_end(&mut Vec::new()));
        redis
    }

    fn url(&self) -> RedisUrl {
        format!("unix://{}", self.folder.join("redis.sock").display()).parse().expect("a URL")
    }

    /// A command and the lines of its reply: numbers and texts one by one, whatever they are nested in.
    fn command(&self, words: &[&str]) -> Vec<String> {
        let mut stream = UnixStream::connect(self.folder.join("redis.sock")).expect("it listens");
        let mut out = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| out += &format!("${}\r\n{word}\r\n", word.len()));
        stream.write_all(out.as_bytes()).expect("it reads");
        let mut found = Vec::new();
        read_reply(&mut BufReader::new(stream), &mut found);
        found
    }

    fn number(&self, words: &[&str]) -> i64 {
        self.command(words).first().map_or(0, |word| word.parse().expect("a number"))
    }

    fn length(&self, key: &str) -> i64 {
        self.number(&["LLEN", key])
    }
}

fn read_reply(stream: &mut BufReader<UnixStream>, found: &mut Vec<String>) {
    let mut line = String::new();
    stream.read_line(&mut line).expect("a reply");
    let (kind, rest) = (line.as_bytes()[0], line[1..].trim_end().to_owned());
    match kind {
        b'*' => (0..rest.parse::<i64>().expect("a count")).for_each(|_| read_reply(stream, found)),
        b'$' if rest == "-1" => {}
        b'$' => {
            let mut text = vec![0; rest.parse::<usize>().expect("a length") + 2];
            stream.read_exact(&mut text).expect("a text");
            text.truncate(text.len() - 2);
            found.push(String::from_utf8_lossy(&text).into_owned());
        }
        b'-' => panic!("{rest}"),
        _ => found.push(rest),
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

struct Ears(Rc<Dispatch>);

impl Sink for Ears {
    fn pushed(&self, results: &mut Vec<(u64, Pushed)>) {
        self.0.pushed(results);
    }
    fn answers(&self, messages: Vec<Bytes>) {
        self.0.answers(&messages);
    }
    fn connected(&self, forgot: bool) {
        self.0.connected(forgot);
    }
    fn published(&self, _: &str, _: &[u8]) {}
    fn subscribed(&self, _: bool) {}
    fn lagged(&self, _: u64) {}
}

/// Waits for what Redis and the tasks of this thread do.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(10), "waited for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs a test with a table whose broker is connected.
fn with_redis<F: Future<Output = ()>>(change: impl FnOnce(&mut Setup), test: impl FnOnce(Rc<World>, Rc<Redis>) -> F) {
    let redis = Rc::new(Redis::start());
    run(async {
        let world = Rc::new(world(|setup| {
            setup.options.url = redis.url();
            change(setup);
        }));
        let lifecycle = Lifecycle::new();
        world.broker.start(Rc::new(Ears(Rc::clone(&world.dispatch))), &lifecycle.life());
        until("a connection", || world.broker.is_up()).await;
        test(world, redis).await;
    });
}

async fn in_list(world: &World, method: Method) -> Waiting {
    let waiting = world.submit(method);
    until("the push", || world.sent(&waiting) == Sent::Queued).await;
    waiting
}

const WITHDRAWN: &str = "{tempest:web}:withdrawn";

#[test]
fn the_job_of_a_client_that_left_is_taken_out() {
    with_redis(
        |_| {},
        |world, redis| async move {
            let (one, other) = (in_list(&world, Method::GET).await, in_list(&world, Method::GET).await);
            assert_eq!(redis.length("tempest:web"), 2);
            drop(one);
            until("the job to be gone", || redis.length("tempest:web") == 1).await;
            assert!(redis.command(&["LINDEX", "tempest:web", "0"])[0].contains(&other.id));
            assert_eq!(redis.number(&["EXISTS", WITHDRAWN]), 0);
            assert_eq!(world.metrics.withdrawn.get(), 1);
        },
    );
}

#[test]
fn a_job_too_deep_to_be_searched_is_noted_until_its_deadline() {
    with_redis(
        |setup| setup.limits.withdraw_depth = 0,
        |world, redis| async move {
            let waiting = in_list(&world, Method::GET).await;
            let (id, now) = (waiting.id.clone(), world.broker.now_ms() as i64);
            drop(waiting);
            until("the note", || redis.number(&["EXISTS", WITHDRAWN]) == 1).await;
            assert_eq!(redis.length("tempest:web"), 1);
            let until = redis.number(&["ZSCORE", WITHDRAWN, &id]);
            assert!((now + 5_000..=now + 10_050).contains(&until), "{} ms", until - now);
        },
    );
}

#[test]
fn work_that_may_be_finished_is_not_noted() {
    let route = |setup: &mut Setup| {
        setup.route.client_gone = ClientGone::Finish;
        setup.limits.withdraw_depth = 1;
    };
    with_redis(route, |world, redis| async move {
        let begun = in_list(&world, Method::GET).await;
        world.answer(&begun.message(",\"n\":0,\"more\":true"));
        drop(begun);
        drop(in_list(&world, Method::GET).await); // the second of a list that is searched to a depth of one
        let marker = in_list(&world, Method::GET).await;
        assert_eq!((redis.number(&["EXISTS", WITHDRAWN]), redis.length("tempest:web")), (0, 3));
        drop(marker);
        redis.command(&["LTRIM", "tempest:web", "3", "-1"]);
        drop(in_list(&world, Method::GET).await);
        until("the only one to be taken out", || redis.length("tempest:web") == 0).await;
    });
}

#[test]
fn who_runs_a_stream_that_nobody_reads_is_told() {
    with_redis(
        |_| {},
        |world, redis| async move {
            let waiting = in_list(&world, Method::GET).await;
            world.answer(&waiting.message(",\"n\":0,\"more\":true"));
            let id = waiting.id.clone();
            drop(waiting);
            until("the note", || redis.number(&["EXISTS", WITHDRAWN]) == 1).await;
            assert_eq!(redis.command(&["ZRANGE", WITHDRAWN, "0", "-1"]), [id]);
            assert_eq!(redis.length("tempest:web"), 1, "no list is searched for a job that runs");
        },
    );
}

#[test]
fn a_late_job_is_looked_for_in_a_deep_list() {
    let change = |setup: &mut Setup| {
        setup.limits.withdraw_depth = 1;
        setup.limits.queue_depth = 1_000;
    };
    with_redis(change, |world, redis| async move {
        let waiting = in_list(&world, Method::POST).await;
        let filler: Vec<String> = (0..300).map(|nth| nth.to_string()).collect();
        let words: Vec<&str> = ["RPUSH", "tempest:web"].into_iter().chain(filler.iter().map(String::as_str)).collect();
        redis.command(&words);
        let deadline = world.look(&waiting, |pending| pending.deadline);
        world.dispatch.tick(deadline);
        assert_eq!(waiting.failure(), Failure::Deadline);
        until("the job to be gone", || redis.length("tempest:web") == 300).await;
        // One that a worker has: it is told for a minute.
        let running = in_list(&world, Method::POST).await;
        redis.command(&["DEL", "tempest:web"]);
        let deadline = world.look(&running, |pending| pending.deadline);
        let now = world.broker.now_ms() as i64;
        world.dispatch.tick(deadline);
        until("the note", || redis.number(&["EXISTS", WITHDRAWN]) == 1).await;
        let until = redis.number(&["ZSCORE", WITHDRAWN, &running.id]);
        assert!((now + 59_000..now + 61_000).contains(&until), "{} ms", until - now);
    });
}

#[test]
fn the_end_takes_out_what_waits() {
    with_redis(
        |_| {},
        |world, redis| async move {
            let _waiting = [in_list(&world, Method::GET).await, in_list(&world, Method::POST).await];
            world.dispatch.fail_all(&Failure::Draining);
            until("the list to be empty", || redis.length("tempest:web") == 0).await;
            world.assert_empty();
        },
    );
}

#[test]
fn one_too_many_is_taken_back() {
    with_redis(
        |setup| setup.limits.queue_depth = 2,
        |world, redis| async move {
            let _two = [in_list(&world, Method::GET).await, in_list(&world, Method::GET).await];
            let third = world.submit(Method::POST);
            let refused = third.ticket.head().await;
            assert!(matches!(refused, Err(Failure::QueueFull(_))), "{refused:?}");
            assert_eq!(redis.length("tempest:web"), 2);
            assert!(matches!(world.refusal(), Failure::QueueFull(_)));
            assert_eq!(world.refused(Refusal::QueueFull), 2);
        },
    );
}

#[test]
fn what_was_tried_again_or_has_begun_is_not_refused_any_more() {
    with_redis(
        |setup| setup.limits.queue_depth = 1,
        |world, redis| async move {
            let _first = in_list(&world, Method::GET).await;
            let second = world.submit(Method::GET);
            world.pushed(&second, Pushed::Unknown);
            until("both attempts to be there", || redis.length("tempest:web") >= 2).await;
            let begun = world.submit(Method::GET);
            world.answer(&begun.message(",\"n\":0,\"more\":true"));
            until("the push", || world.sent(&begun) == Sent::Queued).await;
            round_trip(&world).await;
            assert!(second.head().is_none());
            assert_eq!(begun.status(), 200);
            assert_eq!(world.attempt(&second), 2);
        },
    );
}

/// When this is over, so is what was sent before it.
async fn round_trip(world: &World) {
    let reply = world.broker.call(crate::broker::Command::new(&[b"PING"])).await;
    assert!(reply.is_ok());
}

#[test]
fn priorities_have_lists_of_their_own() {
    for (priority, list) in [(Priority::High, "{tempest:web}:high"), (Priority::Low, "{tempest:web}:low")] {
        with_redis(
            move |setup| setup.route.priority = priority,
            move |world, redis| async move {
                // Workers wait at the normal list alone, so the first goes there.
                let _first = in_list(&world, Method::GET).await;
                let second = in_list(&world, Method::GET).await;
                assert_eq!((redis.length("tempest:web"), redis.length(list)), (1, 1), "{list}");
                drop(second);
                until("the second to be gone", || redis.length(list) == 0).await;
            },
        );
        with_redis(
            move |setup| {
                setup.route.priority = priority;
                setup.limits.queue_depth = 1;
            },
            move |world, redis| async move {
                let _first = in_list(&world, Method::GET).await;
                let second = world.submit(Method::GET);
                assert!(matches!(second.ticket.head().await, Err(Failure::QueueFull(_))));
                assert_eq!((redis.length("tempest:web"), redis.length(list)), (1, 0), "{list}");
            },
        );
    }
}

#[test]
fn without_a_worker_a_job_is_taken_back_at_once() {
    with_redis(
        |setup| setup.route.when_no_worker = WhenNoWorker::Fail,
        |world, redis| async move {
            let waiting = world.submit(Method::GET);
            assert!(matches!(waiting.ticket.head().await, Err(Failure::NoWorker)));
            assert_eq!(redis.length("tempest:web"), 0);
            world.lane.queue.was_answered(Instant::now());
            let known = in_list(&world, Method::GET).await;
            round_trip(&world).await;
            assert!(known.head().is_none(), "somebody answered lately");
            assert_eq!(redis.length("tempest:web"), 1);
        },
    );
}

/// A worker that claims one job and is heard of no more; `connections` as it registered them.
fn claims_and_dies(redis: &Redis, connections: &str, marks: &str) {
    let info = redis.command(&["INFO", "server"]).remove(0);
    let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:")).expect("a run id").trim().to_owned();
    let registration = format!("{run_id} {connections}");
    redis.command(&["EVAL", scripts::REGISTER, "1", "{tempest:web}:claimers", "w-7", &registration, "1"]);
    let keys = ["claimers", "claimed:w-7", "landing:w-7", "", "high", "low", "withdrawn", "attempts", "stats"];
    let keys = keys.map(|key| if key.is_empty() { "tempest:web".into() } else { format!("{{tempest:web}}:{key}") });
    let mut words = vec!["EVAL", scripts::CLAIM, "9"];
    words.extend(keys.iter().map(String::as_str));
    words.extend(["w-7", "1", "1", marks]);
    redis.command(&words);
    assert_eq!(redis.length("tempest:web"), 0, "it has the job");
}

#[test]
fn a_dead_workers_job_is_pushed_again() {
    with_redis(
        |_| {},
        |world, redis| async move {
            for keeper in Keeper::all(&world.dispatch) {
                tokio::task::spawn_local(keeper.keep());
            }
            let (get, post) = (in_list(&world, Method::GET).await, in_list(&world, Method::POST).await);
            redis.command(&["LPOP", "tempest:web"]);
            let begin = Instant::now();
            claims_and_dies(&redis, "999999 999998", "1");
            let failed = post.ticket.head().await;
            assert!(matches!(failed, Err(Failure::WorkerDied)), "a POST that was started: {failed:?}");
            // 100 ms to come back, looks every 25 ms; a loaded machine takes longer, but silence would be three seconds.
            assert!(begin.elapsed() < Duration::from_millis(2_500), "{:?}", begin.elapsed());
            assert_eq!(world.metrics.reaped.get(), 1);
            until("the lost jobs to be removed", || redis.length("{tempest:web}:lost") == 0).await;
        assert_eq!(redis.number(&["EXISTS", "{tempest:web}:claimed:w-7"]), 0);
            assert_eq!(redis.number(&["HLEN", "{tempest:web}:claimers"]), 0);
            assert!(get.head().is_none());
            assert_eq!(world.problem().what, "worker-died");
            drop(get);
            until("the lease to be left", || redis.number(&["EXISTS", "{tempest:web}:lease"]) == 0).await;
        },
    );
}

#[test]
fn a_silent_worker_is_dead_and_jobs_of_others_are_told_to_them() {
    with_redis(
        |_| {},
        |world, redis| async move {
            let waiting = in_list(&world, Method::GET).await;
            let job = "{\"v\":1,\"id\":\"x\",\"attempt\":4,\"reply_to\":\"tempest:@other.0\"}";
            claims_and_dies(&redis, "- -", "1");
            redis.command(&["HSET", "{tempest:web}:claimed:w-7", "2", job]);
            redis.command(&["HSET", "{tempest:web}:claimed:w-7", "3", "{\"v\":1,\"id\":\"mail\"}"]);
            for keeper in Keeper::all(&world.dispatch) {
                tokio::task::spawn_local(keeper.keep());
            }
            until("the second attempt", || world.attempt(&waiting) == 2).await;
            until("the push of it and of the background job", || redis.length("tempest:web") == 2).await;
            assert_eq!(redis.length("tempest:@other.0"), 1);
            let told: serde_json::Value =
                serde_json::from_str(&redis.command(&["LPOP", "tempest:@other.0"])[0]).expect("JSON");
            let expected = serde_json::json!({
                "id": "x", "kind": "died", "attempt": 4, "started": false, "certain": false, "worker": "w-7",
            });
            assert_eq!(told, expected);
            assert_eq!(redis.number(&["EXISTS", "{tempest:web}:lost"]), 0);
        },
    );
}

#[test]
fn a_queue_is_looked_at() {
    with_redis(
        |_| {},
        |world, redis| async move {
            let now = world.broker.now_ms();
            redis.command(&["ZADD", "{tempest:web}:workers", &now.to_string(), "w-1"]);
            redis.command(&["ZADD", "{tempest:web}:workers", &(now - 5_000).to_string(), "w-2"]);
            redis.command(&["HSET", "{tempest:web}:stats", "taken", "7"]);
            for keeper in Keeper::all(&world.dispatch) {
                tokio::task::spawn_local(keeper.keep());
            }
            until("the worker to be seen", || world.lane.queue.has_worker(Instant::now())).await;
            let left = redis.number(&["PTTL", "{tempest:web}:stats"]);
            assert!((86_000_000..=86_400_000).contains(&left), "{left}");
            assert_eq!(redis.number(&["EXISTS", "{tempest:web}:lease"]), 0, "nothing is claimed, so nobody watches");
            redis.command(&["DEL", "{tempest:web}:workers"]);
            until("the worker to be gone", || !world.lane.queue.has_worker(Instant::now())).await;
        },
    );
}

#[test]
fn claims_of_jobs_that_nobody_wanted_are_no_measure_of_speed() {
    let redis = Redis::start();
    let look = || {
        let keys = ["tempest:web", "h", "l", "s", "w", "c"];
        let words: Vec<&str> = ["EVAL", scripts::LOOK, "6"].into_iter().chain(keys).chain(["0", "1000"]).collect();
        redis.command(&words)
    };
    assert_eq!(look(), ["0", "0", "0", "0", "0", "0"]);
    redis.command(&["HSET", "s", "taken", "9"]);
    redis.command(&["RPUSH", "tempest:web", "job"]);
    assert_eq!(look(), ["1", "0", "0", "9", "0", "0"]);
    redis.command(&["HSET", "s", "withdrawn", "4"]);
    assert_eq!(look(), ["1", "0", "0", "5", "0", "0"]);
}
