//! Finding a program as a shell would.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The program's path: a name with a slash is taken relative to `base`, any other is looked for in `path` (the value of
/// PATH). None: there is no such executable file.
pub fn which(program: &OsStr, base: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.is_empty() {
        return None;
    }
    if program.as_encoded_bytes().contains(&b'/') {
        let named = base.join(program);
        return is_executable(&named).then_some(named);
    }
    std::env::split_paths(path?).map(|folder| base.join(folder).join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(program: &str, base: &str, path: &str) -> Option<PathBuf> {
        which(program.as_ref(), base.as_ref(), Some(path.as_ref()))
    }

    #[test]
    fn finds_what_a_shell_finds() {
        assert_eq!(find("sh", "/", "/nowhere:/bin"), Some("/bin/sh".into()));
        assert_eq!(find("bin/sh", "/", ""), Some("/bin/sh".into()));
        assert_eq!(find("/bin/sh", "/tmp", ""), Some("/bin/sh".into()));
        assert_eq!(find("etc", "/", "/"), None, "a folder is no program");
        assert_eq!(find("passwd", "/", "/etc"), None, "nor is a file that cannot be executed");
        assert_eq!(find("", "/", "/bin"), None);
    }
}
