//! Lines out of what a child writes, in bounded memory.
//!
//! A child may write anything: no newline for gigabytes, binary, half a character. What comes out of here is text of a
//! known greatest length. It must not wait for anybody but the child: whoever takes the lines must not block.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Longest line in bytes; what follows up to the newline is dropped.
pub const LINE_BYTES: usize = 16 * 1024;
/// Bytes read from a child at once.
const READ_BYTES: usize = 8 * 1024;
/// What a cut line ends with.
const CUT: &str = " … (cut)";

/// Gives each line of `source`, without its end, to `each`, until the end or an error of `source`.
pub async fn for_each_line(source: impl AsyncRead + Unpin, mut each: impl FnMut(&str)) {
    let mut source = BufReader::with_capacity(READ_BYTES, source);
    let mut line = Line::default();
    loop {
        let read = match source.fill_buf().await {
            Ok(bytes) if !bytes.is_empty() => line.take(bytes, &mut each),
            _ => break,
        };
        source.consume(read);
    }
    if !line.bytes.is_empty() {
        line.finish(&mut each);
    }
}

/// The line being read.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    cut: bool,
}

impl Line {
    /// Takes all of `bytes`; returns how many that were.
    fn take(&mut self, bytes: &[u8], each: &mut impl FnMut(&str)) -> usize {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.extend(&rest[..end]);
            self.finish(each);
            rest = &rest[end + 1..];
        }
        self.extend(rest);
        bytes.len()
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES - self.bytes.len();
        self.cut |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn finish(&mut self, each: &mut impl FnMut(&str)) {
        let text = String::from_utf8_lossy(self.bytes.strip_suffix(b"\r").unwrap_or(&self.bytes));
        if self.cut {
            each(&format!("{text}{CUT}"));
        } else {
            each(&text);
        }
        self.bytes.clear();
        self.cut = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines_of(source: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for_each_line(source, |line| lines.push(line.to_owned())).await;
        lines
    }

    #[tokio::test]
    async fn lines_come_out_whole() {
        assert_eq!(lines_of(b"one\ntwo\r\n\nlast").await, ["one", "two", "", "last"]);
        assert_eq!(lines_of(b"").await, [""; 0]);
        assert_eq!(lines_of(b"\xff\xfe\n").await, ["\u{fffd}\u{fffd}"]);
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        let mut source = vec![b'x'; 10 * LINE_BYTES];
        source.extend_from_slice(b"\nnext\n");
        let lines = lines_of(&source).await;
        assert_eq!(lines[0].len(), LINE_BYTES + CUT.len());
        assert_eq!(lines[1..], ["next"]);
        let exact = [vec![b'y'; LINE_BYTES], b"\n".to_vec()].concat();
        assert_eq!(lines_of(&exact).await[0].len(), LINE_BYTES);
    }
}
