//! A door for the fuzz targets and nobody else: framing as streams send it.

use tempest_protocol::{LogId, decode_payload};

use super::frame::{Frame, told};

/// The bytes of one published payload as streams send them: with its id, and as streams that are told the channel get it.
pub fn frames(payload: &[u8], id: LogId, channel: &str) -> (Vec<u8>, Vec<u8>) {
    let frame = Frame::of(&decode_payload(payload, true, false), Some(id));
    let (chunk, event) = (frame.as_slice(true), frame.as_slice(false));
    let head = format!("{:x}\r\n", event.len());
    assert_eq!(chunk, [head.as_bytes(), event, b"\r\n"].concat(), "one chunk");
    (event.to_vec(), told(channel, frame.event()))
}
