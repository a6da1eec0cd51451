//! What a run on this machine leaves for `tempest publish` and `tempest status` to find it: a small file in a folder
//! that only this user can enter.
//!
//! A run holds a lock on its file, which the kernel takes away with the process, so a file that can be locked is a dead
//! run's: no process id has to be trusted. Readers need no lock of their own and never wait.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::config::RedisUrl;

/// Longest path of a unix socket that every system takes, in bytes.
const SOCKET_PATH_BYTES: usize = 99;
/// Largest state file that is read.
const FILE_BYTES: u64 = 64 * 1024;
/// The mode bits that let others in.
const OTHERS: u32 = 0o077;

/// A run of `tempest up`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its process.
    pub pid: u32,
    /// When it was ready, in ms since the epoch.
    pub started: u64,
    /// Its configuration file, absolute.
    pub file: Option<PathBuf>,
    /// Its Redis, over TCP where that is private.
    pub redis: RedisUrl,
    /// What its keys begin with.
    pub prefix: String,
    /// What its channels begin with in Redis.
    pub channel_prefix: String,
    /// Where browsers connect.
    pub http: Vec<String>,
    /// Where operators connect.
    pub admin: Option<String>,
}

/// [`Run`] in the file.
#[derive(Serialize, Deserialize)]
struct Record {
    pid: u32,
    started: u64,
    file: Option<PathBuf>,
    redis: String,
    prefix: String,
    channel_prefix: String,
    http: Vec<String>,
    admin: Option<String>,
}

/// Where a run keeps its state file and its Redis's socket.
#[derive(Clone, Debug)]
pub struct Place {
    folder: PathBuf,
    /// Tells runs apart.
    name: String,
}

/// A state file; removed when it is dropped.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    _lock: File,
}

impl Place {
    /// Finds the folder, makes it if it is missing, and removes what dead runs left.
    ///
    /// # Errors
    /// No folder is this user's alone.
    pub fn find() -> io::Result<Self> {
        let name = std::process::id().to_string();
        let mut problem = io::Error::other("there is no folder for it");
        for folder in folders() {
            match make_own(&folder) {
                Ok(()) => {
                    let place = Self { folder, name: name.clone() };
                    if place.socket().as_os_str().len() <= SOCKET_PATH_BYTES {
                        sweep(&place.folder);
                        return Ok(place);
                    }
                }
                Err(error) => problem = io::Error::new(error.kind(), format!("{}: {error}", folder.display())),
            }
        }
        Err(problem)
    }

    /// The path of this run's unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!("{}.sock", self.name))
    }

    /// The path of the socket on which front process `number` of this run tells how it is.
    pub fn notify_socket(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}.{number}", self.name))
    }

    /// Writes the state file: it is there whole and locked, or not at all.
    pub fn write(&self, run: &Run) -> io::Result<StateFile> {
        let path = self.folder.join(format!("{}.json", self.name));
        let unfinished = path.with_extension("new");
        // The address of a Redis may hold a password.
        let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
        file.write_all(&serde_json::to_vec(&Record::from(run)).map_err(io::Error::other)?)?;
        file.lock()?;
        fs::rename(&unfinished, &path)?;
        Ok(StateFile { path, _lock: file })
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        // A file that stays is a dead run's by its missing lock.
        let _ = fs::remove_file(&self.path);
    }
}

/// The live runs of this user: those of the best folder first, and of one folder the latest.
pub fn runs() -> Vec<Run> {
    folders().iter().filter(|folder| is_own(folder)).flat_map(|folder| runs_in(folder)).collect()
}

/// Milliseconds since the epoch by this machine's clock.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The path as every process on this machine would spell it.
pub fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

/// Where state may be, the best place first.
fn folders() -> Vec<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let system = PathBuf::from(format!("/run/user/{user}"));
    let homes = runtime.into_iter().chain([system]).filter(|home| home.is_dir()).map(|home| home.join("tempest"));
    let temporary = [std::env::temp_dir(), PathBuf::from("/tmp")].map(|folder| folder.join(format!("tempest-{user}")));
    let mut folders: Vec<PathBuf> = homes.chain(temporary).collect();
    folders.dedup();
    folders
}

fn make_own(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ if is_own(folder) => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::PermissionDenied, "it must be a folder that only this user can enter")),
    }
}

/// True for a folder, not a link to one, that is this user's and nobody else can enter. In a folder that all can write,
/// somebody else may have made it first.
fn is_own(folder: &Path) -> bool {
    let user = rustix::process::getuid().as_raw();
    fs::symlink_metadata(folder).is_ok_and(|about| about.is_dir() && about.uid() == user && about.mode() & OTHERS == 0)
}

fn state_files(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"))
}

fn runs_in(folder: &Path) -> Vec<Run> {
    let mut runs: Vec<Run> = state_files(folder).filter_map(|path| read(&path)).collect();
    runs.sort_by_key(|run| std::cmp::Reverse(run.started));
    runs
}

fn read(path: &Path) -> Option<Run> {
    let file = File::open(path).ok()?;
    if !is_live(&file) {
        return None;
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice::<Record>(&text).ok()?.run()
}

fn is_live(file: &File) -> bool {
    // A lock that is taken here goes with the handle.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn sweep(folder: &Path) {
    for path in state_files(folder) {
        if File::open(&path).is_ok_and(|file| !is_live(&file)) {
            let _ = fs::remove_file(&path);
            remove_sockets(&path);
        }
    }
}

/// Removes the sockets beside a dead run's state file: those of its Redis and of its fronts, `1234.sock` and `1234.5`.
fn remove_sockets(path: &Path) {
    let (Some(folder), Some(run)) = (path.parent(), path.file_stem()) else { return };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if entry.file_stem() == Some(run) {
            let _ = fs::remove_file(entry);
        }
    }
}

impl From<&Run> for Record {
    fn from(run: &Run) -> Self {
        let Run { pid, started, file, redis, prefix, channel_prefix, http, admin } = run.clone();
        Self { pid, started, file, redis: redis.with_password(), prefix, channel_prefix, http, admin }
    }
}

impl Record {
    fn run(self) -> Option<Run> {
        let Self { pid, started, file, redis, prefix, channel_prefix, http, admin } = self;
        Some(Run { pid, started, file, redis: redis.parse().ok()?, prefix, channel_prefix, http, admin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(started: u64) -> Run {
        Run {
            pid: 1,
            started,
            file: Some("/a/tempest.toml".into()),
            redis: "redis://u:p%40w@127.0.0.1:6379/0".parse().expect("a URL"),
            prefix: "tempest".into(),
            channel_prefix: String::new(),
            http: vec!["127.0.0.1:1337".into()],
            admin: None,
        }
    }

    #[test]
    fn a_run_is_found_while_its_file_is_locked() {
        let folder = std::env::temp_dir().join(format!("tempest-state-test-{}", std::process::id()));
        make_own(&folder).expect("a new folder");
        let place = Place { folder: folder.clone(), name: "one".into() };
        let file = place.write(&run(5)).expect("written");
        assert_eq!(runs_in(&folder), [run(5)]);
        // As a process that was killed leaves it.
        let left = folder.join("dead.json");
        fs::copy(folder.join("one.json"), &left).expect("a copy");
        assert_eq!(runs_in(&folder).len(), 1);
        sweep(&folder);
        assert!(!left.exists() && folder.join("one.json").exists());
        drop(file);
        assert!(runs_in(&folder).is_empty() && !folder.join("one.json").exists());
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_folder_that_others_can_enter_is_refused() {
        let folder = std::env::temp_dir().join(format!("tempest-open-test-{}", std::process::id()));
        DirBuilder::new().mode(0o755).create(&folder).expect("a new folder");
        assert!(make_own(&folder).is_err());
        fs::remove_dir(&folder).expect("removed");
    }
}
