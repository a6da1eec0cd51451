//! Writing jobs: once for each request, with all that a browser sends along.

use std::hint::black_box;

use criterion::Criterion;
use http::{HeaderMap, HeaderName, HeaderValue};
use tempest_protocol::{JobHead, JobWriter, WriteJob};

/// What a browser sends with a request from a page that has cookies.
const BROWSER: [(&str, &str); 16] = [
    ("host", "app.example.org"),
    ("connection", "keep-alive"),
    ("sec-ch-ua", "\"Chromium\";v=\"130\", \"Google Chrome\";v=\"130\", \"Not?A_Brand\";v=\"99\""),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", "\"Linux\""),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    ),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-user", "?1"),
    ("sec-fetch-dest", "document"),
    ("referer", "https://app.example.org/orders?page=3"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
    ("cookie", "session=3f9a7c1e5b2d4086a1c3e5f70912b4d6; theme=dark; _ga=GA1.1.1234567890.1700000000"),
    ("if-none-match", "W/\"5e3f-18c2a7b9d40\""),
];

pub(super) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write a job");
    let mut case = |name, headers: &[(&'static str, &'static str)], body: usize| {
        let headers = header_map(headers);
        let body = vec![b'b'; body];
        let mut out = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                write(black_box(&mut out), black_box(&headers), black_box(&body));
            });
        });
    };
    case("1 header", &BROWSER[..1], 0);
    case("a browser's headers", &BROWSER, 0);
    case("a browser's headers, 64 KiB", &BROWSER, 64 * 1024);
}

fn header_map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
    headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// As the front does it, but for the names that it leaves out.
fn write(out: &mut Vec<u8>, headers: &HeaderMap, body: &[u8]) {
    let head = JobHead {
        id: "3kf8s0a2m1.0-1k9",
        attempt: 1,
        deadline: 1_795_000_030_000,
        timeout_ms: 30_000,
        reply_to: "tempest:@3kf8s0a2m1.0",
        queue: "web",
        method: "GET",
        path: "/orders/2026-11-21/items",
        query: Some("page=3&sort=price"),
        host: Some("app.example.org"),
        scheme: "http",
        http: "1.1",
        peer: "203.0.113.7:50312",
        server: "192.0.2.1:1337",
        enqueued: 1_795_000_000_000,
        traceparent: None,
        tracestate: None,
    };
    let mut writer = JobWriter::new(out, &head);
    for name in headers.keys() {
        writer.header(name.as_str(), headers.get_all(name).iter().map(HeaderValue::as_bytes));
    }
    writer.finish(body);
}
