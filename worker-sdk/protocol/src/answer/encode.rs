//! Writing answers, for workers.

use super::{Hold, SessionChange};
use crate::json::{write_json_string, write_number};

/// What a worker says in the JSON part of an answer message.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerHead<'a> {
    /// The request's id.
    pub id: &'a str,
    /// The job's attempt, echoed; 0: left out.
    pub attempt: u32,
    /// Status; 0: left out (messages after the first of a stream).
    pub status: u16,
    /// Header names and values; a name may come several times, next to each other.
    pub headers: &'a [(&'a str, &'a str)],
    /// Place in the sequence; left out where 0 and `more` is false.
    pub n: u64,
    /// True: further messages follow.
    pub more: bool,
    /// Microseconds from when the worker took the job up to this message; None: left out.
    pub took: Option<u64>,
    /// The connection is to be fed from channels.
    pub hold: Option<&'a Hold>,
    /// What becomes of the session; in the first message only.
    pub session: Option<&'a SessionChange>,
}

/// Appends one answer message with a raw body to `out`.
pub fn encode_answer(out: &mut Vec<u8>, head: &AnswerHead<'_>, body: &[u8]) {
    out.extend_from_slice(b"{\"id\":");
    write_json_string(out, head.id);
    let mut number = |name: &[u8], value: u64| {
        out.extend_from_slice(name);
        write_number(out, value);
    };
    if head.attempt > 0 {
        number(b",\"attempt\":", head.attempt.into());
    }
    if head.status > 0 {
        number(b",\"status\":", head.status.into());
    }
    if head.n > 0 || head.more {
        number(b",\"n\":", head.n);
    }
    if let Some(took) = head.took {
        number(b",\"took\":", took);
    }
    if head.more {
        out.extend_from_slice(b",\"more\":true");
    }
    if !head.headers.is_empty() {
        encode_headers(out, head.headers);
    }
    if let Some(hold) = head.hold {
        out.extend_from_slice(b",\"hold\":");
        hold.write(out);
    }
    if let Some(change) = head.session {
        out.extend_from_slice(b",\"session\":");
        change.write(out);
    }
    out.push(b'}');
    if !body.is_empty() {
        out.push(b'\n');
        out.extend_from_slice(body);
    }
}

fn encode_headers(out: &mut Vec<u8>, headers: &[(&str, &str)]) {
    out.extend_from_slice(b",\"headers\":");
    let mut opening = b'{';
    for group in headers.chunk_by(|a, b| a.0.eq_ignore_ascii_case(b.0)) {
        out.push(opening);
        opening = b',';
        write_json_string(out, group[0].0);
        out.push(b':');
        if let [(_, value)] = group {
            write_json_string(out, value);
            continue;
        }
        for (at, (_, value)) in group.iter().enumerate() {
            out.push(if at == 0 { b'[' } else { b',' });
            write_json_string(out, value);
        }
        out.push(b']');
    }
    out.push(b'}');
}
