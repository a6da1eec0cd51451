//! What becomes of the lists in a real Redis, which a test starts on a socket of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::broker::Sink;
use crate::config::{ClientGone, Priority, WhenNoWorker};
use crate::lifecycle::Lifecycle;

/// A Redis without anything in it; ended with the test.
pub(super) struct Redis {
    process: Child,
    folder: PathBuf,
}

impl Redis {
    pub(super) fn start() -> Self {
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

    /// A connection that stays.
    pub(super) fn connect(&self) -> Connection {
        let stream = UnixStream::connect(self.folder.join("redis.sock")).expect("it listens");
        Connection(BufReader::new(stream))
    }

    /// A command over a connection of its own.
    pub(super) fn command(&self, words: &[&str]) -> Vec<String> {
        self.connect().command(words)
    }

    pub(super) fn number(&self, words: &[&str]) -> i64 {
        self.command(words).first().map_or(0, |word| word.parse().expect("a number"))
    }

    pub(super) fn length(&self, key: &str) -> i64 {
        self.number(&["LLEN", key])
    }
}

/// A connection of a test.
pub(super) struct Connection(BufReader<UnixStream>);

impl Connection {
    /// A command and its reply: numbers and texts one by one, whatever they are nested in.
    pub(super) fn command(&mut self, words: &[&str]) -> Vec<String> {
        let mut out = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| out += &format!("${}\r\n{word}\r\n", word.len()));
        self.0.get_mut().write_all(out.as_bytes()).expect("it reads");
        let mut found = Vec::new();
        read_reply(&mut self.0, &mut found);
        found
    }

    pub(super) fn number(&mut self, words: &[&str]) -> i64 {
        self.command(words).first().map_or(0, |word| word.parse().expect("a number"))
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
    fn published_to_pattern(&self, _: &str, _: &str, _: &[u8]) {}

    fn subscribed(&self, _: bool) {}
    fn lagged(&self, _: u64) {}
}

/// Waits for what Redis and the tasks of this thread do.
pub(super) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(10), "waited for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What a future gives, which must not take long.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(10), future).await;
    waited.unwrap_or_else(|_| panic!("waited for {what}"))
}

/// Runs a test with a table whose broker is connected.
pub(super) fn with_redis<F: Future<Output = ()>>(
    change: impl FnOnce(&mut Setup),
    test: impl FnOnce(Rc<World>, Rc<Redis>) -> F,
) {
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

pub(super) async fn in_list(world: &World, method: Method) -> Waiting {
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
            until("the reply to be counted", || world.metrics.withdrawn.get() == 1).await;
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
            let refused = soon("the refusal", third.ticket.head()).await;
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
pub(super) async fn round_trip(world: &World) {
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
                assert!(matches!(soon("the refusal", second.ticket.head()).await, Err(Failure::QueueFull(_))));
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
            assert!(matches!(soon("the refusal", waiting.ticket.head()).await, Err(Failure::NoWorker)));
            assert_eq!(redis.length("tempest:web"), 0);
            world.lane.queue.was_answered(Instant::now());
            let known = in_list(&world, Method::GET).await;
            round_trip(&world).await;
            assert!(known.head().is_none(), "somebody answered lately");
            assert_eq!(redis.length("tempest:web"), 1);
        },
    );
}
