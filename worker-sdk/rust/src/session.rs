//! The client's session: read from a request, changed by a response.
//!
//! The front keeps it and applies what a response says; here is looked at what it would refuse, so that a handler's mistake
//! shows up in its own log. It must not keep a session from one request to the next.

use serde_json::{Map, Value};
use tempest_protocol::{Job, JobText, SessionChange, write_session};

use crate::request::Request;
use crate::response::{InvalidResponse, Response};

impl Request {
    /// The client's session, empty where it has none, and where the front keeps none.
    pub fn session(&self) -> Map<String, Value> {
        self.job().session()
    }
}

impl Response {
    /// Changes the client's session by a merge patch (RFC 7396), an object: its members replace those of the session, objects
    /// are merged, and null removes. With null alone the session ends.
    ///
    /// ```
    /// use serde_json::json;
    /// use tempest_worker::{Request, Response};
    ///
    /// async fn count(request: Request) -> Response {
    ///     let visits = request.session().get("visits").and_then(|n| n.as_u64()).unwrap_or(0) + 1;
    ///     Response::text(format!("visit {visits}\n")).with_session(json!({"visits": visits}))
    /// }
    /// ```
    #[must_use]
    pub fn with_session(mut self, patch: Value) -> Self {
        self.session = Some(Box::new(patch));
        self
    }

    /// Ends the client's session.
    #[must_use]
    pub fn end_session(self) -> Self {
        self.with_session(Value::Null)
    }
}

/// What a job says of its session, kept until its answer is made.
#[derive(Debug)]
pub(crate) struct Known {
    text: JobText,
    max: u64,
}

impl Known {
    /// None: the front keeps no session for it.
    pub(crate) fn of(job: &Job) -> Option<Box<Self>> {
        Some(Box::new(Self { text: job.shared_session()?, max: job.session_max()? }))
    }
}

/// A response's change of the session, looked at.
pub(crate) fn change(patch: Option<&Value>, known: Option<&Known>) -> Result<Option<SessionChange>, InvalidResponse> {
    let change = match patch {
        None => return Ok(None),
        Some(Value::Null) => SessionChange::End,
        Some(Value::Object(patch)) => SessionChange::Patch(patch.clone()),
        Some(_) => return Err(InvalidResponse::SessionShape),
    };
    if let Some(Known { text, max }) = known {
        let mut session = serde_json::from_str(text).unwrap_or_default();
        change.apply(&mut session);
        let mut bytes = Vec::new();
        write_session(&mut bytes, &session);
        if bytes.len() as u64 > *max {
            return Err(InvalidResponse::SessionSize(bytes.len(), *max));
        }
    }
    Ok(Some(change))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempest_protocol::JobFields;

    use super::*;

    fn known(session: &Value, max: u64) -> Option<Box<Known>> {
        let session = serde_json::value::to_raw_value(session).ok();
        Known::of(&Job::from(JobFields { session, session_max: Some(max), ..JobFields::default() }))
    }

    #[test]
    fn what_the_front_would_refuse_is_refused_here() {
        let known = known(&json!({"a": "x"}), 18);
        let change = |patch: Value| change(Some(&patch), known.as_deref());
        assert_eq!(
            change(json!({"b": "yy"})).expect("18 bytes"),
            Some(SessionChange::Patch(json!({"b": "yy"}).as_object().cloned().expect("an object")))
        );
        assert!(matches!(change(json!({"b": "yyy"})), Err(InvalidResponse::SessionSize(19, 18))));
        assert!(change(json!({"a": null, "b": "yyyyyyy"})).is_ok(), "what goes makes room");
        assert_eq!(change(Value::Null).expect("an end"), Some(SessionChange::End));
        for bad in [json!([]), json!("x"), json!(1), json!(true)] {
            assert!(matches!(change(bad), Err(InvalidResponse::SessionShape)));
        }
        assert!(super::change(None, known.as_deref()).expect("nothing").is_none());
    }
}
