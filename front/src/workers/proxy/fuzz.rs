//! A door for the fuzz targets and nobody else: the scanners of what passes between a supervised script and Redis.

use super::pop::{Names, Pop};
use super::scan::{Replies, Requests, Unreadable, words};

/// Follows `data` as a client's commands: fed at once and byte by byte, which must find the same.
pub fn commands(data: &[u8]) {
    let whole = follow(data, data.len().max(1));
    assert_eq!(follow(data, 1), whole, "cut into single bytes");
    assert_eq!(follow(data, 7), whole, "cut into sevens");
}

/// Bytes that passed, commands among them, commands of interest.
type Found = (usize, u64, Vec<Vec<u8>>);

/// None: it gave up; how far it had come by then is nobody's business.
fn follow(data: &[u8], step: usize) -> Option<Found> {
    let classes = ["{tempest:web}:high".into(), "{tempest:web}:low".into()];
    let names = Names { normal: "tempest:web".into(), classes };
    let (mut scanner, mut buffer, mut found) = (Requests::default(), Vec::new(), Found::default());
    for piece in data.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            let look = scanner.look(&buffer, is_pop).ok()?;
            assert!(look.pass <= buffer.len(), "what passes is there");
            found.0 += look.pass;
            found.1 += look.commands;
            buffer.drain(..look.pass);
            let Some(bytes) = look.command else { break };
            let command: Vec<u8> = buffer.drain(..bytes).collect();
            if let Some(words) = words(&command) {
                let _ = Pop::read(&words, &names);
            }
            found.2.push(command);
        }
    }
    Some(found)
}

fn is_pop(name: &[u8]) -> bool {
    name.to_ascii_uppercase().ends_with(b"POP")
}

/// Follows `data` as replies: fed at once and byte by byte, which must find the same ends.
pub fn replies(data: &[u8]) {
    assert_eq!(ends(data, 1), ends(data, data.len().max(1)), "cut into single bytes");
}

fn ends(data: &[u8], step: usize) -> (Vec<(usize, bool)>, Option<Unreadable>) {
    let (mut scanner, mut ends, mut at) = (Replies::default(), Vec::new(), 0);
    for piece in data.chunks(step) {
        let mut rest = piece;
        loop {
            match scanner.next(rest) {
                Ok(Some(item)) => {
                    at += item.bytes;
                    rest = &rest[item.bytes..];
                    ends.push((at, item.is_push()));
                }
                Ok(None) => break,
                Err(error) => return (ends, Some(error)),
            }
        }
        at += rest.len();
    }
    (ends, None)
}
