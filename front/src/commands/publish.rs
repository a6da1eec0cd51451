//! `tempest publish`: a message to the browsers on a channel.

use std::io::Read;

use tempest_protocol::encode_payload;

use super::{CommandError, Place, with_redis};
use crate::config::Loaded;

/// Largest message in bytes.
pub const MESSAGE_BYTES: usize = 1024 * 1024;

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
}

/// Publishes `message`; the text says how many subscribers it reached.
pub fn publish(loaded: &Loaded, message: Message) -> Result<String, CommandError> {
    if message.channel.is_empty() {
        return Err(CommandError::Message("a channel needs a name: tempest publish CHANNEL TEXT".into()));
    }
    let payload = payload(&message)?;
    let place = Place::find(loaded);
    let channel = format!("{}{}", place.channel_prefix, message.channel);
    let reached = with_redis(&place, async |control| control.publish(&channel, &payload).await)?;
    Ok(match reached {
        0 => format!("0 subscribers: no front has a reader on /sub/{} at the moment", message.channel),
        1 => "1 subscriber (front)".to_owned(),
        many => format!("{many} subscribers (fronts)"),
    })
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
        Message { channel: "c".into(), data: Some(data.into()), event: event.map(str::to_owned), raw }
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
    fn one_line_end_goes() {
        assert_eq!((chomp("a\n\n"), chomp("a\r\n"), chomp("a"), chomp("\n")), ("a\n", "a", "a", ""));
    }
}
