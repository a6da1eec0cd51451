//! What is published: a number, a time and padding between marks that no framing of any contender contains or escapes.

use std::time::Instant;

/// Bytes of a message.
const SIZE: usize = 100;
/// Stands around the fields. JSON, SSE and chunked coding leave it alone.
const MARK: u8 = b'~';
/// `~NNNNNNNNN~MMMMMMMMMMMM~`: digits of the number, digits of the time in microseconds.
const FIELDS: usize = 1 + NUMBER + 1 + MICROS + 1;
const NUMBER: usize = 9;
const MICROS: usize = 12;

/// A message with a number, stamped with the microseconds since `epoch`.
pub(super) fn write(number: u64, epoch: Instant) -> String {
    let micros = epoch.elapsed().as_micros();
    let mut text = format!("~{number:09}~{micros:012}~");
    text.extend(std::iter::repeat_n('x', SIZE - text.len()));
    text
}

/// Finds messages in the bytes of a stream, however they are cut.
#[derive(Debug, Default)]
pub(super) struct Finder {
    /// The start of a message whose end is still to come.
    kept: Vec<u8>,
}

impl Finder {
    /// Calls `found` with the number and the time of each message that ends in `bytes`.
    pub(super) fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(u64, u64)) {
        if self.kept.is_empty() {
            let rest = scan(bytes, &mut found);
            self.kept.extend_from_slice(rest);
        } else {
            let mut all = std::mem::take(&mut self.kept);
            all.extend_from_slice(bytes);
            let rest = scan(&all, &mut found);
            self.kept.extend_from_slice(rest);
        }
    }
}

/// Returns what may be the start of a message.
fn scan<'a>(mut bytes: &'a [u8], found: &mut impl FnMut(u64, u64)) -> &'a [u8] {
    while let Some(at) = memchr::memchr(MARK, bytes) {
        bytes = &bytes[at..];
        let Some(fields) = bytes.get(..FIELDS) else { return bytes };
        match (digits(&fields[1..=NUMBER]), digits(&fields[NUMBER + 2..FIELDS - 1])) {
            (Some(number), Some(micros)) => {
                found(number, micros);
                bytes = &bytes[FIELDS..];
            }
            _ => bytes = &bytes[1..],
        }
    }
    &[]
}

fn digits(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0_u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let epoch = Instant::now();
        let wire = format!("id: 1\ndata: {}\n\n:\n\ndata: {{\"d\":\"{}\"}}\n\n", write(7, epoch), write(8, epoch));
        for cut in 0..wire.len() {
            let mut finder = Finder::default();
            let mut numbers = Vec::new();
            for part in [&wire.as_bytes()[..cut], &wire.as_bytes()[cut..]] {
                finder.feed(part, |number, _| numbers.push(number));
            }
            assert_eq!(numbers, [7, 8], "cut at {cut}");
        }
    }
}
