//! Sessions: what an answer may say of one, and what becomes of it.
//!
//! The front applies a patch and a worker looks beforehand whether it will fit, so both do it here. Where a session is
//! kept, and how a client is known, is the front's affair.

use serde_json::{Map, Value};

use crate::json::write_json_string;
use crate::pack::Pack;

/// A session: a JSON object.
pub type Session = Map<String, Value>;

/// What an answer does to the session of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// A merge patch (RFC 7396): members replace, objects are merged, null removes.
    Patch(Session),
    /// The session ends.
    End,
}

impl SessionChange {
    /// Reads the value of the field `session`; None: neither an object nor null.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::End),
            Value::Object(patch) => Some(Self::Patch(patch.clone())),
            _ => None,
        }
    }

    /// Appends it to `out` as JSON.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::End => out.extend_from_slice(b"null"),
            Self::Patch(patch) => write_session(out, patch),
        }
    }

    /// Writes it as the value of the field that comes next.
    pub(crate) fn pack(&self, map: &mut Pack<'_>) {
        match self {
            Self::End => map.optional(None),
            Self::Patch(patch) => map.json(&Value::Object(patch.clone())),
        }
    }

    /// What the session is after it.
    pub fn apply(&self, session: &mut Session) {
        match self {
            Self::End => session.clear(),
            Self::Patch(patch) => merge(session, patch),
        }
    }
}

/// RFC 7396, section 2, for a target that is an object.
fn merge(target: &mut Session, patch: &Session) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(patch) => {
                let place = target.entry(name.as_str()).or_insert_with(|| Value::Object(Map::new()));
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                if let Value::Object(inner) = place {
                    merge(inner, patch);
                }
            }
            other => {
                target.insert(name.clone(), other.clone());
            }
        }
    }
}

/// Appends a session to `out` as JSON without white space.
pub fn write_session(out: &mut Vec<u8>, session: &Session) {
    out.push(b'{');
    for (at, (name, value)) in session.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_json_string(out, name);
        out.push(b':');
        // A value in memory has string keys and finite numbers, so nothing of it can fail to be JSON.
        serde_json::to_writer(&mut *out, value).expect("a JSON value is JSON, and memory takes it");
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Session {
        match value {
            Value::Object(object) => object,
            other => panic!("{other} is no object"),
        }
    }

    /// The cases of RFC 7396, appendix A, whose target and patch are objects.
    #[test]
    fn patches_as_the_rfc_says() {
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut session = object(target);
            SessionChange::Patch(object(patch.clone())).apply(&mut session);
            assert_eq!(Value::Object(session), result, "{patch}");
        }
    }

    #[test]
    fn an_end_leaves_nothing() {
        let mut session = object(json!({"a": 1}));
        SessionChange::End.apply(&mut session);
        assert!(session.is_empty());
    }

    #[test]
    fn what_is_written_reads_back() {
        let session = object(json!({"a\"": [1, -2.5, "\u{fc}\n"], "b": {"c": {}}, "d": null}));
        let mut out = Vec::new();
        write_session(&mut out, &session);
        assert_eq!(serde_json::from_slice::<Session>(&out).ok(), Some(session));
    }
}
