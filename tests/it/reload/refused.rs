//! What is refused: anything wrong, anything that takes a restart, and files that are not whole.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempest_tests::{Signal, World, tempest, wait_until};

fn works(world: &mut World) {
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.ok(&job, "as before");
    assert_eq!(http.response().text(), "as before");
}

#[test]
fn a_broken_file_is_refused_with_all_that_is_wrong() {
    let mut world = World::start();
    let mut stream = world.front.subscribe("news");
    let good = fs::read_to_string(world.config_file()).expect("the configuration");
    let broken = format!("limits.pending = 0\nlimits.nonsense = 1\nchannels.heartbeat = \"soon\"\n{good}");
    fs::write(world.config_file(), &broken).expect("written");
    let ran = world.reload();
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    for wrong in
        ["tempest.toml:1: limits.pending", "tempest.toml:2: limits.nonsense", "tempest.toml:3: channels.heartbeat"]
    {
        assert!(ran.err.contains(wrong), "{wrong} in {ran:?}");
        world.front.process.log.wait_for(wrong);
    }
    works(&mut world);
    world.redis.cmd(&["PUBLISH", "news", "still here"]);
    assert_eq!(stream.data(), "still here");
    let status = |world: &World| tempest(world.dir(), &["status", "--redis", &world.redis.url()], &[], "").ok();
    wait_until("the problem in the status", || status(&world).contains("reload-refused"));
    assert!(status(&world).contains("limits.nonsense"), "{}", status(&world));
    fs::write(world.config_file(), good).expect("written");
    assert_eq!(world.reload().ok(), "reloaded; nothing has changed\n");
    drop(stream);
    world.finish();
}

#[test]
fn what_takes_a_restart_is_said_to() {
    let mut world = World::start();
    let before = "channels.public = [\"*\"]";
    for (line, setting) in [
        ("prefix = \"other\"", "prefix"),
        ("front.reactors = 2", "front.reactors"),
        ("redis.stall = \"3s\"", "redis.stall"),
        ("limits.outgoing_bytes = \"1MiB\"", "limits.outgoing_bytes"),
        ("channels.prefix = \"x:\"", "channels.prefix"),
    ] {
        world.configure(|text| text.replace(before, &format!("{line}\nlimits.pending = 77\n{before}")));
        let ran = world.reload();
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains(&format!("restart needed for {setting}\n")), "{ran:?}");
        world.configure(|text| text.replace(&format!("{line}\nlimits.pending = 77\n"), ""));
    }
    // What is nothing to a front alone is no change of it.
    world.configure(|text| format!("{text}[workers.a]\ncommand = \"x\"\n"));
    assert_eq!(world.reload().ok(), "reloaded; nothing has changed\n");
    works(&mut world);
    world.finish();
}

#[test]
fn a_file_that_vanished_is_no_empty_one() {
    let mut world = World::start();
    let good = fs::read_to_string(world.config_file()).expect("the configuration");
    fs::remove_file(world.config_file()).expect("removed");
    assert!(!world.hang_up());
    world.front.process.log.wait_for("there is no file");
    works(&mut world);
    fs::write(world.config_file(), good).expect("written");
    assert!(world.hang_up());
    world.finish();
}

#[test]
fn a_file_is_read_when_it_is_written_to_its_end() {
    let mut world = World::start();
    let good = fs::read_to_string(world.config_file()).expect("the configuration");
    let (file, done) = (world.config_file(), AtomicBool::new(false));
    // Every piece of it is good TOML, and would be taken for a whole file.
    let lines: Vec<String> =
        good.lines().map(|line| format!("{line}\n")).chain(["limits.pending = 99\n".into()]).collect();
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            for piece in 1..=lines.len() {
                fs::write(&file, lines[..piece].concat()).expect("written");
                std::thread::sleep(Duration::from_millis(30)); // an editor that is slow
            }
            done.store(true, Ordering::SeqCst);
        });
        wait_until("the writing to begin", || fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == 1));
        let report = world.reload();
        assert!(done.load(Ordering::SeqCst), "it was read before it was whole: {report:?}");
        report
    });
    assert_eq!(report.ok(), "reloaded; one setting has changed\nlimits.pending: 16384 -> 99\n");
    works(&mut world);
    world.finish();
}

#[test]
fn several_at_once_are_one_after_the_other() {
    let mut world = World::start();
    world.configure(|text| format!("limits.pending = 99\n{text}"));
    for _ in 0..20 {
        world.front.process.signal(Signal::HUP);
    }
    let reports: Vec<String> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| world.reload().ok())).collect();
        asked.into_iter().map(|asked| asked.join().expect("a report")).collect()
    });
    assert!(reports.iter().filter(|report| report.contains("limits.pending")).count() <= 1, "{reports:?}");
    works(&mut world);
    world.finish();
}

#[test]
fn who_drains_reads_nothing_any_more() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.front.process.signal(Signal::TERM);
    world.front.process.log.wait_for("SIGTERM: draining");
    world.front.process.signal(Signal::HUP);
    world.front.process.log.wait_for("SIGHUP: not reloaded");
    let ran = world.reload();
    assert!(ran.code == 1 && ran.err.contains("it is ending"), "{ran:?}");
    world.ok(&job, "answered");
    assert_eq!(http.response().text(), "answered");
    assert!(world.front.process.wait().success());
    drop(http);
    world.finish_without_front();
}

#[test]
fn pages_of_the_web_cannot_ask_for_it() {
    let world = World::start();
    let mut admin = world.front.admin();
    admin.request("POST", "/reload", &["Origin: http://127.0.0.1:1338", "Content-Length: 0"], b"");
    assert_eq!(admin.response().status, 403);
    assert_eq!(admin.get("/reload").status, 405);
    admin.request("POST", "/reload", &["Content-Length: 0"], b"");
    let report: Value = serde_json::from_str(&admin.response().text()).expect("JSON");
    assert_eq!(report, serde_json::json!({"reloaded": true, "changes": [], "problems": []}));
    drop(admin);
    world.finish();
}

#[test]
fn where_nobody_runs_it_says_what_to_do() {
    let dir = tempest_tests::Folder::new();
    let port = tempest_tests::free_port();
    let ran = tempest(&dir, &["reload", "--admin", &format!("127.0.0.1:{port}")], &[], "");
    assert!(ran.code == 1 && ran.err.contains("no answer from 127.0.0.1"), "{ran:?}");
    fs::write(dir.join("tempest.toml"), "front.admin = \"off\"").expect("written");
    let ran = tempest(&dir, &["reload"], &[], "");
    assert!(ran.code == 1 && ran.err.contains("--admin"), "{ran:?}");
}
