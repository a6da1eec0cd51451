//! Reads one HTTP response from the bytes of a connection: enough of HTTP for what contenders send, and no more.

/// A response whose end is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Head {
    /// The status code.
    pub(super) status: u16,
    /// Bytes of the head, with its empty line.
    pub(super) length: usize,
    /// How long the body is.
    pub(super) body: Body,
    /// The server closes the connection after it.
    pub(super) close: bool,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Body {
    /// After so many bytes.
    Length(usize),
    /// With a chunk of no bytes.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// The head, once all of it is there. An error says what is wrong.
pub(super) fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("no HTTP response: {error}")),
    };
    let status = response.code.unwrap_or_default();
    let mut body = if matches!(status, 204 | 304) { Body::Length(0) } else { Body::UntilClose };
    let mut close = false;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            body = Body::Length(text.trim().parse().map_err(|_| format!("Content-Length {text:?}"))?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            body = Body::Chunked;
        } else if header.name.eq_ignore_ascii_case("connection") {
            close = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    Ok(Some(Head { status, length, body, close }))
}

/// True when all of a response is in `bytes`.
pub(super) fn is_whole(head: Head, bytes: &[u8]) -> bool {
    match head.body {
        Body::Length(length) => bytes.len() >= head.length + length,
        Body::Chunked => bytes.ends_with(b"0\r\n\r\n"),
        Body::UntilClose => false,
    }
}
