//! What surrounds the answers of a route, whoever gives them: headers, other origins, compression.
//!
//! Decided when the router is built: a route that asks for nothing of it has none, and its requests pass by. It must
//! not look at what a route does, only at requests and responses. Event streams have heads of their own and never come
//! here.

use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};

use super::compress::Compress;
use super::cors::RouteCors;
use super::{Body, Incoming};
use crate::config::{Coding, Config, HeaderRules, RouteAround};

/// What is done around a route.
pub struct Around {
    compress: Option<Rc<Compress>>,
    headers: Option<HeaderRules>,
    cors: Option<RouteCors>,
}

/// What of a request is needed once its answer is there.
pub(super) struct Asked {
    is_head: bool,
    https: bool,
    coding: Option<Coding>,
    origin: Option<HeaderValue>,
}

/// What the routes of one reactor share.
pub(super) struct Common {
    compress: Rc<Compress>,
    on: bool,
    headers: HeaderRules,
}

impl Common {
    pub(super) fn new(config: &Config) -> Self {
        Self { compress: Compress::new(&config.compress), on: config.compress.on, headers: config.headers.clone() }
    }

    /// None where nothing is to be done.
    pub(super) fn around(&self, route: &RouteAround) -> Option<Rc<Around>> {
        let around = Around {
            compress: route.compress.unwrap_or(self.on).then(|| Rc::clone(&self.compress)),
            headers: Some(route.headers.over(&self.headers)).filter(|rules| !rules.is_empty()),
            cors: route.cors.as_ref().map(RouteCors::new),
        };
        let some = around.compress.is_some() || around.headers.is_some() || around.cors.is_some();
        some.then(|| Rc::new(around))
    }
}

impl Around {
    /// Looks at a request, before its route gets it.
    pub(super) fn ask(&self, request: &Request<Incoming>, https: bool) -> Box<Asked> {
        let headers = request.headers();
        Box::new(Asked {
            is_head: *request.method() == Method::HEAD,
            https,
            coding: self.compress.as_ref().and_then(|compress| compress.coding(headers)),
            origin: self.cors.as_ref().and_then(|_| headers.get(header::ORIGIN).cloned()),
        })
    }

    /// Who may ask from elsewhere, where the route says so.
    pub(super) fn cors(&self) -> Option<&RouteCors> {
        self.cors.as_ref()
    }

    /// Gives an answer what belongs around it.
    pub(super) fn finish(&self, asked: &Asked, response: &mut Response<Body>) {
        if let Some(cors) = &self.cors {
            cors.tell(asked.origin.as_ref(), response.headers_mut());
        }
        // A stream of events has a head of its own, which it writes itself where it leaves HTTP.
        if let (Some(rules), false) = (&self.headers, response.body().is_events()) {
            apply(rules, asked.https, response.headers_mut());
        }
        if let (Some(compress), false) = (&self.compress, asked.is_head) {
            compress.apply(asked.coding, response);
        }
    }
}

/// What `security = true` gives where an answer has none of its own: no guessing of types, no paths told to other sites,
/// no frames of other sites (in the old word for it and the new one).
const SECURITY: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("frame-ancestors 'self'")),
];
/// And this over https only: over http a browser must pass over it (RFC 6797, section 8.1).
const HSTS: (HeaderName, HeaderValue) =
    (header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));

fn apply(rules: &HeaderRules, https: bool, headers: &mut HeaderMap) {
    for name in &rules.remove {
        headers.remove(name);
    }
    for (name, value) in &rules.default {
        headers.entry(name).or_insert_with(|| value.clone());
    }
    for (name, value) in &rules.set {
        headers.insert(name, value.clone());
    }
    if rules.security == Some(true) {
        let all = SECURITY.into_iter().chain(https.then_some(HSTS));
        // What was taken out on purpose stays out.
        for (name, value) in all.filter(|(name, _)| !rules.remove.contains(name)) {
            headers.entry(name).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn applied(rules: &str, https: bool, given: &[(&'static str, &'static str)]) -> HeaderMap {
        let config = Config::from_toml(&format!("[headers]\n{rules}"), Path::new("/")).expect("good rules");
        let given = given.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = given.collect();
        apply(&config.headers, https, &mut headers);
        headers
    }

    #[test]
    fn headers_are_taken_out_given_and_replaced() {
        let rules = "remove = [\"server\"]\ndefault = { X-A = \"1\", X-B = \"1\" }\nset = { X-C = \"1\" }";
        let headers = applied(rules, false, &[("server", "x"), ("x-a", "own"), ("x-c", "own")]);
        assert_eq!(
            (headers.get("server"), &headers["x-a"], &headers["x-b"]),
            (None, &HeaderValue::from_static("own"), &HeaderValue::from_static("1"))
        );
        assert_eq!(headers["x-c"], "1");
    }

    #[test]
    fn the_preset_leaves_an_answers_own_policy() {
        let own = [("content-security-policy", "default-src 'self'")];
        let headers = applied("security = true\nremove = [\"x-frame-options\"]", false, &own);
        assert_eq!(headers["content-security-policy"], "default-src 'self'");
        assert_eq!(
            (&headers["referrer-policy"], headers.len()),
            (&HeaderValue::from_static("strict-origin-when-cross-origin"), 3)
        );
        assert!(applied("security = true", true, &[]).contains_key(header::STRICT_TRANSPORT_SECURITY), "over https");
    }
}
