//! Whose page made a browser send a request.
//!
//! Only what the request says of itself; what follows from it is for whoever asks.

use http::{HeaderMap, Method, header};

/// What a browser says of where a request comes from; no page can write it (Fetch Metadata, W3C).
pub(crate) const FETCH_SITE: &str = "sec-fetch-site";

/// True where a page of another site made the browser send this request to change something, as far as the request
/// tells: one from no browser says nothing, and is not. `listed` are further origins of ours. The rules are those of
/// Go's `http.CrossOriginProtection`, which give their reasons: <https://words.filippo.io/csrf/>.
pub fn is_forged(method: &Method, headers: &HeaderMap, host: Option<&str>, listed: &[String]) -> bool {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return false;
    }
    match headers.get(FETCH_SITE).map(|site| site.as_bytes()) {
        Some(b"same-origin" | b"none") => false,
        // A browser too old to say where from may still say of whom.
        None if !headers.contains_key(header::ORIGIN) => false,
        None => !is_from_us(headers, host, listed),
        // Another origin of this host is another one: the host alone does not make it ours.
        Some(_) => !is_from_us(headers, None, listed),
    }
}

/// True where the page that asked is one of ours: its origin is the host that was asked, or one of `listed`. `*` lists
/// nobody here, and a request without `Origin` is not known to come from anywhere.
pub fn is_from_us(headers: &HeaderMap, host: Option<&str>, listed: &[String]) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (Some(Ok(origin)), None) = (origins.next().map(|origin| origin.to_str()), origins.next()) else {
        return false;
    };
    listed.iter().any(|allowed| allowed != "*" && allowed == origin) || host.is_some_and(|host| is_own(origin, host))
}

/// A proxy may have taken the TLS off, so the scheme says nothing but which port is not written.
fn is_own(origin: &str, host: &str) -> bool {
    let Some((scheme, place)) = origin.split_once("://") else { return false };
    let usual = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return false,
    };
    let bare = |place: &str| place.strip_suffix(usual).unwrap_or(place).to_ascii_lowercase();
    !place.is_empty() && bare(place) == bare(host)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(all: &[(HeaderName, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(HeaderName, &'static str)| (name.clone(), HeaderValue::from_static(value));
        all.iter().map(pair).collect()
    }

    #[test]
    fn only_a_foreign_page_that_changes_something_is_forged() {
        const SITE: HeaderName = HeaderName::from_static(FETCH_SITE);
        let listed = ["https://app.example".to_owned()];
        let forged = |method: Method, all: &[(HeaderName, &'static str)]| {
            is_forged(&method, &headers(all), Some("a.test"), &listed)
        };
        let (own, app) = ((header::ORIGIN, "https://a.test"), (header::ORIGIN, "https://app.example"));
        let (evil, null) = ((header::ORIGIN, "https://evil.test"), (header::ORIGIN, "null"));
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            assert!(!forged(method.clone(), &[]), "no browser");
            assert!(!forged(method.clone(), &[(SITE, "same-origin")]));
            assert!(!forged(method.clone(), &[(SITE, "none")]), "typed in by its user");
            assert!(!forged(method.clone(), std::slice::from_ref(&own)), "an old browser");
            assert!(!forged(method.clone(), &[(SITE, "cross-site"), app.clone()]), "listed");
            assert!(forged(method.clone(), &[(SITE, "cross-site"), evil.clone()]));
            assert!(forged(method.clone(), &[(SITE, "same-site")]), "a sister of ours is not we");
            assert!(forged(method.clone(), &[(SITE, "cross-site"), own.clone()]), "another scheme of this host");
            assert!(forged(method.clone(), std::slice::from_ref(&evil)));
            assert!(forged(method, std::slice::from_ref(&null)));
        }
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert!(!forged(method, &[(SITE, "cross-site"), evil.clone()]), "changes nothing");
        }
    }

    #[test]
    fn a_page_is_ours_by_its_host_or_by_the_list() {
        let listed = ["*".to_owned(), "https://app.example".to_owned()];
        let ours = |origin, host| is_from_us(&headers(&[(header::ORIGIN, origin)]), Some(host), &listed);
        for (origin, host) in [
            ("https://a.test", "a.test"),
            ("https://a.test", "A.test:443"),
            ("http://a.test", "a.test:80"),
            ("http://a.test:8080", "a.test:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("https://app.example", "a.test"),
        ] {
            assert!(ours(origin, host), "{origin} at {host}");
        }
        for (origin, host) in [
            ("https://evil.test", "a.test"),
            ("https://a.test.evil.test", "a.test"),
            ("https://a.test:8443", "a.test"),
            ("http://a.test", "a.test:443"),
            ("null", "a.test"),
            ("*", "a.test"),
            ("ftp://a.test", "a.test"),
            ("https://", ""),
            ("", ""),
        ] {
            assert!(!ours(origin, host), "{origin} at {host}");
        }
        assert!(!is_from_us(&headers(&[]), Some("a.test"), &listed), "no origin");
        assert!(!is_from_us(&headers(&[(header::ORIGIN, "https://a.test")]), None, &[]), "no host");
        let two = headers(&[(header::ORIGIN, "https://a.test"), (header::ORIGIN, "https://a.test")]);
        assert!(!is_from_us(&two, Some("a.test"), &listed), "two origins");
    }
}
