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
    let mut clean_from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[clean_from..at]);
        write_escape(out, byte);
        clean_from = at + 1;
    }
    out.extend_from_slice(&bytes[clean_from..]);
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
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
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
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 1_795_000_000_123, u64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
