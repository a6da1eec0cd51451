//! A whole `tempest up`: front, private Redis and workers, as a user starts it.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::binary::repository;
use crate::command::tempest_command;
use crate::front::Front;
use crate::process::{Process, kill, processes_of};
use crate::resp::Resp;
use crate::wait::wait_until;
use crate::worker::prepare_raw_workers;
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
    /// Starts a copy of an example, so that several can run at once and each keeps its data in its own folder.
    pub fn example(name: &str, args: &[&str]) -> Self {
        prepare_raw_workers();
        let (dir, mark) = scratch();
        copy(&repository().join("examples").join(name), &dir.join("examples").join(name));
        // What examples reach for beside themselves.
        for shared in ["examples/raw", "worker-sdk"] {
            std::os::unix::fs::symlink(repository().join(shared), dir.join(shared)).expect("the folder is new");
        }
        let config = dir.join("examples").join(name).join("tempest.toml");
        Self::run(dir, mark, &config, args)
    }

    /// Starts it with a configuration written for one test.
    pub fn start(config: &str) -> Self {
        let (dir, mark) = scratch();
        Self::start_in(dir, mark, config)
    }

    /// Starts it with a configuration that names a Redis of the test's, in the folder `dir`.
    pub fn start_with_redis(dir: &Path, mark: &str, config: &str) -> Self {
        let file = Front::write_config(dir, config);
        let arguments = ["up", "--config", file.to_str().expect("the path is text")];
        let process = Process::start("up", mark, tempest_command(dir, &arguments));
        Self { front: Front::listening(process), dir: dir.to_owned(), mark: mark.to_owned() }
    }

    /// The same in a folder that the test has made and filled.
    pub fn start_in(dir: PathBuf, mark: String, config: &str) -> Self {
        let file = Front::write_config(&dir, config);
        Self::run(dir, mark, &file, &[])
    }

    fn run(dir: PathBuf, mark: String, config: &Path, args: &[&str]) -> Self {
        let file = config.to_str().expect("the path is text");
        let mut all = vec!["up", "--config", file, "--admin", "127.0.0.1:0"];
        if !args.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        all.extend(args);
        let process = Process::start("up", &mark, tempest_command(&dir, &all));
        let up = Self { front: Front::listening(process), dir, mark };
        wait_until("the front to register", || up.redis().cmd(&["ZCARD", "tempest:@fronts"]).int() > 0);
        up
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

    /// The port of its Redis.
    #[track_caller]
    pub fn redis_port(&self) -> u16 {
        self.front.process.log.wait("the address of Redis", |line| {
            let entry: serde_json::Value = serde_json::from_str(line).ok()?;
            let url = entry["redis"].as_str().filter(|_| entry["http"].is_string())?;
            url.trim_end_matches("/0").rsplit_once(':')?.1.parse().ok()
        })
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

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder for temporary files is writable");
    for entry in fs::read_dir(from).expect("the example is there").flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        // What an earlier run of a user left there is not part of it.
        if path.is_dir() && !entry.file_name().to_string_lossy().starts_with('.') {
            copy(&path, &target);
        } else if path.is_file() {
            fs::copy(&path, &target).expect("a file of the example can be read");
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        for (pid, _) in processes_of(&self.mark) {
            kill(pid, Signal::KILL);
        }
    }
}
