//! What is compressed, what is left alone, and that every coding gives the same bytes back.

use std::io::Read;
use std::path::Path;

use http_body_util::BodyExt;

use super::*;
use crate::config::Config;

fn compression(settings: &str) -> Rc<Compress> {
    let config = Config::from_toml(settings, Path::new("/")).expect("good settings");
    Compress::new(&config.compress)
}

fn response(headers: &[(&'static str, &'static str)], body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    for (name, value) in headers {
        response.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    response
}

fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let read = match coding {
        Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
        Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out),
        Coding::Zstd => zstd::stream::read::Decoder::new(bytes).and_then(|mut decoder| decoder.read_to_end(&mut out)),
    };
    read.expect("it is of this coding");
    out
}

const ALL: [Coding; 3] = [Coding::Gzip, Coding::Brotli, Coding::Zstd];

#[tokio::test]
async fn every_coding_gives_the_same_bytes_back() {
    let compress = compression("");
    for coding in ALL {
        for length in [1024, PIECE, PIECE + 1, 10 * PIECE + 7] {
            let content: Vec<u8> = (0..length).map(|n| b"some text "[n % 10]).collect();
            let mut response = response(&[("content-length", "1"), ("etag", "\"a\"")], Body::whole(content.clone()));
            compress.apply(Some(coding), &mut response);
            let headers = response.headers();
            assert_eq!(headers[header::CONTENT_ENCODING], coding.name());
            assert_eq!(headers[header::VARY], "Accept-Encoding");
            assert_eq!(headers[header::ETAG], "W/\"a\"");
            assert!(!headers.contains_key(header::CONTENT_LENGTH));
            let exact = response.body().size_hint().exact();
            let bytes = response.into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(exact, (length <= PIECE).then_some(bytes.len() as u64), "what is done at once has a length");
            assert!(bytes.len() < length / 2 && decoded(coding, &bytes) == content, "{length} bytes");
            assert_eq!(compress.under_way.get(), 0);
        }
    }
}

#[test]
fn some_answers_are_left_alone() {
    let compress = compression("");
    let long = "x".repeat(2000);
    for headers in [
        [("content-type", "image/png")],
        [("content-type", "text/event-stream")],
        [("content-encoding", "br")],
        [("content-range", "bytes 0-1/9")],
        [("cache-control", "public, No-Transform")],
    ] {
        let mut response = response(&headers, Body::whole(long.clone()));
        compress.apply(Some(Coding::Gzip), &mut response);
        assert!(!response.headers().contains_key(header::VARY), "{headers:?}");
    }
    let short = |length| {
        let mut response = response(&[], Body::whole(long[..length].to_owned()));
        compress.apply(Some(Coding::Gzip), &mut response);
        response.headers().contains_key(header::CONTENT_ENCODING)
    };
    assert_eq!([short(1023), short(1024)], [false, true]);
    let mut part = response(&[], Body::whole(long.clone()));
    *part.status_mut() = StatusCode::PARTIAL_CONTENT;
    compress.apply(Some(Coding::Gzip), &mut part);
    assert!(!part.headers().contains_key(header::VARY));
    let mut unasked = response(&[("vary", "Cookie")], Body::whole(long));
    compress.apply(None, &mut unasked);
    let vary: Vec<_> = unasked.headers().get_all(header::VARY).iter().collect();
    assert_eq!(vary, ["Cookie", "Accept-Encoding"], "caches know that others get something else");
}

#[test]
fn what_does_not_get_shorter_is_sent_as_it_is() {
    let compress = compression("compress.least = 0");
    let mut response = response(&[], Body::whole("a"));
    compress.apply(Some(Coding::Gzip), &mut response);
    assert!(!response.headers().contains_key(header::CONTENT_ENCODING));
    assert_eq!(response.body().size_hint().exact(), Some(1));
}

#[test]
fn the_client_decides_and_then_the_order() {
    let compress = compression("");
    let taken = |value: &'static str| {
        compress.coding(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
    };
    assert_eq!(taken("gzip, br, zstd"), Some(Coding::Zstd));
    assert_eq!(taken("gzip, br;q=0.9"), Some(Coding::Gzip));
    assert_eq!(taken("gzip;q=0.5, br;q=0.9"), Some(Coding::Brotli));
    assert_eq!(taken("*"), Some(Coding::Zstd));
    assert_eq!(taken("identity"), None);
    assert_eq!(taken("gzip;q=0"), None);
    assert_eq!(compress.coding(&HeaderMap::new()), None);
    assert_eq!(
        compression("compress.codings = \"gzip\"")
            .coding(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("br, gzip"))])),
        Some(Coding::Gzip)
    );
}

#[test]
fn no_more_than_so_many_are_under_way() {
    let compress = compression("compress.at_once = 2");
    let mut open = Vec::new();
    for nth in 0..3 {
        let mut response = response(&[], Body::whole("x".repeat(PIECE + 1)));
        compress.apply(Some(Coding::Zstd), &mut response);
        assert_eq!(response.headers().contains_key(header::CONTENT_ENCODING), nth < 2, "{nth}");
        open.push(response);
    }
    open.clear();
    assert_eq!(compress.under_way.get(), 0);
}
