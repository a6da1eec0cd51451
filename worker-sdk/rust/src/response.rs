//! What a handler gives back, and what can be turned into it.
//!
//! Checks here what the front would refuse as malformed, so that a handler's mistake shows up in its own log with
//! its own words. It must not know how an answer is written.

use std::borrow::Cow;
use std::error::Error;

use bytes::Bytes;
use serde::Serialize;
use tempest_protocol::{Hold, HoldError, is_field_value, is_token};
use tokio_stream::{Stream, StreamExt};

use crate::BoxError;
use crate::stream::{self, BoxStream, Sender};

pub(crate) type Text = Cow<'static, str>;
/// Name and value.
pub(crate) type Header = (Text, Text);

/// An answer: status, headers, body.
///
/// ```
/// use tempest_worker::Response;
///
/// let response = Response::text("made").with_status(201).with_header("location", "/things/1");
/// assert_eq!(response.status(), 201);
/// ```
#[derive(Debug)]
pub struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Body,
    pub(crate) hold: Option<Box<Hold>>,
    /// A merge patch, or null.
    pub(crate) session: Option<Box<serde_json::Value>>,
}

pub(crate) enum Body {
    Whole(Bytes),
    Stream(BoxStream),
}

impl Response {
    /// An answer without a body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Whole(Bytes::new()), hold: None, session: None }
    }

    /// 200 with these bytes; say by `with_header("content-type", …)` what they are.
    pub fn bytes(body: impl Into<Bytes>) -> Self {
        Self { body: Body::Whole(body.into()), ..Self::new(200) }
    }

    /// 200 with plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes(text.into()).with_header("content-type", "text/plain; charset=utf-8")
    }

    /// 200 with HTML.
    pub fn html(text: impl Into<String>) -> Self {
        Self::bytes(text.into()).with_header("content-type", "text/html; charset=utf-8")
    }

    /// 200 with a value as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self::bytes(serde_json::to_vec(value)?).with_header("content-type", "application/json"))
    }

    /// 303: the client is to GET `location`.
    pub fn redirect(location: impl Into<Text>) -> Self {
        Self::new(303).with_header("location", location)
    }

    /// 200 with a body that is sent part by part as it comes, each part as soon as it is there.
    pub fn stream<S>(parts: S) -> Self
    where
        S: Stream + Send + 'static,
        S::Item: Into<Bytes>,
    {
        Self::try_stream(parts.map(Ok::<_, BoxError>))
    }

    /// Like [`Response::stream`], for a source that can fail. A failure ends the answer without completing it, so
    /// that the client can tell.
    pub fn try_stream<S, B, E>(parts: S) -> Self
    where
        S: Stream<Item = Result<B, E>> + Send + 'static,
        B: Into<Bytes>,
        E: Into<BoxError>,
    {
        let parts = parts.map(|part| part.map(Into::into).map_err(Into::into));
        Self { body: Body::Stream(Box::pin(parts)), ..Self::new(200) }
    }

    /// 200 with a body that somebody else writes: give the [`Sender`] to a task or thread and return the response.
    pub fn channel() -> (Sender, Self) {
        let (sender, parts) = stream::channel();
        (sender, Self { body: Body::Stream(Box::pin(parts)), ..Self::new(200) })
    }

    /// Sets the status, 200 to 599.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Adds a header, beside others of its name: several `set-cookie` are several calls.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        let name = name.into();
        // Values of one name stay together: an answer writes them as one list.
        let last = self.headers.iter().rposition(|(known, _)| known.eq_ignore_ascii_case(&name));
        self.headers.insert(last.map_or(self.headers.len(), |at| at + 1), (name, value.into()));
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first value of a header, its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// The body, where it is not a stream.
    pub fn body(&self) -> Option<&Bytes> {
        match &self.body {
            Body::Whole(bytes) => Some(bytes),
            Body::Stream(_) => None,
        }
    }

    /// What the front would refuse.
    pub(crate) fn check(&self) -> Result<(), InvalidResponse> {
        if !(200..=599).contains(&self.status) {
            return Err(InvalidResponse::Status(self.status));
        }
        if let Some(hold) = &self.hold {
            let has_body = self.body().is_none_or(|body| !body.is_empty());
            hold.check().and_then(|()| hold.check_answer(self.status, has_body))?;
        }
        for (name, value) in &self.headers {
            if !is_token(name) {
                return Err(InvalidResponse::HeaderName(name.to_string()));
            }
            if !is_field_value(value) {
                return Err(InvalidResponse::HeaderValue(name.to_string()));
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Stream(_) => f.write_str("a stream"),
        }
    }
}

/// A response that the contract does not allow.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidResponse {
    #[error("the handler answered with status {0}; use 200 to 599")]
    Status(u16),
    #[error("the handler changes the session by what is no JSON object: give an object, or null to end it")]
    SessionShape,
    #[error("the handler makes the session {0} bytes of JSON, where the front takes {1}: keep less in it")]
    SessionSize(usize, u64),
    #[error("the handler set a header named {0:?}, which is no header name")]
    HeaderName(String),
    #[error("the handler holds what cannot be held: {0}")]
    Hold(#[from] HoldError),
    #[error("the handler set the header {0} to a value with a control character or one beyond Latin-1")]
    HeaderValue(String),
}

/// What a handler may return.
///
/// An `Err` is answered with 500. Its text reaches the log with the request's id, and the client only where the
/// environment variable `TEMPEST_ENV` is `development`.
pub trait IntoResponse {
    /// The answer, or why there is none.
    fn into_response(self) -> Result<Response, BoxError>;
}

impl IntoResponse for Response {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(self)
    }
}

impl<T: IntoResponse, E: Into<BoxError>> IntoResponse for Result<T, E> {
    fn into_response(self) -> Result<Response, BoxError> {
        self.map_err(Into::into)?.into_response()
    }
}

/// 404 for nothing.
impl<T: IntoResponse> IntoResponse for Option<T> {
    fn into_response(self) -> Result<Response, BoxError> {
        self.map_or_else(|| Ok(Response::text("not found\n").with_status(404)), T::into_response)
    }
}

/// A status before something else.
impl<T: IntoResponse> IntoResponse for (u16, T) {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(self.1.into_response()?.with_status(self.0))
    }
}

/// 204.
impl IntoResponse for () {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(Response::new(204))
    }
}

/// Plain text.
impl IntoResponse for &'static str {
    fn into_response(self) -> Result<Response, BoxError> {
        let text = Response::bytes(Bytes::from_static(self.as_bytes()));
        Ok(text.with_header("content-type", "text/plain; charset=utf-8"))
    }
}

/// Plain text.
impl IntoResponse for String {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(Response::text(self))
    }
}

/// Bytes without a type.
impl IntoResponse for Bytes {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(Response::bytes(self).with_header("content-type", "application/octet-stream"))
    }
}

/// Bytes without a type.
impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Result<Response, BoxError> {
        Bytes::from(self).into_response()
    }
}

/// JSON.
impl IntoResponse for serde_json::Value {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(Response::json(&self)?)
    }
}

/// An error and what caused it, one line each.
pub(crate) fn error_chain(error: &(dyn Error + Send + Sync + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str("\ncaused by: ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_front_would_refuse_is_refused_here() {
        assert!(Response::text("x").with_header("x-a", "caf\u{e9}\t1").check().is_ok());
        assert!(Response::text("x").with_header("X-9!#$%&'*+-.^_`|~z", "\t ~").check().is_ok());
        for bad in [
            Response::new(101),
            Response::new(600),
            Response::new(200).with_header("x a", "1"),
            Response::new(200).with_header("x:", "1"),
            Response::new(200).with_header("x\u{fc}", "1"),
            Response::new(200).with_header("x-a", "1\u{7f}"),
            Response::new(200).with_header("", "1"),
            Response::new(200).with_header("x-a", "1\r\nx-b: 2"),
            Response::new(200).with_header("x-a", "5 €"),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn values_become_responses() {
        let status = |response: Result<Response, BoxError>| response.expect("a response").status();
        assert_eq!(status(().into_response()), 204);
        assert_eq!(status((201, "made").into_response()), 201);
        assert_eq!(status(None::<String>.into_response()), 404);
        assert_eq!(status(Ok::<_, BoxError>(serde_json::json!({"a": 1})).into_response()), 200);
        assert!(Err::<String, _>("no").into_response().is_err());
    }
}
