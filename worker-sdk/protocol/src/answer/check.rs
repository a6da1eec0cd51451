//! What an answer must satisfy, whichever pass has read it; workers hold their headers to the same before they send.

use super::{Answer, Reason};

pub(super) fn check(answer: &Answer<'_>, head_request: bool) -> Result<(), Reason> {
    if !(200..=599).contains(&answer.status) {
        return Err(Reason::BadStatus);
    }
    if answer.attempt == Some(0) {
        return Err(Reason::BadAttempt);
    }
    if answer.hold.as_deref().is_some_and(|hold| !hold.fits(answer)) {
        return Err(Reason::BadHold);
    }
    if answer.session.is_some() && answer.n > 0 {
        return Err(Reason::BadSession);
    }
    let single = answer.n == 0 && !answer.more;
    for (name, value) in &answer.headers {
        if !is_token(name) {
            return Err(Reason::BadHeaderName);
        }
        if !is_field_value(value) {
            return Err(Reason::BadHeaderValue);
        }
        if name.eq_ignore_ascii_case("content-length") {
            let length = parse_length(value).ok_or(Reason::ContentLengthMismatch)?;
            let bodiless = head_request || matches!(answer.status, 204 | 304);
            if single && !bodiless && length != answer.body.len() as u64 {
                return Err(Reason::ContentLengthMismatch);
            }
        }
    }
    Ok(())
}

/// The bytes of a token (RFC 9110, section 5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// True for a header's name: a token.
pub fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| TOKEN[usize::from(byte)])
}

/// True for a header's value: visible characters, space, tab, and what Latin-1 can carry (RFC 9110, section 5.5); code
/// points up to U+00FF are sent as single bytes.
pub fn is_field_value(value: &str) -> bool {
    // Without an end before the last byte, so that many are looked at in one step.
    let plain = value.bytes().fold(true, |plain, b| plain & ((b == b'\t') | (b' '..0x7f).contains(&b)));
    plain || value.chars().all(|c| c == '\t' || (c >= ' ' && c != '\u{7f}' && c <= '\u{ff}'))
}

fn parse_length(value: &str) -> Option<u64> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    if digits { value.parse().ok() } else { None }
}
