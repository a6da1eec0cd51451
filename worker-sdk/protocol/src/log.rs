//! Channels with history: the ids of their messages, and what proves that none is missing.
//!
//! A message's id is that of its entry in the channel's log: the time in ms and its number. Each entry names the one
//! before, so whoever has seen that one knows that nothing lies between. No I/O.

use std::fmt;
use std::str::FromStr;

/// The id of a message in a log: ordered by time, then by number. `0-0` stands before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Milliseconds since 1970 by the clock of Redis.
    pub ms: u64,
    /// The message's number in its log, from 1. A log that was begun anew counts anew, at a later time.
    pub number: u64,
}

/// A text that is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form <milliseconds>-<number>")]
pub struct NotAnId;

impl LogId {
    /// Before every message.
    pub const ZERO: Self = Self { ms: 0, number: 0 };

    /// How many messages lie between this one and `next`, where both belong to one count; None: that cannot be known.
    pub fn missing_before(self, next: Self) -> Option<u64> {
        (next > self && next.number > self.number).then(|| next.number - self.number - 1)
    }
}

impl FromStr for LogId {
    type Err = NotAnId;

    /// Digits, a hyphen, digits: nothing else, and no number beyond 64 bits.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (ms, number) = text.split_once('-').ok_or(NotAnId)?;
        let read = |digits: &str| {
            let only_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            only_digits.then(|| digits.parse().ok()).flatten().ok_or(NotAnId)
        };
        Ok(Self { ms: read(ms)?, number: read(number)? })
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.number)
    }
}

/// What a publication on a channel with history announces: `<id> <id of the message before> <payload>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement<'a> {
    /// The message.
    pub id: LogId,
    /// The one before it in the log.
    pub prev: LogId,
    /// As it would be published on a channel without history.
    pub payload: &'a [u8],
}

impl<'a> Announcement<'a> {
    /// Reads one; None: somebody else's words.
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let mut parts = message.splitn(3, |byte| *byte == b' ');
        let mut id = || std::str::from_utf8(parts.next()?).ok()?.parse().ok();
        let (id, prev) = (id()?, id()?);
        Some(Self { id, prev, payload: parts.next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> LogId {
        text.parse().expect("an id")
    }

    #[test]
    fn ids_are_digits_a_hyphen_and_digits() {
        assert_eq!(id("1795000000002-17"), LogId { ms: 1_795_000_000_002, number: 17 });
        assert_eq!(id("5-0").to_string(), "5-0");
        let beyond = format!("{}0-1", u64::MAX);
        for bad in ["", "-", "5", "5-", "-5", "5-6-7", "+5-6", " 5-6", "5-6 ", "a-b", "5-٣", "*", &beyond] {
            assert_eq!(bad.parse::<LogId>(), Err(NotAnId), "{bad}");
        }
    }

    #[test]
    fn later_is_greater() {
        assert!(LogId::ZERO < id("5-1") && id("5-1") < id("5-2") && id("5-9") < id("6-1"));
    }

    #[test]
    fn what_is_missing_is_counted_within_one_count() {
        assert_eq!(id("5-3").missing_before(id("5-4")), Some(0));
        assert_eq!(id("5-3").missing_before(id("9-10")), Some(6));
        // The log was begun anew, or is behind.
        assert_eq!(id("5-3").missing_before(id("9-1")), None);
        assert_eq!(id("5-3").missing_before(id("5-3")), None);
        assert_eq!(id("5-3").missing_before(id("4-9")), None);
    }

    #[test]
    fn an_announcement_is_two_ids_and_a_payload() {
        let read = Announcement::read(b"5-3 4-2 two words\n").expect("an announcement");
        assert_eq!(read, Announcement { id: id("5-3"), prev: id("4-2"), payload: b"two words\n" });
        assert_eq!(Announcement::read(b"5-3 4-2 ").map(|read| read.payload), Some(&b""[..]));
        for bad in [&b"5-3 4-2"[..], b"5-3", b"", b"hello world again", b"5-3 x payload"] {
            assert_eq!(Announcement::read(bad), None);
        }
    }
}
