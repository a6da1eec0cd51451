//! A whole `tempest up`: front, private Redis and workers, as a user starts it.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::command::tempest_command;
use crate::front::Front;
use crate::process::{Process, kill, processes_of};
use crate::resp::Resp;
use crate::world::{assert_no_process, scratch};

/// A running `tempest up`.
#[derive(Debug)]
pub struct Up {
    /// The process `tempest up` itself, and its listeners.
    pub front: Front,
    dir: PathBuf,
    mark: String,
}

impl Up {
    /// Starts it with a configuration file, on free ports; returns when it listens.
    pub fn start(config: &Path) -> Self {
        Self::start_with(config, &[])
    }

    /// The same with further arguments.
    pub fn start_with(config: &Path, args: &[&str]) -> Self {
        let (dir, mark) = scratch();
        Self::start_in(dir, mark, config, args)
    }

    /// The same with a configuration written for one test.
    pub fn start_text(config: &str) -> Self {
        let (dir, mark) = scratch();
        let file = Front::write_config(&dir, config);
        Self::start_in(dir, mark, &file, &[])
    }

    fn start_in(dir: PathBuf, mark: String, config: &Path, args: &[&str]) -> Self {
        let file = config.to_str().expect("the path is text");
        let mut all = vec!["up", "--config", file, "--admin", "127.0.0.1:0"];
        if !args.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        all.extend(args);
        let process = Process::start("up", &mark, tempest_command(&dir, &all));
        Self { front: Front::listening(process), dir, mark }
    }

    /// The folder that is its working folder and its home.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The mark of its processes.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Its processes whose command line contains `text`.
    pub fn processes(&self, text: &str) -> Vec<u32> {
        processes_of(&self.mark).into_iter().filter(|(_, line)| line.contains(text)).map(|(pid, _)| pid).collect()
    }

    /// The port of its private Redis.
    #[track_caller]
    pub fn redis_port(&self) -> u16 {
        // A running server shows its address in its command line: `redis-server 127.0.0.1:6379`.
        let port = |line: &str| {
            let (program, rest) = line.split_once(' ')?;
            let server = program.ends_with("redis-server") || program.ends_with("valkey-server");
            let address = rest.split_whitespace().find(|word| word.contains(':')).filter(|_| server)?;
            address.rsplit_once(':')?.1.parse().ok()
        };
        let found = processes_of(&self.mark).into_iter().find_map(|(_, line)| port(&line));
        found.unwrap_or_else(|| panic!("no Redis among {:?}", processes_of(&self.mark)))
    }

    /// A connection to its private Redis.
    #[track_caller]
    pub fn redis(&self) -> Resp {
        Resp::connect(self.redis_port()).expect("the private Redis accepts connections")
    }

    /// Ctrl-C; asserts that it ends in order and leaves no process.
    #[track_caller]
    pub fn finish(mut self) {
        self.front.process.signal(Signal::INT);
        let status = self.front.process.wait();
        assert!(status.success(), "tempest up ended with {status}");
        self.finish_after_end();
    }

    /// Asserts that no process is left, where the test has ended it.
    #[track_caller]
    pub fn finish_after_end(self) {
        assert_no_process(&self.mark);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        for (pid, _) in processes_of(&self.mark) {
            kill(pid, Signal::KILL);
        }
    }
}
