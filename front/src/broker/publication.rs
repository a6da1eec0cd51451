//! One publication as Redis is told of it: which command, and what its reply says.
//!
//! Whoever publishes, a request or the command line, does it by this. It must not know where a message comes from or
//! whether it may be published.

use redis_protocol::resp2::types::BytesFrame;
use tempest_protocol::{Keep, Keys, scripts};

use super::eval;
use super::wire::{Command, text_of};

/// What an error reply begins with where Redis does not know a script.
const NO_SCRIPT: &str = "NOSCRIPT";
/// What it begins with where the user lacks a right.
pub(super) const NO_RIGHT: &str = "NOPERM";

/// A message on its way to a channel.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The channel's name in Redis.
    pub channel: &'a str,
    /// What readers are sent.
    pub payload: &'a [u8],
    /// How much of the channel is kept; None: it has no history.
    pub keep: Option<Keep>,
    /// The publication's own key, and for how many ms it is remembered.
    pub once: Option<(&'a str, u64)>,
}

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id; None: the channel has no history.
    pub id: Option<String>,
    /// Reactors and other subscribers of Redis that were told.
    pub told: u64,
    /// It had been published before, and was not again.
    pub repeated: bool,
}

/// Why Redis did not publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declined {
    /// It does not know the script: to be called again by its text.
    NoScript,
    /// Its words, and what to do where that is known.
    Refused(String),
}

/// How a script is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By the name under which Redis knows it, if it does.
    Name,
    /// By its text, which is then known.
    Text,
}

impl Publication<'_> {
    /// The command that publishes it.
    pub fn command(&self, keys: &Keys, by: By) -> Command {
        let once = self.once.map(|(key, ms)| (keys.once(self.channel, key), ms.to_string()));
        match (self.keep, &once) {
            (None, None) => Command::new(&[b"PUBLISH", self.channel.as_bytes(), self.payload]),
            (None, Some((key, ms))) => {
                let script = (scripts::ONCE, scripts::ONCE_SHA);
                call(by, script, &[key], &[self.channel.as_bytes(), self.payload, ms.as_bytes()])
            }
            (Some(keep), once) => {
                let (log, messages, kept) = (keys.log(self.channel), keep.messages.to_string(), keep.ms.to_string());
                let mut named = vec![log.as_str()];
                let mut values = vec![self.payload, messages.as_bytes(), kept.as_bytes()];
                if let Some((key, ms)) = once {
                    named.push(key);
                    values.push(ms.as_bytes());
                }
                call(by, (scripts::PUBLISH, scripts::PUBLISH_SHA), &named, &values)
            }
        }
    }
}

fn call(by: By, (text, sha): (&str, &str), keys: &[&str], values: &[&[u8]]) -> Command {
    if by == By::Text {
        return eval(text, keys, values);
    }
    let count = keys.len().to_string();
    let mut parts: Vec<&[u8]> = vec![b"EVALSHA", sha.as_bytes(), count.as_bytes()];
    parts.extend(keys.iter().map(|key| key.as_bytes()));
    parts.extend(values);
    Command::new(&parts)
}

impl Published {
    /// Reads the reply to a [`Publication::command`].
    ///
    /// # Errors
    /// Nothing was published.
    pub fn read(reply: &BytesFrame) -> Result<Self, Declined> {
        match reply {
            BytesFrame::Integer(told) => Ok(Self { id: None, told: (*told).max(0) as u64, repeated: false }),
            BytesFrame::Array(parts) => match parts.as_slice() {
                [id, BytesFrame::Integer(told), BytesFrame::Integer(repeated)] => {
                    let id = Some(text_of(id)).filter(|id| !id.is_empty());
                    Ok(Self { id, told: (*told).max(0) as u64, repeated: *repeated != 0 })
                }
                _ => Err(Declined::Refused("a reply that is none of the script's".to_owned())),
            },
            BytesFrame::Error(words) if words.starts_with(NO_SCRIPT) => Err(Declined::NoScript),
            BytesFrame::Error(words) => Err(Declined::Refused(with_advice(words))),
            other => Err(Declined::Refused(format!("an unexpected reply: {}", text_of(other)))),
        }
    }
}

/// A user that may publish but runs no scripts would lose the history without a word; so it is told what is missing.
fn with_advice(words: &str) -> String {
    if words.starts_with(NO_RIGHT) || words.contains("can't run this command") {
        return format!("{words}. Publishing with a history or a key needs +evalsha +eval and what publish.lua calls");
    }
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(publication: &Publication<'_>, by: By) -> Vec<String> {
        let command = publication.command(&Keys::new("tempest"), by);
        let text = String::from_utf8(command.0.to_vec()).expect("text");
        text.split("\r\n").skip(1).filter(|line| !line.starts_with('$')).map(str::to_owned).collect()
    }

    #[test]
    fn history_and_key_decide_the_command() {
        let keep = Keep::new(10, 500);
        let plain = Publication { channel: "news", payload: b"hi", keep: None, once: None };
        assert_eq!(words(&plain, By::Name), ["PUBLISH", "news", "hi", ""]);
        let once = Publication { once: Some(("k", 9)), ..plain };
        let key = "{tempest:log:news}:once:k";
        assert_eq!(words(&once, By::Name), ["EVALSHA", scripts::ONCE_SHA, "1", key, "news", "hi", "9", ""]);
        let kept = Publication { keep, ..plain };
        let log = "tempest:log:news";
        assert_eq!(words(&kept, By::Name), ["EVALSHA", scripts::PUBLISH_SHA, "1", log, "hi", "10", "500", ""]);
        let both = Publication { keep, ..once };
        assert_eq!(words(&both, By::Name)[2..], ["2", log, key, "hi", "10", "500", "9", ""]);
        assert_eq!(words(&both, By::Text)[0], "EVAL");
    }

    #[test]
    fn replies_are_read() {
        let list = |id: &'static str, told, repeated| {
            BytesFrame::Array(vec![
                BytesFrame::BulkString(id.into()),
                BytesFrame::Integer(told),
                BytesFrame::Integer(repeated),
            ])
        };
        let read = |frame| Published::read(&frame).map(|p| (p.id, p.told, p.repeated));
        assert_eq!(read(BytesFrame::Integer(3)), Ok((None, 3, false)));
        assert_eq!(read(list("5-1", 2, 0)), Ok((Some("5-1".into()), 2, false)));
        assert_eq!(read(list("", 0, 1)), Ok((None, 0, true)));
        assert_eq!(read(BytesFrame::Error("NOSCRIPT No matching script".into())), Err(Declined::NoScript));
        let Err(Declined::Refused(words)) = read(BytesFrame::Error("NOPERM no evalsha".into())) else { panic!() };
        assert!(words.contains("+evalsha"), "{words}");
        assert!(read(BytesFrame::Null).is_err() && read(BytesFrame::Array(vec![])).is_err());
    }
}
