//! What a run plays on: a Redis, a proxy before it, two fronts, and workers of every kind, each restarted when it ends.
//!
//! It starts, restarts and ends processes and says which there are; when something is to be killed is the monkey's
//! affair. All processes are started by one thread, the one that made the stage: they end with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempest_chaos::clock::SECOND;
use tempest_chaos::ledger::{self, Event, Line, Persistence};
use tempest_tests::{
    Front, Process, Redis, Signal, alive, kill, processes_of, python_with_sdk, repository, scratch, tempest_binary,
};

use crate::load::Place;
use crate::proxy::Proxy;

/// Seconds that a request may wait for its answer; room for two workers in a row that fall silent.
pub(crate) const DEADLINE: u64 = 15;

/// A kind of worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The Rust SDK, restarted by the suite.
    Rust,
    /// The Python SDK, restarted by the suite.
    Python,
    /// The Rust SDK under `tempest supervise`.
    SupervisedRust,
    /// A script without an SDK under `tempest supervise`.
    SupervisedScript,
}

impl Class {
    pub(crate) const ALL: [Self; 4] = [Self::Rust, Self::Python, Self::SupervisedRust, Self::SupervisedScript];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::SupervisedRust => "supervised-rust",
            Self::SupervisedScript => "supervised-script",
        }
    }

    fn supervised(self) -> bool {
        matches!(self, Self::SupervisedRust | Self::SupervisedScript)
    }

    fn command(self) -> Command {
        let folder = repository().join("tests/chaos/workers");
        let python = |script: &str| {
            let interpreter = std::env::var_os("CHAOS_PYTHON").map_or_else(python_with_sdk, PathBuf::from);
            let mut command = Command::new(interpreter);
            command.arg(folder.join(script)).env("PYTHONPATH", repository().join("worker-sdk/python/src"));
            command
        };
        match self {
            Self::Rust | Self::SupervisedRust => {
                let own = std::env::current_exe().expect("a program knows its path");
                Command::new(own.with_file_name("chaos-worker"))
            }
            Self::Python => python("sdk.py"),
            Self::SupervisedScript => python("raw.py"),
        }
    }
}

/// One worker, or one supervisor of two.
#[derive(Debug)]
struct Slot {
    class: Class,
    through_proxy: bool,
    started: u32,
    process: Process,
}

/// A process that may be killed.
#[derive(Clone, Debug)]
pub(crate) struct Victim {
    pub(crate) pid: u32,
    pub(crate) class: String,
}

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) redis: Redis,
    pub(crate) proxy: Proxy,
    fronts: Vec<Front>,
    generation: u32,
    workers: Vec<Slot>,
    dir: PathBuf,
    mark: String,
}

impl Stage {
    /// Starts all of it, without the classes in `without`.
    pub(crate) fn start(without: &[Class]) -> Self {
        let (dir, mark) = scratch();
        fs::create_dir_all(dir.join("ledger")).expect("the folder of a run is writable");
        fs::create_dir_all(dir.join("logs")).expect("the folder of a run is writable");
        let redis = Redis::start(&dir.join("redis"), &mark);
        let proxy = Proxy::start(redis.port());
        let mut stage = Self { redis, proxy, fronts: Vec::new(), generation: 0, workers: Vec::new(), dir, mark };
        for number in 0..2 {
            let front = stage.launch_front(number);
            stage.fronts.push(front);
        }
        stage.fronts.iter().for_each(Front::wait_ready);
        for (class, through_proxy) in [
            (Class::Rust, false),
            (Class::Rust, true),
            (Class::Python, false),
            (Class::Python, true),
            (Class::SupervisedRust, false),
            (Class::SupervisedScript, false),
        ] {
            if !without.contains(&class) {
                let process = stage.launch_worker(class, through_proxy);
                stage.workers.push(Slot { class, through_proxy, started: 1, process });
            }
        }
        stage
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.dir.join("ledger")
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn redis_url(&self, through_proxy: bool) -> String {
        if through_proxy { format!("redis://127.0.0.1:{}/0", self.proxy.port()) } else { self.redis.url() }
    }

    // ---- fronts --------------------------------------------------------------------------------------------

    /// The second front reaches Redis through the proxy.
    fn launch_front(&self, number: usize) -> Front {
        let url = self.redis_url(number == 1);
        let config = format!(
            "redis.url = \"{url}\"\nfront.listen = [\"127.0.0.1:0\"]\nfront.admin = \"127.0.0.1:0\"\n\
             channels.public = [\"*\"]\nlog.format = \"json\"\n\
             [[route]]\npath = \"/sub/{{channel...}}\"\nkind = \"subscribe\"\n\
             [[route]]\npath = \"/{{rest...}}\"\nqueue = \"web\"\ntimeout = \"{DEADLINE}s\"\n"
        );
        Front::start(&self.dir.join(format!("front-{number}")), &self.mark, &config)
    }

    pub(crate) fn fronts(&self) -> &[Front] {
        &self.fronts
    }

    /// Where they listen now.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.fronts.iter().map(|front| Place { address: front.address(), generation: self.generation }).collect()
    }

    pub(crate) fn kill_front(&mut self, number: usize) {
        self.fronts[number].process.kill();
        self.save_log(&self.fronts[number].process);
    }

    /// Starts another in its place, and says where it listens.
    pub(crate) fn replace_front(&mut self, number: usize) -> Place {
        self.fronts[number] = self.launch_front(number);
        self.generation += 1;
        Place { address: self.fronts[number].address(), generation: self.generation }
    }

    // ---- Redis ---------------------------------------------------------------------------------------------

    /// Ends Redis, by SIGKILL or in order.
    pub(crate) fn end_redis(&mut self, killed: bool) {
        if killed {
            self.redis.kill();
        } else {
            self.redis.shutdown();
        }
    }

    /// Starts it again, to keep from now on what `keeps` says.
    pub(crate) fn return_redis(&mut self, keeps: Persistence) {
        self.redis.keep(match keeps {
            Persistence::Always => Some("always"),
            Persistence::Everysec => Some("everysec"),
            Persistence::None => None,
        });
        self.redis.restart();
    }

    // ---- workers -------------------------------------------------------------------------------------------

    fn launch_worker(&self, class: Class, through_proxy: bool) -> Process {
        let url = self.redis_url(through_proxy);
        let worker = class.command();
        let mut command = if class.supervised() {
            let mut command = Command::new(tempest_binary());
            command.args(["supervise", "--redis", &url, "--queue", "web", "--processes", "2", "--"]);
            command.arg(worker.get_program()).args(worker.get_args());
            command.envs(worker.get_envs().filter_map(|(name, value)| Some((name, value?))));
            command
        } else {
            let mut command = worker;
            command.env("REDIS_URL", &url);
            command
        };
        command.env("CHAOS_LEDGER", self.ledger()).env("CHAOS_CLASS", class.name()).current_dir(&self.dir);
        Process::start(class.name(), &self.mark, command)
    }

    /// Starts again what has ended of what the suite looks after.
    pub(crate) fn restart_ended(&mut self) {
        for at in 0..self.workers.len() {
            if !self.workers[at].process.is_running() {
                self.save_log(&self.workers[at].process);
                let (class, through_proxy) = (self.workers[at].class, self.workers[at].through_proxy);
                self.workers[at].process = self.launch_worker(class, through_proxy);
                self.workers[at].started += 1;
            }
        }
    }

    /// Workers that run, supervised ones too: those that have opened a ledger.
    pub(crate) fn victims(&self) -> Vec<Victim> {
        let ours: Vec<u32> = processes_of(&self.mark).into_iter().map(|(pid, _)| pid).collect();
        let ledgers = ledger::files(&self.ledger());
        let of = |path: &PathBuf| {
            let (class, pid) = path.file_stem()?.to_str()?.strip_prefix("worker-")?.rsplit_once('-')?;
            let pid = pid.parse().ok().filter(|pid| ours.contains(pid) && alive(*pid))?;
            // Within half an hour the ids of dead workers come round again: it may be a front by now.
            let up = last_up(path)?;
            (started(pid)? <= up).then(|| Victim { pid, class: class.to_owned() })
        };
        ledgers.iter().filter_map(of).collect()
    }

    /// Supervisors that run.
    pub(crate) fn supervisors(&self) -> Vec<Victim> {
        let of =
            |place: &Slot| Victim { pid: place.process.pid(), class: format!("supervisor-{}", place.class.name()) };
        self.workers.iter().filter(|place| place.class.supervised()).map(of).collect()
    }

    /// Workers that there should be.
    pub(crate) fn expected_workers(&self) -> usize {
        self.workers.iter().map(|place| if place.class.supervised() { 2 } else { 1 }).sum()
    }

    // ---- the end -------------------------------------------------------------------------------------------

    fn save_log(&self, process: &Process) {
        let path = self.dir.join("logs").join(format!("{}-{}.log", process.name(), process.pid()));
        let _ = fs::write(path, process.log.lines().join("\n"));
    }

    /// Ends every process in order and keeps what they logged; says which are left that should not be.
    pub(crate) fn end(mut self) -> Vec<String> {
        for place in &mut self.workers {
            place.process.signal(Signal::TERM);
        }
        let mut stuck = Vec::new();
        for place in &mut self.workers {
            if !tempest_tests::within(std::time::Duration::from_secs(15), || !place.process.is_running()) {
                stuck.push(format!(
                    "{} {} did not end within 15 s of SIGTERM",
                    place.process.name(),
                    place.process.pid()
                ));
                place.process.kill();
            }
        }
        self.workers.iter().for_each(|place| self.save_log(&place.process));
        for front in &mut self.fronts {
            front.process.kill();
        }
        self.fronts.iter().for_each(|front| self.save_log(&front.process));
        self.redis.kill();
        if !tempest_tests::within(std::time::Duration::from_secs(5), || processes_of(&self.mark).is_empty()) {
            for (pid, command) in processes_of(&self.mark) {
                stuck.push(format!("process {pid} is left: {command}"));
                kill(pid, Signal::KILL);
            }
        }
        stuck
    }
}

/// When a process was started, in ns of the clock of the ledgers; Linux counts hundredths of a second since the start of
/// the machine.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): the 22nd field; the second, in parentheses, may hold anything.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks * SECOND / 100)
}

/// When the last process that writes this ledger said that it was there.
fn last_up(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let up = |line: &str| match serde_json::from_str(line) {
        Ok(Line { t, event: Event::Up { .. } }) => Some(t),
        _ => None,
    };
    text.lines().filter(|line| line.contains("\"up\"")).filter_map(up).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_who_wrote_the_ledger_only_if_it_began_before() {
        let own = started(std::process::id()).expect("this process has begun");
        let now = tempest_chaos::clock::now();
        assert!(own <= now && now - own < 3_600 * SECOND, "{own} {now}");
        let folder = tempest_tests::Folder::new();
        let path = folder.join("worker-rust-7.jsonl");
        fs::write(&path, "{\"t\":5,\"e\":\"up\",\"pid\":7,\"class\":\"rust\"}\n{\"t\":9,\"e\":\"calm\"}\n")
            .expect("a file");
        assert_eq!(last_up(&path), Some(5));
    }
}
