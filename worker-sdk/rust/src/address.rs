//! Where Redis is: reading `REDIS_URL`.
//!
//! A password must not reach a log, so nothing here prints one: [`Display`](fmt::Display) and `Debug` leave it out.
//! No I/O.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// Redis's own port.
const DEFAULT_PORT: u16 = 6379;

/// A Redis server and how to log in to it.
///
/// Read from `redis://[user:password@]host[:port][/database]`, `rediss://…` (TLS), `unix:///path` or
/// `redis+unix:///path` (both with an optional `?db=N`).
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(crate) place: Place,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: u32,
}

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

/// Why a URL was refused. It never quotes the URL, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The scheme is not one of those known.
    #[error("a Redis URL begins with redis://, rediss://, unix:// or redis+unix://")]
    Scheme,
    /// `rediss://` in a build without TLS.
    #[error("rediss:// needs the feature `tls` of tempest-worker")]
    NoTls,
    /// No host, or no path of a socket.
    #[error("the Redis URL names no host (or, for a unix socket, no absolute path)")]
    NoHost,
    /// The port is not a number from 1 to 65535.
    #[error("the port of the Redis URL is not a number from 1 to 65535")]
    Port,
    /// The database is not a number.
    #[error("the database of the Redis URL is not a number; write it as /0")]
    Database,
    /// A user without a password.
    #[error("the Redis URL names a user but no password; write user:password@ or :password@")]
    NoPassword,
}

impl Address {
    /// Reads a URL.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = url.split_once("://").ok_or(AddressError::Scheme)?;
        let (user, password, rest) = split_login(rest)?;
        let (place, database) = match scheme {
            "redis" => tcp(rest, false)?,
            "rediss" if cfg!(feature = "tls") => tcp(rest, true)?,
            "rediss" => return Err(AddressError::NoTls),
            "unix" | "redis+unix" => unix(rest)?,
            _ => return Err(AddressError::Scheme),
        };
        Ok(Self { place, user, password, database })
    }
}

/// `user:password@rest`; the last `@` ends the login, since a careless password may hold one.
fn split_login(rest: &str) -> Result<(Option<String>, Option<String>, &str), AddressError> {
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..authority_end].rfind('@') else { return Ok((None, None, rest)) };
    let (user, password) = rest[..at].split_once(':').ok_or(AddressError::NoPassword)?;
    let user = (!user.is_empty()).then(|| decoded(user));
    Ok((user, Some(decoded(password)), &rest[at + 1..]))
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn tcp(rest: &str, tls: bool) -> Result<(Place, u32), AddressError> {
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((host, after)) => (host, after.strip_prefix(':')),
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err(AddressError::NoHost);
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port.parse().ok().filter(|&port| port > 0).ok_or(AddressError::Port)?,
    };
    Ok((Place::Tcp { host: decoded(host), port, tls }, read_database(database)?))
}

fn unix(rest: &str) -> Result<(Place, u32), AddressError> {
    let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') || path.len() < 2 {
        return Err(AddressError::NoHost);
    }
    let database = options.split('&').find_map(|option| option.strip_prefix("db=")).unwrap_or("");
    Ok((Place::Unix(decoded(path).into()), read_database(database)?))
}

fn read_database(text: &str) -> Result<u32, AddressError> {
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| AddressError::Database) }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port, tls } => {
                let scheme = if *tls { "rediss" } else { "redis" };
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "{scheme}://{open}{host}{close}:{port}/{}", self.database)
            }
            Place::Unix(path) => write!(f, "unix://{}?db={}", path.display(), self.database),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(url: &str) -> String {
        Address::parse(url).expect("a good URL").to_string()
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(printed("redis://localhost"), "redis://localhost:6379/0");
        assert_eq!(printed("redis://127.0.0.1:7000/3"), "redis://127.0.0.1:7000/3");
        assert_eq!(printed("redis://[::1]:7000"), "redis://[::1]:7000/0");
        assert_eq!(printed("unix:///run/redis.sock?db=2"), "unix:///run/redis.sock?db=2");
        assert_eq!(printed("redis+unix:///run/redis.sock"), "unix:///run/redis.sock?db=0");
        #[cfg(feature = "tls")]
        assert_eq!(printed("rediss://h:1/"), "rediss://h:1/0");
    }

    #[test]
    fn logins_are_decoded_and_never_printed() {
        let address = Address::parse("redis://ann:p%40s:s@h").expect("a good URL");
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (Some("ann"), Some("p@s:s")));
        assert!(!format!("{address:?} {address}").contains("p@s"));
        let address = Address::parse("redis://:secret@h").expect("a good URL");
        assert_eq!((address.user, address.password.as_deref()), (None, Some("secret")));
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        for (url, error) in [
            ("localhost:6379", AddressError::Scheme),
            ("http://h", AddressError::Scheme),
            ("redis://", AddressError::NoHost),
            ("unix://run/redis.sock", AddressError::NoHost),
            ("redis://h:0", AddressError::Port),
            ("redis://h:x", AddressError::Port),
            ("redis://h/x", AddressError::Database),
            ("redis://ann@h", AddressError::NoPassword),
        ] {
            assert_eq!(Address::parse(url), Err(error), "{url}");
        }
    }
}
