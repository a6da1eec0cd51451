//! Sockets passed by systemd's protocol (`sd_listen_fds(3)`), which `tempest up` speaks, too: they are the files 3 and
//! up, `LISTEN_FDS` says how many, `LISTEN_PID` for which process, and `LISTEN_FDNAMES` what they are called.

use std::net::TcpListener;

use listenfd::ListenFd;

use super::entrance::Bound;

/// The name of a socket for browsers.
pub const HTTP: &str = "http";
/// The name of a socket for browsers that come by TLS.
pub const HTTPS: &str = "https";
/// The name of a socket for browsers that are sent to `https`.
pub const REDIRECT: &str = "redirect";
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
    pub socket: Bound,
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
    #[error("file {0}, passed by LISTEN_FDS, is no listening socket: {1}")]
    Kind(usize, String),
    /// Some have a known name and this one has not.
    #[error(
        "a socket named {0:?} was passed; sockets are named http, https, redirect or admin (FileDescriptorName= in systemd)"
    )]
    Name(String),
    /// There are two for operators.
    #[error("{0} sockets named admin were passed; there can be one")]
    Admins(usize),
    /// There is one for operators and it is not wanted.
    #[error(
        "a socket for operators was passed, but front.admin is off: do not pass it, or give front.admin an address"
    )]
    AdminOff,
    /// Of those with TLS there has to be one for each address, in order: they differ in their certificates.
    #[error(
        "{passed} sockets named {name} were passed, but the configuration has {listen} such addresses: pass one for each, \
         in that order"
    )]
    Number {
        /// What they are called.
        name: &'static str,
        /// How many sockets.
        passed: usize,
        /// How many addresses.
        listen: usize,
    },
    /// The one for operators is of the wrong kind.
    #[error("the socket named admin is a Unix socket; it has to be one of TCP")]
    AdminKind,
    /// Without names there has to be one for each address, in order.
    #[error(
        "{passed} sockets without the names http, https, redirect and admin were passed, but the front has {listen} \
         addresses{}: pass one for each, in the order of front.listen, front.tls and front.redirect, or name them",
        if *.admin { " and front.admin one" } else { "" }
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

fn take_one(all: &mut ListenFd, at: usize) -> Result<Bound, PassedError> {
    let wrong = |why: String| PassedError::Kind(3 + at, why);
    let none = || wrong("it is not there".to_owned());
    // What is of the other kind stays where it is.
    let socket = match all.take_unix_listener(at) {
        Ok(socket) => Bound::Unix(socket.ok_or_else(none)?, None),
        Err(_) => {
            let socket = all.take_tcp_listener(at).map_err(|error| wrong(error.to_string()))?;
            Bound::Tcp(socket.ok_or_else(none)?)
        }
    };
    let options = socket2::SockRef::from(&socket);
    match options.is_listener() {
        Ok(true) => {}
        Ok(false) => return Err(wrong("it does not listen".to_owned())),
        Err(error) => return Err(wrong(error.to_string())),
    }
    options.set_nonblocking(true).map_err(|error| wrong(error.to_string()))?;
    Ok(socket)
}

/// How many addresses the configuration has.
pub(super) struct Wanted {
    pub(super) http: usize,
    pub(super) https: usize,
    pub(super) redirect: usize,
    pub(super) admin: bool,
}

/// The sockets that were passed, by what they are for.
#[derive(Debug, Default)]
pub(super) struct Assigned {
    pub(super) http: Vec<Bound>,
    pub(super) https: Vec<Bound>,
    pub(super) redirect: Vec<Bound>,
    pub(super) admin: Option<TcpListener>,
}

impl Assigned {
    /// True where one for browsers was passed.
    pub(super) fn has_some(&self) -> bool {
        !(self.http.is_empty() && self.https.is_empty() && self.redirect.is_empty())
    }
}

/// What each of them is for: by name where one of ours is among the names (systemd names a socket by its unit where it
/// is not told), else by order.
pub(super) fn assign(passed: Vec<Passed>, wanted: &Wanted) -> Result<Assigned, PassedError> {
    let names = [HTTP, HTTPS, REDIRECT, ADMIN];
    let mut assigned = Assigned::default();
    let mut admins = Vec::new();
    if passed.iter().any(|socket| socket.name.as_deref().is_some_and(|name| names.contains(&name))) {
        for Passed { name, socket } in passed {
            match name.as_deref() {
                Some(HTTP) => assigned.http.push(socket),
                Some(HTTPS) => assigned.https.push(socket),
                Some(REDIRECT) => assigned.redirect.push(socket),
                Some(ADMIN) => admins.push(socket),
                other => return Err(PassedError::Name(other.unwrap_or_default().to_owned())),
            }
        }
        let passed = assigned.https.len();
        if passed > 0 && passed != wanted.https {
            return Err(PassedError::Number { name: HTTPS, passed, listen: wanted.https });
        }
    } else if !passed.is_empty() {
        let (count, admin) = (passed.len(), wanted.admin);
        let listen = wanted.http + wanted.https + wanted.redirect;
        if count != listen && !(admin && count == listen + 1) {
            return Err(PassedError::Order { passed: count, listen, admin });
        }
        let mut all = passed.into_iter().map(|passed| passed.socket);
        assigned.http = all.by_ref().take(wanted.http).collect();
        assigned.https = all.by_ref().take(wanted.https).collect();
        assigned.redirect = all.by_ref().take(wanted.redirect).collect();
        admins = all.collect();
    }
    assigned.admin = match (admins.len(), admins.pop()) {
        (0 | 1, None) => None,
        (1, Some(_)) if !wanted.admin => return Err(PassedError::AdminOff),
        (1, Some(Bound::Tcp(socket))) => Some(socket),
        (1, Some(Bound::Unix(..))) => return Err(PassedError::AdminKind),
        (several, _) => return Err(PassedError::Admins(several)),
    };
    Ok(assigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(names: &[Option<&str>]) -> (Vec<Passed>, Vec<u16>) {
        let one = |name: &Option<&str>| {
            let socket = Bound::Tcp(TcpListener::bind(("127.0.0.1", 0)).expect("a free port"));
            Passed { name: name.map(str::to_owned), socket }
        };
        let all: Vec<_> = names.iter().map(one).collect();
        let ports = all.iter().map(|passed| port(&passed.socket)).collect();
        (all, ports)
    }

    fn port(socket: &Bound) -> u16 {
        match socket {
            Bound::Tcp(socket) => socket.local_addr().expect("it is bound").port(),
            Bound::Unix(..) => panic!("made of TCP"),
        }
    }

    fn wanted(http: usize, https: usize, redirect: usize, admin: bool) -> Wanted {
        Wanted { http, https, redirect, admin }
    }

    /// `to`: the places of those for http, https, redirect and admin.
    #[track_caller]
    fn assigned(names: &[Option<&str>], wanted: &Wanted, to: [&[usize]; 4]) {
        let (all, ports) = sockets(names);
        let found = assign(all, wanted).expect("they fit");
        let admin: Vec<Bound> = found.admin.into_iter().map(Bound::Tcp).collect();
        for (found, to) in [found.http, found.https, found.redirect, admin].iter().zip(to) {
            assert_eq!(found.iter().map(port).collect::<Vec<_>>(), to.iter().map(|at| ports[*at]).collect::<Vec<_>>());
        }
    }

    #[track_caller]
    fn refused(names: &[Option<&str>], wanted: &Wanted, error: PassedError) {
        assert_eq!(assign(sockets(names).0, wanted).expect_err("they do not fit"), error);
    }

    #[test]
    fn names_decide() {
        let (one, two) = (wanted(1, 0, 0, true), wanted(2, 0, 0, true));
        assigned(&[Some("admin"), Some("http")], &one, [&[1], &[], &[], &[0]]);
        assigned(&[Some("http"), Some("http")], &one, [&[0, 1], &[], &[], &[]]);
        assigned(&[Some("admin")], &two, [&[], &[], &[], &[0]]);
        let all = [Some("redirect"), Some("https"), Some("http"), Some("https")];
        assigned(&all, &wanted(1, 2, 1, false), [&[2], &[1, 3], &[0], &[]]);
        refused(&all, &wanted(1, 1, 1, false), PassedError::Number { name: "https", passed: 2, listen: 1 });
        refused(&[Some("http"), Some("htpp")], &one, PassedError::Name("htpp".into()));
        refused(&[Some("admin"), Some("admin")], &one, PassedError::Admins(2));
        refused(&[Some("http"), Some("admin")], &wanted(1, 0, 0, false), PassedError::AdminOff);
    }

    #[test]
    fn without_names_the_order_does() {
        assigned(&[], &wanted(1, 0, 0, true), [&[], &[], &[], &[]]);
        assigned(&[None, None, None], &wanted(2, 0, 0, true), [&[0, 1], &[], &[], &[2]]);
        assigned(&[Some("tempest.socket")], &wanted(1, 0, 0, true), [&[0], &[], &[], &[]]);
        assigned(&[None, None, None, None], &wanted(1, 1, 1, true), [&[0], &[1], &[2], &[3]]);
        let order = |passed, listen, admin| PassedError::Order { passed, listen, admin };
        refused(&[None], &wanted(2, 0, 0, true), order(1, 2, true));
        refused(&[None, None], &wanted(1, 0, 0, false), order(2, 1, false));
        refused(&[None, None, None], &wanted(0, 1, 0, true), order(3, 1, true));
    }
}
