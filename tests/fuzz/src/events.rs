//! Published payloads: whatever somebody publishes becomes one event, with the data and the name it should have.

use tempest_protocol::{
    Announcement, HistoryRules, LogId, Payload, decode_payload, encode_payload, frame_sse, matches_pattern,
};

use crate::sse::{Event, read};

/// What a reader sees of data: every line end is LF, and NUL cannot pass.
fn seen(data: &str) -> String {
    data.replace("\r\n", "\n").replace('\r', "\n").replace('\0', "\u{fffd}")
}

/// A payload on a channel.
pub fn payload(data: &[u8]) {
    for (array_form, control) in [(true, false), (true, true), (false, false)] {
        let payload = decode_payload(data, array_form, control);
        let mut framed = Vec::new();
        frame_sse(&mut framed, &payload);
        let stream = read(&framed);
        assert!(stream.ids.is_empty(), "an id was forged");
        match payload {
            Payload::End => assert!(control && array_form && stream.events.len() == 1),
            Payload::Event(event) => {
                let name = event.name.as_deref().unwrap_or_default();
                // A name in a raw text, an id or a time to come back: none of them is anybody's but the encoder's.
                assert!(array_form || name.is_empty());
                let expected = Event { name: name.to_owned(), data: seen(&event.data) };
                assert_eq!(stream.events, [expected], "{framed:?}");
                assert!(stream.retries.is_empty(), "a time was forged");
            }
        }
    }
    raw(data);
    framed(data);
    encoded(data);
}

/// Raw text is data and nothing else.
fn raw(data: &[u8]) {
    let mut out = Vec::new();
    frame_sse(&mut out, &decode_payload(data, false, false));
    let lines = out.strip_suffix(b"\n\n").expect("one empty line at the end").split(|byte| *byte == b'\n');
    assert!(lines.into_iter().all(|line| line.starts_with(b"data: ") && !line.contains(&b'\r')));
}

/// The frames of streams: with an id, and with the channel told.
fn framed(data: &[u8]) {
    let id = LogId { ms: 1_795_000_000_002, number: 17 };
    let channel = String::from_utf8_lossy(&data[..data.len().min(20)]);
    let (event, told) = tempest::hub::fuzz::frames(data, id, &channel);
    assert_eq!(read(&event).ids, [id.to_string()]);
    let stream = read(&told);
    let [told] = stream.events.as_slice() else { panic!("{stream:?}") };
    let told: serde_json::Value = serde_json::from_str(&told.data).expect("JSON");
    assert_eq!(told["channel"].as_str(), Some(&*channel));
    assert!(stream.ids.is_empty() && stream.retries.is_empty());
    match decode_payload(data, true, false) {
        Payload::Event(event) => assert_eq!(told["data"].as_str(), Some(&*seen(&event.data))),
        Payload::End => unreachable!("control is off"),
    }
}

/// What publishers of ours write comes back as it was.
fn encoded(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (name, data) = text.split_once(' ').unwrap_or((text, text));
    let wanted = (!name.contains(['\r', '\n', '\0'])).then_some(name);
    let payload = encode_payload(wanted, data);
    let Payload::Event(event) = decode_payload(&payload, true, true) else { panic!("an end: {payload:?}") };
    assert_eq!((event.name.as_deref(), &*event.data), (wanted, data));
}

/// What else publishers write, and clients send back.
pub fn log(data: &[u8]) {
    if let Some(read) = Announcement::read(data) {
        assert!(data.ends_with(read.payload));
    }
    let _ = HistoryRules::read(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<LogId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    let (pattern, name) = text.split_once('\n').unwrap_or((text, text));
    if pattern.len() < 200 && name.len() < 200 && !pattern.contains(['*', '?']) {
        assert_eq!(matches_pattern(pattern, name), pattern == name);
    } else if pattern.len() < 200 && name.len() < 200 {
        matches_pattern(pattern, name);
    }
}
