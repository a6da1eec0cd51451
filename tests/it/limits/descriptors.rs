//! Open files: the front takes what it may have, says where that is not enough, and what it starts gets what was there.

use std::fs;
use std::path::Path;

use tempest_tests::{Folder, Front, Process, World, assert_no_process, scratch, tempest_command, under};

/// A shell that sets limits and then becomes another program.
fn shell(limits: &str) -> String {
    format!("{limits}; exec \"$@\"")
}

/// The soft limit of a process on open files.
fn soft_limit(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).expect("such a limit");
    line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

/// A second front of this world, with the limits that a shell sets before.
fn front(world: &World, folder: &Path, limits: &str, settings: &str) -> Front {
    let config = format!(
        "redis.url = \"{}\"\nfront.listen = \"127.0.0.1:0\"\nfront.admin = \"127.0.0.1:0\"\nlog.format = \"json\"\n{settings}",
        world.redis.url()
    );
    Front::start_under(&["sh", "-c", &shell(limits), "sh"], folder, world.mark(), &config)
}

fn said(front: &Front) -> Vec<String> {
    front.process.log.lines().into_iter().filter(|line| line.contains("files may be open")).collect()
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one_and_what_does_not_fit_is_said() {
    let world = World::start();
    let folder = Folder::new();
    // What fits exactly: 256 are for everything else.
    let mut fits = front(&world, &folder, "ulimit -Sn 200; ulimit -Hn 1256", "limits.connections = 1000");
    assert_eq!(soft_limit(fits.process.pid()), 1256);
    assert_eq!(said(&fits), Vec::<String>::new());
    let mut tight = front(&world, &folder, "ulimit -Sn 200; ulimit -Hn 1256", "limits.connections = 1001");
    let [line] = <[String; 1]>::try_from(said(&tight)).expect("one line");
    assert!(line.contains("1001 needs 1257") && line.contains("limits.connections to 1000"), "{line}");
    for front in [&mut fits, &mut tight] {
        assert!(front.terminate().success());
    }
    world.finish();
}

#[test]
fn workers_get_the_limit_that_was_there_before() {
    let (dir, mark) = scratch();
    let config = "log.format = \"json\"\n[workers.one]\ncommand = \"bash one.sh\"\n";
    let file = Front::write_config(&dir, config);
    fs::write(dir.join("one.sh"), "echo \"may have $(ulimit -Sn) files\"\nexec sleep 1000\n").expect("a file");
    let args = ["up", "--config", file.to_str().expect("text"), "--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
    let command = under(&["sh", "-c", &shell("ulimit -Sn 300"), "sh"], tempest_command(&dir, &args));
    let mut up = Process::start("up", &mark, command);
    up.log.wait_for("may have 300 files");
    assert!(soft_limit(up.pid()) > 300);
    assert!(up.terminate().success());
    assert_no_process(&mark);
    let _ = fs::remove_dir_all(&dir);
}
