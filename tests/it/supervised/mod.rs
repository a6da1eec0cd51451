//! Workers that know nothing of reliable mode, under `tempest supervise`: real scripts, and one whose part the test plays.

mod deaths;
mod played;
mod pops;

use std::fs;

use tempest_tests::{Log, World, tempest_command};

/// Starts `tempest supervise` with these tables in its configuration; it ends with the world.
fn supervise(world: &mut World, redis: &str, tables: &str) -> Log {
    let dir = world.dir().join("workers");
    fs::create_dir_all(&dir).expect("the folder can be made");
    let text = format!("redis.url = \"{redis}\"\nlog.format = \"json\"\nlog.level = \"debug\"\n{tables}");
    fs::write(dir.join("tempest.toml"), text).expect("the file can be written");
    let command = tempest_command(&dir, &["supervise"]);
    let process = tempest_tests::Process::start("supervise", world.mark(), command);
    world.adopt(process).log.clone()
}

/// What a line of the log says.
fn message(line: &str) -> Option<String> {
    let entry: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(entry["message"].as_str()?.to_owned())
}

/// The rest of the message that begins so, old or yet to come, from the line numbered `from`.
#[track_caller]
fn said(log: &Log, from: usize, start: &str) -> String {
    log.wait_from(from, start, |line| message(line)?.strip_prefix(start).map(str::to_owned))
}
