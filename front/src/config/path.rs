//! Path patterns: `/a/{x}/{rest...}`, how they are written.
//!
//! What they match is decided by the router.

/// A path pattern in parts: `/a/{x}/{rest...}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// As written.
    pub text: String,
    /// The segments between slashes.
    pub segments: Vec<Segment>,
}

/// One segment of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text.
    Literal(String),
    /// Any one segment.
    One(String),
    /// All that is left, slashes included, possibly nothing; only at the end.
    Rest(String),
}

impl std::str::FromStr for PathPattern {
    type Err = String;

    /// Reads `/a/{x}/{rest...}`; the error says what was expected.
    fn from_str(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('/').ok_or("expected a path that begins with /")?;
        let segments = inner.split('/').map(segment).collect::<Result<Vec<_>, String>>()?;
        let names: Vec<&str> = segments.iter().filter_map(Segment::name).collect();
        if names.iter().enumerate().any(|(i, name)| names[..i].contains(name)) {
            return Err("expected a name of its own for each {name}".to_owned());
        }
        let before_last = &segments[..segments.len() - 1];
        if before_last.iter().any(|segment| matches!(segment, Segment::Rest(_))) {
            return Err("expected {name...} at the end only".to_owned());
        }
        Ok(Self { text: text.to_owned(), segments })
    }
}

impl Segment {
    /// The name of the part, where it has one.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Segment::Literal(_) => None,
            Segment::One(name) | Segment::Rest(name) => Some(name),
        }
    }
}

fn segment(text: &str) -> Result<Segment, String> {
    let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        let unfit = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '{' | '}' | '?' | '#');
        return match text.find(unfit) {
            None => Ok(Segment::Literal(text.to_owned())),
            Some(_) => Err("expected {name} as a whole segment, and no ? # or white space".to_owned()),
        };
    };
    let (name, rest) = inner.strip_suffix("...").map_or((inner, false), |name| (name, true));
    let fit = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || !name.bytes().all(fit) {
        return Err("expected a name of letters, digits and _ in {name} or {name...}".to_owned());
    }
    Ok(if rest { Segment::Rest(name.to_owned()) } else { Segment::One(name.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(text: &str) -> Vec<Segment> {
        text.parse::<PathPattern>().expect("a pattern").segments
    }

    #[test]
    fn reads_patterns() {
        let literal = |text: &str| Segment::Literal(text.into());
        assert_eq!(segments("/"), [literal("")]);
        assert_eq!(segments("/a/b"), [literal("a"), literal("b")]);
        assert_eq!(segments("/a/"), [literal("a"), literal("")]);
        assert_eq!(
            segments("/{x}/b/{rest...}"),
            [Segment::One("x".into()), literal("b"), Segment::Rest("rest".into())]
        );
    }

    #[test]
    fn refuses_what_is_no_pattern() {
        for (text, part) in [
            ("", "begins with /"),
            ("a", "begins with /"),
            ("/{x}/{x}", "of its own"),
            ("/{x...}/a", "at the end only"),
            ("/a{x}", "whole segment"),
            ("/{x", "whole segment"),
            ("/{}", "letters"),
            ("/{...}", "letters"),
            ("/{a b}", "letters"),
            ("/a?b", "no ?"),
            ("/a b", "white space"),
        ] {
            let error = text.parse::<PathPattern>().expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
