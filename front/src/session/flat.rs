//! A session as the fields of a Redis hash, and a merge patch as steps on them.
//!
//! A field is the path of a value that is no object, its names joined by `/`; an object has a field of its path with a `/`
//! behind it. So two patches that touch different members touch different fields, and a script can do one without reading
//! JSON: in Lua `[]` becomes `{}`, and large numbers lose digits. In a name `~` is `~0`, `/` is `~1` (RFC 6901), and the
//! empty one is `~`.

use serde_json::{Map, Value};
use tempest_protocol::Session;

/// One step of a patch; paths as above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is at this path, or below it.
    Remove(String),
    /// This value is there, as JSON, and nothing else.
    Put(String, String),
    /// An object is there; what it holds stays.
    Object(String),
}

/// What a patch does.
pub(super) fn steps(patch: &Session) -> Vec<Step> {
    let mut steps = Vec::new();
    walk("", patch, &mut steps);
    steps
}

fn walk(above: &str, patch: &Session, steps: &mut Vec<Step>) {
    for (name, value) in patch {
        let path = join(above, name);
        match value {
            Value::Null => steps.push(Step::Remove(path)),
            Value::Object(inner) => {
                steps.push(Step::Object(path.clone()));
                walk(&path, inner, steps);
            }
            value => steps.push(Step::Put(path, value.to_string())),
        }
    }
}

fn join(above: &str, name: &str) -> String {
    let name = match name {
        "" => "~".to_owned(),
        name => name.replace('~', "~0").replace('/', "~1"),
    };
    if above.is_empty() { name } else { format!("{above}/{name}") }
}

/// The session that these fields are; what is none of ours is passed over.
pub(super) fn session<'f>(fields: impl Iterator<Item = (&'f str, &'f str)>) -> Session {
    let mut session = Map::new();
    for (path, value) in fields {
        let (path, value) = match path.strip_suffix('/') {
            Some(path) => (path, Some(Value::Object(Map::new()))),
            None => (path, serde_json::from_str(value).ok()),
        };
        let names: Option<Vec<String>> = path.split('/').map(name).collect();
        if let (Some(value), Some(names)) = (value, names) {
            put(&mut session, &names, value);
        }
    }
    session
}

/// A name as it was; None: it is none.
fn name(part: &str) -> Option<String> {
    match part {
        "" => None,
        "~" => Some(String::new()),
        part => Some(part.replace("~1", "/").replace("~0", "~")),
    }
}

fn put(object: &mut Session, names: &[String], value: Value) {
    let Some((name, below)) = names.split_first() else { return };
    let place = object.entry(name.as_str()).or_insert_with(|| Value::Object(Map::new()));
    match (below.is_empty(), place) {
        // The field of an object says that it is one, and may come behind those of its members.
        (true, Value::Object(_)) if value.as_object().is_some_and(Map::is_empty) => {}
        (true, place) => *place = value,
        (false, Value::Object(inner)) => put(inner, below, value),
        (false, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use tempest_protocol::SessionChange;

    use super::*;

    fn object(value: &Value) -> Session {
        value.as_object().expect("an object").clone()
    }

    /// What the script does, on a map.
    fn take(fields: &mut BTreeMap<String, String>, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Remove(path) => remove(fields, &path),
                Step::Put(path, value) => {
                    remove(fields, &path);
                    fields.insert(path, value);
                }
                Step::Object(path) => {
                    fields.remove(&path);
                    fields.insert(format!("{path}/"), String::new());
                }
            }
        }
    }

    fn remove(fields: &mut BTreeMap<String, String>, path: &str) {
        let below = format!("{path}/");
        fields.retain(|field, _| field != path && !field.starts_with(&below));
    }

    #[test]
    fn steps_do_what_the_patch_says() {
        let patches = [
            json!({"a": 1, "b": {"c": {"d": [1, {"e": {}}]}}, "x/y~z": {"": "\u{fc}"}, "": 0}),
            json!({"a": {"b": null}}),
            json!({"b": {"c": {"d": null}}}),
            json!({"b": {"c": 5}}),
            json!({"b": {"c": {"e": 1, "f": {}}}, "": null}),
            json!({"x/y~z": {"": null, "~1": 2}}),
            json!({"ab": 1, "a": null}),
            json!({"b": null, "x/y~z": null, "ab": null}),
        ];
        let (mut fields, mut expected) = (BTreeMap::new(), Session::new());
        for patch in patches {
            take(&mut fields, steps(&object(&patch)));
            SessionChange::Patch(object(&patch)).apply(&mut expected);
            for order in [fields.iter().collect::<Vec<_>>(), fields.iter().rev().collect()] {
                let found = session(order.into_iter().map(|(path, value)| (path.as_str(), value.as_str())));
                assert_eq!(found, expected, "{patch}");
            }
        }
        assert!(fields.is_empty(), "{fields:?}");
    }

    #[test]
    fn strange_fields_do_no_harm() {
        let fields = [("a", "1"), ("a/b", "2"), ("", "x"), ("c", "no JSON"), ("/", ""), ("d//e", "1"), ("f", "2")];
        assert_eq!(Value::Object(session(fields.into_iter())), json!({"a": 1, "f": 2}));
    }
}
