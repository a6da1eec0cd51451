//! Which handler answers which job.
//!
//! HTTP requests go by path and method, in the order the routes were added; messages of an application's own action
//! go by its name. It must not run handlers.

use std::collections::HashMap;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use tempest_protocol::Job;

use crate::handler::Handler;
use crate::request::Params;

/// The action of a job that is an HTTP request.
const HTTP: &str = "http";

type Shared = Arc<dyn Handler>;

/// All routes of an application.
#[derive(Default)]
pub(crate) struct Router {
    routes: Vec<Route>,
    fallback: Option<Shared>,
    actions: HashMap<String, Shared>,
}

struct Route {
    pattern: Pattern,
    /// None: every method.
    method: Option<String>,
    handler: Shared,
}

/// What a job leads to.
pub(crate) enum Matched {
    Handler(Shared, Params),
    /// No route has this path.
    NotFound,
    /// Routes have this path, with these methods.
    WrongMethod(String),
    /// Nobody handles this action.
    UnknownAction,
}

/// A path that is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a route's path: begin with `/`, write `{{name}}` for one segment, `{{*name}}` for all that follow"
)]
pub struct PatternError(String);

impl Router {
    pub(crate) fn add(&mut self, method: Option<&str>, path: &str, handler: Shared) -> Result<(), PatternError> {
        let pattern = Pattern::parse(path)?;
        self.routes.push(Route { pattern, method: method.map(str::to_owned), handler });
        Ok(())
    }

    pub(crate) fn set_fallback(&mut self, handler: Shared) {
        self.fallback = Some(handler);
    }

    pub(crate) fn add_action(&mut self, action: &str, handler: Shared) {
        self.actions.insert(action.to_owned(), handler);
    }

    pub(crate) fn find(&self, job: &Job) -> Matched {
        if job.action() != HTTP {
            let handler = self.actions.get(job.action()).cloned();
            return handler.map_or(Matched::UnknownAction, |handler| Matched::Handler(handler, Params::new()));
        }
        let mut allowed = Vec::new();
        for route in &self.routes {
            if !route.pattern.fits(job.path()) {
                continue;
            }
            if route.answers(job.method()) {
                return Matched::Handler(route.handler.clone(), route.pattern.params(job.path()));
            }
            allowed.extend(route.method.as_deref());
        }
        match &self.fallback {
            Some(handler) => Matched::Handler(handler.clone(), Params::new()),
            None if allowed.is_empty() => Matched::NotFound,
            None => Matched::WrongMethod(allow(allowed)),
        }
    }
}

impl Route {
    /// A route for GET answers HEAD as well (RFC 9110, section 9.3.2).
    fn answers(&self, method: &str) -> bool {
        self.method.as_deref().is_none_or(|own| own == method || (own == "GET" && method == "HEAD"))
    }
}

fn allow(mut methods: Vec<&str>) -> String {
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ")
}

/// A path with holes.
#[derive(Debug)]
struct Pattern {
    segments: Vec<Segment>,
    /// The path itself, where the pattern has no holes: nearly every request for it spells it like this.
    whole: Option<String>,
}

#[derive(Debug)]
enum Segment {
    Literal(String),
    /// `{name}`: one segment that is not empty.
    One(Arc<str>),
    /// `{*name}`: all that follows, nothing included.
    Rest(Arc<str>),
}

impl Pattern {
    fn parse(path: &str) -> Result<Self, PatternError> {
        let wrong = || PatternError(path.to_owned());
        let inner = path.strip_prefix('/').ok_or_else(wrong)?;
        let segments: Option<Vec<Segment>> = inner.split('/').map(Segment::parse).collect();
        let segments = segments.ok_or_else(wrong)?;
        let rest_at = segments.iter().position(|segment| matches!(segment, Segment::Rest(_)));
        if rest_at.is_some_and(|at| at + 1 != segments.len()) {
            return Err(wrong());
        }
        let literal = segments.iter().all(|segment| matches!(segment, Segment::Literal(_)));
        Ok(Self { segments, whole: literal.then(|| path.to_owned()) })
    }

    fn fits(&self, path: &str) -> bool {
        if self.whole.as_deref() == Some(path) {
            return true;
        }
        let Some(mut rest) = path.strip_prefix('/').map(Some) else { return false };
        for segment in &self.segments {
            if let Segment::Rest(_) = segment {
                return true;
            }
            let Some(text) = rest else { return false };
            let (first, following) = split_segment(text);
            if !segment.fits(first) {
                return false;
            }
            rest = following;
        }
        rest.is_none()
    }

    /// The values of a path that fits.
    fn params(&self, path: &str) -> Params {
        let mut params = Params::new();
        if self.whole.is_some() {
            return params;
        }
        let mut rest = path.strip_prefix('/');
        for segment in &self.segments {
            let text = rest.unwrap_or_default();
            let (first, following) = split_segment(text);
            match segment {
                Segment::Literal(_) => {}
                Segment::One(name) => params.push((name.clone(), decoded(first))),
                Segment::Rest(name) => params.push((name.clone(), decoded(text))),
            }
            rest = following;
        }
        params
    }
}

fn split_segment(text: &str) -> (&str, Option<&str>) {
    text.split_once('/').map_or((text, None), |(first, rest)| (first, Some(rest)))
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

impl Segment {
    fn parse(text: &str) -> Option<Self> {
        let Some(name) = text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) else {
            return (!text.contains(['{', '}'])).then(|| Self::Literal(text.to_owned()));
        };
        let (rest, name) = name.strip_prefix('*').map_or((false, name), |name| (true, name));
        let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        good.then(|| if rest { Self::Rest(name.into()) } else { Self::One(name.into()) })
    }

    fn fits(&self, text: &str) -> bool {
        match self {
            // The client may have encoded what the pattern writes plainly.
            Self::Literal(literal) => literal == text || (text.contains('%') && *literal == decoded(text)),
            Self::One(_) => !text.is_empty(),
            Self::Rest(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use tempest_protocol::JobFields;

    use super::*;

    fn params(pattern: &str, path: &str) -> Option<Vec<String>> {
        let pattern = Pattern::parse(pattern).expect("a pattern");
        pattern.fits(path).then(|| pattern.params(path).into_iter().map(|(_, value)| value).collect())
    }

    fn some(values: &[&str]) -> Option<Vec<String>> {
        Some(values.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn patterns_fit_whole_paths() {
        assert_eq!(params("/", "/"), some(&[]));
        assert_eq!(params("/", "/a"), None);
        assert_eq!(params("/a/b", "/a/b"), some(&[]));
        assert_eq!(params("/a/b", "/a/b/"), None);
        assert_eq!(params("/hello/{name}", "/hello/a%20b"), some(&["a b"]));
        assert_eq!(params("/hello/{name}", "/hello/"), None);
        assert_eq!(params("/{a}/x/{b}", "/1/x/2"), some(&["1", "2"]));
        assert_eq!(params("/files/{*path}", "/files/a/b.txt"), some(&["a/b.txt"]));
        assert_eq!(params("/files/{*path}", "/files"), some(&[""]));
        assert_eq!(params("/grüße", "/gr%C3%BC%C3%9Fe"), some(&[]));
        assert_eq!(params("/a", "*"), None);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "a", "/{", "/{}", "/x{a}", "/{a b}", "/{*rest}/more"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn methods_and_actions_are_told_apart() {
        let handler = || -> Shared { Arc::new(|_request| async {}) };
        let mut router = Router::default();
        router.add(Some("GET"), "/a", handler()).expect("a pattern");
        router.add(Some("POST"), "/a", handler()).expect("a pattern");
        router.add_action("resize", handler());
        let find = |action: &str, method: &str, path: &str| {
            let (action, method, path) = (action.into(), method.into(), path.into());
            let job = JobFields { action, method, path, ..JobFields::default() };
            match router.find(&job.into()) {
                Matched::Handler(..) => "handler".to_owned(),
                Matched::NotFound => "not found".into(),
                Matched::WrongMethod(allow) => allow,
                Matched::UnknownAction => "unknown".into(),
            }
        };
        assert_eq!(find("http", "HEAD", "/a"), "handler");
        assert_eq!(find("http", "PUT", "/a"), "GET, HEAD, POST");
        assert_eq!(find("http", "GET", "/b"), "not found");
        assert_eq!(find("resize", "", ""), "handler");
        assert_eq!(find("other", "", ""), "unknown");
    }
}
