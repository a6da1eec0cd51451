//! A whole reply of Redis as a value, in either version of its protocol.
//!
//! Only what scripts and list commands give; the rest of the protocol passes unread.

use std::io;

use bytes::Bytes;
use memchr::memchr;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Nothing,
    Number(i64),
    Text(Bytes),
    /// Without its mark and line end.
    Error(Bytes),
    List(Vec<Value>),
}

/// Lists within lists that are read; ours are two deep.
const DEPTH: usize = 8;

impl Value {
    /// Reads a whole reply; its texts share its memory.
    pub(super) fn read(mut reply: Bytes) -> io::Result<Self> {
        Self::take(&mut reply, DEPTH).ok_or_else(|| io::Error::other("a reply of a kind that is not due"))
    }

    fn take(rest: &mut Bytes, depth: usize) -> Option<Self> {
        let end = memchr(b'\n', rest)?;
        let line = rest.split_to(end + 1);
        let text = line.slice(1..line.strip_suffix(b"\r\n")?.len());
        let number = || std::str::from_utf8(&text).ok()?.parse::<i64>().ok();
        Some(match line.first()? {
            b'_' => Self::Nothing,
            b':' => Self::Number(number()?),
            b'+' => Self::Text(text),
            b'-' => Self::Error(text),
            b'$' => match usize::try_from(number()?) {
                Ok(length) if length.checked_add(2)? <= rest.len() => {
                    let text = rest.split_to(length);
                    let _ = rest.split_to(2);
                    Self::Text(text)
                }
                Ok(_) => return None,
                Err(_) => Self::Nothing,
            },
            b'*' => match usize::try_from(number()?) {
                Ok(count) if depth > 0 => {
                    Self::List((0..count).map(|_| Self::take(rest, depth - 1)).collect::<Option<_>>()?)
                }
                Ok(_) => return None,
                Err(_) => Self::Nothing,
            },
            _ => return None,
        })
    }

    pub(super) fn is_error(&self, code: &[u8]) -> bool {
        matches!(self, Self::Error(words) if words.starts_with(code))
    }

    pub(super) fn number(self) -> Option<i64> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    pub(super) fn text(self) -> Option<Bytes> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_scripts_are_read_in_both_versions() {
        let reply = Bytes::from("*5\r\n:1\r\n:-2\r\n*0\r\n$3\r\na\r\n\r\n$-1\r\n");
        let [one, two, job] = [Value::Number(1), Value::Number(-2), Value::Text("a\r\n".into())];
        assert_eq!(
            Value::read(reply).expect("a reply"),
            Value::List(vec![one, two, Value::List(vec![]), job, Value::Nothing])
        );
        assert_eq!(Value::read("_\r\n".into()).expect("a reply"), Value::Nothing);
        assert_eq!(Value::read("*-1\r\n".into()).expect("a reply"), Value::Nothing);
        assert!(Value::read("-UNREGISTERED w\r\n".into()).expect("a reply").is_error(b"UNREGISTERED"));
        for odd in ["", "%1\r\n", "$5\r\nab\r\n", "*2\r\n:1\r\n", &"*1\r\n".repeat(20)] {
            assert!(Value::read(odd.to_owned().into()).is_err(), "{odd}");
        }
    }
}
