//! What is published on a channel, and how it becomes a Server-Sent Event.
//!
//! Published text is somebody's input: whatever it holds, it must come out as `data:` lines of one event and never
//! as a field of its own. Framing is done once a message, into a buffer that all readers share. No I/O.

use std::borrow::Cow;

use crate::json::write_json_string;

/// The reconnection time that ends an EventSource for good, in practice: 2^31 - 1 ms, 24 days.
const NEVER_MS: u32 = i32::MAX as u32;

/// What ends the streams of a channel with `control = true`.
const UNSUBSCRIBE: &str = "$unsubscribe";

/// One event for the readers of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The event's name; None: the default, `message`.
    pub name: Option<Cow<'a, str>>,
    /// The text; every line of it becomes one `data:` line.
    pub data: Cow<'a, str>,
}

/// What a payload means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// An event to pass on.
    Event(Event<'a>),
    /// The channel's readers are to be sent away.
    End,
}

/// Reads a payload: an array of one string is data, of two is an event and its data, `["$unsubscribe"]` ends the
/// streams where `control` allows it; everything else is raw text. `array_form` false: all is raw text.
pub fn decode_payload(payload: &[u8], array_form: bool, control: bool) -> Payload<'_> {
    let as_array = || if payload.first() == Some(&b'[') { read_array(payload, control) } else { None };
    let raw = || Payload::Event(Event { name: None, data: String::from_utf8_lossy(payload) });
    array_form.then(as_array).flatten().unwrap_or_else(raw)
}

fn read_array(payload: &[u8], control: bool) -> Option<Payload<'_>> {
    let mut parts: Vec<String> = serde_json::from_slice(payload).ok()?;
    match parts.len() {
        1 if control && parts[0] == UNSUBSCRIBE => Some(Payload::End),
        1 => Some(Payload::Event(Event { name: None, data: Cow::Owned(parts.swap_remove(0)) })),
        2 if is_event_name(&parts[0]) => {
            let data = Cow::Owned(parts.swap_remove(1));
            Some(Payload::Event(Event { name: Some(Cow::Owned(parts.swap_remove(0))), data }))
        }
        _ => None,
    }
}

fn is_event_name(name: &str) -> bool {
    !name.contains(['\r', '\n', '\0'])
}

/// The array form of an event, which no text can break out of; what our own publishers send.
pub fn encode_payload(name: Option<&str>, data: &str) -> Vec<u8> {
    // Alone it would be the command that ends streams; with an empty name it is data like any other.
    let name = name.or((data == UNSUBSCRIBE).then_some(""));
    let mut out = Vec::with_capacity(data.len() + 16);
    out.push(b'[');
    if let Some(name) = name {
        write_json_string(&mut out, name);
        out.push(b',');
    }
    write_json_string(&mut out, data);
    out.push(b']');
    out
}

/// Appends the bytes of one event to `out` (HTML Standard, section 9.2.5, "Parsing an event stream").
pub fn frame_sse(out: &mut Vec<u8>, payload: &Payload<'_>) {
    let event = match payload {
        Payload::Event(event) => event,
        Payload::End => {
            out.extend_from_slice(format!("event: end\ndata: \nretry: {NEVER_MS}\n\n").as_bytes());
            return;
        }
    };
    if let Some(name) = event.name.as_deref().filter(|name| !name.is_empty()) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    frame_data(out, &event.data);
    out.push(b'\n');
}

/// One `data:` line a line of text; CR, LF and CRLF each end a line, as a reader of the stream sees it.
fn frame_data(out: &mut Vec<u8>, data: &str) {
    let mut rest = data;
    loop {
        out.extend_from_slice(b"data: ");
        let end = memchr::memchr2(b'\r', b'\n', rest.as_bytes());
        push_without_nul(out, &rest[..end.unwrap_or(rest.len())]);
        out.push(b'\n');
        let Some(end) = end else { return };
        let width = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[end + width..];
    }
}

/// NUL would end the text early in some readers; U+FFFD is what the standard's decoder would make of bad input.
fn push_without_nul(out: &mut Vec<u8>, line: &str) {
    if memchr::memchr(0, line.as_bytes()).is_none() {
        out.extend_from_slice(line.as_bytes());
    } else {
        out.extend_from_slice(line.replace('\0', "\u{fffd}").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_by_us_reads_back() {
        for (name, data) in [(None, "plain"), (Some("tick"), "a\nb"), (None, "[\"x\"]"), (None, "$unsubscribe\"")] {
            let payload = encode_payload(name, data);
            let Payload::Event(event) = decode_payload(&payload, true, true) else { panic!("an end") };
            assert_eq!((event.name.as_deref(), &*event.data), (name, data));
        }
    }

    #[test]
    fn no_text_becomes_a_command() {
        let payload = encode_payload(None, "$unsubscribe");
        let mut out = Vec::new();
        frame_sse(&mut out, &decode_payload(&payload, true, true));
        assert_eq!(out, b"data: $unsubscribe\n\n");
    }

    #[test]
    fn no_text_becomes_a_field() {
        for text in ["x\nevent: y", "x\r\nid: 1", "x\rretry: 1", "\n\nevent: y\ndata: z"] {
            let mut out = Vec::new();
            frame_sse(&mut out, &decode_payload(text.as_bytes(), true, true));
            let framed = String::from_utf8(out).expect("UTF-8");
            let body = framed.strip_suffix("\n\n").expect("one blank line at the end");
            assert!(body.split('\n').all(|line| line.starts_with("data: ")), "{framed:?}");
        }
    }
}
