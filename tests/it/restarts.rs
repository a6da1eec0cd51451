//! Fronts are replaced, killed and started on sockets that somebody else holds: nobody who asks may notice.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempest_tests::{
    Chunk, Client, Front, Item, Job, Load, PATIENCE, Process, Redis, Response, Signal, TestWorker, Up, World, alive,
    kill, scratch, tempest_binary, wait_until,
};

/// A run with several front processes, and a Redis of the test's.
struct Run {
    up: Up,
    redis: Redis,
}

impl Run {
    fn start(settings: &str) -> Self {
        let (dir, mark) = scratch();
        let redis = Redis::start(&dir.join("redis"), &mark);
        let config = format!(
            "redis.url = \"{}\"\nchannels.public = [\"*\"]\n{settings}\n\
             [[route]]\npath = \"/sub/{{channel...}}\"\nkind = \"subscribe\"\n\
             [[route]]\npath = \"/slow\"\nqueue = \"slow\"\n\
             [[route]]\npath = \"/{{rest...}}\"\nqueue = \"web\"\n",
            redis.url()
        );
        let up = Up::start_in(dir, mark, &config);
        let run = Self { up, redis };
        wait_until("a front to be ready", || run.up.front.is_ready());
        run
    }

    fn two() -> Self {
        let run = Self::start("front.processes = 2");
        wait_until("both fronts to be ready", || run.ready().len() == 2);
        run
    }

    /// The ids of the front processes, without their guards.
    fn fronts(&self) -> BTreeSet<u32> {
        let all = tempest_tests::processes_of(self.up.mark());
        all.into_iter()
            .filter(|(_, line)| line.contains(" front --") && !line.contains(" guard "))
            .map(|it| it.0)
            .collect()
    }

    /// The ids of those that say that they are ready.
    fn ready(&self) -> BTreeSet<u32> {
        let status: serde_json::Value =
            serde_json::from_str(&self.up.front.admin().get("/status").text()).expect("the status is JSON");
        let fronts = status["fronts"].as_array().expect("there are fronts");
        let ready = fronts.iter().filter(|front| front["not_ready"].is_null());
        ready.filter_map(|front| u32::try_from(front["pid"].as_u64()?).ok()).collect()
    }

    /// The process of a front, from its record in Redis.
    #[track_caller]
    fn pid_of(&mut self, front: &str) -> u32 {
        let record = self.redis.cmd(&["GET", &format!("tempest:@front:{front}")]);
        let record: serde_json::Value = serde_json::from_slice(record.bytes().expect("a record")).expect("JSON");
        u32::try_from(record["pid"].as_u64().expect("a process id")).expect("it is one")
    }

    /// SIGHUP, and waits until all are replaced.
    #[track_caller]
    fn replace(&mut self) {
        let from = self.up.front.process.log.len();
        self.up.front.process.signal(Signal::HUP);
        self.up.front.process.log.wait_from(from, "all fronts to be replaced", |line| {
            line.contains("all fronts are replaced").then_some(())
        });
    }

    fn worker(&self) -> TestWorker {
        TestWorker::start(&self.redis, "tempest:web", Load::answer)
    }

    #[track_caller]
    fn finish(mut self) {
        self.up.front.process.signal(Signal::INT);
        assert!(self.up.front.process.wait().success());
        assert_eq!(self.redis.cmd(&["KEYS", "tempest:@*.*"]).list().len(), 0, "answer lists of fronts that drained");
        self.redis.kill();
        self.up.finish_after_end();
    }
}

/// The id of the front that gave an answer.
#[track_caller]
fn front_of(answer: &Response) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    let id = answer.header("x-request-id").expect("every answer has an id");
    id.split('.').next().expect("it begins with the front's").to_owned()
}

#[test]
fn no_request_fails_while_all_fronts_are_replaced() {
    let mut run = Run::two();
    let worker = run.worker();
    let load = Load::start(run.up.front.address(), &Client::ALL);
    load.go_on(200);
    for _ in 0..2 {
        let before = run.fronts();
        assert_eq!(before, run.ready());
        run.replace();
        load.go_on(200);
        let after = run.fronts();
        assert_eq!((after.len(), &after), (2, &run.ready()));
        assert!(before.is_disjoint(&after), "{before:?} {after:?}");
    }
    assert_eq!(load.end(), Vec::<String>::new());
    drop(worker);
    run.finish();
}

#[test]
fn what_is_in_flight_is_answered_by_the_front_that_took_it() {
    let mut run = Run::start("front.processes = 1");
    let mut streams: Vec<_> = (0..5).map(|_| run.up.front.subscribe("news")).collect();
    let mut http = run.up.front.http();
    http.request("POST", "/slow", &[], b"x");
    let taken = run.redis.cmd(&["BLPOP", "tempest:slow", "20"]);
    let job = Job::parse(taken.list()[1].bytes().expect("an element"));
    run.up.front.process.signal(Signal::HUP);
    for stream in &mut streams {
        let rest = stream.until_end();
        assert!(rest.iter().any(|item| matches!(item, Item::Retry(_))), "a time to come back: {rest:?}");
    }
    let again = run.up.front.subscribe("news");
    run.redis.cmd(&[b"RPUSH".as_ref(), job.reply_to().as_bytes(), &job.answer(json!({"status": 200}), b"done")]);
    let answer = http.response();
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("done", Some("close")));
    run.up.front.process.log.wait_for("all fronts are replaced");
    drop((again, http, streams));
    run.finish();
}

#[test]
fn a_drain_answers_idle_connections_once_more() {
    let mut run = Run::start("front.processes = 1\nfront.drain_idle = \"20s\"\nfront.grace = \"25s\"");
    let worker = run.worker();
    let mut kept: Vec<_> = (0..3).map(|_| run.up.front.http()).collect();
    let fronts: Vec<_> = kept.iter_mut().map(|http| front_of(&http.get("/"))).collect();
    let fresh = run.up.front.http();
    run.up.front.process.signal(Signal::HUP);
    run.up.front.process.log.wait_for("SIGTERM: draining");
    for (mut http, front) in kept.into_iter().zip(fronts) {
        let answer = http.get("/");
        assert_eq!((front_of(&answer), answer.header("connection")), (front, Some("close")));
        assert!(http.closes_within(PATIENCE));
    }
    // It has been accepted by the old one or waits for the new one; either answers.
    { fresh }.get("/");
    run.up.front.process.log.wait_for("all fronts are replaced");
    drop(worker);
    run.finish();
}

#[test]
fn a_connection_that_becomes_idle_in_a_drain_is_kept_a_while() {
    let mut world = World::builder().set("front.drain_idle = \"2s\"").start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.answer(&job, json!({"status": 200, "more": true, "n": 0}), "be");
    assert_eq!(http.read_head().expect("a head").header("connection"), None, "said before the drain");
    assert_eq!(http.chunk(), Chunk::Data(b"be".to_vec()));
    let mut idle = world.http();
    idle.request("GET", "/", &[], b"");
    let other = world.take();
    world.ok(&other, "");
    idle.response();
    world.front.process.signal(Signal::TERM);
    assert!(idle.closes_within(PATIENCE), "its time is over");
    world.answer(&job, json!({"more": false, "n": 1}), "gun");
    assert_eq!((http.chunk(), http.chunk()), (Chunk::Data(b"gun".to_vec()), Chunk::End));
    assert!(!http.closes_within(Duration::from_secs(1)), "closed under the next request");
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.ok(&job, "done");
    let answer = http.response();
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("done", Some("close")));
    assert!(world.front.process.wait().success());
    drop((http, idle));
    world.finish_without_front();
}

#[test]
fn a_stream_asked_for_in_a_drain_is_told_to_come_back() {
    let mut world = World::start();
    let mut busy = world.http();
    busy.request("GET", "/", &[], b"");
    let job = world.take();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let other = world.take();
    world.ok(&other, "");
    http.response();
    world.front.process.signal(Signal::TERM);
    // The word in the log comes before the deed.
    wait_until("the drain to have begun", || !world.front.is_ready());
    let mut stream = tempest_tests::Sse::on(http, "/sub/news");
    assert_eq!((stream.head.status, stream.head.header("connection")), (200, Some("close")));
    assert!(stream.until_end().iter().any(|item| matches!(item, Item::Retry(_))));
    world.ok(&job, "done");
    assert_eq!(busy.response().text(), "done");
    assert!(world.front.process.wait().success());
    drop((busy, stream));
    world.finish_without_front();
}

#[test]
fn a_front_that_is_killed_breaks_its_own_connections_only() {
    let mut run = Run::two();
    let worker = run.worker();
    let mut kept: Vec<_> = (0..20).map(|_| run.up.front.http()).collect();
    let fronts: Vec<_> = kept.iter_mut().map(|http| front_of(&http.get("/"))).collect();
    let before = run.fronts();
    let victim = run.pid_of(&fronts[0]);
    kill(victim, Signal::KILL);
    wait_until("it to be gone", || !alive(victim));
    // What comes now waits for the other, or for the next.
    let load = Load::start(run.up.front.address(), &Client::ALL);
    wait_until("another in its place", || run.ready().len() == 2);
    load.go_on(100);
    assert_eq!(load.end(), Vec::<String>::new());
    let after = run.fronts();
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), [&victim]);
    for (http, front) in kept.iter_mut().zip(&fronts) {
        http.request("GET", "/", &[], b"");
        assert_eq!(
            http.try_response(false).is_ok(),
            *front != fronts[0],
            "a connection of {front}, killed {}",
            fronts[0]
        );
    }
    drop((worker, kept));
    run.finish();
}

#[test]
fn connections_wait_for_the_next_front_where_there_is_no_other() {
    let run = Run::start("front.processes = 1");
    let worker = run.worker();
    let front = *run.fronts().first().expect("there is one");
    kill(front, Signal::KILL);
    wait_until("it to be gone", || !alive(front));
    let mut http = run.up.front.http();
    assert_eq!(http.get("/").status, 200);
    drop((worker, http));
    run.finish();
}

#[test]
fn what_cannot_become_ready_replaces_nothing() {
    let mut run = Run::two();
    let worker = run.worker();
    let before = run.fronts();
    let file = run.up.dir().join("tempest.toml");
    let good = std::fs::read_to_string(&file).expect("the configuration");
    // What is wrong with the file itself is found out before anything is replaced; this only by the new process.
    let key = "[[channels.key]]\nname = \"a\"\nalg = \"HS256\"\nsecret_file = \"nowhere\"\n";
    std::fs::write(&file, format!("{good}{key}")).expect("written");
    run.up.front.process.signal(Signal::HUP);
    run.up.front.process.log.wait_for("not replaced: the new process ended with code 1");
    assert_eq!(run.up.front.http().get("/").status, 200);
    wait_until("the failed one to be gone", || run.fronts() == before);
    std::fs::write(&file, good).expect("written");
    run.replace();
    assert!(before.is_disjoint(&run.fronts()));
    drop(worker);
    run.finish();
}

#[test]
fn a_supervisor_that_is_killed_leaves_no_front() {
    let mut run = Run::two();
    run.up.front.process.kill();
    run.redis.kill();
    run.up.finish_after_end();
}

/// A front on a socket that the test holds, passed as systemd passes it.
fn activated(world: &World, listener: &TcpListener, names: &str) -> Process {
    let file = Front::write_config(
        &world.dir().join("activated"),
        &format!("redis.url = \"{}\"\nfront.admin = \"127.0.0.1:0\"\nlog.format = \"json\"\n", world.redis.url()),
    );
    let script = format!("exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={names} exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).arg(tempest_binary()).arg("front").arg("--config").arg(file);
    let socket = OwnedFd::from(listener.try_clone().expect("a socket can be cloned"));
    Process::start_with(socket.into(), "activated front", world.mark(), command)
}

#[test]
fn a_front_takes_a_socket_that_was_passed_and_leaves_it_to_the_next() {
    let mut world = World::start();
    world.worker(|job| {
        vec![job.answer(json!({"status": 200}), format!("{} {}", job.line(), job.body.len()).as_bytes())]
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    // They ask before there is anybody to answer, and while one front follows the other.
    let load = Load::start(address, &Client::ALL);
    for name in ["http", "tempest.socket", ""] {
        let mut front = Front::listening(activated(&world, &listener, name));
        assert_eq!(front.address(), address);
        load.go_on(100);
        assert!(front.terminate().success());
    }
    let mut last = Front::listening(activated(&world, &listener, "http"));
    load.go_on(100);
    assert_eq!(load.end(), Vec::<String>::new());
    assert!(last.terminate().success());
    world.finish();
}

#[test]
fn a_socket_that_does_not_fit_is_named() {
    let world = World::start();
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let mut wrong = activated(&world, &listener, "http:admin");
    wrong.log.wait_for("LISTEN_FDNAMES has 2 names for 1 sockets");
    assert_eq!(wrong.wait().code(), Some(2));
    world.finish();
}
