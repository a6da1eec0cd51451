//! One value of a configuration, from a file, a flag or the environment alike, and the readers that turn it into what a
//! setting is made of.
//!
//! A reader looks at one value and says what it expected; it does not know the setting's name or where it stands.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use tempest_protocol::QueueName;
use toml::Spanned;
use toml::de::DeValue;

use super::units::{duration, size, spell_duration, spell_size};
use super::{Listen, Pattern, RedisUrl, UNIX, words};

/// The path of a Unix socket, as the kernel takes it (`unix(7)`).
const LONGEST_SOCKET: usize = 107;
/// No wait of this system makes sense beyond a year.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// A value and the byte of the file it begins at (0 for flags and environment).
#[derive(Clone, Debug)]
pub(super) struct Value<'a> {
    pub(super) at: usize,
    pub(super) kind: Kind<'a>,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Kind<'a> {
    Text(&'a str),
    Integer(i64),
    Bool(bool),
    List(Vec<Value<'a>>),
    /// A number that is not whole, as written.
    Fraction(&'a str),
    /// Something that no setting takes, by its name.
    Other(&'static str),
}

/// Why a value was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) at: usize,
    pub(super) message: String,
}

/// What a reader gives.
pub(super) type Read<T> = Result<T, Wrong>;

impl<'a> Value<'a> {
    /// A value given as text, by a flag or the environment.
    pub(super) fn text(text: &'a str) -> Self {
        Self { at: 0, kind: Kind::Text(text) }
    }

    /// A value of a file.
    pub(super) fn of(value: &'a Spanned<DeValue<'a>>) -> Self {
        let kind = match value.get_ref() {
            DeValue::String(text) => Kind::Text(text),
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .map_or(Kind::Other("an integer out of range"), Kind::Integer),
            DeValue::Boolean(boolean) => Kind::Bool(*boolean),
            DeValue::Array(items) => Kind::List(items.iter().map(Value::of).collect()),
            DeValue::Float(number) => Kind::Fraction(number.as_str()),
            DeValue::Datetime(_) => Kind::Other("a date"),
            DeValue::Table(_) => Kind::Other("a table"),
        };
        Self { at: value.span().start, kind }
    }

    /// `expected …, found …`.
    pub(super) fn wrong(&self, expected: &str) -> Wrong {
        Wrong { at: self.at, message: format!("expected {expected}, found {}", self.found()) }
    }

    fn found(&self) -> String {
        match &self.kind {
            Kind::Text(text) if text.chars().count() > 80 => {
                format!("{:?}…", text.chars().take(80).collect::<String>())
            }
            Kind::Text(text) => format!("{text:?}"),
            Kind::Integer(integer) => integer.to_string(),
            Kind::Bool(boolean) => boolean.to_string(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Fraction(_) => "a number with a fraction".to_owned(),
            Kind::Other(name) => (*name).to_owned(),
        }
    }
}

/// Text of any kind.
pub(super) fn string(value: &Value<'_>) -> Read<String> {
    match value.kind {
        Kind::Text(text) => Ok(text.to_owned()),
        _ => Err(value.wrong("a string")),
    }
}

/// Text that is not empty.
pub(super) fn name(value: &Value<'_>) -> Read<String> {
    string(value).ok().filter(|text| !text.is_empty()).ok_or_else(|| value.wrong("a string that is not empty"))
}

/// `true` or `false`.
pub(super) fn boolean(value: &Value<'_>) -> Read<bool> {
    match value.kind {
        Kind::Bool(boolean) => Ok(boolean),
        _ => Err(value.wrong("true or false")),
    }
}

/// A whole number; also as text, since flags and environment have nothing else.
fn number(value: &Value<'_>) -> Option<u64> {
    match value.kind {
        Kind::Integer(integer) => u64::try_from(integer).ok(),
        Kind::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// A count within bounds.
pub(super) fn count(bounds: RangeInclusive<usize>) -> impl Fn(&Value<'_>) -> Read<usize> {
    move |value| {
        let within = number(value).and_then(|n| usize::try_from(n).ok()).filter(|n| bounds.contains(n));
        within.ok_or_else(|| match (*bounds.start(), *bounds.end()) {
            (0, usize::MAX) => value.wrong("a whole number"),
            (from, usize::MAX) => value.wrong(&format!("a whole number of at least {from}")),
            (from, to) => value.wrong(&format!("a whole number from {from} to {to}")),
        })
    }
}

/// A port; 0 takes a free one.
pub(super) fn port(value: &Value<'_>) -> Read<u16> {
    let port = number(value).and_then(|n| u16::try_from(n).ok());
    port.ok_or_else(|| value.wrong("a port from 1 to 65535, or 0 for any free one"))
}

/// Bytes, at least `least`: `64KiB`, `1MiB` or a plain number.
pub(super) fn bytes(least: usize) -> impl Fn(&Value<'_>) -> Read<usize> {
    move |value| {
        let given = match value.kind {
            Kind::Text(text) => size(text),
            _ => number(value),
        };
        let within = given.and_then(|n| usize::try_from(n).ok()).filter(|n| *n >= least);
        within.ok_or_else(|| match least {
            0 => value.wrong("a size like 64KiB or 1MiB"),
            least => value.wrong(&format!("a size like 64KiB or 1MiB, at least {}", spell_size(least as u64))),
        })
    }
}

/// A time, at least `least`: `500ms`, `30s`, `2m`, `1h` or whole seconds.
pub(super) fn time(least: Duration) -> impl Fn(&Value<'_>) -> Read<Duration> {
    move |value| {
        let given = match value.kind {
            Kind::Text(text) => duration(text),
            _ => number(value).map(Duration::from_secs),
        };
        let bounds = least..=MAX_DURATION;
        given.filter(|given| bounds.contains(given)).ok_or_else(|| match least {
            Duration::ZERO => value.wrong("a time like 500ms, 30s or 2m, at most a year"),
            least => value
                .wrong(&format!("a time like 500ms, 30s or 2m, at least {} and at most a year", spell_duration(least))),
        })
    }
}

/// An address and port; `localhost` stands for 127.0.0.1.
fn address(value: &Value<'_>) -> Option<SocketAddr> {
    let Kind::Text(text) = value.kind else { return None };
    match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}").parse().ok(),
        None => text.parse().ok(),
    }
}

/// Where to listen: an address and port, or a Unix socket by its absolute path.
pub(super) fn listen(value: &Value<'_>) -> Read<Listen> {
    if let Kind::Text(text) = value.kind
        && let Some(path) = text.strip_prefix(UNIX)
    {
        let absolute = path.starts_with('/') && path.len() <= LONGEST_SOCKET && !path.contains('\0');
        return match absolute {
            true => Ok(Listen::Unix(path.into())),
            false => {
                Err(value.wrong("an absolute path of at most 107 bytes behind unix:, like unix:/run/tempest.sock"))
            }
        };
    }
    address(value).map(Listen::Tcp).ok_or_else(|| value.wrong("an address like 127.0.0.1:1337 or unix:/run/x.sock"))
}

/// An address, or `false` or `off` for none.
pub(super) fn address_or_off(value: &Value<'_>) -> Read<Option<SocketAddr>> {
    match value.kind {
        Kind::Bool(false) | Kind::Text("off" | "false") => Ok(None),
        _ => address(value).map(Some).ok_or_else(|| value.wrong("an address like 127.0.0.1:1338, or off")),
    }
}

/// The URL of a Redis. What was found is not repeated: it may hold a password.
pub(super) fn redis_url(value: &Value<'_>) -> Read<RedisUrl> {
    let Kind::Text(text) = value.kind else { return Err(value.wrong("a URL like redis://127.0.0.1:6379")) };
    text.parse().map_err(|error| Wrong { at: value.at, message: format!("{error}") })
}

/// A queue's name.
pub(super) fn queue(value: &Value<'_>) -> Read<QueueName> {
    let text = string(value)?;
    QueueName::new(&text).map_err(|error| Wrong { at: value.at, message: error.to_string() })
}

/// What all keys begin with: nothing that a Cluster hash tag, a glob or a log line would trip over.
pub(super) fn prefix(value: &Value<'_>) -> Read<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    let text = name(value)?;
    if text.len() <= 64 && text.chars().all(allowed) {
        return Ok(text);
    }
    Err(value.wrong("1 to 64 of a-z A-Z 0-9 _ - . :"))
}

/// A path, as written.
pub(super) fn path(value: &Value<'_>) -> Read<PathBuf> {
    match name(value) {
        Ok(text) if !text.trim().is_empty() => Ok(PathBuf::from(text)),
        _ => Err(value.wrong("a path")),
    }
}

/// A pattern over channel names.
pub(super) fn pattern(value: &Value<'_>) -> Read<Pattern> {
    name(value).map(Pattern::new).map_err(|_| value.wrong("a pattern like news or orders.*"))
}

/// Program and arguments: one string that is split as a shell splits words, or a list.
pub(super) fn command(value: &Value<'_>) -> Read<Vec<String>> {
    let words = match &value.kind {
        Kind::Text(text) => words::split(text).ok_or_else(|| value.wrong("a command with closed quotes"))?,
        Kind::List(items) => items.iter().map(string).collect::<Read<_>>()?,
        _ => Vec::new(),
    };
    match words.first() {
        Some(program) if !program.is_empty() => Ok(words),
        _ => Err(value.wrong("a command like \"python3 worker.py\" or [\"python3\", \"worker.py\"]")),
    }
}

/// One of the words given, as what it stands for.
pub(super) fn one_of<T: Clone>(words: &'static [(&'static str, T)]) -> impl Fn(&Value<'_>) -> Read<T> {
    move |value| {
        let is = |word: &str| match value.kind {
            Kind::Text(text) => text == word,
            // A bare `false` is how people write `off`.
            Kind::Bool(false) => word == "off",
            _ => false,
        };
        let found = words.iter().find(|(word, _)| is(word));
        found.map(|(_, meaning)| meaning.clone()).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            value.wrong(&format!("one of {}", known.join(", ")))
        })
    }
}

/// A list, a single value, or text with commas between the values. The first wrong item is the error.
pub(super) fn list<T>(item: impl Fn(&Value<'_>) -> Read<T>) -> impl Fn(&Value<'_>) -> Read<Vec<T>> {
    move |value| match &value.kind {
        Kind::List(items) => items.iter().map(&item).collect(),
        Kind::Text(text) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| item(&Value { at: value.at, kind: Kind::Text(part) })).collect()
        }
        _ => item(value).map(|one| vec![one]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T>(read: impl Fn(&Value<'_>) -> Read<T>, given: &str) -> Result<T, String> {
        read(&Value::text(given)).map_err(|wrong| wrong.message)
    }

    fn integer<T>(read: impl Fn(&Value<'_>) -> Read<T>, given: i64) -> Result<T, String> {
        read(&Value { at: 0, kind: Kind::Integer(given) }).map_err(|wrong| wrong.message)
    }

    #[test]
    fn numbers_keep_their_bounds() {
        assert_eq!(integer(count(1..=64), 1), Ok(1));
        assert_eq!(integer(count(1..=64), 64), Ok(64));
        assert_eq!(integer(count(1..=64), 65), Err("expected a whole number from 1 to 64, found 65".into()));
        assert_eq!(integer(count(1..=64), 0), Err("expected a whole number from 1 to 64, found 0".into()));
        assert_eq!(integer(count(0..=usize::MAX), -1), Err("expected a whole number, found -1".into()));
        assert_eq!(text(count(1..=64), "4"), Ok(4));
        assert_eq!(text(count(1..=64), "4.5"), Err("expected a whole number from 1 to 64, found \"4.5\"".into()));
    }

    #[test]
    fn sizes_and_times_keep_their_bounds() {
        assert_eq!(integer(bytes(8192), 8192), Ok(8192));
        assert_eq!(
            text(bytes(8192), "8191"),
            Err("expected a size like 64KiB or 1MiB, at least 8KiB, found \"8191\"".into())
        );
        assert_eq!(integer(time(Duration::ZERO), 0), Ok(Duration::ZERO));
        assert_eq!(integer(time(Duration::from_millis(1)), 30), Ok(Duration::from_secs(30)));
        assert!(integer(time(Duration::from_millis(1)), 0).is_err());
        assert_eq!(text(time(Duration::ZERO), "8760h"), Ok(MAX_DURATION));
        assert!(text(time(Duration::ZERO), "8761h").is_err());
    }

    #[test]
    fn addresses() {
        let local = Listen::Tcp(([127, 0, 0, 1], 80).into());
        assert_eq!(text(listen, "127.0.0.1:80"), Ok(local.clone()));
        assert_eq!(text(listen, "localhost:80"), Ok(local));
        assert!(text(listen, "[::1]:0").is_ok());
        for bad in ["foo", "127.0.0.1", ":80", "127.0.0.1:65536", "localhost:", ""] {
            let expected = format!("expected an address like 127.0.0.1:1337 or unix:/run/x.sock, found {bad:?}");
            assert_eq!(text(listen, bad), Err(expected));
        }
        assert_eq!(text(listen, "unix:/run/x.sock"), Ok(Listen::Unix("/run/x.sock".into())));
        for bad in ["unix:", "unix:x.sock", "unix:/\0", &format!("unix:/{}", "x".repeat(107))] {
            assert!(text(listen, bad).is_err_and(|error| error.contains("absolute path")), "{bad}");
        }
        assert_eq!(text(address_or_off, "off"), Ok(None));
        assert_eq!(text(address_or_off, "127.0.0.1:80"), Ok(Some(([127, 0, 0, 1], 80).into())));
        for bad in ["no", "unix:/run/x.sock"] {
            assert!(text(address_or_off, bad).is_err_and(|error| error.contains("or off")), "{bad}");
        }
    }

    #[test]
    fn a_list_may_be_one_string_with_commas() {
        assert_eq!(text(list(name), "a, b,,c"), Ok(vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(text(list(name), ""), Ok(vec![]));
    }

    #[test]
    fn a_wrong_url_is_not_repeated() {
        let error = text(redis_url, "redis://hunter2@h").expect_err("no colon before the @");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn prefixes() {
        assert_eq!(text(prefix, "my-app:v2_x"), Ok("my-app:v2_x".into()));
        for bad in ["", "a b", "{a}", "a*", "ä", &"a".repeat(65)] {
            assert!(text(prefix, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn commands() {
        assert_eq!(text(command, "sh -c 'a b'"), Ok(vec!["sh".into(), "-c".into(), "a b".into()]));
        for bad in ["", "'a", "'' x"] {
            assert!(text(command, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_values_are_cut_in_messages() {
        let error = text(listen, &"x".repeat(1000)).expect_err("no address");
        assert!(error.len() < 200, "{error}");
    }
}
