//! Which pages of other origins may ask a route, and read its answers. Channels have theirs in `channels.cors`.

use std::time::Duration;

use http::{HeaderName, Method};

use super::channels::origin;
use super::routes::method;
use super::section::Section;
use super::value::{Read, Value, boolean, list, string, time};

/// Who may ask from elsewhere.
#[derive(Clone, Debug)]
pub struct Cors {
    /// Origins; `*` is any.
    pub origins: Vec<String>,
    /// Methods.
    pub methods: Vec<Method>,
    /// Headers of a request besides those that browsers always send.
    pub headers: Vec<HeaderName>,
    /// Headers of an answer that a script may read besides the plain ones.
    pub expose: Vec<HeaderName>,
    /// Cookies may come along.
    pub credentials: bool,
    /// For how long a browser need not ask again.
    pub max_age: Duration,
}

/// Reads `cors` of a route.
pub(super) fn read(mut section: Section<'_>) -> Option<Cors> {
    let s = &mut section;
    let origins = s.require("origins", list(origin));
    let cors = Cors {
        methods: s.get("methods", list(method), vec![Method::GET, Method::HEAD, Method::POST]),
        headers: s.get("headers", list(name), vec![http::header::AUTHORIZATION, http::header::CONTENT_TYPE]),
        expose: s.get("expose", list(name), Vec::new()),
        credentials: s.get("credentials", boolean, false),
        max_age: s.get("max_age", time(Duration::ZERO), Duration::from_secs(600)),
        origins: origins.clone().unwrap_or_default(),
    };
    if cors.credentials && cors.origins.iter().any(|origin| origin == "*") {
        section.problem("credentials", "expected origins by name: with cookies, any page could act for its visitor");
    }
    section.finish();
    origins.map(|_| cors)
}

fn name(value: &Value<'_>) -> Read<HeaderName> {
    string(value)?.parse().map_err(|_| value.wrong("the name of a header"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    #[test]
    fn cookies_are_for_origins_by_name() {
        let route = |cors: &str| {
            Config::from_toml(&format!("[[route]]\npath = \"/\"\nqueue = \"a\"\ncors = {cors}"), Path::new("/"))
        };
        let config =
            route("{ origins = [\"https://a.test\"], credentials = true, methods = [\"PUT\"] }").expect("good");
        let cors = config.routes[0].around.cors.as_ref().expect("it is there");
        assert_eq!((cors.headers.len(), cors.methods.len(), cors.max_age.as_secs()), (2, 1, 600));
        for bad in [
            "{}",
            "{ origins = [\"*\"], credentials = true }",
            "{ origins = [\"a.test\"] }",
            "{ origins = [\"*\"], headers = [\"a b\"] }",
        ] {
            assert_eq!(route(bad).expect_err(bad).0.len(), 1, "{bad}");
        }
        let channel = "[[route]]\npath = \"/sub\"\nkind = \"subscribe\"\ncors = { origins = [\"*\"] }";
        let problems = Config::from_toml(channel, Path::new("/")).expect_err("channels have theirs");
        assert!(problems.to_string().contains("channels.cors"), "{problems}");
    }
}
