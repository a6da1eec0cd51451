//! Everything from one command: what it starts, what it keeps alive, and that it leaves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use tempest_tests::{
    Http, RAW_LANGUAGES, Signal, Up, alive, kill, prepare_raw_workers, repository, tempest, wait_until,
};

fn hello() -> Up {
    prepare_raw_workers();
    Up::start(&repository().join("examples/hello/tempest.toml"))
}

/// A worker in bash that takes its time and says when it has begun.
fn slow_worker(seconds: &str) -> String {
    let script = format!(
        "trap '' TERM INT\ncli=(redis-cli --raw -u \"$REDIS_URL\")\nwhile :; do\n  job=$(\"${{cli[@]}}\" BLPOP \"$TEMPEST_QUEUE\" 1 | sed -n 2p)\n\
         [[ $job ]] || continue\n  id=$(sed 's/.*\"v\":1,\"id\":\"\\([^\"]*\\)\".*/\\1/' <<<\"$job\")\n\
         to=$(sed 's/.*\"reply_to\":\"\\([^\"]*\\)\".*/\\1/' <<<\"$job\")\n  echo begun\n  sleep {seconds}\n\
         \"${{cli[@]}}\" RPUSH \"$to\" '{{\"id\":\"'$id'\",\"body\":\"done\"}}'\ndone\n"
    );
    let (dir, _) = tempest_tests::scratch();
    fs::write(dir.join("slow.sh"), script).expect("a file");
    format!("[workers.slow]\ncommand = \"bash {}/slow.sh\"\nstop_time = \"20s\"\n", dir.display())
}

/// Languages that answer within some requests.
fn languages(up: &Up) -> BTreeSet<String> {
    let mut clients: Vec<_> = (0..14).map(|_| up.front.http()).collect();
    for http in &mut clients {
        http.request("GET", "/hello", &[], b"");
    }
    let answers = clients.iter_mut().map(Http::response);
    answers.filter_map(|answer| answer.header("x-worker").map(str::to_owned)).collect()
}

#[test]
fn one_command_serves_a_page_and_seven_languages() {
    let up = hello();
    let page = up.front.http().get("/");
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").expect("a type").starts_with("text/html") && page.text().contains("<title>"));
    let expected: BTreeSet<_> = RAW_LANGUAGES.iter().map(ToString::to_string).collect();
    let mut seen = BTreeSet::new();
    wait_until("all seven languages to answer", || {
        seen.extend(languages(&up));
        seen == expected
    });
    let mut stream = up.front.subscribe("test");
    assert_eq!(up.redis().cmd(&["PUBLISH", "test", "hello"]).int(), 1);
    assert_eq!(stream.data(), "hello");
    drop(stream);
    up.finish();
}

#[test]
fn a_killed_tempest_leaves_no_process() {
    let mut up = hello();
    wait_until("some language to answer", || !languages(&up).is_empty());
    assert!(tempest_tests::processes_of(up.mark()).len() >= 9, "tempest, Redis and seven workers");
    up.front.process.kill();
    up.finish_after_end();
}

#[test]
fn ctrl_c_loses_nothing_that_was_accepted() {
    let mut up = Up::start_text(&slow_worker("1"));
    let mut http = up.front.http();
    http.request("POST", "/", &[], b"x");
    up.front.process.log.wait_for("begun");
    up.front.process.signal(Signal::INT);
    assert_eq!(http.response().text(), "done");
    drop(http);
    assert!(up.front.process.wait().success());
    up.finish_after_end();
}

#[test]
fn a_second_ctrl_c_hastens() {
    let mut up = Up::start_text(&slow_worker("60"));
    let mut http = up.front.http();
    http.request("POST", "/", &[], b"x");
    up.front.process.log.wait_for("begun");
    up.front.process.signal(Signal::INT);
    wait_until("the drain to begin", || Http::try_connect(up.front.address()).is_err());
    let start = Instant::now();
    up.front.process.signal(Signal::INT);
    up.front.process.wait();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    drop(http);
    up.finish_after_end();
}

#[test]
fn a_worker_that_dies_is_started_again() {
    prepare_raw_workers();
    let launcher = repository().join("examples/raw/.build/ready/ruby");
    let up = Up::start_text(&format!("[workers.ruby]\ncommand = \"{}\"\nprocesses = 2\n", launcher.display()));
    wait_until("two workers", || up.processes("worker.rb").len() == 2);
    wait_until("an answer", || up.front.http().get("/").status == 200);
    let before = up.processes("worker.rb");
    for pid in &before {
        kill(*pid, Signal::KILL);
    }
    wait_until("two others", || up.processes("worker.rb").iter().filter(|pid| !before.contains(pid)).count() == 2);
    assert_eq!(up.front.http().get("/").status, 200);
    up.finish();
}

#[test]
fn the_private_redis_is_started_again_and_remembers() {
    let up = hello();
    let port = up.redis_port();
    up.redis().cmd(&["SET", "kept", "value"]);
    let pid = up.processes("redis-server")[0];
    let mut stream = up.front.subscribe("test");
    kill(pid, Signal::KILL);
    wait_until("the old one to be gone", || !alive(pid));
    wait_until("another", || {
        tempest_tests::Resp::connect(port).is_ok_and(|mut redis| {
            redis.try_cmd(&["GET", "kept"]).is_ok_and(|value| value == tempest_tests::Value::Bulk(b"value".to_vec()))
        })
    });
    wait_until("the front to be ready", || up.front.admin().get("/ready").status == 200);
    wait_until("an answer", || up.front.http().get("/hello").status == 200);
    wait_until("the stream to be subscribed", || up.redis().cmd(&["PUBLISH", "test", "again"]).int() == 1);
    assert_eq!(stream.data(), "again");
    drop(stream);
    up.finish();
}

#[test]
fn a_missing_program_is_named_and_left_out() {
    let up = Up::start_text("[workers.cobol]\ncommand = \"cobol-of-1959 worker.cob\"\nneeds = \"cobol-of-1959\"\n");
    up.front.process.log.wait("a line that names it", |line| (line.contains("cobol")).then_some(()));
    assert_eq!(up.front.admin().get("/ready").status, 200);
    up.finish();
}

#[test]
fn other_commands_find_the_run() {
    let up = hello();
    let mut stream = up.front.subscribe("test");
    tempest(up.dir(), &["publish", "test", "good evening", "--event", "greeting"], &[], "").ok();
    let event = stream.event();
    assert_eq!((event.name.as_str(), event.data.as_str()), ("greeting", "good evening"));
    let status = tempest(up.dir(), &["status"], &[], "").ok();
    assert!(status.contains("web") && status.contains(&up.front.address().to_string()), "{status}");
    drop(stream);
    up.finish();
}

#[test]
fn it_prints_lines_that_work_as_printed() {
    let up = hello();
    let port = up.redis_port();
    let log = || up.front.process.log.lines().join("\n");
    wait_until("the address", || log().contains(&format!("http://{}", up.front.address())));
    wait_until("the line for redis-cli", || log().contains("publish test hello"));
    assert!(port == 6379 || log().contains(&port.to_string()), "{}", log());
    up.finish();
}
