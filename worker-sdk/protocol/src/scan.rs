//! A place in a text of JSON, for the shapes that encoders usually write.
//!
//! It goes forward only, copies nothing and gives up (None) at whatever is unusual: escapes, fractions, white space
//! beyond one blank. That must never mean that the text is wrong: a JSON reader stands behind whoever uses this.

use serde::de::IgnoredAny;

use crate::json::plain_prefix;

/// Digits of a number at most, so that none overflows.
const DIGITS: usize = 18;

/// A place in a text.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Bytes passed so far.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Goes past `bytes`, if they come next. They must be ASCII, or the place would not be between characters.
    // Inlined, so that what is compared with is a constant and no call is made.
    #[inline(always)]
    pub(crate) fn literal(&mut self, bytes: &[u8]) -> Option<()> {
        self.text.as_bytes()[self.at..].starts_with(bytes).then(|| self.at += bytes.len())
    }

    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes past `byte`, if it comes next.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let there = self.next() == Some(byte);
        self.at += usize::from(there);
        there
    }

    pub(crate) fn expect(&mut self, byte: u8) -> Option<()> {
        self.take(byte).then_some(())
    }

    /// `{"key":value,…}`: `field` reads each value.
    pub(crate) fn object(&mut self, mut field: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        if self.take(b'}') {
            return Some(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            self.take(b' ');
            field(self, key)?;
            if self.take(b'}') {
                return Some(());
            }
            self.expect(b',')?;
            self.take(b' ');
        }
    }

    /// The rest of `[value,…]`.
    pub(crate) fn list(&mut self, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if self.take(b']') {
            return Some(());
        }
        loop {
            item(self)?;
            if self.take(b']') {
                return Some(());
            }
            self.expect(b',')?;
            self.take(b' ');
        }
    }

    /// A string without escapes. None leaves the place where it is.
    pub(crate) fn string(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        if self.next() != Some(b'"') {
            return None;
        }
        let end = start + plain_prefix(bytes.get(start..)?);
        if bytes.get(end) != Some(&b'"') {
            return None;
        }
        self.at = end + 1;
        self.text.get(start..end)
    }

    /// A string with escapes in it or without, quotes included; whether the escapes are good is not looked at.
    pub(crate) fn quoted(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.expect(b'"')?;
        loop {
            self.at += plain_prefix(&self.text.as_bytes()[self.at..]);
            if self.take(b'"') {
                return self.text.get(start..self.at);
            }
            self.expect(b'\\')?;
            self.next().filter(u8::is_ascii)?;
            self.at += 1;
        }
    }

    /// A value that begins with `first` and must be JSON.
    pub(crate) fn value(&mut self, first: u8) -> Option<()> {
        let rest = self.text.get(self.at..).filter(|rest| rest.as_bytes().first() == Some(&first))?;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        self.at += values.byte_offset();
        Some(())
    }

    /// A whole number in plain digits.
    pub(crate) fn number(&mut self) -> Option<u64> {
        let rest = &self.text.as_bytes()[self.at..];
        let mut number = 0;
        let mut count = 0;
        for byte in rest.iter().take(DIGITS).take_while(|byte| byte.is_ascii_digit()) {
            number = number * 10 + u64::from(byte - b'0');
            count += 1;
        }
        if count == 0 || (rest[0] == b'0' && count > 1) {
            return None;
        }
        self.at += count;
        // What follows decides whether this was all of it: a point, an exponent or more digits are no comma or brace.
        Some(number)
    }

    pub(crate) fn boolean(&mut self) -> Option<bool> {
        let rest = &self.text.as_bytes()[self.at..];
        let value = rest.starts_with(b"true");
        if !value && !rest.starts_with(b"false") {
            return None;
        }
        self.at += if value { 4 } else { 5 };
        Some(value)
    }
}
