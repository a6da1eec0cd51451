//! Reading answers: by each of the three passes, of which one comes after the one before has refused.

use std::hint::black_box;

use bytes::Bytes;
use criterion::Criterion;
use tempest_protocol::{AnswerHead, Decoded, MAX_ANSWER_BYTES, decode_answer, encode_answer};

/// What an application answers a page with. The last has quotation marks, which stand escaped in JSON: the first pass
/// leaves it to the second.
const HEADERS: [(&str, &str); 8] = [
    ("content-type", "text/html; charset=utf-8"),
    ("cache-control", "private, max-age=0, must-revalidate"),
    ("vary", "accept-encoding, cookie"),
    ("set-cookie", "session=3f9a7c1e5b2d4086a1c3e5f70912b4d6; path=/; HttpOnly; SameSite=Lax"),
    ("set-cookie", "seen=1; path=/"),
    ("x-frame-options", "SAMEORIGIN"),
    ("content-security-policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"),
    ("etag", "W/\"5e3f-18c2a7b9d40\""),
];

pub(super) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read an answer");
    let mut case = |name: &str, message: Vec<u8>| {
        let message = Bytes::from(message);
        assert!(matches!(read(&message), Decoded::Answer(_)), "{name} is no answer");
        group.bench_function(name, |bencher| bencher.iter(|| black_box(read(black_box(&message)))));
    };
    let page = vec![b'p'; 64 * 1024];
    case("usual, 1 header", encoded(&HEADERS[..1], b"hello 00000001\n"));
    case("usual, 7 headers, 64 KiB", encoded(&HEADERS[..7], &page));
    case("quick, 8 headers, 64 KiB", encoded(&HEADERS, &page));
    case("quick, 4 KiB of text in JSON", as_text(4 * 1024));
    case("careful, 1 header", careful(&HEADERS[..1], b"hello 00000001\n"));
    case("careful, 8 headers, 64 KiB", careful(&HEADERS, &page));
}

fn read(message: &Bytes) -> Decoded<'_> {
    decode_answer(message, MAX_ANSWER_BYTES, false)
}

fn encoded(headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let head = AnswerHead { id: "3kf8s0a2m1.0-1k9", attempt: 1, status: 200, headers, ..AnswerHead::default() };
    let mut message = Vec::new();
    encode_answer(&mut message, &head, body);
    message
}

/// As a worker of a few lines writes it: everything in one JSON object, the text with line ends in it.
fn as_text(size: usize) -> Vec<u8> {
    let text = "a line of a page, as long as such lines are\\n".repeat(size / 44);
    format!(r#"{{"id":"3kf8s0a2m1.0-1k9","status":200,"headers":{{"content-type":"text/plain"}},"body":"{text}"}}"#)
        .into_bytes()
}

/// One key comes twice, which JSON allows and the passes before the careful one refuse.
fn careful(headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut message = br#"{"status":200,"#.to_vec();
    message.extend_from_slice(&encoded(headers, body)[1..]);
    message
}
