//! Telling whoever started this process how it is: systemd's protocol (`sd_notify(3)`), which `tempest up` listens to,
//! as well.
//!
//! `NOTIFY_SOCKET` names a datagram socket; without it nothing is sent. Nothing here may fail or wait for long: a
//! supervisor that does not listen must not hold up a front.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The variable.
pub const SOCKET: &str = "NOTIFY_SOCKET";
/// What a status that is not «ready» begins with.
pub const NOT_READY: &str = "not ready: ";
/// How long a supervisor whose socket is full is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// How a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Ready,
    /// It cannot serve now, and why.
    NotReady(String),
    /// It finishes what it has begun.
    Stopping,
}

/// Where to tell it.
#[derive(Debug)]
pub struct Notify(Option<(UnixDatagram, SocketAddr)>);

impl Notify {
    /// As the environment says.
    pub fn from_env() -> Self {
        let Some(name) = std::env::var_os(SOCKET).filter(|name| !name.is_empty()) else { return Self(None) };
        match connect(&name) {
            Ok(way) => Self(Some(way)),
            Err(error) => {
                tracing::warn!("{SOCKET} cannot be used: {error}");
                Self(None)
            }
        }
    }

    /// True where somebody is told.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Tells it.
    pub fn send(&self, state: &State) {
        if let Some((socket, to)) = &self.0
            && let Err(error) = socket.send_to_addr(state.spell(std::process::id()).as_bytes(), to)
        {
            tracing::debug!("the supervisor was not told: {error}");
        }
    }
}

fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok((socket, address(name)?))
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(rest) = name.as_bytes().strip_prefix(b"@") {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(rest);
    }
    if !name.as_bytes().starts_with(b"/") {
        return Err(io::Error::other(format!("{} is neither a path nor an abstract name", name.display())));
    }
    SocketAddr::from_pathname(name)
}

impl State {
    /// As lines of a message. A service manager learns of the first readiness by `READY=1`; everything after it is for
    /// people, and for [`State::parse`].
    fn spell(&self, pid: u32) -> String {
        match self {
            Self::Ready => format!("READY=1\nSTATUS=ready\nMAINPID={pid}"),
            Self::NotReady(why) => format!("STATUS={NOT_READY}{}\nMAINPID={pid}", why.replace('\n', " ")),
            Self::Stopping => format!("STOPPING=1\nSTATUS=draining\nMAINPID={pid}"),
        }
    }

    /// Who says what, of a message of ours; None for others.
    pub fn parse(message: &str) -> Option<(i32, Self)> {
        let value = |name: &str| message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let state = match (value("READY"), value("STOPPING"), value("STATUS")) {
            (Some("1"), ..) => Self::Ready,
            (_, Some("1"), _) => Self::Stopping,
            (.., Some(status)) => Self::NotReady(status.strip_prefix(NOT_READY)?.to_owned()),
            _ => return None,
        };
        Some((value("MAINPID")?.parse().ok()?, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for state in [State::Ready, State::NotReady("no connection to Redis".into()), State::Stopping] {
            assert_eq!(State::parse(&state.spell(17)), Some((17, state)));
        }
        assert_eq!(State::parse("READY=1"), None, "of whom?");
        assert_eq!(State::parse("STATUS=busy\nMAINPID=1"), None);
    }

    #[test]
    fn a_socket_is_a_path_or_an_abstract_name() {
        assert!(address(OsStr::new("/run/notify")).expect("a path").as_pathname().is_some());
        assert!(address(OsStr::new("notify")).is_err());
        #[cfg(target_os = "linux")]
        assert!(address(OsStr::new("@notify")).expect("an abstract name").as_pathname().is_none());
    }
}
