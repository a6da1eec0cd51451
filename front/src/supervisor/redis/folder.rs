//! The data folder of the private Redis: where it is, and that it has one user.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::StartError;

/// What the supervisor locks; it holds its process id.
const LOCK: &str = "up.lock";
/// What the server locks for as long as it lives.
pub(super) const SERVER_LOCK: &str = "redis.lock";
/// How long the supervisor's lock is tried for.
const LOCK_TIME: Duration = Duration::from_millis(500);
/// How long a server is waited for that its guard is just ending.
const SERVER_TIME: Duration = Duration::from_secs(10);
/// Time between two tries.
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// The data folder where none is configured: `$XDG_STATE_HOME/tempest/NAME-HASH` (`~/.local/state/…`) for the
/// configuration file or working folder `of`, absolute. So each project has its own, and nothing is written into it.
pub fn default_folder(of: &Path) -> PathBuf {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let home = state.unwrap_or_else(std::env::temp_dir).join("tempest");
    let project = if of.is_dir() { of } else { of.parent().unwrap_or(of) };
    let name = project.file_name().unwrap_or_default().to_string_lossy();
    home.join(format!("{name}-{:08x}", hash(of.as_os_str().as_encoded_bytes())))
}

/// FNV-1a: the same in every build, which the hashes of the standard library do not promise.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Makes the folder, locks it against a second supervisor, and waits for the last one's server, which still has its
/// port. The lock lasts as long as the file is open.
pub(super) async fn prepare(dir: &Path) -> Result<File, StartError> {
    let unusable = |error| StartError::Folder { path: dir.to_owned(), error };
    make(dir).map_err(unusable)?;
    let mut file = open(&dir.join(LOCK)).map_err(unusable)?;
    if !lock(&file, LOCK_TIME).await.map_err(unusable)? {
        return Err(StartError::InUse { path: dir.to_owned(), holder: holder(&mut file) });
    }
    sign(&mut file).map_err(unusable)?;
    // Where it is not gone in time, the new server says so: it takes this lock itself.
    let server = open(&dir.join(SERVER_LOCK)).map_err(unusable)?;
    lock(&server, SERVER_TIME).await.map_err(unusable)?;
    Ok(file)
}

/// False: somebody else holds it, and not just for the moment that a dying process takes.
async fn lock(file: &File, time: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + time;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(false),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_RETRY).await,
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).read(true).write(true).open(path)
}

fn make(dir: &Path) -> io::Result<()> {
    // What is in the queues is nobody else's business.
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_configuration_has_a_folder_of_its_own() {
        let (one, other) = (default_folder(Path::new("/a/shop/x.toml")), default_folder(Path::new("/a/shop/y.toml")));
        assert_ne!(one, other);
        assert_eq!(one, default_folder(Path::new("/a/shop/x.toml")));
        let name = one.file_name().expect("a name").to_string_lossy();
        assert!(name.starts_with("shop-") && name.len() == "shop-12345678".len(), "{name}");
    }
}
