//! Mutants: the code broken on purpose, in ways that are known, each of which a run must find out.
//!
//! A checker that finds nothing may be one that sees nothing. Each patch in `tests/chaos/mutants` takes one promise
//! away; it is applied to a copy of the working tree, the copy is built with a target folder of its own, and a run of
//! that build must be red. It must never touch the tree it copies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempest_tests::{Folder, copies_folder, copy_tree, done, repository, seed_builds, target_folder};

use crate::progress;

/// The run of a mutant that says nothing else.
const DEFAULT_RUN: &[&str] = &["--only", "workers,stops"];

/// One way to break the code.
#[derive(Debug)]
struct Mutant {
    name: String,
    patch: PathBuf,
    /// What it breaks, in a sentence.
    sentence: String,
    /// Arguments of the run that must find it out.
    run: Vec<String>,
}

/// Reads all patches. The lines before the first `diff` or `---` are the sentence; one of them may be `run: ARGUMENTS`.
fn mutants() -> Result<Vec<Mutant>, String> {
    let folder = repository().join("tests/chaos/mutants");
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut patches: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    patches.into_iter().map(read).collect()
}

fn read(patch: PathBuf) -> Result<Mutant, String> {
    let text = fs::read_to_string(&patch).map_err(|error| format!("{}: {error}", patch.display()))?;
    let head: Vec<&str> =
        text.lines().take_while(|line| !line.starts_with("diff ") && !line.starts_with("---")).collect();
    let run = head.iter().find_map(|line| line.strip_prefix("run: "));
    let run = run.map(|run| run.split_whitespace().map(str::to_owned).collect());
    let sentence = head.iter().filter(|line| !line.starts_with("run: ")).copied().collect::<Vec<_>>().join(" ");
    let sentence = sentence.trim().to_owned();
    let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if sentence.is_empty() {
        return Err(format!("{}: a patch begins with a sentence that says what it breaks", patch.display()));
    }
    let run = run.unwrap_or_else(|| DEFAULT_RUN.iter().map(|word| (*word).to_owned()).collect());
    Ok(Mutant { name, patch, sentence, run })
}

/// The mutants, for `--list`.
pub(crate) fn list() -> Result<String, String> {
    let lines = mutants()?.into_iter().map(|mutant| format!("  {:<12} {}\n", mutant.name, mutant.sentence));
    Ok(lines.fold("mutants\n".to_owned(), |out, line| out + &line))
}

/// Tries all, or the one of this name; true: each was found out.
pub(crate) fn run(only: Option<&str>, seed: Option<u64>) -> Result<bool, String> {
    let all = mutants()?;
    if let Some(name) = only.filter(|name| !all.iter().any(|mutant| mutant.name == **name)) {
        let names: Vec<_> = all.iter().map(|mutant| mutant.name.as_str()).collect();
        return Err(format!("there is no mutant '{name}'; there are {}", names.join(", ")));
    }
    let mut survivors = Vec::new();
    for mutant in all.iter().filter(|mutant| only.is_none_or(|name| name == mutant.name)) {
        progress(&format!("mutant {}: {}", mutant.name, mutant.sentence));
        if mutant.survives(seed)? {
            progress(&format!("mutant {}: SURVIVED, no rule was broken", mutant.name));
            survivors.push(mutant.name.as_str());
        } else {
            progress(&format!("mutant {}: found out", mutant.name));
        }
    }
    if !survivors.is_empty() {
        progress(&format!("survived: {}", survivors.join(", ")));
    }
    Ok(survivors.is_empty())
}

/// The profile that this program was built with; mutants get the same.
fn profile() -> &'static str {
    let own = std::env::current_exe().expect("a program knows its path");
    if own.parent().is_some_and(|folder| folder.ends_with("release")) { "release" } else { "debug" }
}

impl Mutant {
    fn survives(&self, seed: Option<u64>) -> Result<bool, String> {
        let tree = copies_folder().join("tree");
        copy_tree(&tree)?;
        seed_builds(profile())?;
        let mut patch = Command::new("git");
        // Outside of any repository the patch is applied to the folder it is called in.
        patch.args(["apply", "--whitespace=nowarn"]).arg(&self.patch).current_dir(&tree);
        patch.env("GIT_CEILING_DIRECTORIES", copies_folder());
        done(&mut patch, "the patch does not fit; make it anew")?;
        build(&tree)?;
        self.play(seed)
    }

    fn play(&self, seed: Option<u64>) -> Result<bool, String> {
        let built = copies_folder().join("target").join(profile());
        let mut run = Command::new(built.join("chaos"));
        run.args(&self.run).arg("--out").arg(copies_folder().join("reports").join(&self.name));
        if let Some(seed) = seed {
            run.args(["--seed", &seed.to_string()]);
        }
        run.env("TEMPEST_BIN", built.join("tempest")).env("CHAOS_PYTHON", target_folder().join("python/bin/python"));
        // A red run keeps its folder, and here every good one is red.
        let folder = Folder::new();
        run.env("TMPDIR", &*folder);
        let status = run.stdout(Stdio::null()).status().map_err(|error| format!("{run:?}: {error}"))?;
        match status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(format!("mutant {}: the run itself failed, {status}", self.name)),
        }
    }
}

fn build(tree: &Path) -> Result<(), String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "-p", "tempest", "-p", "tempest-chaos", "--bins", "--target-dir"]);
    cargo.arg(copies_folder().join("target")).current_dir(tree);
    if profile() == "release" {
        cargo.arg("--release");
    }
    done(&mut cargo, "a mutant must be code that can be built")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_has_a_sentence_and_a_run() {
        let mutants = mutants().expect("all are readable");
        assert!(!mutants.is_empty());
        assert!(mutants.iter().all(|mutant| mutant.sentence.ends_with('.') && !mutant.run.is_empty()), "{mutants:?}");
    }

    /// One that does not would be noticed only when somebody tries them all, which takes long.
    #[test]
    fn every_mutant_fits_the_code_as_it_is() {
        for mutant in mutants().expect("all are readable") {
            let mut fits = Command::new("git");
            fits.args(["apply", "--check"]).arg(&mutant.patch).current_dir(repository());
            done(&mut fits, &format!("{} does not fit; make it anew", mutant.name)).expect("a patch for this code");
        }
    }
}
