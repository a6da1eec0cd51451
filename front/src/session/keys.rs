//! The keys that seal sessions' cookies: from the configuration, or from a file that is made where there is none.
//!
//! The first seals and all open, so keys change by a new one in front. No error and no debug text shows any of them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use cookie::Key;
use ring::rand::{SecureRandom, SystemRandom};

use super::id::hex;
use crate::config::{LEAST_SECRET, Secret, Sessions};

/// Bytes of randomness in a key that is made here.
const NEW_BYTES: usize = 32;
/// A file with keys is not larger.
const MOST_BYTES: u64 = 64 * 1024;
/// The mode bits that let others in.
const OTHERS: u32 = 0o077;

/// Keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read, or not be made.
    #[error("session.key_file {0}: {1}; set session.keys, or session.key_file to a place that can be written")]
    File(String, io::Error),
    /// Others may read the file.
    #[error("session.key_file {0}: others than its owner may use it; chmod 600 {0}")]
    Open(String),
    /// A line is too short, or there is none.
    #[error(
        "session.key_file {0}: expected secrets of at least {LEAST_SECRET} bytes, one a line, the current one first"
    )]
    Short(String),
}

/// The keys of a process.
pub struct Keys(Vec<Key>);

impl Keys {
    /// Reads them; makes the file where it is missing and no key is configured.
    ///
    /// # Errors
    /// There is no key that can be used.
    pub fn open(config: &Sessions) -> Result<Self, KeyError> {
        if config.keys.is_empty() {
            return Self::of_file(&config.key_file);
        }
        Ok(Self(config.keys.iter().map(|secret| key(secret.expose())).collect()))
    }

    fn of_file(path: &Path) -> Result<Self, KeyError> {
        let name = path.display().to_string();
        let failed = |error| KeyError::File(name.clone(), error);
        if !path.exists() {
            make(path).map_err(failed)?;
        }
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.mode() & OTHERS != 0 {
            return Err(KeyError::Open(name));
        }
        let mut text = String::new();
        file.take(MOST_BYTES).read_to_string(&mut text).map_err(failed)?;
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() || lines.iter().any(|line| line.len() < LEAST_SECRET) {
            return Err(KeyError::Short(name));
        }
        Ok(Self(lines.into_iter().map(key).collect()))
    }

    /// The one that seals.
    pub(super) fn current(&self) -> &Key {
        &self.0[0]
    }

    /// All that open, the current one first.
    pub(super) fn all(&self) -> &[Key] {
        &self.0
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

fn key(secret: &str) -> Key {
    // The reader of the configuration, and of the file, has seen to the length.
    Key::derive_from(Secret::new(secret).expose().as_bytes())
}

/// Makes a file with a new key. Processes that start at the same time agree on one: a file is linked to its name only
/// once it is whole, and only one can be.
fn make(path: &Path) -> io::Result<()> {
    let mut random = [0; NEW_BYTES + 8];
    SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("there is no randomness"))?;
    let (key, own) = random.split_at(NEW_BYTES);
    let unfinished = path.with_extension(format!("{}.new", hex(own)));
    let written = (|| {
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(&unfinished)?;
        writeln!(file, "{}", hex(key))?;
        file.sync_all()?;
        match fs::hard_link(&unfinished, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    })();
    let _ = fs::remove_file(&unfinished);
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("tempest-keys-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).expect("a folder");
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_made_once_and_is_its_owners_alone() {
        let folder = Folder::new("made");
        let path = folder.0.join("key");
        let opened: Vec<Keys> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| Keys::of_file(&path).expect("a key"))).collect();
            all.into_iter().map(|one| one.join().expect("no panic")).collect()
        });
        assert!(opened.iter().all(|keys| keys.current() == opened[0].current()), "all have the same");
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder.0).expect("a folder").count(), 1, "nothing else is left");
    }

    #[test]
    fn keys_that_others_know_or_could_guess_are_refused() {
        let folder = Folder::new("bad");
        let path = folder.0.join("key");
        fs::write(&path, "k".repeat(40)).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
        assert!(Keys::of_file(&path).expect_err("open").to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        assert_eq!(Keys::of_file(&path).expect("a key").all().len(), 1);
        for text in ["", "\n\n", "short", &format!("{}\nshort", "k".repeat(40))] {
            fs::write(&path, text).expect("a file");
            assert!(matches!(Keys::of_file(&path), Err(KeyError::Short(_))), "{text}");
        }
        fs::write(&path, format!("{}\n{}\n", "a".repeat(32), "b".repeat(32))).expect("a file");
        assert_eq!(Keys::of_file(&path).expect("two keys").all().len(), 2);
        assert!(matches!(Keys::of_file(&folder.0.join("no/key")), Err(KeyError::File(..))));
    }
}
