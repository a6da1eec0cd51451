//! Writing jobs as one MessagePack map, for queues that ask for it.
//!
//! The same fields in the same order as in JSON; who adds one to [`JobHead`] is told here by the compiler. The first six
//! keep their places, so that scripts inside Redis find an id without reading the whole map.

use serde_json::Value;

use super::{JobHead, WriteJob, joint};
use crate::pack::{Pack, read_number};

/// Writes one job message in a fixed order: head, then headers, then body.
pub struct PackedJobWriter<'o> {
    out: &'o mut Vec<u8>,
    map: Counts,
    headers: Counts,
}

/// A map that has been begun.
type Counts = (usize, u16);

impl<'o> PackedJobWriter<'o> {
    /// Appends the head to `out`.
    pub fn new(out: &'o mut Vec<u8>, head: &JobHead<'_>) -> Self {
        let JobHead {
            id,
            attempt,
            deadline,
            timeout_ms,
            reply_to,
            queue,
            method,
            path,
            query,
            host,
            scheme,
            http,
            peer,
            server,
            enqueued,
            traceparent,
            tracestate,
        } = *head;
        let mut map = Pack::open(out);
        map.key("v").number(crate::VERSION);
        map.key("id").string(id);
        map.key("attempt").number(attempt.into());
        map.key("deadline").number(deadline);
        map.key("timeout_ms").number(timeout_ms);
        map.key("reply_to").string(reply_to);
        map.key("queue").string(queue);
        map.key("action").string("http");
        map.key("method").string(method);
        map.key("path").string(path);
        map.key("query").optional(query);
        map.key("host").optional(host);
        map.key("scheme").string(scheme);
        map.key("http").string(http);
        map.key("peer").string(peer);
        map.key("server").string(server);
        map.key("enqueued").number(enqueued);
        if let Some(traceparent) = traceparent {
            map.key("traceparent").string(traceparent);
        }
        if let Some(tracestate) = tracestate {
            map.key("tracestate").string(tracestate);
        }
        let headers = map.key("headers").map().pause();
        let map = map.pause();
        Self { out, map, headers }
    }
}

impl WriteJob for PackedJobWriter<'_> {
    fn header<'v>(&mut self, name: &str, values: impl Iterator<Item = &'v [u8]>) {
        let mut headers = Pack::resume(self.out, self.headers);
        headers.key(name).latin1(values, joint(name));
        self.headers = headers.pause();
    }

    fn session(&mut self, session: &str, max: u64) {
        let mut map = Pack::resume(self.out, self.map);
        map.key("session").json(&Value::Object(serde_json::from_str(session).unwrap_or_default()));
        map.key("session_max").number(max);
        self.map = map.pause();
    }

    fn finish(self, body: &[u8]) {
        // Its number of fields stands where it began, so it does not matter what has been written since.
        Pack::resume(self.out, self.headers).close();
        let mut map = Pack::resume(self.out, self.map);
        map.key("body").bin(body);
        map.close();
    }
}

/// The same job for another attempt; None: not of this writer.
pub(super) fn rewrite(job: &[u8], attempt: u32, timeout_ms: u64) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(job.len() + 8);
    let rest = replace(&mut out, job, b"\xa7attempt", attempt.into())?;
    let rest = replace(&mut out, rest, b"\xaatimeout_ms", timeout_ms)?;
    out.extend_from_slice(rest);
    Some(out)
}

/// Copies up to and with the first `label`, then the number instead of the one there; gives what follows that. The first
/// occurrence is the field: before it stands nothing but an id of the front's own and other numbers.
fn replace<'j>(out: &mut Vec<u8>, from: &'j [u8], label: &[u8], number: u64) -> Option<&'j [u8]> {
    let at = memchr::memmem::find(from, label)? + label.len();
    let rest = read_number(&from[at..])?;
    out.extend_from_slice(&from[..at]);
    Pack::resume(out, (0, 0)).number(number);
    Some(rest)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::tests::head;
    use super::super::{decode_job, rewrite_job};
    use super::*;
    use crate::Codec;

    fn written(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = PackedJobWriter::new(&mut out, &head());
        writer.header("accept", [b"a/b".as_slice(), b"c/d"].into_iter());
        writer.header("cookie", [b"a=1".as_slice(), b"b=2"].into_iter());
        writer.header("x-latin", [b"caf\xe9".as_slice()].into_iter());
        writer.session("{\"user\":{\"name\":\"}\\n\",\"n\":[1,-1,0.5,null,true]}}", 3000);
        writer.finish(body);
        out
    }

    #[test]
    fn a_written_job_reads_back() {
        let job = decode_job(&Bytes::from(written(b"line\nline\0\xff"))).expect("a job");
        assert_eq!((job.codec(), job.path(), job.query(), job.host()), (Codec::MsgPack, head().path, Some(""), None));
        assert_eq!((job.header("accept"), job.header("cookie")), (Some("a/b, c/d"), Some("a=1; b=2")));
        assert_eq!(job.header("x-latin"), Some("caf\u{e9}"));
        assert_eq!(&job.body()[..], b"line\nline\0\xff");
        assert_eq!(job.session_text(), Some(r#"{"user":{"name":"}\n","n":[1,-1,0.5,null,true]}}"#));
        assert_eq!(job.session_max(), Some(3000));
    }

    #[test]
    fn another_attempt_changes_two_numbers_and_nothing_else() {
        let job = written(b"\xa7attempt\x01\xaatimeout_ms\x01");
        for (attempt, timeout_ms) in [(2, 1234), (200, 0), (70_000, 1 << 40)] {
            let again = decode_job(&Bytes::from(rewrite_job(&job, attempt, timeout_ms))).expect("a job");
            assert_eq!((again.attempt(), again.timeout_ms(), again.deadline()), (attempt, timeout_ms, head().deadline));
            assert_eq!(&again.body()[..], b"\xa7attempt\x01\xaatimeout_ms\x01");
        }
        assert_eq!(rewrite_job(b"\x80", 2, 1), b"\x80");
        assert_eq!(rewrite_job(b"\x81\xa7attempt\xc0", 2, 1), b"\x81\xa7attempt\xc0");
    }

    #[test]
    fn the_first_six_fields_come_in_the_promised_order() {
        let start =
            b"\xde\x00\x15\xa1v\x01\xa2id\xa5f.0-1\xa7attempt\x01\xa8deadline\xcf\x00\x00\x01\xa1\xee\x56\xd3\x30\
            \xaatimeout_ms\xcd\x75\x30\xa8reply_to\xactempest:@f.0\xa5queue";
        let job = written(b"");
        assert_eq!(job[..start.len()], start[..], "{:x?}", &job[..start.len()]);
    }
}
