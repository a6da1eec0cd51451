//! Finds what `tests/bench/install` installs. It must not install anything, nor take for present what cannot run:
//! a contender that is not there is a line in the report, not a failure of the benchmark.

use std::path::PathBuf;

use super::{Missing, installed};

/// A program of a Debian package, on PATH.
pub(super) fn program(name: &str, package: &str) -> Result<PathBuf, Missing> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Daemons are in sbin, which the PATH of a user who is not root leaves out.
    let sbin = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(sbin).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| missing(name, &format!("the package {package}")))
}

/// A program in the benchmark's Python environment.
pub(super) fn python(name: &str) -> Result<PathBuf, Missing> {
    let file = installed().join("python/bin").join(name);
    if file.is_file() { Ok(file) } else { Err(missing(name, "from PyPI")) }
}

/// A program that is built from Go modules.
pub(super) fn go(name: &str) -> Result<PathBuf, Missing> {
    let file = installed().join("go").join(name);
    if file.is_file() { Ok(file) } else { Err(missing(name, "built from Go modules")) }
}

fn missing(name: &str, source: &str) -> Missing {
    Missing(format!("{name} is not installed ({source}): tests/bench/install"))
}
