//! The cookie of a session: found in a request, sealed and opened, and spelled for a response.
//!
//! Encrypted and authenticated by the `cookie` crate's private jar (AES-256-GCM, the cookie's name included), around
//! what it is good for and until when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cookie::{Cookie, CookieJar};
use http::{HeaderMap, HeaderValue, header};

use super::Keys;
use crate::config::{SameSite, Sessions};
use crate::cookies::value_of;
use crate::telemetry::SessionFault as Fault;

/// What a cookie held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// A session, or the name of one: each store writes its own.
    pub(super) text: String,
    /// When it ends, in seconds since 1970.
    pub(super) expires: u64,
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What the request's cookie of this name holds; Err: there is one, and it counts for nothing. Of several of the name (for
/// other paths, or planted by a sister host) the first that opens counts.
pub(super) fn find(headers: &HeaderMap, name: &str, keys: &Keys, mark: char) -> Result<Option<Opened>, Fault> {
    let mut outcome = Ok(None);
    for value in headers.get_all(header::COOKIE) {
        for pair in value.as_bytes().split(|byte| *byte == b';') {
            let Some(sealed) = value_of(pair, name) else { continue };
            match open(sealed, name, keys, mark) {
                Ok(opened) => return Ok(Some(opened)),
                Err(fault) => outcome = Err(fault),
            }
        }
    }
    outcome
}

fn open(sealed: &str, name: &str, keys: &Keys, mark: char) -> Result<Opened, Fault> {
    let jar = CookieJar::new();
    let opened =
        keys.all().iter().find_map(|key| jar.private(key).decrypt(Cookie::new(name.to_owned(), sealed.to_owned())));
    let opened = opened.ok_or(Fault::Unreadable)?;
    let (expires, text) = opened.value().split_once(mark).ok_or(Fault::Unreadable)?;
    let expires = expires.parse().map_err(|_| Fault::Unreadable)?;
    if expires <= now() {
        return Err(Fault::Expired);
    }
    Ok(Opened { text: text.to_owned(), expires })
}

/// The `Set-Cookie` that gives a client its session.
pub(super) fn give(config: &Sessions, keys: &Keys, mark: char, text: &str, secure: bool) -> HeaderValue {
    let expires = now() + config.lifetime.as_secs();
    let mut jar = CookieJar::new();
    jar.private_mut(keys.current()).add(Cookie::new(config.cookie.clone(), format!("{expires}{mark}{text}")));
    let sealed = jar.get(&config.cookie).map(|cookie| cookie.value().to_owned()).unwrap_or_default();
    spell(config, sealed, config.lifetime, secure)
}

/// The `Set-Cookie` that takes it away.
pub(super) fn take_away(config: &Sessions, secure: bool) -> HeaderValue {
    spell(config, String::new(), Duration::ZERO, secure)
}

fn spell(config: &Sessions, value: String, lasts: Duration, secure: bool) -> HeaderValue {
    let mut cookie = Cookie::new(config.cookie.clone(), value);
    cookie.set_path("/");
    cookie.set_http_only(true);
    cookie.set_same_site(match config.same_site {
        SameSite::Lax => cookie::SameSite::Lax,
        SameSite::Strict => cookie::SameSite::Strict,
        SameSite::None => cookie::SameSite::None,
    });
    cookie.set_max_age(cookie::time::Duration::seconds(i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX)));
    if secure {
        cookie.set_secure(true);
    }
    if let Some(domain) = &config.domain {
        cookie.set_domain(domain.clone());
    }
    HeaderValue::try_from(cookie.to_string()).expect("names are checked, and what is sealed is base64")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn config(text: &str) -> Sessions {
        let config = Config::from_toml(&format!("[session]\n{text}"), Path::new("/")).expect("a good configuration");
        config.session.expect("a table")
    }

    fn keys(names: &[char]) -> (Sessions, Keys) {
        let all: Vec<String> = names.iter().map(|name| format!("{:?}", name.to_string().repeat(32))).collect();
        let config = config(&format!("keys = [{}]", all.join(", ")));
        let keys = Keys::open(&config).expect("keys");
        (config, keys)
    }

    fn sent(set_cookie: &HeaderValue) -> HeaderMap {
        let pair = set_cookie.to_str().expect("text").split(';').next().expect("a pair").to_owned();
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(format!("a=b; {pair}; c=d")).expect("a value"))])
    }

    fn found(headers: &HeaderMap, keys: &Keys) -> Result<Option<String>, Fault> {
        find(headers, "tempest_session", keys, '.').map(|found| found.map(|opened| opened.text))
    }

    #[test]
    fn what_is_sealed_opens_with_any_of_the_keys() {
        let (config, old) = keys(&['a']);
        let given = give(&config, &old, '.', "{\"a\":1}", false);
        let text = given.to_str().expect("text");
        assert!(
            text.contains("; HttpOnly; SameSite=Lax; Path=/; Max-Age=1209600") && !text.contains("Secure"),
            "{text}"
        );
        assert_eq!(found(&sent(&given), &old), Ok(Some("{\"a\":1}".into())));
        assert_eq!(found(&sent(&given), &keys(&['b', 'a']).1), Ok(Some("{\"a\":1}".into())), "rotated");
        assert_eq!(found(&sent(&given), &keys(&['b']).1), Err(Fault::Unreadable), "the old key is gone");
        assert_eq!(found(&HeaderMap::new(), &old), Ok(None));
        assert!(give(&config, &old, '.', "{}", true).to_str().expect("text").contains("Secure"));
    }

    #[test]
    fn what_was_changed_is_nothing() {
        let (config, keys) = keys(&['a']);
        let given = give(&config, &keys, '.', "{\"a\":1}", false);
        let good = sent(&given).get(header::COOKIE).expect("a cookie").to_str().expect("text").to_owned();
        let sealed = good.split("tempest_session=").nth(1).and_then(|rest| rest.split(';').next()).expect("a value");
        for at in 0..sealed.len() {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("text");
            let value = HeaderValue::try_from(format!("tempest_session={changed}")).expect("a value");
            let headers = HeaderMap::from_iter([(header::COOKIE, value)]);
            // The last characters hold bits that mean nothing.
            assert!(at + 3 > sealed.len() || found(&headers, &keys) == Err(Fault::Unreadable), "byte {at}");
        }
        // The same value under another name is another cookie.
        let renamed = HeaderValue::try_from(format!("other={sealed}")).expect("a value");
        let headers = HeaderMap::from_iter([(header::COOKIE, renamed)]);
        assert_eq!(find(&headers, "other", &keys, '.'), Err(Fault::Unreadable));
        for bad in ["", "x", "{}", "%00", "é"] {
            let value = HeaderValue::from_bytes(format!("tempest_session={bad}").as_bytes()).expect("a value");
            assert_eq!(found(&HeaderMap::from_iter([(header::COOKIE, value)]), &keys), Err(Fault::Unreadable), "{bad}");
        }
    }

    #[test]
    fn a_planted_cookie_does_not_hide_the_good_one() {
        let (config, keys) = keys(&['a']);
        let good = sent(&give(&config, &keys, '.', "{\"a\":1}", false));
        let good = good.get(header::COOKIE).expect("a cookie").to_str().expect("text");
        let value = HeaderValue::try_from(format!("tempest_session=planted; {good}")).expect("a value");
        assert_eq!(found(&HeaderMap::from_iter([(header::COOKIE, value)]), &keys), Ok(Some("{\"a\":1}".into())));
    }

    #[test]
    fn time_ends_it_whatever_the_browser_does() {
        let (mut config, keys) = keys(&['a']);
        config.lifetime = Duration::ZERO;
        assert_eq!(found(&sent(&give(&config, &keys, '.', "{}", false)), &keys), Err(Fault::Expired));
    }

    #[test]
    fn the_largest_session_fits_into_a_cookie() {
        let (config, keys) = keys(&['a']);
        let given = give(&config, &keys, '.', &"x".repeat(config.max_bytes), true);
        let pair = given.to_str().expect("text").split(';').next().expect("a pair");
        assert!(pair.len() <= 4096, "{}", pair.len());
    }
}
