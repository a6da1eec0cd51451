//! What a request says of the copy that it has already, and of the part that it wants (RFC 9110, sections 13 and 14).
//!
//! Decides only; no file is touched here.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, header};
use http_range_header::RangeUnsatisfiableError;

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it.
    Whole,
    /// These bytes.
    Part(RangeInclusive<u64>),
    /// 304: the client has it.
    Unchanged,
    /// 412: it is not what the client thinks.
    Changed,
    /// 416: it has no such bytes.
    NoSuchPart,
}

/// A file as conditions see it.
pub(super) struct Validators<'f> {
    /// A strong one, with its quotes.
    pub(super) tag: &'f str,
    pub(super) modified: SystemTime,
    pub(super) length: u64,
}

/// In the order of section 13.2.2.
pub(super) fn judge(headers: &HeaderMap, file: &Validators<'_>) -> Verdict {
    if has_changed(headers, file) {
        return Verdict::Changed;
    }
    if is_unchanged(headers, file) {
        return Verdict::Unchanged;
    }
    part(headers, file)
}

fn texts(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    texts(headers, name).next().and_then(|text| httpdate::parse_http_date(text).ok())
}

/// True where one of the tags listed is this one, or any will do.
fn is_listed(mut lists: impl Iterator<Item = impl AsRef<str>>, same: impl Fn(&str) -> bool) -> bool {
    lists.any(|list| list.as_ref().split(',').map(str::trim).any(|tag| tag == "*" || same(tag)))
}

/// If-Match decides; If-Unmodified-Since only where that is absent.
fn has_changed(headers: &HeaderMap, file: &Validators<'_>) -> bool {
    if headers.contains_key(header::IF_MATCH) {
        return !is_listed(texts(headers, header::IF_MATCH), |tag| tag == file.tag);
    }
    // The header has whole seconds.
    date(headers, header::IF_UNMODIFIED_SINCE).is_some_and(|since| file.modified >= since + Duration::from_secs(1))
}

/// If-None-Match decides; If-Modified-Since only where that is absent.
fn is_unchanged(headers: &HeaderMap, file: &Validators<'_>) -> bool {
    if headers.contains_key(header::IF_NONE_MATCH) {
        let same = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag) == file.tag;
        return is_listed(texts(headers, header::IF_NONE_MATCH), same);
    }
    date(headers, header::IF_MODIFIED_SINCE).is_some_and(|since| file.modified < since + Duration::from_secs(1))
}

/// One range is a part. Several, and what is no range of bytes, are all of it, as section 14.2 allows: nothing that is
/// worth it asks for several, and many small ones have been a way to keep a server busy.
fn part(headers: &HeaderMap, file: &Validators<'_>) -> Verdict {
    let Some(range) = texts(headers, header::RANGE).next() else { return Verdict::Whole };
    if headers.contains_key(header::IF_RANGE) && !continues(headers, file) {
        return Verdict::Whole;
    }
    let Ok(ranges) = http_range_header::parse_range_header(range) else { return Verdict::Whole };
    if ranges.len() != 1 {
        return Verdict::Whole;
    }
    match ranges.validate(file.length) {
        Ok(parts) => parts.into_iter().next().map_or(Verdict::Whole, Verdict::Part),
        Err(RangeUnsatisfiableError::Unsatisfiable) => Verdict::NoSuchPart,
        Err(_) => Verdict::Whole,
    }
}

/// True where If-Range names this file: by its tag, or by exactly its date.
fn continues(headers: &HeaderMap, file: &Validators<'_>) -> bool {
    let Some(named) = texts(headers, header::IF_RANGE).next() else { return false };
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).ok();
    match httpdate::parse_http_date(named) {
        Ok(date) => seconds(date) == seconds(file.modified),
        Err(_) => named == file.tag,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn judged(length: u64, headers: &[(&'static str, &str)]) -> Verdict {
        let modified = httpdate::parse_http_date(DATE).expect("a date") + Duration::from_millis(300);
        let given = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value")));
        judge(&given.collect(), &Validators { tag: "\"a\"", modified, length })
    }

    #[test]
    fn one_range_is_a_part() {
        for (range, expected) in [
            ("bytes=0-0", Verdict::Part(0..=0)),
            ("bytes=2-", Verdict::Part(2..=9)),
            ("bytes=5-99", Verdict::Part(5..=9)),
            ("bytes=-3", Verdict::Part(7..=9)),
            ("bytes=-99", Verdict::Part(0..=9)),
            ("bytes=10-", Verdict::NoSuchPart),
            ("bytes=-0", Verdict::NoSuchPart),
            ("bytes=99999999999999999999-", Verdict::NoSuchPart),
            ("bytes=3-2", Verdict::Whole),
            ("bytes=a-b", Verdict::Whole),
            ("bytes=", Verdict::Whole),
            ("lines=1-2", Verdict::Whole),
            ("bytes=0-1,4-5", Verdict::Whole),
        ] {
            assert_eq!(judged(10, &[("range", range)]), expected, "{range}");
        }
        assert_eq!(judged(0, &[("range", "bytes=0-")]), Verdict::NoSuchPart);
        assert_eq!(judged(0, &[("range", "bytes=-1")]), Verdict::Whole);
    }

    #[test]
    fn if_range_continues_the_same_file_only() {
        for (named, same) in [
            ("\"a\"", true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            (DATE, true),
            ("Sun, 06 Nov 1994 08:49:38 GMT", false),
            ("yesterday", false),
        ] {
            let expected = if same { Verdict::Part(1..=2) } else { Verdict::Whole };
            assert_eq!(judged(10, &[("range", "bytes=1-2"), ("if-range", named)]), expected, "{named}");
        }
    }

    #[test]
    fn what_the_client_has_comes_before_what_it_wants() {
        let range = ("range", "bytes=1-2");
        assert_eq!(judged(10, &[range, ("if-none-match", "\"a\"")]), Verdict::Unchanged);
        assert_eq!(judged(10, &[range, ("if-none-match", "\"b\"")]), Verdict::Part(1..=2));
        assert_eq!(judged(10, &[range, ("if-match", "\"b\"")]), Verdict::Changed);
        assert_eq!(judged(10, &[range, ("if-match", "\"b\", \"a\"")]), Verdict::Part(1..=2));
        assert_eq!(judged(10, &[("if-match", "W/\"a\"")]), Verdict::Changed, "strong only");
        assert_eq!(judged(10, &[("if-match", "*")]), Verdict::Whole);
        assert_eq!(judged(10, &[("if-unmodified-since", DATE)]), Verdict::Whole);
        assert_eq!(judged(10, &[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:36 GMT")]), Verdict::Changed);
        assert_eq!(judged(10, &[("if-unmodified-since", "x")]), Verdict::Whole);
    }
}
