//! What is logged, shown and changed: `GET /log`, `POST /log?level=debug&for=10m`.
//!
//! Everybody who reaches the admin listener may do this. A browser does so on behalf of any page that its user opens, so
//! what comes from a page is refused.

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode, header};
use http_body_util::Full;

use super::{JSON, TEXT, not_allowed, of};
use crate::config::duration;
use crate::telemetry::level::{self, LevelError};

/// Where this is.
pub(super) const PATH: &str = "/log";
/// What browsers say of where a request comes from; no page can leave it out.
const FROM_A_PAGE: [HeaderName; 2] = [header::ORIGIN, HeaderName::from_static("sec-fetch-site")];

pub(super) fn respond<B>(request: &Request<B>) -> Response<Full<Bytes>> {
    match *request.method() {
        Method::GET | Method::HEAD => match level::now() {
            Some(now) => json(&now),
            None => wrong(StatusCode::NOT_FOUND, &LevelError::NoLog),
        },
        Method::POST if FROM_A_PAGE.iter().any(|name| request.headers().contains_key(name)) => {
            of(StatusCode::FORBIDDEN, TEXT, "pages may not change what is logged: use tempest log, or curl\n")
        }
        Method::POST => change(request.uri().query().unwrap_or_default()),
        _ => not_allowed("only GET, HEAD and POST work here\n", "GET, HEAD, POST"),
    }
}

fn change(query: &str) -> Response<Full<Bytes>> {
    let (mut level, mut time) = (None, None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "level" if level.is_none() => level = Some(value),
            "for" if time.is_none() => match duration(&value) {
                Some(given) => time = Some(given),
                None => return wrong(StatusCode::BAD_REQUEST, &LevelError::Time),
            },
            _ => return of(StatusCode::BAD_REQUEST, TEXT, "expected POST /log?level=LEVEL[&for=TIME], each once\n"),
        }
    }
    match level::set(level.as_deref().unwrap_or_default(), time) {
        Ok(now) => json(&now),
        Err(error @ LevelError::NoLog) => wrong(StatusCode::NOT_FOUND, &error),
        Err(error) => wrong(StatusCode::BAD_REQUEST, &error),
    }
}

fn json(now: &level::Now) -> Response<Full<Bytes>> {
    let text = serde_json::to_string(now).expect("text and numbers are always JSON");
    of(StatusCode::OK, JSON, text + "\n")
}

fn wrong(status: StatusCode, error: &LevelError) -> Response<Full<Bytes>> {
    of(status, TEXT, format!("{error}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, target: &str, headers: &[(&str, &str)]) -> StatusCode {
        let builder = Request::builder().method(method).uri(target);
        let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        respond(&builder.body(()).expect("a request")).status()
    }

    // No log is started here; what one does is tested with a process of its own.
    #[tokio::test]
    async fn what_pages_send_is_refused_and_what_is_wrong_is_named() {
        assert_eq!(ask("GET", "/log", &[]), StatusCode::NOT_FOUND);
        assert_eq!(ask("POST", "/log?level=debug", &[]), StatusCode::NOT_FOUND);
        assert_eq!(ask("DELETE", "/log", &[]), StatusCode::METHOD_NOT_ALLOWED);
        for (name, value) in [("origin", "null"), ("origin", "http://127.0.0.1:1338"), ("sec-fetch-site", "none")] {
            assert_eq!(ask("POST", "/log?level=debug", &[(name, value)]), StatusCode::FORBIDDEN);
        }
        for wrong in ["?level=debug&for=soon", "?level=debug&level=info", "?level=debug&more=1", "?for=1s&for=2s"] {
            assert_eq!(ask("POST", &format!("/log{wrong}"), &[]), StatusCode::BAD_REQUEST, "{wrong}");
        }
    }
}
