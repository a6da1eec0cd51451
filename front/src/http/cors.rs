//! Which pages of other origins may read answers, and what browsers are told of it.
//!
//! An origin that is listed by name may send its cookies along, and so its user's token; `*` lets everybody read what
//! needs no token, and browsers send no cookies there. That is how it is for channels; a route to anything else says
//! itself whether cookies come along, and its preflight requests are answered here instead of by whoever is behind it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};

use super::{Body, accept};
use crate::config::{Channels, Cors};

/// What a script may send; browsers ask before they let it.
const REQUEST_HEADERS: &str = "Authorization, Last-Event-ID, Cache-Control, Content-Type, Idempotency-Key";
/// For how many seconds a browser need not ask again.
const MAX_AGE: &str = "86400";

/// An origin that may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// This one, with its cookies.
    Named(HeaderValue),
    /// Any, without.
    Any,
}

impl Allowed {
    /// None where the request names no origin, or one that may not read.
    pub(super) fn of(channels: &Channels, headers: &HeaderMap) -> Option<Self> {
        let origin = headers.get(header::ORIGIN)?;
        let listed = |wanted: &[u8]| channels.cors.iter().any(|allowed| allowed.as_bytes() == wanted);
        // By name first, since that allows more. An Origin of `*` is nobody's.
        if origin != "*" && listed(origin.as_bytes()) {
            return Some(Self::Named(origin.clone()));
        }
        listed(b"*").then_some(Self::Any)
    }

    /// Tells the browser.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        match self {
            Self::Any => {
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            Self::Named(origin) => {
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
                headers.insert(header::VARY, HeaderValue::from_static("Origin"));
            }
        }
    }
}

/// The answer to OPTIONS; `methods` are those of the route.
pub(super) fn preflight(allowed: Option<&Allowed>, methods: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::whole(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    if let Some(allowed) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
        allowed.add_to(headers);
    }
    response
}

/// The method that a browser asks for, where a request is such a question.
pub(super) fn asked_for<B>(request: &Request<B>) -> Option<Method> {
    if *request.method() != Method::OPTIONS {
        return None;
    }
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(asked.as_bytes()).ok()
}

/// What a route says to pages of other origins, as headers.
pub(super) struct RouteCors {
    origins: Vec<String>,
    any: bool,
    credentials: bool,
    methods: HeaderValue,
    headers: HeaderValue,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
}

impl RouteCors {
    pub(super) fn new(cors: &Cors) -> Self {
        let joined = |names: Vec<&str>| HeaderValue::from_str(&names.join(", ")).expect("names are visible ASCII");
        let names = |names: &[HeaderName]| joined(names.iter().map(HeaderName::as_str).collect());
        Self {
            any: cors.origins.iter().any(|origin| origin == "*"),
            origins: cors.origins.clone(),
            credentials: cors.credentials,
            methods: joined(cors.methods.iter().map(Method::as_str).collect()),
            headers: names(&cors.headers),
            expose: (!cors.expose.is_empty()).then(|| names(&cors.expose)),
            max_age: HeaderValue::from(cors.max_age.as_secs()),
        }
    }

    fn is_allowed(&self, origin: &HeaderValue) -> bool {
        self.any || self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
    }

    /// Tells the browser who may read an answer. What somebody behind the route says of it does not count.
    pub(super) fn tell(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        headers.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
        if !self.any {
            // Said to others, too, so that a cache does not give one the answer for another.
            accept::add_vary(headers, "Origin");
        }
        let Some(origin) = origin.filter(|origin| self.is_allowed(origin)) else { return };
        let told = if self.any { HeaderValue::from_static("*") } else { origin.clone() };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, told);
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(expose) = &self.expose {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    /// The answer to a browser that asks before it lets a script ask. Who may read it is told as of any answer.
    pub(super) fn preflight(&self, origin: Option<&HeaderValue>) -> Response<Body> {
        let mut response = Response::new(Body::whole(""));
        *response.status_mut() = StatusCode::NO_CONTENT;
        if origin.is_some_and(|origin| self.is_allowed(origin)) {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn allowed(list: &str, origin: &'static str) -> Option<Allowed> {
        let config = Config::from_toml(&format!("channels.cors = {list}"), Path::new("/")).expect("a good list");
        let headers = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
        Allowed::of(&config.channels, &headers)
    }

    #[test]
    fn only_a_name_allows_cookies() {
        let named = Some(Allowed::Named(HeaderValue::from_static("https://a.test")));
        assert_eq!(allowed("[\"https://a.test\"]", "https://a.test"), named);
        assert_eq!(allowed("[\"*\", \"https://a.test\"]", "https://a.test"), named);
        assert_eq!(allowed("[\"*\", \"https://a.test\"]", "https://b.test"), Some(Allowed::Any));
        assert_eq!(allowed("[\"*\"]", "*"), Some(Allowed::Any), "nobody's origin is no name");
        assert_eq!(allowed("[\"https://a.test\"]", "https://b.test"), None);
        assert_eq!(allowed("[]", "null"), None);
    }
}
