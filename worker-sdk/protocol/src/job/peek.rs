//! What others than workers want to know of a job, without reading all of it: supervisors, and `tempest top`.
//!
//! A job that cannot be read is none of their business: they get nothing, and no reason.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::pack::{self, Codec};

/// Whose job it is, and whether anybody waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    /// Its id; empty where it has none.
    pub id: String,
    /// Somebody waits for an answer.
    pub awaited: bool,
}

/// Looks at a job; nothing where it cannot be read.
pub fn peek_job(job: &[u8]) -> Peek {
    #[derive(Default, Deserialize)]
    struct Head {
        id: String,
        #[serde(default)]
        reply_to: Option<IgnoredAny>,
    }
    if Codec::of(job) == Codec::MsgPack {
        return peek_packed(job).unwrap_or_default();
    }
    let line = memchr::memchr(b'\n', job).map_or(job, |end| &job[..end]);
    let Head { id, reply_to } = serde_json::from_slice(line).unwrap_or_default();
    Peek { id, awaited: reply_to.is_some() }
}

fn peek_packed(job: &[u8]) -> Option<Peek> {
    let read = pack::pick(job, |name| matches!(name, "id" | "reply_to")).ok()?;
    let id = read.fields.get("id")?.as_str()?.to_owned();
    Some(Peek { id, awaited: read.fields.get("reply_to").is_some_and(|value| !value.is_null()) })
}

/// When a front pushed the job that begins so, in ms by the clock of Redis; None: it does not say. The first six fields
/// stand in one order and hold no quotes, so a few hundred bytes are enough.
pub fn pushed_ms(start: &[u8]) -> Option<u64> {
    if Codec::of(start) == Codec::MsgPack {
        let [_, deadline, timeout] = pack::each_number(start, ["attempt", "deadline", "timeout_ms"])?;
        return deadline.checked_sub(timeout);
    }
    let text = String::from_utf8_lossy(start);
    let rest = text.strip_prefix(r#"{"v":1,"id":""#)?;
    let (_, rest) = rest.split_once(r#"","attempt":"#)?;
    let (_, rest) = rest.split_once(r#","deadline":"#)?;
    let (deadline, rest) = rest.split_once(r#","timeout_ms":"#)?;
    let (timeout, _) = rest.split_once(',')?;
    deadline.parse::<u64>().ok()?.checked_sub(timeout.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::head;
    use super::super::{JobWriter, PackedJobWriter, WriteJob};
    use super::*;

    #[test]
    fn both_spellings_say_the_same() {
        let (mut json, mut packed) = (Vec::new(), Vec::new());
        JobWriter::new(&mut json, &head()).finish(b"body");
        PackedJobWriter::new(&mut packed, &head()).finish(b"body");
        for job in [json, packed] {
            assert_eq!(peek_job(&job), Peek { id: "f.0-1".into(), awaited: true });
            assert_eq!(pushed_ms(&job[..100]), Some(1_795_000_000_000));
        }
    }

    #[test]
    fn the_time_of_the_push_is_read_off_the_first_fields() {
        let job = br#"{"v":1,"id":"k3v9.0-1f","attempt":1,"deadline":1795000030000,"timeout_ms":29998,"reply_to":"t"#;
        assert_eq!(pushed_ms(job), Some(1_795_000_000_002));
        for other in [
            "",
            "{}",
            r#"{"v":1,"id":"a","attempt":1,"queue":"mail"}"#,
            r#"{"v":1,"id":"a","attempt":1,"deadline":5,"timeout_ms":9,"#,
        ] {
            assert_eq!(pushed_ms(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn background_jobs_and_others_scribbles() {
        for job in [&b"{\"id\":\"a\",\"reply_to\":null}"[..], b"\x82\xa2id\xa1a\xa8reply_to\xc0", b"\x81\xa2id\xa1a"] {
            assert_eq!(peek_job(job), Peek { id: "a".into(), awaited: false });
        }
        for job in [&b""[..], b"{}", b"nonsense", b"\x81", b"\x81\xa2id\x07", b"\xdf\xff\xff\xff\xff"] {
            assert_eq!(peek_job(job), Peek::default(), "{job:?}");
        }
    }
}
