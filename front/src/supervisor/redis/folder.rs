//! The data folder of the private Redis: where it is, and that it has one user.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::StartError;

/// What the supervisor locks; it holds its process id.
const LOCK: &str = "up.lock";
/// The folder beside the configuration that holds all that a run keeps.
const HOME: &str = ".tempest";

/// The data folder where none is configured: `.tempest/redis` beside the configuration. It goes where the project goes
/// and is deleted with it, and two projects never share one.
pub fn default_folder(base: &Path) -> PathBuf {
    base.join(HOME).join("redis")
}

/// Makes the folder and locks it against a second supervisor; the lock lasts as long as the file is open.
pub(super) fn prepare(dir: &Path) -> Result<File, StartError> {
    let unusable = |error| StartError::Folder { path: dir.to_owned(), error };
    make(dir).map_err(unusable)?;
    let mut file =
        File::options().create(true).truncate(false).read(true).write(true).open(dir.join(LOCK)).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
        Err(TryLockError::WouldBlock) => {
            return Err(StartError::InUse { path: dir.to_owned(), holder: holder(&mut file) });
        }
    }
    sign(&mut file).map_err(unusable)?;
    Ok(file)
}

fn make(dir: &Path) -> io::Result<()> {
    // What is in the queues is nobody else's business.
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match dir.parent() {
        Some(home) if home.ends_with(HOME) => std::fs::write(home.join(".gitignore"), "*\n"),
        _ => Ok(()),
    }
}

fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(20).read_to_string(&mut text);
    let pid = read.ok().and_then(|_| text.trim().parse::<u32>().ok());
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}
