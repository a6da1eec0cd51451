//! `tempest reload` finds a run, whatever it consists of.

use std::fs;

use tempest_tests::{Ran, Signal, Up, tempest, wait_until};

const CONFIG: &str = "channels.public = [\"*\"]\nlimits.pending = 100\n\
                      [[route]]\npath = \"/sub/{channel...}\"\nkind = \"subscribe\"\n\
                      [[route]]\npath = \"/{rest...}\"\nqueue = \"web\"\n";

fn reload(up: &Up) -> Ran {
    tempest(up.dir(), &["reload"], &[], "")
}

fn write(up: &Up, text: &str) {
    fs::write(up.dir().join("tempest.toml"), text).expect("written");
}

fn closed() -> String {
    CONFIG.replace("[\"*\"]", "[\"news\"]")
}

#[track_caller]
fn status_of(up: &Up, channel: &str) -> u16 {
    let mut http = up.front.http();
    http.request("GET", &format!("/sub/{channel}"), &["Accept: text/event-stream"], b"");
    http.read_head().expect("a head").status
}

#[test]
fn one_process_with_everything() {
    let up = Up::start(CONFIG);
    let mut stream = up.front.subscribe("news");
    write(&up, &closed());
    assert_eq!(reload(&up).ok(), "reloaded; one setting has changed\nchannels.public: [\"*\"] -> [\"news\"]\n");
    assert_eq!((status_of(&up, "other"), status_of(&up, "news")), (403, 200));
    write(&up, &format!("redis.dir = \"elsewhere\"\n{CONFIG}[workers.a]\ncommand = \"sleep 100\"\n"));
    let ran = reload(&up);
    assert_eq!(ran.code, 1);
    for setting in ["redis.dir", "workers.a"] {
        assert!(ran.err.contains(&format!("restart needed for {setting}\n")), "{ran:?}");
    }
    write(&up, "nonsense = 1");
    let ran = reload(&up);
    assert!(ran.code == 1 && ran.err.contains("nonsense: is no setting"), "{ran:?}");
    let status = || tempest(up.dir(), &["status"], &[], "").out;
    // The file is wrong, so the run is found by its Redis.
    write(&up, &closed());
    wait_until("the problem in the status", || status().contains("reload-refused"));
    up.redis().cmd(&["PUBLISH", "news", "x"]);
    assert_eq!(stream.data(), "x");
    drop(stream);
    up.finish();
}

#[test]
fn several_front_processes_go_on_with_their_streams() {
    let up = Up::start(&format!("front.processes = 2\n{CONFIG}"));
    let fronts = up.processes(" front --");
    let mut streams: Vec<_> = (0..10).map(|_| up.front.subscribe("news")).collect();
    write(&up, &format!("front.processes = 2\n{}", closed()));
    let report = reload(&up).ok();
    assert!(report.contains("channels.public"), "{report}");
    for _ in 0..20 {
        assert_eq!(status_of(&up, "other"), 403, "all of them have taken it");
    }
    up.redis().cmd(&["PUBLISH", "news", "x"]);
    streams.iter_mut().for_each(|stream| assert_eq!(stream.data(), "x"));
    assert_eq!(up.processes(" front --"), fronts, "none was replaced");
    write(&up, &format!("front.processes = 3\n{CONFIG}"));
    let ran = reload(&up);
    assert!(ran.code == 1 && ran.err.contains("restart needed for front.processes"), "{ran:?}");
    drop(streams);
    up.finish();
}

#[test]
fn a_hangup_takes_up_programs_too_and_nothing_of_a_broken_file() {
    let mut up = Up::start(&format!("{CONFIG}[workers.a]\ncommand = \"sleep 1000\"\n"));
    wait_until("the worker", || up.processes("sleep 1000").len() == 2);
    let before = up.processes("sleep 1000");
    write(&up, "nonsense = 1");
    up.front.process.signal(Signal::HUP);
    up.front.process.log.wait_for("the configuration is refused");
    assert_eq!(up.processes("sleep 1000"), before);
    write(&up, &format!("{}[workers.a]\ncommand = \"sleep 1000\"\n", closed()));
    up.front.process.signal(Signal::HUP);
    up.front.process.log.wait_for("rolling restart done");
    assert_ne!(up.processes("sleep 1000"), before);
    assert_eq!(status_of(&up, "other"), 403);
    up.finish();
}
