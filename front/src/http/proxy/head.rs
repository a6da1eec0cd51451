//! The heads of a request and an answer that are passed on: what belongs to one connection stays on it, and the server
//! behind is told who asks.

use std::net::IpAddr;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use crate::config::{HostTold, ProxyRoute};
use crate::cookies;
use crate::ident::RequestId;
use crate::queue::is_hop_by_hop;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who asks: facts of the front's own, whatever the client says.
pub(super) struct Facts<'a> {
    pub(super) client: IpAddr,
    pub(super) scheme: &'static str,
    pub(super) host: Option<&'a str>,
    pub(super) id: &'a RequestId,
}

/// Takes out what belongs to one connection alone (RFC 9110, section 7.6.1).
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> =
        values.flat_map(|list| list.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    let own = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect::<Vec<_>>();
    for name in named.into_iter().chain(own) {
        headers.remove(name);
    }
}

/// Makes a client's headers those of a request to the server.
pub(super) fn forward(headers: &mut HeaderMap, route: &ProxyRoute, own_cookie: Option<&str>, facts: &Facts<'_>) {
    pass_cookies(headers, own_cookie);
    strip_hop_by_hop(headers);
    headers.remove(header::EXPECT);
    let own = || route.upstream.authority.clone();
    let told = facts.host.and_then(|host| HeaderValue::from_str(host).ok());
    let host = match route.host {
        HostTold::Keep => told.clone().unwrap_or_else(own),
        HostTold::Upstream => own(),
    };
    headers.insert(header::HOST, host);
    let mut set = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    set(FORWARDED_FOR, &facts.client.to_string());
    set(FORWARDED_PROTO, facts.scheme);
    set(X_REQUEST_ID, facts.id.as_str());
    set(header::FORWARDED, &forwarded(facts));
    set(header::VIA, "1.1 tempest");
    match told {
        Some(host) => headers.insert(FORWARDED_HOST, host),
        None => headers.remove(FORWARDED_HOST),
    };
}

/// In one line, which HTTP/2 may have cut into several (RFC 9113, section 8.2.3), and without the one of the front's
/// own sessions.
fn pass_cookies(headers: &mut HeaderMap, own: Option<&str>) {
    let all: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if all.is_empty() || (all.len() == 1 && own.is_none()) {
        return;
    }
    let joined = all.join(&b"; "[..]);
    let kept = own.map_or(Some(joined.clone()), |own| cookies::without(&joined, own));
    headers.remove(header::COOKIE);
    if let Some(Ok(kept)) = kept.map(|kept| HeaderValue::from_bytes(&kept)) {
        headers.insert(header::COOKIE, kept);
    }
}

/// RFC 7239.
fn forwarded(facts: &Facts<'_>) -> String {
    let client = match facts.client {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let host = facts.host.map(|host| format!(";host=\"{}\"", host.replace(['"', '\\'], ""))).unwrap_or_default();
    format!("for={client};proto={}{host}", facts.scheme)
}

/// Where the server is asked: the path and query as the client sent them, without the prefix.
pub(super) fn target(uri: &Uri, prefix: Option<&str>) -> Uri {
    let whole = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = prefix
        .and_then(|prefix| whole.strip_prefix(prefix))
        .filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let target = match rest {
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        Some(rest) => format!("/{rest}"),
        None => whole.to_owned(),
    };
    // A part of what was a target is one.
    target.parse().unwrap_or_else(|_| Uri::from_static("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_taken_off_whole_segments() {
        for (uri, expected) in [
            ("/old/a%2Fb?x=%20", "/a%2Fb?x=%20"),
            ("/old", "/"),
            ("/old?q", "/?q"),
            ("/old/", "/"),
            ("/older", "/older"),
            ("/new/old", "/new/old"),
            ("/old//a", "//a"),
        ] {
            assert_eq!(target(&Uri::from_static(uri), Some("/old")).to_string(), expected, "{uri}");
        }
        assert_eq!(target(&Uri::from_static("/old/a"), None).to_string(), "/old/a");
        assert_eq!(target(&Uri::from_static("http://host/old/a"), None).to_string(), "/old/a");
    }

    #[test]
    fn the_cookie_of_a_session_stays_here() {
        let passed = |lines: &[&'static str], own| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, HeaderValue::from_static(line));
            }
            pass_cookies(&mut headers, own);
            headers.get(header::COOKIE).map(|line| line.to_str().expect("text").to_owned())
        };
        assert_eq!(passed(&["a=1; s=2", "b=3"], Some("s")).as_deref(), Some("a=1; b=3"));
        assert_eq!(passed(&["a=1; s=2", "b=3"], None).as_deref(), Some("a=1; s=2; b=3"));
        assert_eq!(passed(&["s=2"], Some("s")), None);
        assert_eq!(passed(&["s=2"], None).as_deref(), Some("s=2"));
    }

    #[test]
    fn headers_of_one_connection_stay_on_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, X-Own"), ("x-own", "1"), ("keep-alive", "1"), ("te", "trailers"), ("x-other", "1")]
        {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-other"]);
    }
}
