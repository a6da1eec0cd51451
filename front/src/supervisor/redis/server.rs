//! Which server, and its command line.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::child::Program;
use super::super::which::which;
use super::Settings;
use super::folder::SERVER_LOCK;

/// What is looked for on PATH, in this order; they do the same here.
const NAMES: [&str; 2] = ["redis-server", "valkey-server"];

/// No server was found; the text says how to get one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoServer {
    /// The one that was asked for is not there.
    #[error("`{0}`, which redis.server or --redis-server names, is not an executable file")]
    Named(String),
    /// None on PATH.
    #[error(
        "no redis-server and no valkey-server on PATH. Install one:\n  \
         Debian, Ubuntu   apt-get install redis-server\n  \
         Fedora           dnf install valkey\n  \
         Arch             pacman -S valkey\n  \
         Alpine           apk add redis\n  \
         macOS            brew install redis\n\
         or name the executable: --redis-server PATH, or a server that runs: --redis redis://HOST:6379"
    )]
    NotInstalled,
}

/// Finds the server: what is configured (a name, or a path relative to `base`), else one on PATH.
pub fn find_server(configured: Option<&Path>, base: &Path) -> Result<PathBuf, NoServer> {
    let path = std::env::var_os("PATH");
    let find = |name: &OsStr| which(name, base, path.as_deref());
    match configured {
        Some(name) => find(name.as_os_str()).ok_or_else(|| NoServer::Named(name.display().to_string())),
        None => NAMES.iter().find_map(|name| find(name.as_ref())).ok_or(NoServer::NotInstalled),
    }
}

/// The server's command line. Everything that matters is said here, so that a system-wide configuration has no part.
pub(super) fn program(settings: &Settings, port: u16, grace: Duration) -> Program {
    let port = port.to_string();
    let options: [(&str, &OsStr); 14] = [
        ("--bind", "127.0.0.1".as_ref()),
        ("--protected-mode", "yes".as_ref()),
        ("--port", port.as_ref()),
        ("--unixsocket", settings.socket.as_os_str()),
        ("--unixsocketperm", "700".as_ref()),
        ("--dir", settings.dir.as_os_str()),
        // A job that was accepted outlives the server's death, but for its last second.
        ("--appendonly", "yes".as_ref()),
        ("--appendfsync", "everysec".as_ref()),
        ("--save", "".as_ref()),
        // Full memory must refuse new jobs, never drop old ones.
        ("--maxmemory-policy", "noeviction".as_ref()),
        ("--daemonize", "no".as_ref()),
        ("--supervised", "no".as_ref()),
        ("--logfile", "".as_ref()),
        ("--loglevel", "notice".as_ref()),
    ];
    Program {
        program: settings.server.clone().into(),
        args: options.iter().flat_map(|(name, value)| [OsString::from(name), value.into()]).collect(),
        env: Vec::new(),
        dir: Some(settings.dir.clone()),
        grace,
        lock: Some(settings.dir.join(SERVER_LOCK)),
        guard: settings.guard.clone(),
        sockets: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let error = find_server(Some(Path::new("/nowhere/redis")), Path::new("/")).expect_err("no such file");
        assert_eq!(error, NoServer::Named("/nowhere/redis".into()));
        assert!(NoServer::NotInstalled.to_string().contains("apt-get install redis-server"));
    }
}
