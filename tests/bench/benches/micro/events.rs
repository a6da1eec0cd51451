//! Making events of what is published: once a message, however many read it.

use std::hint::black_box;

use criterion::Criterion;
use tempest_protocol::{decode_payload, encode_payload, frame_sse};

pub(super) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("make an event");
    let mut case = |name: &str, payload: Vec<u8>| {
        let mut out = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                frame_sse(black_box(&mut out), &decode_payload(black_box(&payload), true, false));
            });
        });
    };
    let order = r#"{"order":18034,"state":"packed","lines":[{"sku":"A-113","count":2}],"at":"12:00:31"}"#;
    let report = "a line of a report, as long as such lines are\n".repeat(64 * 1024 / 46);
    case("text, 84 bytes", order.as_bytes().to_vec());
    case("array, 84 bytes", encode_payload(Some("order"), order));
    case("text of many lines, 64 KiB", report.clone().into_bytes());
    case("array of many lines, 64 KiB", encode_payload(Some("report"), &report));
}
