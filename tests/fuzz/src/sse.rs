//! A reader of event streams, written from the HTML Standard (section 9.2.6), which shares nothing with what writes them.

/// One event as a page gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The type; empty: `message`.
    pub name: String,
    /// The data.
    pub data: String,
}

/// What a stream comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The events.
    pub events: Vec<Event>,
    /// The last event id after each `id` field, in their order.
    pub ids: Vec<String>,
    /// The values of `retry`.
    pub retries: Vec<String>,
}

/// Reads a whole stream.
pub fn read(stream: &[u8]) -> Read {
    let text = String::from_utf8_lossy(stream);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let (mut read, mut name, mut data) = (Read::default(), String::new(), String::new());
    for line in lines(text) {
        if line.is_empty() {
            if !data.is_empty() {
                data.pop();
                read.events.push(Event { name: name.clone(), data: std::mem::take(&mut data) });
            }
            name.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => name = value.to_owned(),
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => read.ids.push(value.to_owned()),
            "retry" => read.retries.push(value.to_owned()),
            _ => {}
        }
    }
    read
}

/// Lines end with CRLF, LF or CR; what follows the last of them is not complete and is dropped.
fn lines(mut text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    while let Some(end) = text.find(['\r', '\n']) {
        lines.push(&text[..end]);
        let width = if text[end..].starts_with("\r\n") { 2 } else { 1 };
        text = &text[end + width..];
    }
    lines
}
