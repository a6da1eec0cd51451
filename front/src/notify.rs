//! Telling whoever started this process how it is: systemd's protocol (`sd_notify(3)`), which `tempest up` listens to,
//! as well.
//!
//! `NOTIFY_SOCKET` names a datagram socket; without it nothing is sent. Nothing here may fail or wait for long: a
//! supervisor that does not listen must not hold up a front.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

/// The variable.
pub const SOCKET: &str = "NOTIFY_SOCKET";
/// What a status that is not «ready» begins with.
pub const NOT_READY: &str = "not ready: ";
/// What became of a reload, 1 or 0; systemd leaves names with X_ to others.
const RELOADED: &str = "X_TEMPEST_RELOADED";
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

/// Where to tell it; clones share the socket.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    socket: Option<Arc<(UnixDatagram, SocketAddr)>>,
    watchdog: Option<Duration>,
}

/// Says again and again that this process lives; ends when dropped.
#[derive(Debug)]
pub struct Watchdog(Option<JoinHandle<()>>);

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Notifier {
    /// As the environment says.
    pub fn from_env() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let ours = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = text("WATCHDOG_USEC").filter(|_| ours).and_then(|usec| usec.parse().ok());
        let name = std::env::var_os(SOCKET).filter(|name| !name.is_empty());
        let socket = name.and_then(|name| match connect(&name) {
            Ok(way) => Some(Arc::new(way)),
            Err(error) => {
                tracing::warn!("{SOCKET} cannot be used: {error}");
                None
            }
        });
        Self { socket, watchdog: watchdog.filter(|usec| *usec > 0).map(Duration::from_micros) }
    }

    /// True where somebody is told.
    pub fn is_on(&self) -> bool {
        self.socket.is_some()
    }

    /// Tells how it is.
    pub fn send(&self, state: &State) {
        self.say(&state.spell(std::process::id()));
    }

    /// It serves; `status` is a line for people.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// It is on the way to something new; [`Notifier::ready`] follows.
    pub fn reloading(&self, status: &str) {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS={status}", monotonic_us()));
    }

    /// The configuration was read anew: it holds now, or was refused. For `tempest up`; others pass over it.
    pub fn reloaded(&self, holds: bool) {
        self.say(&format!("{RELOADED}={}\nMAINPID={}", u8::from(holds), std::process::id()));
    }

    /// It is ending.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=stopping");
    }

    /// Says twice in the time that was agreed that it lives, from the runtime this is called in: where that hangs,
    /// nothing is said.
    pub fn watchdog(&self) -> Watchdog {
        let Some(every) = self.watchdog.filter(|_| self.is_on()) else { return Watchdog(None) };
        let own = self.clone();
        Watchdog(Some(tokio::spawn(async move {
            loop {
                own.say("WATCHDOG=1");
                tokio::time::sleep(every / 2).await;
            }
        })))
    }

    fn say(&self, text: &str) {
        if let Some((socket, to)) = self.socket.as_deref()
            && let Err(error) = socket.send_to_addr(text.as_bytes(), to)
        {
            tracing::debug!("the supervisor was not told: {error}");
        }
    }
}

/// Microseconds of the clock that the service manager measures with.
fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or_default() / 1000
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

/// Who says that it has read its configuration anew, and whether that holds; None for other messages.
pub fn parse_reloaded(message: &str) -> Option<(i32, bool)> {
    let value = |name: &str| message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    Some((value("MAINPID")?.parse().ok()?, value(RELOADED)? == "1"))
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

    #[cfg(target_os = "linux")]
    #[test]
    fn speaks_to_sockets_with_and_without_a_file() {
        use std::os::linux::net::SocketAddrExt;

        let name = format!("tempest-notify-{}", std::process::id());
        let file = std::env::temp_dir().join(&name);
        let listeners = [
            (UnixDatagram::bind(&file).expect("a socket"), file.clone().into_os_string().into_encoded_bytes()),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("a socket"),
                format!("@{name}").into_bytes(),
            ),
        ];
        for (listener, name) in listeners {
            let socket = connect(OsStr::from_bytes(&name)).map(Arc::new).ok();
            let notifier = Notifier { socket, watchdog: None };
            let mut buffer = [0; 256];
            notifier.ready("2 of 2");
            let length = listener.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..length], b"READY=1\nSTATUS=2 of 2");
            notifier.reloading("x");
            let length = listener.recv(&mut buffer).expect("a datagram");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            assert!(text.starts_with("RELOADING=1\nMONOTONIC_USEC=") && !text.contains("USEC=0"), "{text}");
        }
        std::fs::remove_file(file).expect("removed");
        Notifier::default().stopping();
    }
}
