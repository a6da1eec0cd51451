//! An answer that hands the client's connection to channels.
//!
//! It says what is to be held; the front holds it. What the contract does not allow is refused where the answer is made,
//! like everything else of a response. It must not subscribe to anything.

use std::time::Duration;

use tempest_protocol::{Hold as Held, HoldMode};

use crate::BoxError;
use crate::response::{IntoResponse, Response, Text};

/// An answer that gives the client's connection to channels and is done with it: the worker may end, and the stream lives
/// in the front. Made by [`Response::hold`].
///
/// ```
/// use std::time::Duration;
/// use tempest_worker::{IntoResponse, Request, Response};
///
/// async fn order_events(request: Request) -> impl IntoResponse {
///     // Here is where the worker finds out whether this client may read them. The channels need not be public.
///     let order = request.param("order").unwrap_or_default().to_owned();
///     Response::hold([format!("orders.{order}"), "news".into()]).first("welcome")
/// }
///
/// async fn next_order(_: Request) -> impl IntoResponse {
///     Response::hold(["orders"]).once(Duration::from_secs(60)).with_header("content-type", "application/json")
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Hold {
    response: Response,
    held: Held,
}

impl Response {
    /// Hands the client's connection to these channels (1 to 64, by the names that browsers give them): a stream of
    /// Server-Sent Events, or, with another `content-type`, of the data as it is published.
    pub fn hold<S: Into<String>>(channels: impl IntoIterator<Item = S>) -> Hold {
        Hold { response: Self::new(200), held: Held::of(channels) }
    }
}

impl Hold {
    /// The next message is the body of an ordinary response; 204 where none comes within this time, a day at most.
    pub fn once(mut self, timeout: Duration) -> Self {
        self.held.mode = HoldMode::Once;
        self.timeout(timeout)
    }

    /// When it ends, at most a day from now. A stream without it has no end.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.held.timeout = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// What a stream begins with: the data of its first event, or, in a raw stream, its first bytes.
    pub fn first(mut self, text: impl Into<String>) -> Self {
        self.held.first = Some(text.into());
        self
    }

    /// Where an event stream begins in channels with history, unless the client says what it has seen: `latest`,
    /// `earliest`, an id, or a time.
    pub fn history(mut self, start: impl Into<String>) -> Self {
        self.held.history = Some(start.into());
        self
    }

    /// Adds a header, beside others of its name.
    pub fn with_header(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.response = self.response.with_header(name, value);
        self
    }

    /// Sets the status of an answer of one message; that of a stream is 200.
    pub fn with_status(mut self, status: u16) -> Self {
        self.response = self.response.with_status(status);
        self
    }
}

impl From<Hold> for Response {
    fn from(hold: Hold) -> Self {
        Self { hold: Some(Box::new(hold.held)), ..hold.response }
    }
}

impl IntoResponse for Hold {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(self.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(hold: Hold) -> String {
        Response::from(hold).check().expect_err("it is refused").to_string()
    }

    #[test]
    fn what_the_front_would_refuse_is_refused_here_with_its_reason() {
        let second = Duration::from_secs(1);
        for good in [
            Response::hold(["a"]),
            Response::hold(vec!["a".to_owned(); 64]).first("").history("earliest").timeout(second),
            Response::hold(["a"]).once(second).with_status(202),
        ] {
            assert!(Response::from(good).check().is_ok());
        }
        for (bad, why) in [
            (Response::hold([] as [&str; 0]), "1 to 64 channels"),
            (Response::hold(vec!["a"; 65]), "1 to 64 channels"),
            (Response::hold([""]), "no name of a channel"),
            (Response::hold(["a\nb"]), "no name of a channel"),
            (Response::hold(["a"]).once(Duration::ZERO), "1 to 86400000 ms"),
            (Response::hold(["a"]).timeout(second * 86_401), "1 to 86400000 ms"),
            (Response::hold(["a"]).once(second).first("x"), "no first message"),
            (Response::hold(["a"]).history(""), "no start point"),
            (Response::hold(["a"]).with_status(201), "status 200"),
            (Response::hold(["a"]).once(second).with_status(204), "status 200"),
        ] {
            let text = refusal(bad);
            assert!(text.contains(why), "{text}");
        }
    }
}
