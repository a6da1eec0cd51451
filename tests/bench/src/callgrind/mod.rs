//! Counts what a running server executes, by valgrind's callgrind: instructions do not depend on how fast or how busy
//! a machine is, so a difference of a few percent can be seen that no clock shows.
//!
//! It must not start servers nor know them: whoever starts one puts [`COMMAND`] before its command line. Counted is
//! the user space of all its threads; what the kernel does for it is not.

mod profile;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) use profile::Profile;
use tempest_tests::Process;

use crate::peers::{Missing, Server};

/// Words before the command line of a server that is to be counted. Its dumps lie in the folder that it runs in.
pub(crate) const COMMAND: &[&str] = &["valgrind", "--quiet", "--tool=callgrind", "--callgrind-out-file=dump"];

/// An error that says what to install, where valgrind is missing.
pub(crate) fn installed() -> Result<(), Missing> {
    let found = |program| Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match ["valgrind", "vgdb"].map(found) {
        [Ok(_), Ok(_)] => Ok(()),
        _ => Err(Missing("valgrind is not installed".into())),
    }
}

/// The process of a contender that runs under callgrind.
#[derive(Debug)]
pub(crate) struct Counted<'s> {
    process: &'s Process,
    dumps: PathBuf,
}

impl<'s> Counted<'s> {
    /// Finds it among the processes of a server.
    pub(crate) fn of(server: &'s Server) -> Result<Self, String> {
        let link = |process: &Process, name: &str| fs::read_link(format!("/proc/{}/{name}", process.pid()));
        let is_counted = |process: &&Process| {
            // Valgrind becomes the tool: the program that runs is named after that.
            let program = link(process, "exe").unwrap_or_default();
            program.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("callgrind-"))
        };
        let process = server.processes.iter().find(is_counted).ok_or("no process runs under callgrind")?;
        let dumps = link(process, "cwd").map_err(|error| error.to_string())?;
        Ok(Self { process, dumps })
    }

    /// The name of the process.
    pub(crate) fn name(&self) -> &str {
        self.process.name()
    }

    /// Counts from nothing again.
    pub(crate) fn zero(&self) -> Result<(), String> {
        self.tell("zero")
    }

    /// What was executed since; counts from nothing again. The raw dump is kept as `keep`, where callgrind's own
    /// programs can read it.
    pub(crate) fn take(&self, keep: &Path) -> Result<Profile, String> {
        self.tell("dump")?;
        // Numbered by itself, whatever was dumped before.
        let dump = fs::read_dir(&self.dumps)
            .map_err(|error| error.to_string())?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_stem() == Some(OsStr::new("dump")) && path.extension().is_some())
            .ok_or("callgrind wrote no dump")?;
        let text = fs::read_to_string(&dump).map_err(|error| format!("{}: {error}", dump.display()))?;
        fs::write(keep, &text).map_err(|error| format!("{}: {error}", keep.display()))?;
        fs::remove_file(&dump).map_err(|error| error.to_string())?;
        Profile::parse(&text)
    }

    /// Has callgrind do something; it is done on return.
    fn tell(&self, what: &str) -> Result<(), String> {
        let pid = format!("--pid={}", self.process.pid());
        let output = Command::new("vgdb").args([&pid, what]).output().map_err(|error| format!("vgdb: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("vgdb {what}: {}", said.trim())) }
    }
}
