//! Everything from one command: what it starts, what it keeps alive, and that it leaves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use tempest_tests::{
    Http, Process, RAW_LANGUAGES, Signal, Up, alive, assert_no_process, kill, prepare_raw_workers, repository, tempest,
    tempest_command, wait_until,
};

fn hello() -> Up {
    Up::example("hello", &[])
}

/// A worker in bash that takes its time and says when it has begun; `trap` is what it does when told to stop.
const SLOW: &str = r#"
trap 'TRAP' TERM INT
cli=(redis-cli --raw -u "$REDIS_URL")
while [[ -z ${stop-} ]]; do
  job=$("${cli[@]}" BLPOP "$TEMPEST_QUEUE" 1 | sed -n 2p)
  [[ $job ]] || continue
  [[ $job =~ '"id":"'([^\"]+) ]] && id=${BASH_REMATCH[1]}
  [[ $job =~ '"reply_to":"'([^\"]+) ]] && to=${BASH_REMATCH[1]}
  echo begun
  sleep SECONDS
  "${cli[@]}" RPUSH "$to" '{"id":"'$id'","body":"done"}'
done
"#;

/// A run with such a worker alone.
fn slow(seconds: &str, trap: &str) -> Up {
    let (dir, mark) = tempest_tests::scratch();
    fs::write(dir.join("slow.sh"), SLOW.replace("SECONDS", seconds).replace("TRAP", trap)).expect("a file");
    Up::start_in(dir, mark, "[workers.slow]\ncommand = \"bash slow.sh\"\nstop_time = \"20s\"\n")
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
    let mut up = slow("1", "stop=1");
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
fn a_rolling_restart_loses_no_request() {
    let up = slow("0.05", "stop=1");
    wait_until("an answer", || up.front.http().get("/").status == 200);
    let pid = up.front.process.pid();
    kill(pid, Signal::HUP);
    wait_until("the restart to be done", || {
        assert_eq!(up.front.http().get("/").status, 200);
        up.front.process.log.lines().iter().any(|line| line.contains("rolling restart done: 1 of 1"))
    });
    assert_eq!(up.front.http().get("/").status, 200);
    up.finish();
}

#[test]
fn a_second_ctrl_c_hastens() {
    let mut up = slow("60", "");
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
    let up = Up::start(&format!("[workers.ruby]\ncommand = \"{}\"\nprocesses = 2\n", launcher.display()));
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
    wait_until("an answer", || up.front.http().get("/hello").status == 200);
    wait_until("the stream to be subscribed", || up.redis().cmd(&["PUBLISH", "test", "again"]).int() == 1);
    assert_eq!(stream.data(), "again");
    drop(stream);
    up.finish();
}

#[test]
fn a_missing_program_is_named_and_left_out() {
    let up = Up::start("[workers.cobol]\ncommand = \"cobol-of-1959 worker.cob\"\nneeds = \"cobol-of-1959\"\n");
    up.front.process.log.wait("a line that names it", |line| (line.contains("cobol")).then_some(()));
    assert_eq!(up.front.http().get("/sub/news").status, 403, "it serves all the same");
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
fn its_admin_listener_shows_health_and_metrics() {
    let up = hello();
    wait_until("it to be ready", || up.front.is_ready());
    assert!(up.front.metrics().sum("tempest_connections_accepted_total", &[]) >= 0.0);
    up.finish();
}

#[test]
fn it_prints_lines_that_work_as_printed() {
    let (dir, mark) = tempest_tests::scratch();
    let args = ["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "text"];
    let mut process = Process::start("up", &mark, tempest_command(&dir, &args));
    let after = |word: &'static str| move |line: &str| line.split_once(word).map(|(_, rest)| rest.trim().to_owned());
    let page = process.log.wait("the page", after("page "));
    let line = process.log.wait("the line to try", after("try "));
    let address = page.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    let mut stream = tempest_tests::Sse::open(address, "/sub/test");
    stream.comment();
    let output = Command::new("sh").args(["-c", &line]).output().expect("a shell");
    assert!(output.status.success(), "{line}: {output:?}");
    assert_eq!(stream.data(), "hello");
    drop(stream);
    process.signal(Signal::INT);
    assert!(process.wait().success());
    assert_no_process(&mark);
    let _ = fs::remove_dir_all(&dir);
}
