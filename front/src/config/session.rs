//! Sessions: where they are kept, for how long, and how their cookie looks.
//!
//! Only settings; keys are read, made and used by the sessions themselves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::channels::origin;
use super::section::Section;
use super::tokens::{cookie, secret};
use super::value::{Read, Value, boolean, bytes, list, name, one_of, path, string, time};
use super::{KIB, MIB, Secret};

/// Bytes of JSON in a cookie: sealed and coded they are a third more, and browsers keep some 4,096 with the name
/// (RFC 6265, section 6.1).
const COOKIE_BYTES: usize = 3000;
/// Bytes of the cookie's name.
const NAME_BYTES: usize = 32;
/// Bytes of JSON of a session in Redis unless something else is said, and at most.
const REDIS_BYTES: (usize, usize) = (64 * KIB, MIB);
/// Keys, of which the first seals.
const MOST_KEYS: usize = 16;
const DAY: Duration = Duration::from_secs(86_400);

/// What holds for sessions.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// Where they are kept.
    pub store: SessionStore,
    /// Secrets that seal the cookie: the first seals, all open. Empty: `key_file` has them.
    pub keys: Vec<Secret>,
    /// A file of one secret a line, made with one where it is missing.
    pub key_file: PathBuf,
    /// The cookie's name.
    pub cookie: String,
    /// The cookie's domain; None: the host alone.
    pub domain: Option<String>,
    /// How long a session lasts from its last use, about.
    pub lifetime: Duration,
    /// Bytes of JSON that a session may have.
    pub max_bytes: usize,
    /// Which of other sites' requests carry the cookie.
    pub same_site: SameSite,
    /// Whether the cookie is for TLS alone.
    pub secure: SecureCookie,
    /// Requests with a session and an unsafe method must come from a page of ours.
    pub check_origin: bool,
    /// Origins that are ours besides the host itself.
    pub origins: Vec<String>,
    /// The member that says whose session it is.
    pub user: String,
}

/// Where sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStore {
    /// In the cookie, encrypted.
    Cookie,
    /// In Redis; the cookie has its name, encrypted.
    Redis,
}

/// The cookie's attribute of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Links from elsewhere carry it, and nothing else does.
    Lax,
    /// Nothing from elsewhere carries it.
    Strict,
    /// Everything carries it.
    None,
}

/// When the cookie has the attribute `Secure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureCookie {
    /// Where its request came by TLS.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

const STORES: &[(&str, SessionStore)] = &[("cookie", SessionStore::Cookie), ("redis", SessionStore::Redis)];
const SITES: &[(&str, SameSite)] = &[("lax", SameSite::Lax), ("strict", SameSite::Strict), ("none", SameSite::None)];
const SECURE: &[(&str, SecureCookie)] =
    &[("auto", SecureCookie::Auto), ("always", SecureCookie::Always), ("never", SecureCookie::Never)];

/// Reads `[session]`.
pub(super) fn read(mut section: Section<'_>, base: &Path) -> Sessions {
    let s = &mut section;
    let store = s.get("store", one_of(STORES), SessionStore::Cookie);
    let (usual, most) = match store {
        SessionStore::Cookie => (COOKIE_BYTES, COOKIE_BYTES),
        SessionStore::Redis => REDIS_BYTES,
    };
    let session = Sessions {
        store,
        keys: s.get("keys", list(secret), Vec::new()),
        key_file: base.join(s.get("key_file", path, PathBuf::from(".tempest-session.key"))),
        cookie: s.get("cookie", short_cookie, "tempest_session".to_owned()),
        domain: s.optional("domain", domain),
        lifetime: s.get("lifetime", time(Duration::from_secs(1)), 14 * DAY),
        max_bytes: s.get("max_bytes", bytes(2), usual),
        same_site: s.get("same_site", one_of(SITES), SameSite::Lax),
        secure: s.get("secure", one_of(SECURE), SecureCookie::Auto),
        check_origin: s.get("check_origin", boolean, true),
        origins: s.get("origins", list(origin), Vec::new()),
        user: s.get("user", name, "user".to_owned()),
    };
    if session.max_bytes > most {
        let why = if store == SessionStore::Cookie { ", or browsers would not keep the cookie" } else { "" };
        section.problem("max_bytes", format!("expected at most {most} with this store{why}"));
    }
    if session.keys.len() > MOST_KEYS {
        section.problem("keys", format!("expected at most {MOST_KEYS}"));
    }
    check_cookie(&section, &session);
    section.finish();
    session
}

/// What browsers would not keep.
fn check_cookie(section: &Section<'_>, session: &Sessions) {
    let only_secure = session.cookie.starts_with("__Host-") || session.cookie.starts_with("__Secure-");
    if only_secure && session.secure != SecureCookie::Always {
        section.problem("cookie", "expected secure = \"always\" with a name that begins like this");
    }
    if session.cookie.starts_with("__Host-") && session.domain.is_some() {
        section.problem("domain", "expected none with a cookie whose name begins with __Host-");
    }
    if session.same_site == SameSite::None && session.secure != SecureCookie::Always {
        section
            .problem("same_site", "expected secure = \"always\" with \"none\", or browsers would not keep the cookie");
    }
}

/// A cookie's name that leaves room for the session.
fn short_cookie(value: &Value<'_>) -> Read<String> {
    let text = cookie(value)?;
    if text.len() > NAME_BYTES {
        return Err(value.wrong("a cookie's name of at most 32 bytes"));
    }
    Ok(text)
}

/// A domain as in RFC 6265, without a leading dot.
fn domain(value: &Value<'_>) -> Read<String> {
    let text = string(value)?;
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if text.is_empty() || text.starts_with('.') || !text.chars().all(fit) {
        return Err(value.wrong("a domain like shop.example"));
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Problem};
    use super::*;

    fn read(text: &str) -> Result<Sessions, Vec<String>> {
        match Config::from_toml(&format!("[session]\n{text}"), Path::new("/base")) {
            Ok(config) => Ok(config.session.expect("a table")),
            Err(problems) => Err(problems.0.iter().map(Problem::to_string).collect()),
        }
    }

    #[test]
    fn an_empty_table_is_enough() {
        let session = read("").expect("defaults");
        assert_eq!((session.store, session.max_bytes), (SessionStore::Cookie, 3000));
        assert_eq!(session.key_file, Path::new("/base/.tempest-session.key"));
        assert_eq!(read("store = \"redis\"").expect("defaults").max_bytes, 65_536);
        assert!(Config::from_toml("", Path::new("/")).expect("nothing").session.is_none(), "none without the table");
    }

    #[test]
    fn limits_hold_at_their_edges() {
        assert!(read("max_bytes = 3000").is_ok());
        assert!(read("max_bytes = 3001").expect_err("too many")[0].contains("browsers"));
        assert!(read("store = \"redis\"\nmax_bytes = \"1MiB\"").is_ok());
        assert!(read("store = \"redis\"\nmax_bytes = 1048577").is_err());
        let keys = |count: usize| format!("keys = [{}]", vec![format!("{:?}", "k".repeat(32)); count].join(", "));
        assert!(read(&keys(MOST_KEYS)).is_ok());
        assert!(read(&keys(MOST_KEYS + 1)).is_err());
    }

    #[test]
    fn refuses_cookies_that_browsers_would_not_keep() {
        for (text, part) in [
            ("cookie = \"__Host-s\"", "secure = \"always\""),
            ("cookie = \"__Host-s\"\nsecure = \"always\"\ndomain = \"a.test\"", "expected none"),
            ("same_site = \"none\"", "secure = \"always\""),
            ("cookie = \"a b\"", "a cookie's name"),
            ("domain = \".a.test\"", "a domain like"),
        ] {
            let problems = read(text).expect_err(text);
            assert!(problems.len() == 1 && problems[0].contains(part), "{text}: {problems:?}");
        }
        assert!(read("cookie = \"__Host-s\"\nsecure = \"always\"").is_ok());
    }

    #[test]
    fn secrets_are_long_and_never_shown() {
        let short = &read("keys = [\"hunter2\"]").expect_err("too short")[0];
        assert!(short.contains("at least 32 bytes") && !short.contains("hunter2"), "{short}");
        let session = read(&format!("keys = [{:?}]", "hunter2".repeat(8))).expect("good");
        assert!(!format!("{session:?}").contains("hunter2"));
    }
}
