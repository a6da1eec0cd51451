//! `tempest publish`: a message to the browsers on a channel.

use std::io::Read;

use tempest_protocol::{Keep, encode_payload};

use super::{CommandError, Place, with_redis};
use crate::broker::{Publication, Published};
use crate::config::{Loaded, duration};

/// Largest message in bytes.
pub const MESSAGE_BYTES: usize = 1024 * 1024;
/// Most bytes of a publication's own key.
const KEY_BYTES: usize = 255;

/// What to publish.
#[derive(Clone, Debug)]
pub struct Message {
    /// The channel as browsers name it.
    pub channel: String,
    /// The text; None or `-`: standard input to its end, without one line end there.
    pub data: Option<String>,
    /// The event's name.
    pub event: Option<String>,
    /// Send the bytes as they are: standard input whole, and read by the front as the channel's rule says. Otherwise
    /// the message is sent in the array form, so that no text is taken for an event or a command.
    pub raw: bool,
    /// The publication's own key: with the same one it is published once.
    pub key: Option<String>,
    /// How much of the channel is kept; None: as the rules of the fronts say.
    pub history: Option<Keep>,
}

/// Publishes `message`; the text says its id, where the channel has a history, and how many subscribers it reached.
pub fn publish(loaded: &Loaded, message: Message) -> Result<String, CommandError> {
    if message.channel.is_empty() {
        return Err(CommandError::Message("a channel needs a name: tempest publish CHANNEL TEXT".into()));
    }
    if message.key.as_deref().is_some_and(|key| !is_key(key)) {
        return Err(CommandError::Message("a key is 1 to 255 characters of printable ASCII".into()));
    }
    let payload = payload(&message)?;
    let place = Place::find(loaded);
    let channel = format!("{}{}", place.channel_prefix, message.channel);
    let remembered = u64::try_from(loaded.config.channels.key_time.as_millis()).unwrap_or(u64::MAX);
    let (published, kept, known) = with_redis(&place, async |control| {
        let (keep, known) = match message.history {
            Some(keep) => (Some(keep), true),
            None => {
                let rules = control.history(&place.keys).await?;
                (rules.as_ref().and_then(|rules| rules.keep(&channel)), rules.is_some())
            }
        };
        let once = message.key.as_deref().map(|key| (key, remembered));
        let what = Publication { channel: &channel, payload: &payload, keep, once };
        Ok((control.publish(&place.keys, &what).await?, keep.is_some(), known))
    })?;
    let mut text = said(&published, kept, &message.channel);
    if !known {
        // A user from before there were histories: what it publishes arrives as before.
        text +=
            &format!("\nnot kept: this user may not read {} (+get), which names the histories", place.keys.history());
    }
    Ok(text)
}

fn said(published: &Published, kept: bool, channel: &str) -> String {
    let id = published.id.as_deref().map(|id| format!("{id}\n")).unwrap_or_default();
    let reached = match published.told {
        _ if published.repeated => "published before with this key, and not again".to_owned(),
        0 if kept => format!("kept; no front has a reader on /sub/{channel} at the moment"),
        0 => format!("0 subscribers: no front has a reader on /sub/{channel} at the moment"),
        1 => "1 subscriber (front)".to_owned(),
        many => format!("{many} subscribers (fronts)"),
    };
    id + &reached
}

fn is_key(key: &str) -> bool {
    (1..=KEY_BYTES).contains(&key.len()) && key.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Reads how much of a channel is to be kept, as a person writes it: `1000,1h`.
///
/// # Errors
/// It is written otherwise; the text says how it should be.
pub fn read_history(text: &str) -> Result<Keep, String> {
    let keep = text.split_once(',').and_then(|(messages, time)| {
        let ms = u64::try_from(duration(time)?.as_millis()).ok()?;
        Keep::new(messages.trim().parse().ok()?, ms)
    });
    keep.ok_or_else(|| "expected messages and a time of at most a year, like 1000,1h".to_owned())
}

fn payload(message: &Message) -> Result<Vec<u8>, CommandError> {
    if message.event.as_deref().is_some_and(|name| name.contains(['\r', '\n', '\0'])) {
        return Err(CommandError::Message("an event's name is one line of text".into()));
    }
    let bytes = match message.data.as_deref() {
        None | Some("-") => read_all(std::io::stdin().lock())?,
        Some(text) => check_size(text.as_bytes().to_vec())?,
    };
    if message.raw {
        return Ok(bytes);
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(CommandError::Message("standard input is not UTF-8 text, and browsers are sent text only".into()));
    };
    let text = if message.data.as_deref().is_none_or(|data| data == "-") { chomp(&text) } else { &text };
    Ok(encode_payload(message.event.as_deref(), text))
}

fn read_all(input: impl Read) -> Result<Vec<u8>, CommandError> {
    let mut bytes = Vec::new();
    let read = input.take(MESSAGE_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| CommandError::System("read standard input", error))?;
    check_size(bytes)
}

fn check_size(bytes: Vec<u8>) -> Result<Vec<u8>, CommandError> {
    if bytes.len() > MESSAGE_BYTES {
        let text = "a message is at most 1 MiB; publish a link to what is larger".to_owned();
        return Err(CommandError::Message(text));
    }
    Ok(bytes)
}

/// Without one line end at the end, which `echo` and `date` write and nobody means.
fn chomp(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(data: &str, event: Option<&str>, raw: bool) -> Message {
        Message {
            channel: "c".into(),
            data: Some(data.into()),
            event: event.map(str::to_owned),
            raw,
            key: None,
            history: None,
        }
    }

    #[test]
    fn text_is_sent_in_the_array_form_and_raw_as_it_is() {
        assert_eq!(payload(&message("[\"x\"]\n", None, false)).expect("text"), br#"["[\"x\"]\n"]"#);
        assert_eq!(payload(&message("12:00", Some("tick"), false)).expect("text"), br#"["tick","12:00"]"#);
        assert_eq!(payload(&message("[\"x\"]", None, true)).expect("text"), br#"["x"]"#);
        assert!(payload(&message("x", Some("a\nb"), false)).is_err());
    }

    #[test]
    fn a_message_has_a_largest_size() {
        assert_eq!(read_all(&vec![b'x'; MESSAGE_BYTES][..]).expect("just fits").len(), MESSAGE_BYTES);
        let error = read_all(std::io::repeat(b'x')).expect_err("endless");
        assert!(error.to_string().contains("1 MiB"), "{error}");
    }

    #[test]
    fn history_is_messages_and_a_time() {
        assert_eq!(read_history("1000,1h"), Ok(Keep { messages: 1000, ms: 3_600_000 }));
        assert_eq!(read_history("1, 500ms"), Ok(Keep { messages: 1, ms: 500 }));
        for bad in ["", "1000", "1h", "0,1h", "10,0", "x,1h", "10,soon", "10,8761h"] {
            assert!(read_history(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_became_of_it_is_said() {
        let published = |id: Option<&str>, told, repeated| Published { id: id.map(str::to_owned), told, repeated };
        assert_eq!(said(&published(None, 1, false), false, "c"), "1 subscriber (front)");
        assert_eq!(said(&published(Some("5-1"), 2, false), true, "c"), "5-1\n2 subscribers (fronts)");
        assert!(said(&published(Some("5-1"), 0, false), true, "c").starts_with("5-1\nkept"));
        assert!(said(&published(None, 0, true), false, "c").starts_with("published before"));
    }

    #[test]
    fn one_line_end_goes() {
        assert_eq!((chomp("a\n\n"), chomp("a\r\n"), chomp("a"), chomp("\n")), ("a\n", "a", "a", ""));
    }
}
