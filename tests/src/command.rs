//! One run of the built binary to its end: arguments in, words and exit code out.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::binary::tempest_binary;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The exit code; -1: ended by a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Standard output of a run that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }
}

/// The binary with these arguments, in `dir`, which is also its home, with no setting from outside.
pub fn tempest_command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(tempest_binary());
    command.args(args).current_dir(dir);
    for (key, _) in std::env::vars_os() {
        let text = key.to_string_lossy();
        if text.starts_with("TEMPEST_") || text.starts_with("XDG_") || text == "REDIS_URL" {
            command.env_remove(&key);
        }
    }
    command.env("HOME", dir).env("TMPDIR", dir).env("XDG_RUNTIME_DIR", dir);
    // On the usual port the workers of another test, which end a moment after their Redis, could take a job of this one.
    command.env("TEMPEST_REDIS_PORT", "0");
    command
}

/// Runs the binary to its end, with `input` on its standard input.
pub fn tempest(dir: &Path, args: &[&str], env: &[(&str, &str)], input: &str) -> Ran {
    let mut command = tempest_command(dir, args);
    command.envs(env.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    // A program that does not read its input may end before it is written.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}
