//! The limits of a process, and that each is given as the reason of its end.

use serde_json::Value;

use crate::supervised::{Supervised, pid_of};
use crate::support::await_gone;

/// A worker that registers itself: it says what stands in the files `done` and `current`, ten times a second.
const REGISTERS: &str = r#"
trap 'exit 0' TERM
echo up
key="{$TEMPEST_QUEUE}:worker:$TEMPEST_WORKER_ID"
while :; do
  done=0; [ -e "done-$TEMPEST_WORKER_ID" ] && read -r done < "done-$TEMPEST_WORKER_ID"
  current=; [ -e "current-$TEMPEST_WORKER_ID" ] && read -r current < "current-$TEMPEST_WORKER_ID"
  state=idle; [ -z "$current" ] || state=busy
  redis-cli -u "$REDIS_URL" SET "$key" '{"state":"'$state'","current":['"$current"'],"done":'$done'}' PX 3000 > /dev/null
  sleep 0.1
done
"#;

fn start(settings: &str) -> Supervised {
    let config = format!("[workers.w]\ncommand = 'sh worker.sh'\nrestart_wait = '1ms'\n{settings}\n");
    Supervised::start_with(&config, &[], |folder, _| {
        std::fs::write(folder.join("worker.sh"), REGISTERS).expect("written");
    })
}

/// Once the process has another id, the reason for which the one before ended.
#[track_caller]
fn successor(run: &mut Supervised, before: &Value) -> Value {
    run.await_rows(|rows| rows.len() == 1 && rows[0]["worker"] != before["worker"] && rows[0]["state"] == "ready")
        .remove(0)
}

fn id(row: &Value) -> &str {
    row["worker"].as_str().expect("an id")
}

#[test]
fn a_process_is_replaced_after_its_jobs_and_between_two_of_them() {
    let mut run = start("max_jobs = 3");
    let first = run.the_ready_one();
    run.write(&format!("current-{}", id(&first)), "\"a\"");
    run.await_rows(|rows| rows[0]["state"] == "busy");
    run.write(&format!("done-{}", id(&first)), "3");
    let second = successor(&mut run, &first);
    assert_eq!((&second["last_exit"], &second["restarts"]), (&"max_jobs".into(), &1.into()));
    await_gone(pid_of(&first));
    run.finish();
}

#[test]
fn a_process_is_replaced_at_its_age() {
    let mut run = start("max_age = '300ms'");
    run.await_rows(|rows| rows.iter().any(|row| row["last_exit"] == "max_age" && row["restarts"].as_u64() >= Some(2)));
    run.finish();
}

#[test]
fn a_process_that_grows_is_replaced() {
    let grow = "echo up; while [ ! -e grow ]; do sleep 0.05; done; rm grow; x=$(head -c 30000000 /dev/zero | tr '\\\\0' x); \
                while :; do sleep 0.05; done";
    let config =
        format!("[workers.w]\ncommand = [\"sh\", \"-c\", \"{grow}\"]\nready_time = '10ms'\nmax_rss = '20MiB'\n");
    let mut run = Supervised::start(&config, &[]);
    let first = run.the_ready_one();
    run.write("grow", "");
    let second = successor(&mut run, &first);
    assert_eq!(second["last_exit"], "max_rss");
    run.finish();
}

#[test]
fn a_job_that_runs_too_long_is_killed_with_all_of_its_group() {
    let mut run = start("job_time = '500ms'");
    let first = run.the_ready_one();
    let family = run.descendants();
    run.write(&format!("current-{}", id(&first)), "\"stuck\"");
    let second = successor(&mut run, &first);
    assert_eq!(second["last_exit"], "job_time");
    // Redis is not below the supervisor; its guards are, one of them still.
    family.into_iter().filter(|pid| *pid == pid_of(&first)).for_each(await_gone);
    run.finish();
}
