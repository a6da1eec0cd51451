//! The command line: help, faults of a configuration, publishing, status.

use std::fs;

use serde_json::Value;
use tempest_tests::{Folder, World, free_port, tempest};

#[test]
fn help_names_every_command_and_shows_examples() {
    let dir = Folder::new();
    let help = tempest(&dir, &["--help"], &[], "").ok();
    for word in ["up", "front", "publish", "status", "config", "Examples"] {
        assert!(help.contains(word), "{word} in {help}");
    }
    for command in ["up", "front"] {
        let help = tempest(&dir, &[command, "--help"], &[], "").ok();
        for word in
            ["--listen", "--admin", "--redis", "--public-channels", "--config", "TEMPEST_LISTEN", "127.0.0.1:1337"]
        {
            assert!(help.contains(word), "{command}: {word} in {help}");
        }
    }
    assert!(tempest(&dir, &["--version"], &[], "").ok().contains(env!("CARGO_PKG_VERSION")));
    let wrong = tempest(&dir, &["frnot"], &[], "");
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("front"), "a suggestion: {}", wrong.err);
}

const FAULTY: &str = r#"[front]
listen = ["127.0.0.1:99999"]
reactors = 0
colour = "red"

[limits]
head_time = "soon"
queue_depth = -1

[[route]]
path = "no-slash"
queue = "Web"
timeout = "30 parsecs"

[workers.x]
processes = 2
"#;

#[test]
fn every_fault_of_a_configuration_is_reported_at_once_with_its_place() {
    let dir = Folder::new();
    fs::write(dir.join("bad.toml"), FAULTY).expect("a file");
    let places = [
        "bad.toml:2",
        "bad.toml:3",
        "bad.toml:4",
        "bad.toml:7",
        "bad.toml:8",
        "bad.toml:11",
        "bad.toml:12",
        "bad.toml:13",
        "bad.toml:15",
    ];
    let runs: [&[&str]; 3] =
        [&["config", "check", "bad.toml"], &["front", "--config", "bad.toml"], &["up", "--config", "bad.toml"]];
    for args in runs {
        let ran = tempest(&dir, args, &[], "");
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        for place in places {
            assert!(ran.err.contains(place), "{args:?}: {place} in\n{}", ran.err);
        }
        assert!(ran.err.contains("expected"), "what was expected: {}", ran.err);
    }
}

#[test]
fn faults_of_flags_and_variables_name_them() {
    let dir = Folder::new();
    let ran = tempest(
        &dir,
        &["front", "--listen", "nowhere"],
        &[("TEMPEST_REDIS", "http://x"), ("TEMPEST_REACTORS", "many")],
        "",
    );
    assert_eq!(ran.code, 2, "{ran:?}");
    for word in ["--listen", "TEMPEST_REDIS", "TEMPEST_REACTORS"] {
        assert!(ran.err.contains(word), "{word} in {}", ran.err);
    }
}

#[test]
fn a_good_configuration_passes_the_check() {
    let dir = Folder::new();
    fs::write(dir.join("tempest.toml"), "[front]\nlisten = [\"127.0.0.1:0\"]\n").expect("a file");
    assert_eq!(tempest(&dir, &["config", "check"], &[], "").code, 0);
    let missing = tempest(&dir, &["config", "check", "missing.toml"], &[], "");
    assert_eq!(missing.code, 2);
    assert!(missing.err.contains("missing.toml"), "{}", missing.err);
}

#[test]
fn publish_reaches_a_stream_and_nothing_in_it_is_read_as_a_command() {
    let world = World::start();
    let mut stream = world.front.subscribe("news");
    let url = world.redis.url();
    let dir = world.dir().to_owned();
    let cases: [(&[&str], &str, &str, &str); 6] = [
        (&["hello"], "", "", "hello"),
        (&["[\"forged\",\"x\"]"], "", "", "[\"forged\",\"x\"]"),
        (&["tick", "--event", "clock"], "", "clock", "tick"),
        (&["-"], "from\nstandard input", "", "from\nstandard input"),
        (&[], "read by default", "", "read by default"),
        (&["-5"], "", "", "-5"),
    ];
    for (args, input, name, data) in cases {
        let all = [&["publish", "news", "--redis", &url], args].concat();
        tempest(&dir, &all, &[], input).ok();
        let event = stream.event();
        assert_eq!((event.name.as_str(), event.data.trim_end_matches('\n')), (name, data), "{args:?}");
    }
    tempest(&dir, &["publish", "news", "by REDIS_URL"], &[("REDIS_URL", &url)], "").ok();
    assert_eq!(stream.data(), "by REDIS_URL");
    drop(stream);
    world.finish();
}

#[test]
fn publish_without_redis_says_what_to_do() {
    let dir = Folder::new();
    let url = format!("redis://127.0.0.1:{}", free_port());
    let ran = tempest(&dir, &["publish", "news", "x", "--redis", &url], &[], "");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains(&url) && ran.err.contains("tempest up"), "{}", ran.err);
}

#[test]
fn status_shows_fronts_queues_workers_and_problems() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    let message = job.answer(serde_json::json!({"status": 99}), b"");
    world.push(&job, message);
    assert_eq!(http.response().status, 502);
    let mut waiting = world.http();
    waiting.request("GET", "/", &[], b"");
    tempest_tests::wait_until("the job to be queued", || world.redis.llen("tempest:web") == 1);
    let worker = serde_json::json!({"id": "w-1", "queue": "web", "host": "h", "pid": 1, "language": "test", "sdk": "x",
        "version": "1", "started": 1, "state": "idle", "current": [], "done": 7});
    let now = world.redis.cmd(&["TIME"]).list()[0].text() + "000";
    world.redis.cmd(&["ZADD", "{tempest:web}:workers", &now, "w-1"]);
    world.redis.cmd(&["PEXPIRE", "{tempest:web}:workers", "60000"]);
    world.redis.cmd(&["SET", "{tempest:web}:worker:w-1", &worker.to_string(), "PX", "60000"]);

    let (url, dir) = (world.redis.url(), world.dir().to_owned());
    tempest_tests::wait_until("the problem to be in the record", || {
        tempest(&dir, &["status", "--redis", &url], &[], "").ok().contains("bad-status")
    });
    let text = tempest(&dir, &["status", "--redis", &url], &[], "").ok();
    for word in [&world.front.address().to_string(), "web", "w-1", "bad-status"] {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    let json: Value =
        serde_json::from_str(&tempest(&dir, &["status", "--json", "--redis", &url], &[], "").ok()).expect("JSON");
    assert_eq!(json["fronts"][0]["record"]["pid"], serde_json::json!(world.front.process.pid()));
    let queue = &json["queues"][0];
    assert_eq!((queue["name"].as_str(), queue["depth"].as_u64()), (Some("web"), Some(1)), "{json}");
    assert_eq!(
        (queue["workers"][0]["id"].as_str(), queue["workers"][0]["done"].as_u64()),
        (Some("w-1"), Some(7)),
        "{json}"
    );
    let job = world.take();
    world.ok(&job, "");
    assert_eq!(waiting.response().status, 200);
    world.finish();
}
