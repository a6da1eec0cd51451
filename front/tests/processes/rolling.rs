//! Rolling restarts: one process at a time, the new one first, and never fewer than there should be.

use rustix::process::Signal;
use serde_json::Value;

use crate::supervised::{Supervised, pid_of};
use crate::support::await_gone;

/// Notes in `order` when it serves and when it no longer does.
const SERVES: &str = "trap 'echo - >> order; exit 0' TERM\n\
                      echo + >> order\n\
                      echo up\n\
                      while :; do sleep 0.02; done\n";

/// Registers itself once the file `go` is there, and notes that.
const REGISTERS: &str = r#"
trap 'echo ended >> order; exit 0' TERM
echo up
while [ ! -e go ]; do sleep 0.02; done
echo registered >> order
while :; do
  redis-cli -u "$REDIS_URL" SET "{$TEMPEST_QUEUE}:worker:$TEMPEST_WORKER_ID" '{"state":"idle","done":0}' PX 3000 > /dev/null
  sleep 0.1
done
"#;

fn start(script: &str, settings: &str) -> Supervised {
    let config = format!("[workers.w]\ncommand = 'sh worker.sh'\nrestart_wait = '10ms..50ms'\n{settings}\n");
    Supervised::start_with(&config, &[], |folder, _| {
        std::fs::write(folder.join("worker.sh"), script).expect("written");
        std::fs::write(folder.join("go"), "").expect("written");
    })
}

fn all_ready(rows: &[Value], count: usize) -> bool {
    rows.len() == count && rows.iter().all(|row| row["state"] == "ready")
}

#[test]
fn one_at_a_time_and_never_fewer() {
    let mut run = start(SERVES, "processes = 3\nready_time = '300ms'");
    let before = run.await_rows(|rows| all_ready(rows, 3));
    run.signal(Signal::HUP);
    let renewed = |rows: &[Value]| all_ready(rows, 3) && rows.iter().all(|row| row["restarts"] == 1);
    let after = run.await_rows(renewed);
    assert!(after.iter().all(|row| row["last_exit"] == "rolling restart"), "{after:?}");
    before.iter().map(pid_of).for_each(await_gone);
    let mut serving = 0;
    let counts: Vec<i32> = run
        .file("order")
        .lines()
        .map(|line| {
            serving += if line == "+" { 1 } else { -1 };
            serving
        })
        .collect();
    assert_eq!(counts, [1, 2, 3, 4, 3, 4, 3, 4, 3]);
    run.finish();
}

#[test]
fn a_worker_that_registers_is_ready_when_it_has() {
    let mut run = start(REGISTERS, "ready_time = '10s'");
    let first = run.the_ready_one();
    std::fs::remove_file(run.folder.path().join("go")).expect("removed");
    run.await_text("w", "up");
    run.signal(Signal::HUP);
    run.await_text("w", "up");
    run.await_rows(|rows| rows.len() == 2 && rows[0]["pid"] == first["pid"] && rows[1]["state"] == "starting");
    run.write("go", "");
    let second = run.await_rows(|rows| all_ready(rows, 1) && rows[0]["pid"] != first["pid"]).remove(0);
    assert_eq!(second["restarts"], 1);
    assert_eq!(run.file("order"), "registered\nregistered\nended\n");
    run.finish();
}

#[test]
fn a_successor_that_fails_ends_nobody() {
    let mut run = start(SERVES, "ready_time = '200ms'");
    let first = run.the_ready_one();
    run.write("worker.sh", "echo broken; exit 7\n");
    run.signal(Signal::HUP);
    let rows = run.await_rows(|rows| rows[0]["restarts"].as_u64() >= Some(3));
    assert_eq!((&rows[0]["pid"], &rows[0]["last_exit"]), (&first["pid"], &"code 7".into()));
    run.write("worker.sh", SERVES);
    let second = run.await_rows(|rows| all_ready(rows, 1) && rows[0]["pid"] != first["pid"]).remove(0);
    assert_eq!(second["last_exit"], "rolling restart");
    run.finish();
}

#[test]
fn a_change_of_a_file_restarts() {
    let mut run = start(SERVES, "ready_time = '10ms'\nwatch = ['app/**/*.py', '*.sh']");
    let first = run.the_ready_one();
    // Another length, since two changes may have one time.
    run.write("worker.sh", &format!("{SERVES}# changed\n"));
    let second = run.await_rows(|rows| all_ready(rows, 1) && rows[0]["pid"] != first["pid"]).remove(0);
    assert_eq!(second["last_exit"], "file changed");
    std::fs::create_dir_all(run.folder.path().join("app/deep/er")).expect("made");
    run.write("app/deep/er/new.py", "");
    run.await_rows(|rows| all_ready(rows, 1) && rows[0]["pid"] != second["pid"]);
    run.finish();
}
