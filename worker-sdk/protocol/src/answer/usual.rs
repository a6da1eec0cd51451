//! The first pass: an answer as encoders write it, scanned byte by byte without copying or allocating for text.
//!
//! It takes known keys, each once, plain numbers, and strings that hold no escapes, with at most the spaces that
//! common encoders put in. Whatever else there is, however right, is left to the passes behind it. It must accept
//! nothing that they would not read in the same way.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Answer, Headers, raw_body};
use crate::scan::Scan;

/// None: not of this shape.
pub(super) fn usual(message: &Bytes) -> Option<Answer<'_>> {
    // A line feed cannot stand in a string, so the first one ends the head unless the encoder puts lines in it.
    let end = memchr::memchr(b'\n', message).unwrap_or(message.len());
    let mut scan = Scan::new(std::str::from_utf8(&message[..end]).ok()?);
    let mut found = Found::default();
    scan.object(|scan, key| found.field(scan, key))?;
    let raw = raw_body(message, scan.at()).ok()?;
    if scan.at() != end || found.id.is_none_or(str::is_empty) || (found.more == Some(true) && found.n.is_none()) {
        return None;
    }
    let body = match found.body {
        Some(text) if !text.is_empty() => {
            if !raw.is_empty() {
                return None;
            }
            Bytes::copy_from_slice(text.as_bytes())
        }
        _ => raw,
    };
    Some(Answer {
        id: Cow::Borrowed(found.id?),
        status: found.status.unwrap_or(200),
        headers: found.headers.unwrap_or_default(),
        n: found.n.unwrap_or(0),
        more: found.more.unwrap_or(false),
        attempt: found.attempt,
        took: found.took,
        body,
        hold: None,
        session: None,
    })
}

/// The fields found so far; one that comes twice is not usual.
#[derive(Default)]
struct Found<'a> {
    id: Option<&'a str>,
    status: Option<u16>,
    headers: Option<Headers<'a>>,
    n: Option<u64>,
    more: Option<bool>,
    attempt: Option<u32>,
    took: Option<u64>,
    body: Option<&'a str>,
}

impl<'a> Found<'a> {
    fn field(&mut self, scan: &mut Scan<'a>, key: &str) -> Option<()> {
        match key {
            "id" => once(&mut self.id, scan.string()?),
            "status" => once(&mut self.status, scan.number()?.try_into().ok()?),
            "attempt" => once(&mut self.attempt, scan.number()?.try_into().ok()?),
            "n" => once(&mut self.n, scan.number()?),
            "took" => once(&mut self.took, scan.number()?),
            "more" => once(&mut self.more, scan.boolean()?),
            "body" => once(&mut self.body, scan.string()?),
            "headers" => once(&mut self.headers, headers(scan)?),
            _ => None,
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

fn headers<'a>(scan: &mut Scan<'a>) -> Option<Headers<'a>> {
    let mut headers: Headers<'a> = Vec::with_capacity(4);
    scan.object(|scan, name| {
        if headers.iter().any(|(known, _)| known == name) {
            return None;
        }
        let mut add = |scan: &mut Scan<'a>| {
            headers.push((Cow::Borrowed(name), Cow::Borrowed(scan.string()?)));
            Some(())
        };
        if scan.take(b'[') { scan.list(add) } else { add(scan) }
    })?;
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::super::quick::quick;
    use super::*;

    fn read(message: &str) -> Option<Answer<'static>> {
        let message: &'static Bytes = Box::leak(Box::new(Bytes::copy_from_slice(message.as_bytes())));
        let answer = usual(message);
        if answer.is_some() {
            assert_eq!(answer, quick(message), "the pass behind it reads the same");
        }
        answer
    }

    #[test]
    fn what_encoders_write_is_usual() {
        for message in [
            r#"{"id":"a"}"#,
            "{\"id\":\"a\",\"status\":201,\"headers\":{}}\nbody\n",
            "{\"id\": \"a\", \"headers\": {\"x\": \"1\", \"set-cookie\": [\"a=1\", \"b=2\"], \"y\": []}}\n",
            "{\"id\":\"a\",\"attempt\":2,\"n\":0,\"more\":true}\nfirst",
            r#"{"id":"a","body":"grüße","more":false}"#,
            r#"{"id":"a","took":1250}"#,
        ] {
            assert!(read(message).is_some(), "{message}");
        }
    }

    #[test]
    fn the_rest_is_left_to_the_passes_behind() {
        for message in [
            "",
            "{",
            "{}",
            r#"{"id":""}"#,
            r#"{"id":"a\n"}"#,
            r#"{"id":"a","id":"b"}"#,
            r#"{"id":"a","status":2e2}"#,
            r#"{"id":"a","status":0200}"#,
            r#"{"id":"a","status":-1}"#,
            r#"{"id":"a","status":99999}"#,
            r#"{"id":"a","n":1234567890123456789}"#,
            r#"{"id":"a","more":true}"#,
            r#"{"id":"a","more":null}"#,
            r#"{"id":"a","kind":"x"}"#,
            r#"{"id":"a","hold":null}"#,
            r#"{"id":"a","hold":{"channels":["x"]}}"#,
            r#"{"id":"a","session":null}"#,
            r#"{"id":"a","unknown":1}"#,
            r#"{"id":"a","took":null}"#,
            r#"{"id":"a","took":"long"}"#,
            r#"{"id":"a","headers":{"x":"1","x":"2"}}"#,
            r#"{"id":"a"} "#,
            r#"{"id":"a",}"#,
            "{\"id\":\"a\",\"body\":\"x\"}\ny",
            "{\n\"id\":\"a\"}",
        ] {
            assert!(read(message).is_none(), "{message}");
        }
    }
}
