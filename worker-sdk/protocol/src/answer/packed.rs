//! Writing answers as one MessagePack map, for workers.
//!
//! The fields of [`AnswerHead`]; who adds one to it is told here by the compiler.

use super::AnswerHead;
use crate::pack::Pack;

/// Appends one answer message to `out`, its body in it.
pub fn encode_packed_answer(out: &mut Vec<u8>, head: &AnswerHead<'_>, body: &[u8]) {
    let AnswerHead { id, attempt, status, headers, n, more, took, hold, session } = *head;
    let mut map = Pack::open(out);
    map.key("id").string(id);
    if attempt > 0 {
        map.key("attempt").number(attempt.into());
    }
    if status > 0 {
        map.key("status").number(status.into());
    }
    if n > 0 || more {
        map.key("n").number(n);
    }
    if more {
        map.key("more").boolean(true);
    }
    if let Some(took) = took {
        map.key("took").number(took);
    }
    if !headers.is_empty() {
        pack_headers(map.key("headers").map(), headers);
    }
    if let Some(hold) = hold {
        hold.pack(map.key("hold"));
    }
    if let Some(change) = session {
        change.pack(map.key("session"));
    }
    if !body.is_empty() {
        map.key("body").bin(body);
    }
    map.close();
}

fn pack_headers(mut map: Pack<'_>, headers: &[(&str, &str)]) {
    for group in headers.chunk_by(|a, b| a.0.eq_ignore_ascii_case(b.0)) {
        let value = map.key(group[0].0);
        if let [(_, one)] = group {
            value.string(one);
        } else {
            let list = value.list(group.len());
            group.iter().for_each(|(_, each)| list.string(each));
        }
    }
    map.close();
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::super::{Decoded, Hold, HoldMode, Reason, Rejected, SessionChange, decode_answer, encode_answer};
    use super::*;

    fn both(head: &AnswerHead<'_>, body: &[u8]) -> [Bytes; 2] {
        let (mut json, mut packed) = (Vec::new(), Vec::new());
        encode_answer(&mut json, head, body);
        encode_packed_answer(&mut packed, head, body);
        [json.into(), packed.into()]
    }

    #[test]
    fn both_spellings_say_the_same() {
        let headers = [("x-b", "caf\u{e9}\""), ("set-cookie", "a=1"), ("Set-Cookie", "b=2"), ("x-a", "")];
        let hold = Hold {
            mode: HoldMode::Once,
            timeout: Some(5),
            history: Some("5-1".into()),
            ..Hold::of(["a", "gr\u{fc}n"])
        };
        let patch = serde_json::Map::from_iter([("z".to_owned(), json!({"b": null, "a": [-1, 0.5]}))]);
        let (patch, end) = (SessionChange::Patch(patch), SessionChange::End);
        let usual = AnswerHead { id: "r\"1", ..AnswerHead::default() };
        for (head, body) in [
            (usual, &b""[..]),
            (AnswerHead { status: 404, attempt: 2, headers: &headers, ..usual }, b"\n\0\xffraw"),
            (AnswerHead { status: 200, more: true, ..usual }, b"one"),
            (AnswerHead { session: Some(&patch), ..usual }, b"x"),
            (AnswerHead { session: Some(&end), ..usual }, b""),
            (AnswerHead { n: u64::MAX, ..usual }, b""),
            (AnswerHead { took: Some(7), ..usual }, b"x"),
            (AnswerHead { status: 200, headers: &headers, hold: Some(&hold), ..usual }, b""),
        ] {
            let [json, packed] = both(&head, body);
            let decoded = decode_answer(&json, 1024, false);
            assert!(matches!(decoded, Decoded::Answer(_)), "{decoded:?}");
            assert_eq!(decode_answer(&packed, 1024, false), decoded);
        }
    }

    #[test]
    fn a_message_over_the_limit_still_names_its_request() {
        let [_, message] = both(&AnswerHead { id: "a", ..AnswerHead::default() }, &[0; 100]);
        let expected = Rejected { id: Some("a".into()), reason: Reason::TooLarge };
        assert_eq!(decode_answer(&message, 64, false), Decoded::Rejected(expected));
        assert!(matches!(decode_answer(&message, message.len(), false), Decoded::Answer(_)), "at the edge it passes");
    }
}
