//! Sockets passed by systemd's protocol (`sd_listen_fds(3)`), which `tempest up` speaks, too: they are the files 3 and
//! up, `LISTEN_FDS` says how many, `LISTEN_PID` for which process, and `LISTEN_FDNAMES` what they are called.

use std::net::TcpListener;

use listenfd::ListenFd;

/// The name of a socket for browsers.
pub const HTTP: &str = "http";
/// The name of the socket for operators.
pub const ADMIN: &str = "admin";
/// Most sockets taken over.
const MOST: usize = 64;

/// A listening socket that was passed.
#[derive(Debug)]
pub struct Passed {
    /// What it is called, where names were given.
    pub name: Option<String>,
    /// The socket.
    pub socket: TcpListener,
}

/// What is wrong with the sockets that were passed; the text says what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassedError {
    /// The number is none, or too large.
    #[error(
        "LISTEN_FDS={0} is no number from 0 to {MOST}: whoever starts this process has to set it to how many sockets it passes"
    )]
    Count(String),
    /// Names and sockets do not correspond.
    #[error("LISTEN_FDNAMES has {names} names for {sockets} sockets: give one for each, separated by colons")]
    Names {
        /// How many names.
        names: usize,
        /// How many sockets.
        sockets: usize,
    },
    /// One is not what can be accepted from.
    #[error("file {0}, passed by LISTEN_FDS, is no listening TCP socket: {1}")]
    Kind(usize, String),
    /// Some have a known name and this one has not.
    #[error("a socket named {0:?} was passed; sockets are named http or admin (FileDescriptorName= in systemd)")]
    Name(String),
    /// There are two for operators.
    #[error("{0} sockets named admin were passed; there can be one")]
    Admins(usize),
    /// There is one for operators and it is not wanted.
    #[error(
        "a socket for operators was passed, but front.admin is off: do not pass it, or give front.admin an address"
    )]
    AdminOff,
    /// Without names there has to be one for each address, in order.
    #[error(
        "{passed} sockets without the names http and admin were passed, but front.listen has {listen} addresses{}: pass \
         one for each, in that order, or name them", if *.admin { " and front.admin one" } else { "" }
    )]
    Order {
        /// How many sockets.
        passed: usize,
        /// How many addresses browsers connect to.
        listen: usize,
        /// There is one for operators.
        admin: bool,
    },
}

/// Takes what was passed to this process, once; nothing, where nothing was. To be called before the process has opened
/// any file or started any thread: what is taken are the files 3 and up, and the variables are removed.
///
/// # Errors
/// What was passed is not what the variables say.
pub fn take() -> Result<Vec<Passed>, PassedError> {
    let env = |name: &str| std::env::var_os(name).map(|text| text.to_string_lossy().into_owned());
    let ours = std::process::id().to_string();
    let (Some(count), Some(_)) = (env("LISTEN_FDS"), env("LISTEN_PID").filter(|pid| *pid == ours)) else {
        return Ok(Vec::new());
    };
    let names = env("LISTEN_FDNAMES").filter(|names| !names.is_empty());
    let number = count.parse().ok().filter(|number| *number <= MOST);
    let number: usize = number.ok_or(PassedError::Count(count))?;
    let names: Vec<_> = names.iter().flat_map(|names| names.split(':')).map(str::to_owned).collect();
    if !names.is_empty() && names.len() != number {
        return Err(PassedError::Names { names: names.len(), sockets: number });
    }
    let mut all = ListenFd::from_env();
    (0..number).map(|at| Ok(Passed { name: names.get(at).cloned(), socket: take_one(&mut all, at)? })).collect()
}

fn take_one(all: &mut ListenFd, at: usize) -> Result<TcpListener, PassedError> {
    let wrong = |why: String| PassedError::Kind(3 + at, why);
    let socket = all.take_tcp_listener(at).map_err(|error| wrong(error.to_string()))?;
    let socket = socket.ok_or_else(|| wrong("it is not there".to_owned()))?;
    match socket2::SockRef::from(&socket).is_listener() {
        Ok(true) => {}
        Ok(false) => return Err(wrong("it does not listen".to_owned())),
        Err(error) => return Err(wrong(error.to_string())),
    }
    socket.set_nonblocking(true).map_err(|error| wrong(error.to_string()))?;
    Ok(socket)
}

/// Which of them are for browsers and which one is for operators: by name where `http` or `admin` is among the names
/// (systemd names a socket by its unit where it is not told), else by order.
pub(super) fn assign(
    passed: Vec<Passed>,
    listen: usize,
    admin: bool,
) -> Result<(Vec<TcpListener>, Option<TcpListener>), PassedError> {
    let named = |socket: &Passed| socket.name.as_deref().is_some_and(|name| name == HTTP || name == ADMIN);
    let (mut http, mut admins) = (Vec::new(), Vec::new());
    if passed.iter().any(named) {
        for Passed { name, socket } in passed {
            match name.as_deref() {
                Some(HTTP) => http.push(socket),
                Some(ADMIN) => admins.push(socket),
                other => return Err(PassedError::Name(other.unwrap_or_default().to_owned())),
            }
        }
    } else if !passed.is_empty() {
        let count = passed.len();
        if count != listen && !(admin && count == listen + 1) {
            return Err(PassedError::Order { passed: count, listen, admin });
        }
        http = passed.into_iter().map(|passed| passed.socket).collect();
        admins = http.split_off(listen);
    }
    match admins.len() {
        0 => Ok((http, None)),
        1 if !admin => Err(PassedError::AdminOff),
        1 => Ok((http, admins.pop())),
        several => Err(PassedError::Admins(several)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(names: &[Option<&str>]) -> (Vec<Passed>, Vec<u16>) {
        let one = |name: &Option<&str>| {
            let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            Passed { name: name.map(str::to_owned), socket }
        };
        let all: Vec<_> = names.iter().map(one).collect();
        let ports = all.iter().map(|passed| port(&passed.socket)).collect();
        (all, ports)
    }

    fn port(socket: &TcpListener) -> u16 {
        socket.local_addr().expect("it is bound").port()
    }

    #[track_caller]
    fn assigned(names: &[Option<&str>], listen: usize, admin: bool, to: (&[usize], Option<usize>)) {
        let (all, ports) = sockets(names);
        let (http, found) = assign(all, listen, admin).expect("they fit");
        assert_eq!(http.iter().map(port).collect::<Vec<_>>(), to.0.iter().map(|at| ports[*at]).collect::<Vec<_>>());
        assert_eq!(found.as_ref().map(port), to.1.map(|at| ports[at]));
    }

    #[track_caller]
    fn refused(names: &[Option<&str>], listen: usize, admin: bool, error: PassedError) {
        assert_eq!(assign(sockets(names).0, listen, admin).expect_err("they do not fit"), error);
    }

    #[test]
    fn names_decide() {
        assigned(&[Some("admin"), Some("http")], 1, true, (&[1], Some(0)));
        assigned(&[Some("http"), Some("http")], 1, true, (&[0, 1], None));
        assigned(&[Some("admin")], 2, true, (&[], Some(0)));
        refused(&[Some("http"), Some("htpp")], 1, true, PassedError::Name("htpp".into()));
        refused(&[Some("admin"), Some("admin")], 1, true, PassedError::Admins(2));
        refused(&[Some("http"), Some("admin")], 1, false, PassedError::AdminOff);
    }

    #[test]
    fn without_names_the_order_does() {
        assigned(&[], 1, true, (&[], None));
        assigned(&[None, None, None], 2, true, (&[0, 1], Some(2)));
        assigned(&[Some("tempest.socket")], 1, true, (&[0], None));
        refused(&[None], 2, true, PassedError::Order { passed: 1, listen: 2, admin: true });
        refused(&[None, None], 1, false, PassedError::Order { passed: 2, listen: 1, admin: false });
        refused(&[None, None, None], 1, true, PassedError::Order { passed: 3, listen: 1, admin: true });
    }
}
