//! One event as bytes, framed once for all of its readers.
//!
//! What several channels share a stream for, and those that want to be told the channel, get their own framing from
//! these bytes. No I/O.

use bytes::Bytes;
use tempest_protocol::{LogId, Payload, frame_sse, write_json_string};

/// An event as it goes over the wire: a chunk of HTTP/1.1, whose inside is the event for everybody else.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    chunk: Bytes,
    inside: (usize, usize),
    /// Bytes of the line `id: …` that the event begins with.
    id_line: usize,
}

impl Frame {
    /// A message; one of a channel with history has an id.
    pub(super) fn of(payload: &Payload<'_>, id: Option<LogId>) -> Self {
        let mut event = Vec::with_capacity(256);
        if let Some(id) = id {
            event.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        let id_line = event.len();
        frame_sse(&mut event, payload);
        Self { id_line, ..Self::chunk(&event) }
    }

    /// A comment of one line.
    pub(super) fn comment(text: &str) -> Self {
        Self::chunk(format!(": {text}\n\n").as_bytes())
    }

    /// Any bytes of an event stream.
    pub(super) fn chunk(event: &[u8]) -> Self {
        let head = format!("{:x}\r\n", event.len());
        let mut chunk = Vec::with_capacity(head.len() + event.len() + 2);
        chunk.extend_from_slice(head.as_bytes());
        chunk.extend_from_slice(event);
        chunk.extend_from_slice(b"\r\n");
        Self { chunk: chunk.into(), inside: (head.len(), head.len() + event.len()), id_line: 0 }
    }

    /// What is written to a stream that is chunked, or not.
    pub(super) fn bytes(&self, chunked: bool) -> Bytes {
        if chunked { self.chunk.clone() } else { self.chunk.slice(self.inside.0..self.inside.1) }
    }

    pub(super) fn as_slice(&self, chunked: bool) -> &[u8] {
        if chunked { &self.chunk } else { &self.chunk[self.inside.0..self.inside.1] }
    }

    /// Bytes that it takes in memory.
    pub(super) fn size(&self) -> usize {
        self.chunk.len()
    }

    /// The event without its id.
    pub(super) fn event(&self) -> &[u8] {
        &self.chunk[self.inside.0 + self.id_line..self.inside.1]
    }
}

/// An event that carries its channel: `data: {"channel":…,"event":…,"data":…}`, from its framed form. A message without
/// a name has the event null.
pub(super) fn told(channel: &str, event: &[u8]) -> Vec<u8> {
    let event = String::from_utf8_lossy(event);
    let (mut name, mut lines) = (None, Vec::new());
    for line in event.lines() {
        match line.split_once(": ") {
            Some(("event", text)) => name = Some(text),
            Some(("data", text)) => lines.push(text),
            _ => {}
        }
    }
    let mut out = b"data: {\"channel\":".to_vec();
    write_json_string(&mut out, channel);
    out.extend_from_slice(b",\"event\":");
    match name {
        Some(name) => write_json_string(&mut out, name),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"data\":");
    write_json_string(&mut out, &lines.join("\n"));
    out.extend_from_slice(b"}\n\n");
    out
}

#[cfg(test)]
mod tests {
    use tempest_protocol::decode_payload;

    use super::*;

    #[test]
    fn chunks_hold_the_event_and_their_length() {
        let frame = Frame::comment("hi");
        assert_eq!(frame.as_slice(true), b"6\r\n: hi\n\n\r\n");
        assert_eq!(frame.as_slice(false), b": hi\n\n");
    }

    #[test]
    fn an_id_comes_first_and_can_be_left_out() {
        let id = LogId { ms: 5, number: 2 };
        let frame = Frame::of(&decode_payload(br#"["tick","12:00"]"#, true, false), Some(id));
        assert_eq!(frame.as_slice(false), b"id: 5-2\nevent: tick\ndata: 12:00\n\n");
        assert_eq!(frame.event(), b"event: tick\ndata: 12:00\n\n");
    }

    #[test]
    fn what_is_told_of_a_channel_is_one_line_of_json() {
        let event = |payload: &[u8]| Frame::of(&decode_payload(payload, true, false), None);
        let framed = event(br#"["paid","a\nb: \"c\""]"#);
        let expected = r#"data: {"channel":"orders.\"42\"","event":"paid","data":"a\nb: \"c\""}"#;
        assert_eq!(told("orders.\"42\"", framed.event()), format!("{expected}\n\n").as_bytes());
        let plain = told("c", event(b" two  spaces").event());
        assert_eq!(plain, b"data: {\"channel\":\"c\",\"event\":null,\"data\":\" two  spaces\"}\n\n");
        assert_eq!(told("c", event(b"").event()), b"data: {\"channel\":\"c\",\"event\":null,\"data\":\"\"}\n\n");
    }
}
