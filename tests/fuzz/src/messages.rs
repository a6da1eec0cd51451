//! Jobs and answers: nothing that is read may panic, and what was read reads the same in the other spelling.

use bytes::Bytes;
use tempest_protocol::{
    Answer, AnswerHead, Codec, Decoded, Job, MAX_ANSWER_BYTES, decode_answer, decode_job, encode_answer,
    encode_packed_answer, is_field_value, is_token, peek_job, pushed_ms, rewrite_job,
};

/// One message of an answer list.
pub fn answer(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    decode_answer(&message, data.len() / 2, false);
    decode_answer(&message, MAX_ANSWER_BYTES, true);
    let Decoded::Answer(answer) = decode_answer(&message, MAX_ANSWER_BYTES, false) else { return };
    assert!((200..=599).contains(&answer.status) && !answer.id.is_empty() && answer.attempt != Some(0));
    assert!(answer.headers.iter().all(|(name, value)| is_token(name) && is_field_value(value)));
    for encode in [encode_answer, encode_packed_answer] {
        let message = encoded(&answer, encode);
        let again = decode_answer(&message, usize::MAX, false);
        assert_eq!(again, Decoded::Answer(comparable(&answer)), "{message:?}");
    }
}

/// As it is read once more: names that differ in case alone and stand together are written as one.
fn comparable<'a>(answer: &Answer<'a>) -> Answer<'a> {
    let mut again = answer.clone();
    for at in 1..again.headers.len() {
        let (before, name) = (again.headers[at - 1].0.clone(), &mut again.headers[at].0);
        if before.eq_ignore_ascii_case(name) {
            *name = before;
        }
    }
    again
}

fn encoded(answer: &Answer<'_>, encode: fn(&mut Vec<u8>, &AnswerHead<'_>, &[u8])) -> Bytes {
    let headers: Vec<(&str, &str)> = answer.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let head = AnswerHead {
        id: &answer.id,
        attempt: answer.attempt.unwrap_or(0),
        status: answer.status,
        headers: &headers,
        n: answer.n,
        more: answer.more,
        took: answer.took,
        hold: answer.hold.as_deref(),
        session: answer.session.as_deref(),
    };
    let mut out = Vec::new();
    encode(&mut out, &head, &answer.body);
    out.into()
}

/// One element of a job list.
pub fn job(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    let peek = peek_job(data);
    pushed_ms(data);
    let rewritten = Bytes::from(rewrite_job(data, 7, 12_345));
    let Ok(job) = decode_job(&message) else { return };
    assert_eq!(job.codec(), Codec::of(data));
    assert!(!job.id().is_empty() && job.headers().all(|(name, _)| job.header(name).is_some()));
    job.session();
    if peek.id == job.id() {
        assert_eq!(peek.awaited, job.reply_to().is_some());
    }
    // A job of a front's own has its numbers changed and nothing else.
    let ours: [&[u8]; 2] = [
        b"{\"v\":1,\"id\":\"f.0-1\",\"attempt\":1,\"deadline\":",
        b"\xde\x00\x13\xa1v\x01\xa2id\xa5f.0-1\xa7attempt\x01",
    ];
    if ours.iter().any(|start| data.starts_with(start))
        && rewritten != message
        && let Ok(again) = decode_job(&rewritten)
    {
        assert_eq!(shown(&again), shown(&job));
    }
}

/// All of a job but the two numbers.
fn shown(job: &Job) -> Vec<String> {
    let texts = [job.id(), job.queue(), job.action(), job.method(), job.path(), job.peer(), job.server()];
    let mut shown: Vec<String> = texts.map(str::to_owned).to_vec();
    shown.extend(job.headers().map(|(name, value)| format!("{name}: {value}")));
    shown.push(format!("{:?} {:?} {:?} {:?}", job.body(), job.query(), job.host(), job.session_text()));
    shown
}
