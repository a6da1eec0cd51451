//! Changes of the source that each take one promise away, as they are kept in `tests/mutants`, and the table of promises.
//!
//! A change is a text that occurs once in its file and what stands there instead, so it fits until that very place is
//! written anew. This only reads and applies; who builds and runs is `tests/mutants/main.rs`.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::binary::repository;

/// Of README.md: the first words of the table that the changes of `push` are held to.
const TABLE: &str = "| | Tempest | Mercure |";

/// One change.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// One word by which it is called.
    pub name: String,
    /// The row of the table whose promise it takes away; none: a promise of the text.
    pub row: Option<String>,
    /// That promise, in a sentence.
    pub promise: String,
    /// The file that it changes.
    pub file: String,
    /// What occurs there once.
    pub find: String,
    /// What stands there instead.
    pub replace: String,
    /// The tests that are run, by their whole names; one of them must fail.
    pub test: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

impl Mutant {
    /// The text of its file with the change in it.
    ///
    /// # Errors
    /// It does not fit the file as it is.
    pub fn applied(&self, root: &Path) -> Result<String, String> {
        let path = root.join(&self.file);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {}: {error}", self.name, self.file))?;
        match text.matches(&self.find).count() {
            1 if self.find != self.replace => Ok(text.replacen(&self.find, &self.replace, 1)),
            1 => Err(format!("{}: it changes nothing", self.name)),
            count => Err(format!("{}: what it changes occurs {count} times in {}; make it anew", self.name, self.file)),
        }
    }
}

/// All changes of the list `push`, file by file.
///
/// # Errors
/// A file that is no list.
pub fn push() -> Result<Vec<Mutant>, String> {
    let folder = repository().join("tests/mutants/push");
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let wrong = |error: String| format!("{}: {error}", file.display());
        let text = fs::read_to_string(&file).map_err(|error| wrong(error.to_string()))?;
        let list: List = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        all.extend(list.mutant);
    }
    Ok(all)
}

/// The rows of the table "Streams beside other servers", and whether ours claims something.
pub fn rows() -> Vec<(String, bool)> {
    let readme = fs::read_to_string(repository().join("README.md")).expect("there is a README");
    let lines = readme.lines().skip_while(|line| !line.starts_with(TABLE)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|')).map(|line| {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let (name, ours) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        (name.to_owned(), ours != "–" && ours != "not yet")
    });
    rows.collect()
}
