//! Files that are watched for changes: patterns, looked at twice a second.
//!
//! Meant for development. Polling needs nothing of the system, works on every file system, and costs a walk; so the walk
//! has bounds, and beyond them it is said once and the rest is not watched.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Pattern;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Most files that are watched by one group.
const FILES: usize = 10_000;
/// Most entries of folders that one look goes through.
const ENTRIES: usize = 100_000;
/// Deepest folder.
const DEPTH: usize = 32;
/// Names that nobody means who writes a wildcard; nor those that begin with a dot.
const NOT_MEANT: [&str; 3] = ["node_modules", "__pycache__", "target"];

/// What tells one state of a file from another.
type Stamp = (Option<SystemTime>, u64);
/// All files and their states.
type Snapshot = HashMap<PathBuf, Stamp>;

/// The last file that changed; the watch ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    changed: watch::Receiver<Option<PathBuf>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins to watch; None where there is nothing to.
    pub(super) fn start(patterns: &[String], base: &Path, name: &str) -> Option<Self> {
        if patterns.is_empty() {
            return None;
        }
        let (sender, changed) = watch::channel(None);
        let (patterns, base, name) = (patterns.to_vec(), base.to_owned(), name.to_owned());
        Some(Self { changed, task: tokio::spawn(look(patterns, base, name, sender)) })
    }

    /// The next file that changes. May be dropped and called again.
    pub(super) async fn next(&mut self) -> PathBuf {
        loop {
            if self.changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Some(path) = self.changed.borrow_and_update().clone() {
                return path;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(patterns: Vec<String>, base: PathBuf, name: String, changed: watch::Sender<Option<PathBuf>>) {
    let mut known: Option<Snapshot> = None;
    let mut warned = false;
    loop {
        let (patterns, base) = (patterns.clone(), base.clone());
        // A folder on a network may take its time; nobody waits for it here.
        let Ok((now, cut)) = tokio::task::spawn_blocking(move || snapshot(&patterns, &base)).await else { return };
        if cut && !warned {
            tracing::warn!(from = %name, "`watch` names too much: of its files only {FILES} are watched");
        }
        warned |= cut;
        if let Some(path) = known.as_ref().and_then(|known| difference(known, &now)) {
            changed.send_replace(Some(path));
        }
        known = Some(now);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A file that is in one of them only, or not the same in both.
fn difference(before: &Snapshot, now: &Snapshot) -> Option<PathBuf> {
    let changed = now.iter().find(|(path, stamp)| before.get(*path) != Some(*stamp));
    changed.or_else(|| before.iter().find(|(path, _)| !now.contains_key(*path))).map(|(path, _)| path.clone())
}

/// All files that the patterns name, and whether there were more than may be watched.
fn snapshot(patterns: &[String], base: &Path) -> (Snapshot, bool) {
    let mut walk = Walk { files: Snapshot::new(), entries: 0, cut: false };
    for pattern in patterns {
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let root = if pattern.starts_with('/') { Path::new("/") } else { base };
        walk.walk(root, &parts, 0);
    }
    (walk.files, walk.cut)
}

struct Walk {
    files: Snapshot,
    entries: usize,
    cut: bool,
}

impl Walk {
    fn walk(&mut self, folder: &Path, parts: &[&str], depth: usize) {
        let Some((part, rest)) = parts.split_first() else { return };
        if depth > DEPTH || self.cut {
            return;
        }
        if *part != "**" && !part.contains(['*', '?']) {
            return self.reach(&folder.join(part), rest, depth);
        }
        // `**` is no folder at all, too.
        if *part == "**" {
            self.walk(folder, if rest.is_empty() { &["*"] } else { rest }, depth + 1);
        }
        let pattern = Pattern::new(*part);
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            self.entries += 1;
            self.cut |= self.entries > ENTRIES;
            let name = entry.file_name();
            let meant = |name: &&str| !name.starts_with('.') && !NOT_MEANT.contains(name);
            let Some(name) = name.to_str().filter(meant) else { continue };
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if *part == "**" {
                if is_folder {
                    self.walk(&entry.path(), parts, depth + 1);
                }
            } else if pattern.matches(name) {
                self.reach(&entry.path(), rest, depth);
            }
        }
    }

    /// At a path that matches so far.
    fn reach(&mut self, path: &Path, rest: &[&str], depth: usize) {
        if !rest.is_empty() {
            return self.walk(path, rest, depth + 1);
        }
        let Ok(about) = path.metadata() else { return };
        if !about.is_file() {
            return;
        }
        if self.files.len() >= FILES {
            self.cut = true;
            return;
        }
        self.files.insert(path.to_owned(), (about.modified().ok(), about.len()));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn folder() -> Folder {
        let folder = std::env::temp_dir().join(format!("tempest-watch-{}", std::process::id()));
        for file in ["a.py", "app/b.py", "app/c/d.py", "app/c/e.txt", "app/.git/f.py", "app/node_modules/g.py"] {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, "x").expect("written");
        }
        Folder(folder)
    }

    #[test]
    fn patterns_name_files_and_changes_are_seen() {
        let folder = folder();
        let names = |pattern: &str| {
            let (files, cut) = snapshot(&[pattern.to_owned()], &folder.0);
            assert!(!cut);
            let mut names: Vec<String> =
                files.keys().map(|path| path.strip_prefix(&folder.0).expect("below").display().to_string()).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(names("app/**/*.py"), "app/b.py app/c/d.py");
        assert_eq!(names("**/*.py"), "a.py app/b.py app/c/d.py");
        assert_eq!(names("./app/c/**"), "app/c/d.py app/c/e.txt");
        assert_eq!(names("app/*/?.py"), "app/c/d.py");
        assert_eq!(names("a.py"), "a.py");
        assert_eq!(names("nowhere/**/*.py"), "");
        let of = || snapshot(&["**/*.py".to_owned()], &folder.0).0;
        let before = of();
        assert_eq!(difference(&before, &of()), None);
        fs::write(folder.0.join("app/b.py"), "longer").expect("written");
        assert_eq!(difference(&before, &of()), Some(folder.0.join("app/b.py")));
        let before = of();
        fs::remove_file(folder.0.join("a.py")).expect("removed");
        assert_eq!(difference(&before, &of()), Some(folder.0.join("a.py")));
    }
}
