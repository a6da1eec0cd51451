//! Where a request carries its token.
//!
//! Only looking: nothing here trusts what it finds.

use std::borrow::Cow;

use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

/// The parameter of the query that may hold a token.
const PARAMETER: &str = "token";

/// Where a token was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    Header,
    /// The browser sends it along whichever page asks.
    Cookie,
    Query,
}

/// The first token of a request: header, then cookie, then query. An empty one is none.
pub(super) fn find<'r>(
    headers: &'r HeaderMap,
    query: Option<&'r str>,
    cookie: &str,
) -> Option<(Carrier, Cow<'r, str>)> {
    let header = || in_header(headers).map(|token| (Carrier::Header, Cow::Borrowed(token)));
    let cookie = || in_cookie(headers, cookie).map(|token| (Carrier::Cookie, Cow::Owned(token)));
    let query = || in_query(query?).map(|token| (Carrier::Query, token));
    header().or_else(cookie).or_else(query)
}

/// `Authorization: Bearer`; another scheme is for somebody else, a proxy before us for instance.
fn in_header(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| value.to_str().ok());
    let tokens = values.filter_map(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    tokens.into_iter().find(|token| !token.is_empty())
}

fn in_cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get_all(header::COOKIE).iter().find_map(|value| {
        // Another cookie with strange bytes must not hide ours.
        let text = String::from_utf8_lossy(value.as_bytes());
        let cookies = cookie::Cookie::split_parse(text.as_ref()).filter_map(Result::ok);
        let mut ours = cookies.filter(|cookie| cookie.name() == name && !cookie.value().is_empty());
        ours.next().map(|cookie| cookie.value_trimmed().to_owned())
    })
}

fn in_query(query: &str) -> Option<Cow<'_, str>> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut tokens = pairs.filter(|(name, token)| *name == PARAMETER && !token.is_empty());
    tokens.next().map(|(_, token)| percent_decode_str(token).decode_utf8_lossy())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(all: &[(HeaderName, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(HeaderName, &'static str)| (name.clone(), HeaderValue::from_static(value));
        all.iter().map(pair).collect()
    }

    fn found(all: &[(HeaderName, &'static str)], query: Option<&str>) -> Option<(Carrier, String)> {
        let headers = headers(all);
        find(&headers, query, "tempest_token").map(|(carrier, token)| (carrier, token.into_owned()))
    }

    #[test]
    fn header_then_cookie_then_query() {
        let (header, cookie) = ((header::AUTHORIZATION, "Bearer h"), (header::COOKIE, "a=b; tempest_token=c"));
        let query = Some("x=1&token=q");
        assert_eq!(found(&[header.clone(), cookie.clone()], query), Some((Carrier::Header, "h".into())));
        assert_eq!(found(&[cookie], query), Some((Carrier::Cookie, "c".into())));
        assert_eq!(found(&[], query), Some((Carrier::Query, "q".into())));
        assert_eq!(found(&[], Some("x=1")), None);
        assert_eq!(found(&[], None), None);
    }

    #[test]
    fn what_is_no_token_is_passed_over() {
        let basic = (header::AUTHORIZATION, "Basic dTpw");
        assert_eq!(found(&[basic], Some("token=q")), Some((Carrier::Query, "q".into())));
        assert_eq!(found(&[(header::AUTHORIZATION, "bearer  x ")], None), Some((Carrier::Header, "x".into())));
        for none in ["Bearer", "Bearer ", "Bearerx"] {
            assert_eq!(found(&[(header::AUTHORIZATION, none)], None), None, "{none}");
        }
        for none in ["tempest_token=", "tempest_token", "Tempest_Token=x", "xtempest_token=x", "a=tempest_token"] {
            assert_eq!(found(&[(header::COOKIE, none)], None), None, "{none}");
        }
        for none in ["token=", "token", "tokens=x", "atoken=x", "%74oken=x"] {
            assert_eq!(found(&[], Some(none)), None, "{none}");
        }
    }

    #[test]
    fn cookies_come_in_many_forms() {
        for text in
            ["tempest_token=\"x\"", "a=\u{1};tempest_token=x", "tempest_token=x; tempest_token=y", "a; tempest_token=x"]
        {
            let value = HeaderValue::from_bytes(text.as_bytes()).or(HeaderValue::from_bytes(b"tempest_token=x"));
            let headers = HeaderMap::from_iter([(header::COOKIE, value.expect("a value"))]);
            assert_eq!(in_cookie(&headers, "tempest_token").as_deref(), Some("x"), "{text}");
        }
        let two = headers(&[(header::COOKIE, "a=b"), (header::COOKIE, "tempest_token=x")]);
        assert_eq!(in_cookie(&two, "tempest_token").as_deref(), Some("x"));
        let mut strange = headers(&[]);
        strange.append(header::COOKIE, HeaderValue::from_bytes(b"a=\xff\xfe; tempest_token=x").expect("a value"));
        assert_eq!(in_cookie(&strange, "tempest_token").as_deref(), Some("x"));
    }
}
