//! Finds the folders of the build and the binary under test, and builds the binary where a test runs without it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// The folder of the build profile that this program was built with (`target/debug`, `target/release`).
fn profile_folder() -> PathBuf {
    let own = env::current_exe().expect("a program knows its path");
    let folder = own.parent().expect("a program lies in a folder");
    if folder.ends_with("deps") {
        folder.parent().expect("deps/ lies in a folder").to_owned()
    } else {
        folder.to_owned()
    }
}

/// The folder of all builds; artifacts of failed tests go below it.
pub fn target_folder() -> PathBuf {
    profile_folder().parent().expect("a profile lies in the target folder").to_owned()
}

/// The binary `tempest`: `TEMPEST_BIN` where set, else the one of our own build profile.
pub fn tempest_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| env::var_os("TEMPEST_BIN").map_or_else(|| built().join("tempest"), PathBuf::from))
}

/// The hello worker of the Rust SDK, of our own build profile.
pub fn rust_worker() -> PathBuf {
    rust_example("hello")
}

/// A program of another package of the workspace, of our own build profile.
pub fn rust_binary(name: &str) -> PathBuf {
    built().join(name)
}

/// An example of the Rust SDK, of our own build profile.
pub fn rust_example(name: &str) -> PathBuf {
    built().join("examples").join(name)
}

/// The interpreter of the virtual environment in which the Python SDK is installed; `./dev test` and `./dev load` make
/// it.
pub fn python_with_sdk() -> PathBuf {
    let program = target_folder().join("python/bin/python");
    assert!(program.exists(), "no {}: ./dev test makes it, with worker-sdk/python in it", program.display());
    program
}

/// The folder of our own build profile, with everything in it brought up to date once a process. All of the workspace
/// is asked for, as `cargo test` does: for single packages cargo chooses other features of their dependencies, and
/// builds those once more.
fn built() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "--quiet", "--workspace", "--bins", "--examples", "--target-dir"]).arg(target_folder());
        if profile_folder().ends_with("release") {
            command.arg("--release");
        }
        // What `cargo test` tells a test of its own package: some build scripts (ring's) look at it, and all that depends
        // on them would be built anew, by turns with the build that does not see it.
        for (name, _) in env::vars_os() {
            if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
                command.env_remove(name);
            }
        }
        let status = command.current_dir(repository()).status().expect("cargo starts");
        assert!(status.success(), "cargo build failed");
        profile_folder()
    })
}
