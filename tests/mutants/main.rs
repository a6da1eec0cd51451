//! Tries the changes of `tests/mutants/push`: each takes one promise of the README away, and a test has to notice.
//!
//! A test that nothing can break holds nothing. Every change is made alone, in a copy of the working tree that is built
//! with a target folder of its own; the tests that it names are run against that build and must fail. One that cannot be
//! built is a fault of the list and no catch. It must never write to the tree that it copies. Usage:
//! `mutants [--list] [NAME…]`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use tempest_tests::mutants::{Mutant, push};
use tempest_tests::{Folder, Signal, copies_folder, copy_tree, kill_group, seed_builds};

/// How long the tests of one change may take. What hangs has been noticed, too.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often it is looked whether they have ended.
const LOOK: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let outcome = if names == ["--list"] { list() } else { Bench::new().and_then(|bench| bench.run(&names)) };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("mutants: {error}"));
            ExitCode::from(2)
        }
    }
}

#[allow(clippy::print_stdout, reason = "what it prints is what it is for")]
fn say(line: &str) {
    println!("{line}");
}

fn list() -> Result<bool, String> {
    for mutant in push()? {
        say(&format!("{:<28} {}", mutant.name, mutant.promise));
    }
    Ok(true)
}

/// What became of the tests of a change.
enum Outcome {
    /// These failed.
    Caught(Vec<String>),
    /// They did not end.
    Hung,
    Missed,
}

/// The copy, and where it is built.
struct Bench {
    tree: PathBuf,
    target: PathBuf,
}

impl Bench {
    fn new() -> Result<Self, String> {
        seed_builds("debug")?;
        let bench = Self { tree: copies_folder().join("tree"), target: copies_folder().join("target") };
        copy_tree(&bench.tree)?;
        Ok(bench)
    }

    /// Tries all, or those of these names; true: each was caught.
    fn run(&self, names: &[String]) -> Result<bool, String> {
        let mut all = push()?;
        if let Some(name) = names.iter().find(|name| !all.iter().any(|mutant| mutant.name == **name)) {
            return Err(format!("there is no mutant '{name}': see --list"));
        }
        all.retain(|mutant| names.is_empty() || names.contains(&mutant.name));
        self.check(&all)?;
        let mut missed = Vec::new();
        let mut faults = Vec::new();
        for mutant in &all {
            let began = Instant::now();
            let (word, detail) = match self.attempt(mutant) {
                Ok(Outcome::Caught(tests)) => ("caught", format!("by {}", tests.join(", "))),
                Ok(Outcome::Hung) => ("caught", format!("its tests hang: {}", mutant.test.join(", "))),
                Ok(Outcome::Missed) => {
                    missed.push(mutant.name.as_str());
                    ("MISSED", mutant.promise.clone())
                }
                Err(error) => {
                    faults.push(mutant.name.as_str());
                    ("FAULT", error)
                }
            };
            say(&format!("{:<28} {word:<7} {:>3} s  {detail}", mutant.name, began.elapsed().as_secs()));
        }
        let caught = all.len() - missed.len() - faults.len();
        say(&format!("{caught} of {} caught", all.len()));
        for (word, names) in [("missed", &missed), ("faults of the list", &faults)] {
            if !names.is_empty() {
                say(&format!("{word}: {}", names.join(", ")));
            }
        }
        Ok(missed.is_empty() && faults.is_empty())
    }

    /// Without any change the tests pass, or their failing would say nothing.
    fn check(&self, all: &[Mutant]) -> Result<(), String> {
        let mut tests: Vec<&String> = all.iter().flat_map(|mutant| &mutant.test).collect();
        tests.sort();
        tests.dedup();
        self.build()?;
        let began = Instant::now();
        match self.test(&tests, PATIENCE * 5)? {
            Outcome::Missed => {}
            Outcome::Caught(failed) => return Err(format!("these fail without any change: {}", failed.join(", "))),
            Outcome::Hung => return Err("the tests hang without any change".into()),
        }
        say(&format!("{} tests pass without any change, in {} s", tests.len(), began.elapsed().as_secs()));
        Ok(())
    }

    fn attempt(&self, mutant: &Mutant) -> Result<Outcome, String> {
        let changed = mutant.applied(&self.tree)?;
        let path = self.tree.join(&mutant.file);
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let before = fs::read(&path).map_err(failed)?;
        fs::write(&path, changed).map_err(failed)?;
        let tests: Vec<&String> = mutant.test.iter().collect();
        let outcome = self.build().and_then(|()| self.test(&tests, PATIENCE));
        fs::write(&path, before).map_err(failed)?;
        outcome
    }

    /// The binary that the tests start, and the tests, with the choice of features that all of the workspace has.
    fn build(&self) -> Result<(), String> {
        self.cargo(&["build", "--bin", "tempest"])?;
        self.cargo(&["test", "--test", "it", "--no-run"])
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(words).args(["--quiet", "--workspace"]).current_dir(&self.tree);
        // Debug information is for people; a quarter of each build is spent on it.
        cargo.env("CARGO_TARGET_DIR", &self.target).env("CARGO_PROFILE_DEV_DEBUG", "0");
        cargo
            .env("TEMPEST_BIN", self.target.join("debug/tempest"))
            .env("TEST_OF_TESTS", "1")
            .env_remove("RUST_BACKTRACE");
        cargo
    }

    fn cargo(&self, words: &[&str]) -> Result<(), String> {
        let ran = self.command(words).output().map_err(|error| error.to_string())?;
        if ran.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        let error = said.lines().find(|line| line.starts_with("error")).unwrap_or("no error was said");
        Err(format!("it cannot be built: {error}"))
    }

    /// Runs these tests; `Missed`: all of them passed.
    fn test(&self, tests: &[&String], patience: Duration) -> Result<Outcome, String> {
        // Of a failed test its folder stays, and here every good one fails.
        let folder = Folder::new();
        let out = folder.join("out");
        let file = fs::File::create(&out).map_err(|error| error.to_string())?;
        let mut cargo = self.command(&["test", "--test", "it", "--no-fail-fast"]);
        cargo.args(["--", "--exact"]).args(tests).env("TMPDIR", &*folder);
        let child = cargo.stdout(file).stderr(Stdio::null()).process_group(0).spawn();
        let mut child = child.map_err(|error| error.to_string())?;
        let Some(passed) = ended(&mut child, patience)? else { return Ok(Outcome::Hung) };
        let said = read(&out)?;
        let count: usize = said
            .lines()
            .filter_map(|line| line.strip_prefix("running ")?.split(' ').next()?.parse::<usize>().ok())
            .sum();
        if count != tests.len() {
            return Err(format!("{count} of {} tests were run", tests.len()));
        }
        if passed {
            return Ok(Outcome::Missed);
        }
        // The list of those that failed stands at the end, each behind four spaces.
        let behind = said.lines().filter_map(|line| line.strip_prefix("    "));
        let mut failed: Vec<String> =
            behind.filter(|name| tests.iter().any(|test| test == name)).map(str::to_owned).collect();
        failed.dedup();
        // Something else went wrong, which catches nothing.
        if failed.is_empty() {
            return Err("the run of its tests failed, and none of them did".into());
        }
        Ok(Outcome::Caught(failed))
    }
}

fn read(path: &Path) -> Result<String, String> {
    Ok(String::from_utf8_lossy(&fs::read(path).map_err(|error| error.to_string())?).into_owned())
}

/// Waits for the end, and whether it was a good one; None: it was ended here.
fn ended(child: &mut Child, patience: Duration) -> Result<Option<bool>, String> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(Some(status.success()));
        }
        std::thread::sleep(LOOK);
    }
    kill_group(child.id(), Signal::KILL);
    child.wait().map_err(|error| error.to_string())?;
    Ok(None)
}
