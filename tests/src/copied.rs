//! A copy of the working tree below the target folder, to be broken on purpose and built with a target folder of its own.
//!
//! Kept from one time to the next, so that what no change touches is built once. It must never write to the tree that it
//! copies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary::{repository, target_folder};

/// Where copies and what is built of them lie.
pub fn copies_folder() -> PathBuf {
    target_folder().join("mutants")
}

/// Runs a command to its end; an error says what it was good for.
pub fn done(command: &mut Command, otherwise: &str) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{otherwise}: {command:?}, {status}")) }
}

/// Begins with what has been built for the tree itself in this profile (`debug`, `release`): of that, a copy in another
/// folder needs the dependencies.
pub fn seed_builds(profile: &str) -> Result<(), String> {
    let (from, to) = (target_folder().join(profile), copies_folder().join("target"));
    if to.join(profile).exists() {
        return Ok(());
    }
    fs::create_dir_all(&to).map_err(|error| format!("{}: {error}", to.display()))?;
    done(Command::new("cp").arg("-a").arg(from).arg(&to), "no room for another target folder")
}

/// Makes `tree` what the working tree is. A file that is the same already keeps its time, so that nothing is built for
/// it; one that a mutant has changed is written anew.
pub fn copy_tree(tree: &Path) -> Result<(), String> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(repository());
    let output = git.output().map_err(|error| format!("{git:?}: {error}"))?;
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let names: Vec<&str> = names.split('\0').filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Err("the working tree is no git repository, so it is not known what belongs to it".into());
    }
    for name in names {
        copy(&repository().join(name), &tree.join(name)).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    // Deleted, and git does not know yet.
    let Ok(bytes) = fs::read(from) else {
        let _ = fs::remove_file(to);
        return Ok(());
    };
    if fs::read(to).is_ok_and(|known| known == bytes) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(to, bytes)
}
