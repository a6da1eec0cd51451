//! The pops that are taken over: what a client asks, and the shape in which it expects the reply.
//!
//! Only the format. A command that Redis would refuse, or that takes nothing from the head of the worker's queue, is no
//! pop in this sense: it passes, and Redis says what is wrong with it.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

/// Most jobs that one pop is given, whatever it asks for: all of them count as started at once.
pub(super) const MOST_JOBS: usize = 64;
/// Longest wait that is taken over; Redis itself takes hardly more.
const LONGEST_WAIT: f64 = 1e9;

/// Whose list a pop names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// The worker's queue, with its priorities.
    Queue,
    /// Any other.
    Other(Bytes),
}

/// How the reply looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The element (`LPOP`).
    Element,
    /// A list of elements (`LPOP` with a count).
    Elements,
    /// The name of the list and the element (`BLPOP`).
    Named,
    /// The name of the list and a list of elements (`LMPOP`, `BLMPOP`).
    NamedElements,
}

/// For how long a pop waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Not at all.
    No,
    /// So long.
    For(Duration),
    /// Until something comes.
    Ever,
}

/// A pop of the worker's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pop {
    /// How its reply looks.
    pub(super) shape: Shape,
    /// The lists in the order in which they are to be asked; the queue is one of them, once.
    pub(super) lists: Vec<List>,
    /// How many elements it wants at most.
    pub(super) count: usize,
    /// For how long.
    pub(super) wait: Wait,
}

/// The lists of a queue.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// `tempest:web`.
    pub(super) normal: String,
    /// `{tempest:web}:high` and `{tempest:web}:low`.
    pub(super) classes: [String; 2],
}

impl Pop {
    /// Reads the words of a command; None: it passes.
    pub(super) fn read(words: &[&[u8]], names: &Names) -> Option<Self> {
        let (name, rest) = words.split_first()?;
        let (shape, keys, count, wait) = match name.to_ascii_uppercase().as_slice() {
            b"LPOP" => match rest {
                [_] => (Shape::Element, rest, 1, Wait::No),
                [_, count] => (Shape::Elements, &rest[..1], number(count)?, Wait::No),
                _ => return None,
            },
            b"BLPOP" => {
                let (time, keys) = rest.split_last()?;
                (Shape::Named, keys, 1, waits(time)?)
            }
            b"LMPOP" => {
                let (keys, count) = several(rest)?;
                (Shape::NamedElements, keys, count, Wait::No)
            }
            b"BLMPOP" => {
                let (time, rest) = rest.split_first()?;
                let (keys, count) = several(rest)?;
                (Shape::NamedElements, keys, count, waits(time)?)
            }
            _ => return None,
        };
        let lists = lists(keys, names)?;
        (count > 0).then(|| Self { shape, lists, count: count.min(MOST_JOBS), wait })
    }

    /// Writes the reply: `jobs` off the list `name`.
    pub(super) fn write(&self, out: &mut BytesMut, name: &[u8], jobs: &[Bytes]) {
        let all: usize = jobs.iter().map(|job| job.len() + 32).sum();
        out.reserve(all + name.len() + 64);
        if matches!(self.shape, Shape::Named | Shape::NamedElements) {
            out.put_slice(b"*2\r\n");
            bulk(out, name);
        }
        if matches!(self.shape, Shape::Elements | Shape::NamedElements) {
            head(out, b'*', jobs.len());
        }
        jobs.iter().for_each(|job| bulk(out, job));
    }

    /// Writes the reply when nothing came; `version` is that of the Redis protocol which the client asked for.
    pub(super) fn write_nothing(&self, out: &mut BytesMut, version: u8) {
        out.put_slice(match self.shape {
            _ if version > 2 => b"_\r\n",
            Shape::Element => b"$-1\r\n",
            _ => b"*-1\r\n",
        });
    }
}

fn bulk(out: &mut BytesMut, value: &[u8]) {
    head(out, b'$', value.len());
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn head(out: &mut BytesMut, mark: u8, number: usize) {
    out.put_u8(mark);
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
    out.put_slice(b"\r\n");
}

fn number(word: &[u8]) -> Option<usize> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn waits(word: &[u8]) -> Option<Wait> {
    let seconds: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    match seconds {
        0.0 => Some(Wait::Ever),
        _ if seconds > 0.0 && seconds < LONGEST_WAIT => Some(Wait::For(Duration::from_secs_f64(seconds))),
        _ => None,
    }
}

/// `numkeys key … LEFT [COUNT n]`: the keys and the count.
fn several<'w, 'b>(rest: &'w [&'b [u8]]) -> Option<(&'w [&'b [u8]], usize)> {
    let (keys, rest) = rest.split_first()?;
    let (keys, rest) = rest.split_at_checked(number(keys)?)?;
    let (end, rest) = rest.split_first()?;
    let count = match rest {
        [] => 1,
        [word, count] if word.eq_ignore_ascii_case(b"COUNT") => number(count)?,
        _ => return None,
    };
    end.eq_ignore_ascii_case(b"LEFT").then_some((keys, count))
}

/// The lists, with all of the queue's as one; None where the queue is not among them.
fn lists(keys: &[&[u8]], names: &Names) -> Option<Vec<List>> {
    if !keys.contains(&names.normal.as_bytes()) {
        return None;
    }
    let mut lists = Vec::with_capacity(keys.len());
    for key in keys {
        let ours = *key == names.normal.as_bytes() || names.classes.iter().any(|class| *key == class.as_bytes());
        let list = if ours { List::Queue } else { List::Other(Bytes::copy_from_slice(key)) };
        if !lists.contains(&list) {
            lists.push(list);
        }
    }
    Some(lists)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(command: &str) -> Option<Pop> {
        let names = Names { normal: "t:web".into(), classes: ["{t:web}:high".into(), "{t:web}:low".into()] };
        Pop::read(&command.split(' ').map(str::as_bytes).collect::<Vec<_>>(), &names)
    }

    #[test]
    fn pops_of_the_queue_are_taken_over() {
        let one = |shape, count, wait| Some(Pop { shape, lists: vec![List::Queue], count, wait });
        assert_eq!(read("LPOP t:web"), one(Shape::Element, 1, Wait::No));
        assert_eq!(read("lpop t:web 5"), one(Shape::Elements, 5, Wait::No));
        assert_eq!(read("BLPOP t:web 0"), one(Shape::Named, 1, Wait::Ever));
        assert_eq!(read("BLPOP t:web 0.25"), one(Shape::Named, 1, Wait::For(Duration::from_millis(250))));
        assert_eq!(read("BLPOP {t:web}:high t:web {t:web}:low 0"), one(Shape::Named, 1, Wait::Ever));
        assert_eq!(read("LMPOP 1 t:web left"), one(Shape::NamedElements, 1, Wait::No));
        assert_eq!(read("BLMPOP 0 1 t:web LEFT COUNT 99"), one(Shape::NamedElements, MOST_JOBS, Wait::Ever));
        let mixed = read("BLPOP a t:web b 1").expect("a pop").lists;
        assert_eq!(mixed, [List::Other("a".into()), List::Queue, List::Other("b".into())]);
    }

    #[test]
    fn all_else_is_for_redis_to_judge() {
        for command in [
            "BRPOP t:web 1",
            "RPOP t:web",
            "LPOP other",
            "LPOP",
            "LPOP t:web 0",
            "LPOP t:web -1",
            "LPOP t:web x",
            "LPOP t:web 1 2",
            "BLPOP t:web",
            "BLPOP t:web -1",
            "BLPOP t:web soon",
            "BLPOP t:web nan",
            "BLPOP t:web inf",
            "BLPOP {t:web}:high 1",
            "LMPOP 1 t:web RIGHT",
            "LMPOP 2 t:web LEFT",
            "LMPOP 1 t:web LEFT COUNT",
            "LMPOP 1 t:web LEFT COUNT 0",
            "LMPOP 1 t:web LEFT COUNT 1 COUNT 2",
            "BLMPOP 1 99999999999 t:web LEFT",
            "GET t:web",
        ] {
            assert_eq!(read(command), None, "{command}");
        }
    }

    #[test]
    fn replies_have_the_shape_of_the_command() {
        let reply = |command, jobs: &[Bytes]| {
            let mut out = BytesMut::new();
            read(command).expect("a pop").write(&mut out, b"t:web", jobs);
            String::from_utf8(out.to_vec()).expect("text")
        };
        let jobs = [Bytes::from("a"), Bytes::from("bc")];
        assert_eq!(reply("LPOP t:web", &jobs[..1]), "$1\r\na\r\n");
        assert_eq!(reply("LPOP t:web 9", &jobs), "*2\r\n$1\r\na\r\n$2\r\nbc\r\n");
        assert_eq!(reply("BLPOP t:web 1", &jobs[..1]), "*2\r\n$5\r\nt:web\r\n$1\r\na\r\n");
        assert_eq!(reply("LMPOP 1 t:web LEFT COUNT 2", &jobs), "*2\r\n$5\r\nt:web\r\n*2\r\n$1\r\na\r\n$2\r\nbc\r\n");
        for (command, version, nothing) in [
            ("LPOP t:web", 2, "$-1\r\n"),
            ("LPOP t:web 2", 2, "*-1\r\n"),
            ("BLPOP t:web 1", 2, "*-1\r\n"),
            ("LPOP t:web", 3, "_\r\n"),
        ] {
            let mut out = BytesMut::new();
            read(command).expect("a pop").write_nothing(&mut out, version);
            assert_eq!(out, nothing.as_bytes());
        }
    }
}
