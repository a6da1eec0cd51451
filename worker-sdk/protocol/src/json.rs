//! Writing JSON strings straight into a byte buffer.
//!
//! The front writes one job a request; going through a value tree would cost an allocation for every field. This
//! module must not grow into a JSON library: reading stays with `serde_json`.

/// Appends `text` to `out` as a JSON string, quotes included (RFC 8259, section 7).
pub fn write_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_escaped(out, text.as_bytes());
    out.push(b'"');
}

/// Appends bytes as the inside of a JSON string, each byte from 0x80 as the Latin-1 code point of that number.
pub(crate) fn write_latin1_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_ascii() {
        write_escaped(out, bytes);
        return;
    }
    for &byte in bytes {
        if byte < 0x80 {
            write_escaped(out, &[byte]);
        } else {
            // U+0080 to U+00FF are two bytes of UTF-8.
            out.extend_from_slice(&[0xC0 | (byte >> 6), 0x80 | (byte & 0x3F)]);
        }
    }
}

fn write_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let clean = plain_prefix(rest);
        out.extend_from_slice(&rest[..clean]);
        let Some(&byte) = rest.get(clean) else { return };
        write_escape(out, byte);
        rest = &rest[clean + 1..];
    }
}

/// How many bytes at the start stand for themselves in a JSON string: up to a quote, a backslash or a control
/// character. Eight at a time: finding out costs more than copying them otherwise.
pub(crate) fn plain_prefix(bytes: &[u8]) -> usize {
    const WORD: usize = size_of::<u64>();
    let word_at = |at: usize| bytes.get(at..at + WORD)?.try_into().ok().map(u64::from_le_bytes);
    if bytes.len() < WORD {
        return bytes.iter().take_while(|byte| **byte >= 0x20 && **byte != b'"' && **byte != b'\\').count();
    }
    let last = bytes.len() - WORD;
    let mut at = 0;
    loop {
        // The last word begins within the one before it: bytes that were looked at already are plain.
        at = at.min(last);
        let special = word_at(at).map_or(0, special_bytes);
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        if at == last {
            return bytes.len();
        }
        at += WORD;
    }
}

/// The top bit of the first byte that is special, and perhaps of some behind it: a borrow can pass on only upwards.
/// ("Determine if a word has a byte less than n", Bit Twiddling Hacks, Sean Eron Anderson.)
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & TOPS;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | is(b'"') | is(b'\\')
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
    }
}

/// Appends a decimal number.
pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for text in ["", "plain", "a\"b\\c", "line\nfeed\r\ttab", "\u{1}\u{1f}", "grüße 😀", "ends with \\"] {
            let mut out = Vec::new();
            write_json_string(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).expect("valid JSON"), text);
        }
    }

    #[test]
    fn bytes_become_latin1_code_points() {
        let mut out = vec![b'"'];
        write_latin1_escaped(&mut out, b"caf\xe9 \xff\"");
        out.push(b'"');
        assert_eq!(serde_json::from_slice::<String>(&out).expect("valid JSON"), "caf\u{e9} \u{ff}\"");
    }

    #[test]
    fn every_special_byte_is_found_wherever_it_stands() {
        for special in (0..0x20).chain([b'"', b'\\']) {
            for at in 0..20 {
                let mut bytes = vec![b'a'; 20];
                bytes[at] = special;
                assert_eq!(plain_prefix(&bytes), at, "{special:#x} at {at}");
            }
        }
        let plain: Vec<u8> = (0x20..=0xff).filter(|byte| !b"\"\\".contains(byte)).collect();
        assert_eq!(plain_prefix(&plain), plain.len());
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 1_795_000_000_123, u64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
