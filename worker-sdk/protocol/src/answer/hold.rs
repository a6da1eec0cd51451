//! Holds: an answer that hands the client's connection to channels.
//!
//! What a hold may say is checked here for both sides: the front reads one from a message, a worker builds one and hears
//! of its mistake in words of its own. It must not know which names a front keeps for itself: that depends on its prefix.

use serde_json::{Map, Value};

use super::{Answer, Reason};
use crate::json::{write_json_string, write_number};
use crate::pack::Pack;

/// Channels of one hold at most.
pub const MAX_HOLD_CHANNELS: usize = 64;
/// Longest time a hold may name, in ms: a day.
pub const MAX_HOLD_MS: u64 = 86_400_000;
/// How long a hold of the mode `once` waits where it names no time, in ms.
pub const ONCE_MS: u64 = 25_000;
/// Bytes of a channel's name at most.
const NAME_BYTES: usize = 1024;
/// Bytes of a start point at most: the ids of sixteen channels, with room.
const HISTORY_BYTES: usize = 1024;

/// The connection of an answer is to be fed from channels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// Names of the channels, as a browser would name them.
    pub channels: Vec<String>,
    /// How they are fed to the client.
    pub mode: HoldMode,
    /// When it ends, in ms; None: [`ONCE_MS`] for `once`, and never for a stream.
    pub timeout: Option<u64>,
    /// The first message of a stream.
    pub first: Option<String>,
    /// Where a stream begins in channels with history.
    pub history: Option<String>,
}

/// What the client of a hold gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HoldMode {
    /// Every message.
    #[default]
    Stream,
    /// The next message, as the body of an ordinary response.
    Once,
}

/// What is wrong with a hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// No channel, or too many.
    #[error("a hold names 1 to {MAX_HOLD_CHANNELS} channels, this one {0}")]
    Channels(usize),
    /// No name of a channel.
    #[error("{0:?} is no name of a channel: use 1 to {NAME_BYTES} bytes without control characters")]
    Name(String),
    /// No time, or a very long one.
    #[error("a hold lasts 1 to {MAX_HOLD_MS} ms, this one {0}")]
    Timeout(u64),
    /// A first message where there is one message only.
    #[error("a hold of the mode once has no first message: what is published is its body")]
    First,
    /// No start point.
    #[error("{0:?} is no start point: use 1 to {HISTORY_BYTES} visible characters of ASCII")]
    History(String),
    /// A body beside it.
    #[error("an answer with a hold has no body; a stream may have a first message")]
    Body,
    /// A stream with another status than 200, or a status without a body.
    #[error("an answer with a hold has status 200, or, with the mode once, any that has a body, not {0}")]
    Status(u16),
    /// A part of several messages.
    #[error("an answer with a hold is one message")]
    Parts,
}

impl Hold {
    /// A hold of these channels that streams every message.
    pub fn of<S: Into<String>>(channels: impl IntoIterator<Item = S>) -> Self {
        Self { channels: channels.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// What is wrong with it, wherever it stands.
    pub fn check(&self) -> Result<(), HoldError> {
        let count = self.channels.len();
        if count == 0 || count > MAX_HOLD_CHANNELS {
            return Err(HoldError::Channels(count));
        }
        let is_name = |name: &str| (1..=NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
        if let Some(name) = self.channels.iter().find(|name| !is_name(name)) {
            return Err(HoldError::Name(name.clone()));
        }
        if let Some(ms) = self.timeout.filter(|ms| !(1..=MAX_HOLD_MS).contains(ms)) {
            return Err(HoldError::Timeout(ms));
        }
        if self.first.is_some() && self.mode == HoldMode::Once {
            return Err(HoldError::First);
        }
        let is_start =
            |text: &str| (1..=HISTORY_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        match &self.history {
            Some(text) if !is_start(text) => Err(HoldError::History(text.clone())),
            _ => Ok(()),
        }
    }

    /// What is wrong with the answer that it stands in.
    pub fn check_answer(&self, status: u16, has_body: bool) -> Result<(), HoldError> {
        if has_body {
            return Err(HoldError::Body);
        }
        let fits = match self.mode {
            HoldMode::Stream => status == 200,
            HoldMode::Once => !matches!(status, 204 | 304),
        };
        if fits { Ok(()) } else { Err(HoldError::Status(status)) }
    }

    /// Reads the value of the field `hold`. Its own fields may be null like those around it.
    pub(super) fn read(value: &Value) -> Result<Self, Reason> {
        let object = value.as_object().ok_or(Reason::BadHold)?;
        let channels = field(object, "channels").and_then(Value::as_array).ok_or(Reason::BadHold)?;
        let channels = channels.iter().map(|name| name.as_str().map(str::to_owned).ok_or(Reason::BadHold));
        let hold = Self {
            channels: channels.collect::<Result<_, _>>()?,
            mode: match text(object, "mode")?.as_deref() {
                None | Some("stream") => HoldMode::Stream,
                Some("once") => HoldMode::Once,
                Some(_) => return Err(Reason::BadHold),
            },
            timeout: match field(object, "timeout") {
                None => None,
                Some(value) => Some(value.as_u64().ok_or(Reason::BadHold)?),
            },
            first: text(object, "first")?,
            history: text(object, "history")?,
        };
        hold.check().map_err(|_| Reason::BadHold)?;
        Ok(hold)
    }

    /// True where the answer around it may hold.
    pub(super) fn fits(&self, answer: &Answer<'_>) -> bool {
        let single = answer.n == 0 && !answer.more;
        single && self.check_answer(answer.status, !answer.body.is_empty()).is_ok()
    }

    /// Writes it as the value of the field that comes next.
    pub(super) fn pack(&self, map: &mut Pack<'_>) {
        let Self { channels, mode, timeout, first, history } = self;
        let mut hold = map.map();
        hold.key("channels").list(channels.len());
        channels.iter().for_each(|name| hold.string(name));
        if *mode == HoldMode::Once {
            hold.key("mode").string("once");
        }
        if let Some(ms) = timeout {
            hold.key("timeout").number(*ms);
        }
        for (name, text) in [("first", first), ("history", history)] {
            if let Some(text) = text {
                hold.key(name).string(text);
            }
        }
        hold.close();
    }

    /// Appends it to `out` as JSON.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"channels\":");
        for (at, name) in self.channels.iter().enumerate() {
            out.push(if at == 0 { b'[' } else { b',' });
            write_json_string(out, name);
        }
        out.push(b']');
        if self.mode == HoldMode::Once {
            out.extend_from_slice(b",\"mode\":\"once\"");
        }
        if let Some(ms) = self.timeout {
            out.extend_from_slice(b",\"timeout\":");
            write_number(out, ms);
        }
        for (name, text) in [("first", &self.first), ("history", &self.history)] {
            let Some(text) = text else { continue };
            out.push(b',');
            write_json_string(out, name);
            out.push(b':');
            write_json_string(out, text);
        }
        out.push(b'}');
    }
}

fn field<'o>(object: &'o Map<String, Value>, name: &str) -> Option<&'o Value> {
    object.get(name).filter(|value| !value.is_null())
}

fn text(object: &Map<String, Value>, name: &str) -> Result<Option<String>, Reason> {
    match field(object, name) {
        None => Ok(None),
        Some(value) => value.as_str().map(|text| Some(text.to_owned())).ok_or(Reason::BadHold),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_at_their_edges() {
        let names = |count: usize| Hold::of((0..count).map(|n| n.to_string()));
        assert_eq!(names(MAX_HOLD_CHANNELS).check(), Ok(()));
        assert_eq!(names(MAX_HOLD_CHANNELS + 1).check(), Err(HoldError::Channels(65)));
        assert_eq!(names(0).check(), Err(HoldError::Channels(0)));
        assert_eq!(Hold::of(["x".repeat(NAME_BYTES)]).check(), Ok(()));
        for bad in [String::new(), "a\nb".into(), "a\u{85}b".into(), "x".repeat(NAME_BYTES + 1)] {
            assert_eq!(Hold::of([bad.clone()]).check(), Err(HoldError::Name(bad)));
        }
        for (ms, good) in [(0, false), (1, true), (MAX_HOLD_MS, true), (MAX_HOLD_MS + 1, false)] {
            assert_eq!(Hold { timeout: Some(ms), ..names(1) }.check().is_ok(), good, "{ms}");
        }
        for (text, good) in [("", false), ("5-1,0-0", true), ("a b", false), ("\u{fc}", false)] {
            assert_eq!(Hold { history: Some(text.into()), ..names(1) }.check().is_ok(), good, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let holds = [
            Hold::of(["a"]),
            Hold { mode: HoldMode::Once, timeout: Some(5), ..Hold::of(["a\"b", "\u{fc}"]) },
            Hold { first: Some("one\ntwo".into()), history: Some("earliest".into()), ..Hold::of(["a"]) },
        ];
        for hold in holds {
            let mut out = Vec::new();
            hold.write(&mut out);
            let value: Value = serde_json::from_slice(&out).expect("JSON");
            assert_eq!(Hold::read(&value), Ok(hold));
        }
    }
}
