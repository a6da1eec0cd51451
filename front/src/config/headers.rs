//! Headers that the front adds to answers or takes out of them: for all routes, and more for one.
//!
//! Which of them wins is said here, by [`HeaderRules::over`]; they are applied by `http::around`.

use http::{HeaderName, HeaderValue, header};

use super::files::header_value;
use super::section::Section;
use super::value::{Read, Value, boolean, list, string};

/// What becomes of an answer's headers, in this order: taken out, given where there is none, given in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Taken out.
    pub remove: Vec<HeaderName>,
    /// Given where the answer has none of the name.
    pub default: Vec<(HeaderName, HeaderValue)>,
    /// Given instead of whatever the answer has.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// The usual ones that keep browsers from guessing and framing; None: not said.
    pub security: Option<bool>,
}

impl HeaderRules {
    /// These rules with others under them: where both speak of a header, these hold.
    #[must_use]
    pub fn over(&self, under: &Self) -> Self {
        let names =
            |rules: &[(HeaderName, HeaderValue)]| rules.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let own: Vec<HeaderName> = [names(&self.default), names(&self.set), self.remove.clone()].concat();
        let more = |rules: &[(HeaderName, HeaderValue)], own_rules: &[(HeaderName, HeaderValue)]| {
            let others = rules.iter().filter(|(name, _)| !own.contains(name));
            own_rules.iter().chain(others).cloned().collect()
        };
        let others = under.remove.iter().filter(|name| !own.contains(name));
        Self {
            remove: self.remove.iter().chain(others).cloned().collect(),
            default: more(&under.default, &self.default),
            set: more(&under.set, &self.set),
            security: self.security.or(under.security),
        }
    }

    /// True where they change nothing.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.default.is_empty() && self.set.is_empty() && self.security != Some(true)
    }
}

/// Reads `[headers]`, or `headers` of a route.
pub(super) fn read(mut section: Section<'_>) -> HeaderRules {
    let remove = section.get("remove", list(own_name), Vec::new());
    let default = pairs(section.section("default"));
    let set = pairs(section.section("set"));
    let rules = HeaderRules { remove, default, set, security: section.optional("security", boolean) };
    section.finish();
    rules
}

fn pairs(section: Section<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let (source, path, at) = (section.source, section.path.clone(), section.at);
    let named = |(name, value): (String, HeaderValue)| match header_name(&name) {
        Some(header) => Some((header, value)),
        None => {
            source.problem(at, &format!("{path}.{name}"), EXPECTED);
            None
        }
    };
    section.pairs(header_value).into_iter().filter_map(named).collect()
}

const EXPECTED: &str = "expected the name of a header that is not the connection's own affair";

/// How long an answer is and how it is framed is never a matter of taste.
fn header_name(name: &str) -> Option<HeaderName> {
    let framing =
        [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::UPGRADE, header::TRAILER];
    name.parse::<HeaderName>().ok().filter(|name| !framing.contains(name))
}

fn own_name(value: &Value<'_>) -> Read<HeaderName> {
    header_name(&string(value)?)
        .ok_or_else(|| value.wrong("the name of a header that is not the connection's own affair"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn rules(text: &str) -> HeaderRules {
        Config::from_toml(text, Path::new("/")).unwrap_or_else(|problems| panic!("{problems}")).headers
    }

    #[test]
    fn what_is_nearer_holds() {
        let under = rules("[headers]\nset = { X-A = \"all\", X-B = \"all\" }\nremove = [\"Server\"]\nsecurity = true");
        let own = rules("[headers]\nset = { X-A = \"own\" }\ndefault = { Server = \"mine\" }");
        let both = own.over(&under);
        assert_eq!(both.set, rules("[headers]\nset = { X-A = \"own\", X-B = \"all\" }").set);
        assert_eq!((both.remove.len(), both.default.len(), both.security), (0, 1, Some(true)));
        let without = rules("[headers]\nsecurity = false").over(&under);
        assert_eq!(without.security, Some(false));
        assert!(rules("").is_empty() && rules("headers.security = false").is_empty() && !under.is_empty());
    }

    #[test]
    fn framing_is_no_matter_of_taste() {
        for bad in ["set = { Content-Length = \"1\" }", "remove = [\"Connection\"]", "default = { \"a b\" = \"x\" }"] {
            let text = format!("[headers]\n{bad}");
            assert_eq!(Config::from_toml(&text, Path::new("/")).expect_err(bad).0.len(), 1, "{bad}");
        }
    }
}
