//! The address of a Redis, with its secrets where nothing can print them.
//!
//! Only parsing and redaction; connecting is the broker's. No error here repeats what it was given, since that may hold
//! a password.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The port of a Redis whose URL names none.
const DEFAULT_PORT: u16 = 6379;
/// What a user name, a password or a path may hold unencoded in a URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// A value that never appears in a log or an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Where a Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisAddress {
    /// A host name or address (IPv6 without brackets), and a port.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// A parsed Redis URL. Its `Display` and `Debug` hide the password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Where.
    pub address: RedisAddress,
    /// TLS (`rediss://`).
    pub tls: bool,
    /// ACL user.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Database number.
    pub db: u32,
}

/// Why a URL was refused; its text says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    /// None of the schemes.
    #[error("expected a URL that begins with redis://, rediss://, unix:// or redis+unix://")]
    Scheme,
    /// No host.
    #[error("expected a host after the scheme, as in redis://127.0.0.1:6379")]
    NoHost,
    /// A character that no host has.
    #[error("expected a host name or address without white space or brackets other than [IPv6]")]
    Host,
    /// Not a port.
    #[error("expected a port from 1 to 65535 after the host")]
    Port,
    /// A name without a colon before the `@`.
    #[error("expected USER:PASSWORD@ or :PASSWORD@ before the host (write @ : / ? # in them percent-encoded)")]
    UserInfo,
    /// Percent-encoding that is no UTF-8.
    #[error("expected percent-encoded UTF-8")]
    Encoding,
    /// Not a database number.
    #[error("expected a database number after the last /, as in redis://127.0.0.1:6379/0")]
    Db,
    /// No absolute path.
    #[error("expected an absolute path, as in unix:///run/redis/redis.sock")]
    Path,
    /// A parameter that is not known here.
    #[error("expected no parameter after ? but db=NUMBER")]
    Parameter,
}

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(RedisUrlError::Scheme)?;
        let (rest, parameter) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query.strip_prefix("db=").ok_or(RedisUrlError::Parameter)?)),
            None => (rest, None),
        };
        let mut url = match scheme {
            "redis" => parse_tcp(rest, false)?,
            "rediss" => parse_tcp(rest, true)?,
            "unix" | "redis+unix" => parse_unix(rest)?,
            _ => return Err(RedisUrlError::Scheme),
        };
        if let Some(db) = parameter {
            url.db = parse_db(db)?;
        }
        Ok(url)
    }
}

fn parse_tcp(rest: &str, tls: bool) -> Result<RedisUrl, RedisUrlError> {
    let (authority, db) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, password, place) = split_user_info(authority)?;
    let (host, port) = split_port(place)?;
    let db = if db.is_empty() { 0 } else { parse_db(db)? };
    Ok(RedisUrl { address: RedisAddress::Tcp(host, port), tls, user, password, db })
}

fn parse_unix(rest: &str) -> Result<RedisUrl, RedisUrlError> {
    // An `@` belongs to user and password only before the path begins.
    let authority_end = rest.find('/').ok_or(RedisUrlError::Path)?;
    let (authority, path) = rest.split_at(authority_end);
    let (user, password, place) = split_user_info(authority)?;
    if !place.is_empty() || path == "/" {
        return Err(RedisUrlError::Path);
    }
    Ok(RedisUrl { address: RedisAddress::Unix(decode(path)?.into()), tls: false, user, password, db: 0 })
}

type UserInfo<'a> = (Option<String>, Option<Secret>, &'a str);

/// Splits `user:password@place`.
fn split_user_info(authority: &str) -> Result<UserInfo<'_>, RedisUrlError> {
    let Some((info, place)) = authority.rsplit_once('@') else { return Ok((None, None, authority)) };
    // Tools disagree on whether a lone word is the user or the password; a guess would send one as the other.
    let (user, password) = info.split_once(':').ok_or(RedisUrlError::UserInfo)?;
    if user.contains('@') || password.contains('@') {
        return Err(RedisUrlError::UserInfo);
    }
    let user = if user.is_empty() { None } else { Some(decode(user)?) };
    let password = if password.is_empty() { None } else { Some(Secret::new(decode(password)?)) };
    Ok((user, password, place))
}

/// Splits `host:port`, `[v6]:port` and the same without a port.
fn split_port(place: &str) -> Result<(String, u16), RedisUrlError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(RedisUrlError::Host)?,
        None => place.find(':').map_or((place, ""), |colon| place.split_at(colon)),
    };
    if host.is_empty() {
        return Err(RedisUrlError::NoHost);
    }
    if host.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '[' | ']' | '#')) {
        return Err(RedisUrlError::Host);
    }
    if port.is_empty() {
        return Ok((host.to_owned(), DEFAULT_PORT));
    }
    let port = port.strip_prefix(':').and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    Ok((host.to_owned(), port.ok_or(RedisUrlError::Port)?))
}

fn parse_db(text: &str) -> Result<u32, RedisUrlError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or(RedisUrlError::Db)
}

fn decode(text: &str) -> Result<String, RedisUrlError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| RedisUrlError::Encoding)?;
    Ok(decoded.into_owned())
}

impl RedisUrl {
    /// A plain local address.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        let address = RedisAddress::Tcp(host.into(), port);
        Self { address, tls: false, user: None, password: None, db: 0 }
    }

    /// Where a Redis listens that nobody has configured.
    pub fn usual() -> Self {
        Self::tcp("127.0.0.1", 6379)
    }

    /// The whole URL, password included: for a child process's environment, never for a log.
    pub fn with_password(&self) -> String {
        self.spell(&|password| utf8_percent_encode(password.expose(), ENCODED).to_string())
    }

    fn spell(&self, password: &dyn Fn(&Secret) -> String) -> String {
        let info = match (&self.user, &self.password) {
            (None, None) => String::new(),
            (user, secret) => {
                let user = user.as_deref().map(|user| utf8_percent_encode(user, ENCODED).to_string());
                format!("{}:{}@", user.unwrap_or_default(), secret.as_ref().map(password).unwrap_or_default())
            }
        };
        match &self.address {
            RedisAddress::Tcp(host, port) => {
                let scheme = if self.tls { "rediss" } else { "redis" };
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                format!("{scheme}://{info}{host}:{port}/{}", self.db)
            }
            RedisAddress::Unix(path) => {
                let path = path.to_string_lossy();
                let db = if self.db == 0 { String::new() } else { format!("?db={}", self.db) };
                format!("unix://{info}{}{db}", utf8_percent_encode(&path, ENCODED))
            }
        }
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spell(&|_| "***".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RedisUrl, RedisUrlError> {
        text.parse()
    }

    #[test]
    fn reads_every_form() {
        assert_eq!(parse("redis://localhost"), Ok(RedisUrl::tcp("localhost", 6379)));
        assert_eq!(parse("redis://localhost/"), Ok(RedisUrl::tcp("localhost", 6379)));
        assert_eq!(parse("redis://[::1]:7000/3"), Ok(RedisUrl { db: 3, ..RedisUrl::tcp("::1", 7000) }));
        assert_eq!(parse("redis://h?db=4"), Ok(RedisUrl { db: 4, ..RedisUrl::tcp("h", 6379) }));
        let full = parse("rediss://al%40ice:p%3Aa%2Fss@redis.example:6380/2").expect("a full URL");
        assert_eq!((full.tls, full.db), (true, 2));
        assert_eq!(full.user.as_deref(), Some("al@ice"));
        assert_eq!(full.password.as_ref().map(Secret::expose), Some("p:a/ss"));
        assert_eq!(full.address, RedisAddress::Tcp("redis.example".into(), 6380));
        let password_only = parse("redis://:secret@h").expect("a password without a user");
        assert_eq!((password_only.user, password_only.password), (None, Some(Secret::new("secret"))));
    }

    #[test]
    fn reads_sockets() {
        for text in ["unix:///run/my%20redis.sock?db=1", "redis+unix:///run/my%20redis.sock?db=1"] {
            let url = parse(text).expect("a socket");
            assert_eq!(url.address, RedisAddress::Unix("/run/my redis.sock".into()));
            assert_eq!(url.db, 1);
        }
        let url = parse("unix://bob:pw@/run/r@1.sock").expect("a socket with a user");
        assert_eq!(url.address, RedisAddress::Unix("/run/r@1.sock".into()));
        assert_eq!((url.user.as_deref(), url.password), (Some("bob"), Some(Secret::new("pw"))));
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, error) in [
            ("", RedisUrlError::Scheme),
            ("localhost:6379", RedisUrlError::Scheme),
            ("http://localhost", RedisUrlError::Scheme),
            ("redis://", RedisUrlError::NoHost),
            ("redis://:6379", RedisUrlError::NoHost),
            ("redis://:pw@:6379", RedisUrlError::NoHost),
            ("redis://h:0", RedisUrlError::Port),
            ("redis://h:65536", RedisUrlError::Port),
            ("redis://h:", RedisUrlError::Port),
            ("redis://[::1]7", RedisUrlError::Port),
            ("redis://::1", RedisUrlError::NoHost),
            ("redis://[::1", RedisUrlError::Host),
            ("redis://a b", RedisUrlError::Host),
            ("redis://word@h", RedisUrlError::UserInfo),
            ("redis://a:b@c@h", RedisUrlError::UserInfo),
            ("redis://a:%ff@h", RedisUrlError::Encoding),
            ("redis://h/zero", RedisUrlError::Db),
            ("redis://h/-1", RedisUrlError::Db),
            ("redis://h/0/1", RedisUrlError::Db),
            ("redis://h/4294967296", RedisUrlError::Db),
            ("redis://h?timeout=3", RedisUrlError::Parameter),
            ("redis://h?db=", RedisUrlError::Db),
            ("unix://run/redis.sock", RedisUrlError::Path),
            ("unix://", RedisUrlError::Path),
            ("unix:///", RedisUrlError::Path),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn never_prints_a_password() {
        for text in ["redis://bob:hunter2@h:1/0", "unix://:hunter2@/s", "rediss://:hunter2@[::1]:2/7"] {
            let url = parse(text).expect("a URL with a password");
            assert!(!format!("{url} {url:?} {url:#?}").contains("hunter2"), "{url}");
            assert!(url.to_string().contains(":***@"), "{url}");
            assert_eq!(url.with_password(), text);
        }
    }

    #[test]
    fn what_is_spelled_is_read_back() {
        for text in ["redis://us%40er:p%3F%23%20%25%C3%A4@h:1/9", "unix://:a%40b@/a%20b%3Fc?db=2", "redis://h:6379/0"] {
            let url = parse(text).expect("a URL");
            assert_eq!(parse(&url.with_password()), Ok(url));
        }
    }
}
