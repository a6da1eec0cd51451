//! What a service manager is told (systemd's `sd_notify`): ready, reloading, stopping, still alive.
//!
//! One datagram each to the socket that `NOTIFY_SOCKET` names; without it nothing is sent. Nobody answers, and a manager
//! that does not listen is its own affair: failures are not reported. It must not decide when something is true.

use std::env;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

/// A handle; clones share the socket.
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
    /// As the environment of this process says.
    pub fn from_env() -> Self {
        let text = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
        let ours = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = text("WATCHDOG_USEC").filter(|_| ours).and_then(|usec| usec.parse().ok());
        let socket = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let socket = socket.and_then(|name| connect(name.as_encoded_bytes()).ok()).map(Arc::new);
        Self { socket, watchdog: watchdog.filter(|usec| *usec > 0).map(Duration::from_micros) }
    }

    /// It serves; `status` is a line for people.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// It is on the way to something new; [`Notifier::ready`] follows.
    pub fn reloading(&self, status: &str) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS={status}", monotonic_us()));
    }

    /// It is ending.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// Says twice in the time that was agreed that it lives, from the runtime this is called in: where that hangs,
    /// nothing is said.
    pub fn watchdog(&self) -> Watchdog {
        let Some(every) = self.watchdog.filter(|_| self.socket.is_some()) else { return Watchdog(None) };
        let own = self.clone();
        Watchdog(Some(tokio::spawn(async move {
            loop {
                own.send("WATCHDOG=1");
                tokio::time::sleep(every / 2).await;
            }
        })))
    }

    fn send(&self, text: &str) {
        if let Some((socket, to)) = self.socket.as_deref() {
            // A full socket is its reader's affair: it is not waited for.
            let _ = socket.send_to_addr(text.as_bytes(), to);
        }
    }
}

fn connect(name: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?,
        #[cfg(not(target_os = "linux"))]
        Some(_) => return Err(io::ErrorKind::Unsupported.into()),
        None => SocketAddr::from_pathname(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// Microseconds of the clock that the service manager measures with.
fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or_default() / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn speaks_to_sockets_with_and_without_a_file() {
        use std::os::linux::net::SocketAddrExt;

        let name = format!("tempest-notify-{}", std::process::id());
        let file = env::temp_dir().join(&name);
        let listeners = [
            (UnixDatagram::bind(&file).expect("a socket"), file.clone().into_os_string().into_encoded_bytes()),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("a socket"),
                format!("@{name}").into_bytes(),
            ),
        ];
        for (listener, name) in listeners {
            let socket = connect(&name).map(Arc::new).ok();
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
