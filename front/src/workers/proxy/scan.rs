//! Where commands and replies begin and end in a stream of bytes, without keeping or copying them.
//!
//! Both scanners take the bytes as they come, cut anywhere. What they cannot read they say so and no more: Redis judges
//! what a client sends.

use memchr::memchr;

/// Longest line that announces a number: a mark, a sign, 20 digits, CR and LF.
const NUMBER_LINE: usize = 24;
/// Longest command without lengths (typed by a person), as in Redis.
const INLINE_BYTES: usize = 64 * 1024;
/// Longest command that is looked into; longer ones pass.
const LOOKED_INTO: usize = 16 * 1024;
/// Longest name of a command that is looked into.
const NAME_BYTES: usize = 10;

/// The stream is no RESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// What stands at the start of what a client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// So many bytes belong to commands of no interest and may pass.
    pub(super) pass: usize,
    /// So many commands begin among them, each of which will be replied to.
    pub(super) commands: u64,
    /// Behind them stands a whole command of interest, of so many bytes. None: more must come first.
    pub(super) command: Option<usize>,
}

/// Follows what a client sends.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Parts of the passing command that have not begun.
    parts: u64,
    /// Bytes of the part that passes.
    bytes: u64,
}

impl Requests {
    /// Looks at `buffer`, whose first byte follows what was passed or taken before. `interesting` is asked for the name
    /// of each command.
    pub(super) fn look(&mut self, buffer: &[u8], interesting: impl Fn(&[u8]) -> bool) -> Result<Look, Unreadable> {
        let mut look = Look { pass: 0, commands: 0, command: None };
        loop {
            let rest = &buffer[look.pass..];
            if rest.is_empty() {
                return Ok(look);
            }
            if self.bytes > 0 {
                let passing = usize::try_from(self.bytes).unwrap_or(usize::MAX).min(rest.len());
                self.bytes -= passing as u64;
                look.pass += passing;
            } else if self.parts > 0 {
                let Some((length, head)) = number(rest, b'$')? else { return Ok(look) };
                self.parts -= 1;
                self.bytes = u64::try_from(length).map_err(|_| Unreadable)? + 2;
                look.pass += head;
            } else {
                match begin(rest, &interesting)? {
                    Begin::More => return Ok(look),
                    Begin::Nothing(bytes) => look.pass += bytes,
                    Begin::Interesting(bytes) => return Ok(Look { command: Some(bytes), ..look }),
                    Begin::Passing { head, parts, bytes } => {
                        (self.parts, self.bytes) = (parts, bytes);
                        look.pass += head;
                        look.commands += 1;
                    }
                }
            }
        }
    }
}

enum Begin {
    More,
    /// No command: so many bytes that Redis skips.
    Nothing(usize),
    Interesting(usize),
    /// The first bytes of a command, then so many of the part that has begun, then parts.
    Passing {
        head: usize,
        parts: u64,
        bytes: u64,
    },
}

fn begin(rest: &[u8], interesting: &impl Fn(&[u8]) -> bool) -> Result<Begin, Unreadable> {
    if rest[0] != b'*' {
        return inline(rest, interesting);
    }
    let Some((parts, head)) = number(rest, b'*')? else { return Ok(Begin::More) };
    if parts < 1 {
        return Ok(Begin::Nothing(head));
    }
    let Some((length, second)) = number(&rest[head..], b'$')? else { return Ok(Begin::More) };
    let length = usize::try_from(length).map_err(|_| Unreadable)?;
    let (at, parts) = (head + second, parts.unsigned_abs() - 1);
    let passing = Begin::Passing { head: at, parts, bytes: length as u64 + 2 };
    if length > NAME_BYTES {
        return Ok(passing);
    }
    let Some(name) = rest.get(at..at + length) else { return Ok(Begin::More) };
    if !interesting(name) {
        return Ok(passing);
    }
    let mut end = at + length + 2;
    for _ in 0..parts {
        let Some((length, head)) = rest.get(end..).map_or(Ok(None), |part| number(part, b'$'))? else {
            return Ok(if rest.len() > LOOKED_INTO { passing } else { Begin::More });
        };
        let length = usize::try_from(length).map_err(|_| Unreadable)?;
        end = end.saturating_add(head + 2).saturating_add(length);
    }
    Ok(match end {
        _ if end > LOOKED_INTO => passing,
        _ if end > rest.len() => Begin::More,
        _ => Begin::Interesting(end),
    })
}

/// A command without lengths is a line of words.
fn inline(rest: &[u8], interesting: &impl Fn(&[u8]) -> bool) -> Result<Begin, Unreadable> {
    let Some(end) = memchr(b'\n', rest) else {
        return if rest.len() > INLINE_BYTES { Err(Unreadable) } else { Ok(Begin::More) };
    };
    let name = rest[..end].split(u8::is_ascii_whitespace).find(|word| !word.is_empty());
    Ok(match name {
        None => Begin::Nothing(end + 1),
        Some(name) if interesting(name) => Begin::Interesting(end + 1),
        Some(_) => Begin::Passing { head: end + 1, parts: 0, bytes: 0 },
    })
}

/// The words of a whole command; None where it cannot be told what they are.
pub(super) fn words(command: &[u8]) -> Option<Vec<&[u8]>> {
    if command.first() != Some(&b'*') {
        let quoted = command.iter().any(|byte| matches!(byte, b'"' | b'\''));
        let words = command.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        return (!quoted).then(|| words.collect());
    }
    let (parts, mut at) = number(command, b'*').ok()??;
    let mut words = Vec::with_capacity(usize::try_from(parts).ok()?.min(command.len() / 5));
    for _ in 0..parts {
        let (length, head) = number(command.get(at..)?, b'$').ok()??;
        let start = at + head;
        at = start.checked_add(usize::try_from(length).ok()?)?;
        words.push(command.get(start..at)?);
        at += 2;
    }
    Some(words)
}

/// The number of a line that begins with `mark`, and the line's length; None: the line is not whole.
fn number(rest: &[u8], mark: u8) -> Result<Option<(i64, usize)>, Unreadable> {
    if rest.first().is_some_and(|first| *first != mark) {
        return Err(Unreadable);
    }
    let window = &rest[..rest.len().min(NUMBER_LINE)];
    let Some(end) = memchr(b'\n', window) else {
        return if rest.len() < NUMBER_LINE { Ok(None) } else { Err(Unreadable) };
    };
    let digits = window[..end].strip_suffix(b"\r").unwrap_or(&window[..end]);
    let number = std::str::from_utf8(&digits[1..]).ok().and_then(|digits| digits.parse().ok());
    number.map(|number| Some((number, end + 1))).ok_or(Unreadable)
}

/// A whole item at the top level of a stream of replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// So many of the bytes that were given belong to it.
    pub(super) bytes: usize,
    /// Its first byte, which says what it is.
    pub(super) mark: u8,
}

impl Item {
    /// Sent because the server has something to say, not in reply to a command.
    pub(super) fn is_push(self) -> bool {
        self.mark == b'>'
    }
}

/// Follows what Redis sends, in either version of its protocol.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// Elements of the item that have not begun.
    left: u64,
    /// The first byte of the item; attributes, which stand before a reply, are part of it.
    mark: u8,
    within: Within,
}

#[derive(Clone, Copy, Debug, Default)]
enum Within {
    /// An element begins here.
    #[default]
    Start,
    /// In the number of a line of this kind.
    Number { mark: u8, value: u64, negative: bool },
    /// In a line that means nothing here.
    Line,
    /// In so many bytes of a string, its line end included.
    Bytes(u64),
}

impl Replies {
    /// True between two items.
    pub(super) fn is_between(&self) -> bool {
        self.left == 0 && matches!(self.within, Within::Start)
    }

    /// Reads `bytes`, which follow those that were read before, up to the end of an item; None: it goes on behind them.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<Option<Item>, Unreadable> {
        let mut at = 0;
        while at < bytes.len() {
            match self.within {
                Within::Start => {
                    self.start(bytes[at])?;
                    at += 1;
                    continue;
                }
                Within::Bytes(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    at += taken;
                    if left > taken as u64 {
                        self.within = Within::Bytes(left - taken as u64);
                        continue;
                    }
                    self.within = Within::Start;
                }
                Within::Line => match memchr(b'\n', &bytes[at..]) {
                    None => return Ok(None),
                    Some(end) => {
                        at += end + 1;
                        self.within = Within::Start;
                    }
                },
                Within::Number { mark, value, negative } => {
                    let byte = bytes[at];
                    at += 1;
                    match byte {
                        b'0'..=b'9' => {
                            let more = value.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(byte - b'0')));
                            self.within = Within::Number { mark, value: more.ok_or(Unreadable)?, negative };
                            continue;
                        }
                        b'-' => self.within = Within::Number { mark, value, negative: true },
                        b'\n' => self.announced(mark, if negative { None } else { Some(value) })?,
                        b'\r' => {}
                        _ => return Err(Unreadable),
                    }
                    if byte != b'\n' {
                        continue;
                    }
                }
            }
            if self.is_between() {
                return Ok(Some(Item { bytes: at, mark: self.mark }));
            }
        }
        Ok(None)
    }

    fn start(&mut self, mark: u8) -> Result<(), Unreadable> {
        if self.left == 0 {
            (self.left, self.mark) = (1, mark);
        } else if self.mark == b'|' {
            // What the attribute stands before gives the whole its kind, as soon as that begins.
            self.mark = if self.left == 1 { mark } else { self.mark };
        }
        // An attribute stands before its element and is none.
        self.left -= u64::from(mark != b'|');
        self.within = match mark {
            b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => Within::Number { mark, value: 0, negative: false },
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => Within::Line,
            _ => return Err(Unreadable),
        };
        Ok(())
    }

    /// A length was read; None: it is negative, which means nothing is there.
    fn announced(&mut self, mark: u8, length: Option<u64>) -> Result<(), Unreadable> {
        self.within = Within::Start;
        let Some(length) = length else { return Ok(()) };
        match mark {
            b'$' | b'=' | b'!' => self.within = Within::Bytes(length.checked_add(2).ok_or(Unreadable)?),
            b'%' | b'|' => {
                let more = length.checked_mul(2).and_then(|both| self.left.checked_add(both));
                self.left = more.ok_or(Unreadable)?;
            }
            _ => self.left = self.left.checked_add(length).ok_or(Unreadable)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: &[u8] =
        b"*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9\r\n*1\r\n$3\r\nx\r\n\r\n*0\r\nGET a\r\n\r\n\
        *3\r\n$5\r\nblpop\r\n$1\r\nq\r\n$1\r\n5\r\nBLPOP q 5\r\n*2\r\n$5\r\nRPUSH\r\n$0\r\n\r\n";

    fn pops(name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(b"BLPOP")
    }

    #[test]
    fn commands_are_found_however_they_are_cut() {
        for cut in 0..=COMMANDS.len() {
            let (mut scanner, mut found, mut counted) = (Requests::default(), Vec::new(), 0);
            let mut pending = Vec::new();
            for more in [&COMMANDS[..cut], &COMMANDS[cut..]] {
                pending.extend_from_slice(more);
                loop {
                    let look = scanner.look(&pending, pops).expect("commands");
                    counted += look.commands;
                    pending.drain(..look.pass);
                    let Some(length) = look.command else { break };
                    let command: Vec<u8> = pending.drain(..length).collect();
                    found.push(words(&command).expect("words").join(&b' '));
                }
            }
            assert!(pending.is_empty(), "cut at {cut}: {:?}", String::from_utf8_lossy(&pending));
            assert_eq!((found.len(), counted), (2, 4), "cut at {cut}");
            assert!(found[0] == b"blpop q 5" && found[1] == b"BLPOP q 5");
        }
    }

    #[test]
    fn what_is_no_command_is_said_to_be_none_and_costs_nothing() {
        for garbage in [&b"*1\r\n+PING\r\n"[..], b"*x\r\n", b"*1\r\n$-5\r\n", b"*99999999999999999999999999\r\n"] {
            assert_eq!(Requests::default().look(garbage, pops), Err(Unreadable), "{garbage:?}");
        }
        let long = vec![b'x'; INLINE_BYTES + 1];
        assert_eq!(Requests::default().look(&long, pops), Err(Unreadable));
        let announced = b"*9000000000000000000\r\n$5\r\nBLPOP\r\n$9223372036854775807\r\n";
        let look = Requests::default().look(announced, pops).expect("nothing wrong with it yet");
        assert_eq!(look.command, None);
    }

    #[test]
    fn a_pop_that_is_too_long_to_be_looked_into_passes() {
        let mut long = b"*3\r\n$5\r\nBLPOP\r\n$20000\r\n".to_vec();
        long.extend_from_slice(&[b'k'; 20_000]);
        long.extend_from_slice(b"\r\n$1\r\n5\r\n");
        let look = Requests::default().look(&long, pops).expect("a command");
        assert_eq!(look, Look { pass: long.len(), commands: 1, command: None });
    }

    #[test]
    fn replies_end_where_they_end_however_they_are_cut() {
        let replies: [&[u8]; 13] = [
            b"+OK\r\n",
            b"-ERR no\r\n",
            b":-5\r\n",
            b"$-1\r\n",
            b"$5\r\na\r\nbc\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*3\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n+x\r\n",
            b"_\r\n",
            b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n#t\r\n",
            b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n",
            b"|1\r\n+ttl\r\n:3\r\n*2\r\n:1\r\n:2\r\n",
            b"=8\r\ntxt:abcd\r\n",
        ];
        let all = replies.concat();
        for cut in 0..=all.len() {
            let (mut scanner, mut ends, mut done) = (Replies::default(), Vec::new(), 0);
            for (from, to) in [(0, cut), (cut, all.len())] {
                done = done.max(from);
                while let Some(item) = scanner.next(&all[done..to]).expect("replies") {
                    done += item.bytes;
                    ends.push((done, item.is_push()));
                }
                done = to;
            }
            let mut at = 0;
            let expected = replies.iter().map(|reply| {
                at += reply.len();
                (at, reply[0] == b'>')
            });
            let expected: Vec<_> = expected.collect();
            assert_eq!(ends, expected, "cut at {cut}");
        }
        assert_eq!(Replies::default().next(b"HTTP/1.1"), Err(Unreadable));
    }
}
