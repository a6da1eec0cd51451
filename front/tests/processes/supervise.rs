//! `tempest supervise`: processes are kept, counted, scaled and ended; whatever is killed, nothing is left.

use std::collections::HashSet;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::supervised::{Supervised, pid_of, tempest};
use crate::support::{DEADLINE, Folder, await_gone, kill9, signal};

fn states(rows: &[Value]) -> Vec<&str> {
    rows.iter().filter_map(|row| row["state"].as_str()).collect()
}

#[test]
fn a_command_runs_in_numbered_processes() {
    let flags = ["--processes", "3", "--queue", "mail", "--ready-time", "10ms", "--"];
    let command = ["sh", "-c", "echo $TEMPEST_QUEUE $TEMPEST_WORKER_ID ${TEMPEST_ENV-none}; exec sleep 1000"];
    let mut run = Supervised::start("", &[&flags[..], &command[..]].concat());
    let rows = run.await_rows(|rows| states(rows) == ["ready"; 3]);
    let places: Vec<&str> = rows.iter().filter_map(|row| row["place"].as_str()).collect();
    assert_eq!(places, ["sh.1", "sh.2", "sh.3"]);
    let workers: HashSet<&str> = rows.iter().filter_map(|row| row["worker"].as_str()).collect();
    assert_eq!(workers.len(), 3, "{rows:?}");
    let said = run.await_line(|line| line["from"] == "sh.2" && line["stream"] == "stdout");
    let expected = format!("tempest:mail {} none", rows[1]["worker"].as_str().expect("an id"));
    assert_eq!(said["message"], expected.as_str());
    run.finish();
}

#[test]
fn what_ends_is_started_again_later_each_time_and_says_why() {
    let config = "[workers.bad]\ncommand = ['sh', '-c', 'exit 3']\nrestart_wait = '200ms..1h'\n\
                  [workers.good]\ncommand = ['sleep', '1000']\nready_time = '10ms'\nrestart_wait = '1ms'\n";
    let mut run = Supervised::start(config, &[]);
    let rows =
        run.await_rows(|rows| rows.iter().any(|row| row["place"] == "bad" && row["restarts"].as_u64() >= Some(3)));
    let bad = rows.iter().find(|row| row["place"] == "bad").expect("a row");
    assert_eq!(bad["last_exit"], "code 3");
    let waits = run.await_rows(|rows| rows.iter().any(|row| row["place"] == "bad" && row["state"] == "waiting"));
    assert!(waits.iter().any(|row| row["until"].is_u64()), "{waits:?}");
    let good = |rows: &[Value]| rows.iter().find(|row| row["place"] == "good" && row["state"] == "ready").cloned();
    let rows = run.await_rows(|rows| good(rows).is_some());
    let first = good(&rows).expect("a row");
    kill9(pid_of(&first));
    let rows = run.await_rows(|rows| good(rows).is_some_and(|row| row["restarts"] == 1));
    let second = good(&rows).expect("a row");
    assert_eq!(second["last_exit"], "SIGKILL");
    assert_ne!(first["worker"], second["worker"]);
    signal(pid_of(&second), Signal::SEGV);
    run.await_rows(|rows| good(rows).is_some_and(|row| row["last_exit"] == "SIGSEGV"));
    // What it says is what a person reads, too.
    let output = tempest(run.folder.path()).args(["status", "--redis", &run.redis.url()]).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("SIGSEGV") && text.contains("to restart"), "{text}");
    run.finish();
}

#[test]
fn a_group_grows_while_jobs_wait_and_shrinks_when_none_do() {
    let config =
        "[workers.w]\ncommand = ['sleep', '1000']\nprocesses = '1..3'\nready_time = '10ms'\nidle_time = '100ms'\n";
    let mut run = Supervised::start(config, &[]);
    run.await_rows(|rows| states(rows) == ["ready"]);
    run.redis.cli(&["RPUSH", "tempest:web", "a", "b", "c", "d", "e"]);
    let rows = run.await_rows(|rows| states(rows) == ["ready"; 3]);
    run.redis.cli(&["DEL", "tempest:web"]);
    let left = run.await_rows(|rows| states(rows) == ["ready"]);
    assert_eq!(left[0]["pid"], rows[0]["pid"], "the last ones go");
    rows[1..].iter().for_each(|row| await_gone(pid_of(row)));
    // One job alone, but it waits: the time of its push stands in its head.
    let now: u64 = run.redis.cli(&["TIME"]).lines().next().and_then(|text| text.parse().ok()).expect("seconds");
    let job = format!(
        r#"{{"v":1,"id":"x","attempt":1,"deadline":{},"timeout_ms":30000,"reply_to":"t:@r","#,
        (now + 20) * 1000
    );
    run.redis.cli(&["RPUSH", "tempest:web", &job]);
    run.await_rows(|rows| rows.len() >= 2);
    run.finish();
}

#[test]
fn a_stop_ends_in_sigkill_for_all_of_the_group() {
    let deaf = "trap '' TERM; sh -c 'echo child; exec sleep 1000' & echo up; while :; do sleep 1; done";
    let config = format!("[workers.deaf]\ncommand = [\"sh\", \"-c\", \"{deaf}\"]\nstop_time = '100ms'\n");
    let mut run = Supervised::start(&config, &[]);
    run.await_text("deaf", "child");
    run.await_text("deaf", "up");
    let family = run.descendants();
    assert!(family.len() >= 3, "a guard, the program, its child: {family:?}");
    run.signal(Signal::TERM);
    run.await_text("deaf", "stopped: was ended by SIGKILL");
    assert!(run.wait().success());
    family.into_iter().for_each(await_gone);
    assert_eq!(run.redis.cli(&["ZCARD", "tempest:@supervisors"]), "0", "it has taken itself out");
    assert_eq!(run.redis.cli(&["ZCARD", "{tempest:web}:workers"]), "0", "and its workers");
}

#[test]
fn a_supervisor_that_is_killed_leaves_nothing() {
    let config = "[workers.nest]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; sleep 1000 & echo up; sleep 1000\"]\n\
                  processes = 2\nstop_time = '100ms'\n";
    let mut run = Supervised::start(config, &[]);
    run.await_text("nest.1", "up");
    run.await_text("nest.2", "up");
    let family = run.descendants();
    run.signal(Signal::KILL);
    run.wait();
    family.into_iter().for_each(await_gone);
}

#[test]
fn the_service_manager_hears_what_happens() {
    let config = "[workers.w]\ncommand = ['sh', '-c', 'echo socket ${NOTIFY_SOCKET-none}; exec sleep 1000']\nready_time = '10ms'\n";
    let mut socket = None;
    let mut run = Supervised::start_with(config, &[], |folder, command: &mut Command| {
        let path = folder.join("notify.sock");
        socket = Some(UnixDatagram::bind(&path).expect("a socket"));
        command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "200000");
    });
    let socket = socket.expect("bound");
    socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    let mut alive = 0;
    let mut next = |wanted: &str| {
        let mut buffer = [0; 512];
        loop {
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.starts_with(wanted) {
                return text;
            }
            assert_eq!(text, "WATCHDOG=1", "while {wanted} was expected");
            alive += 1;
        }
    };
    assert_eq!(next("READY"), "READY=1\nSTATUS=1 of 1 worker processes ready");
    run.signal(Signal::HUP);
    assert!(next("RELOADING").contains("MONOTONIC_USEC="));
    next("READY");
    run.signal(Signal::TERM);
    next("STOPPING");
    assert!(alive > 0, "it said that it lives");
    run.await_text("w", "socket none");
    assert!(run.wait().success());
}

#[test]
fn wrong_command_lines_say_what_to_do() {
    let folder = Folder::new();
    let refused = |args: &[&str], code: i32, part: &str| {
        let output = tempest(folder.path()).arg("supervise").args(args).output().expect("the binary runs");
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(output.status.code() == Some(code) && text.contains(part), "{args:?}: {:?} {text}", output.status);
    };
    refused(&[], 2, "give a COMMAND after `--`, or a configuration with [workers.NAME] tables");
    refused(&["--processes", "8..2", "--", "true"], 2, "--processes: expected a number of processes like 4");
    refused(&["--restart-wait", "0s", "--", "true"], 2, "--restart-wait: expected a time");
    refused(&["--", "no-such-program-here"], 1, "there is no program `no-such-program-here`");
    std::fs::write(folder.path().join("tempest.toml"), "[workers.a]\ncommand = 'true'\n").expect("written");
    refused(&["--queue", "mail"], 2, "--queue: goes with a COMMAND after `--`");
}
