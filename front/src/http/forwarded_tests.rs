//! What is made of the headers of proxies.

use std::path::Path;

use http::{HeaderName, HeaderValue};

use super::*;
use crate::config::Config;

/// 10.0.0.0/8 and 192.0.2.1 are proxies.
fn told(kind: &str, headers: &[(&'static str, &str)]) -> Told {
    let text = format!(
        "front.trusted_proxies = ['10.0.0.0/8', '192.0.2.1', 'fd00::/8']\nfront.forwarded = '{kind}'\n\
         front.forwarded_host = true"
    );
    let config = Config::from_toml(&text, Path::new("/")).expect("a good configuration");
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
    };
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter().map(pair) {
        map.append(name, value);
    }
    read(&map, "10.0.0.1:4711".parse().expect("an address"), &config.front.proxies)
}

fn x(forwarded_for: &str) -> Told {
    told("x-forwarded", &[("x-forwarded-for", forwarded_for)])
}

fn standard(forwarded: &str) -> Told {
    told("forwarded", &[("forwarded", forwarded)])
}

#[track_caller]
fn is(told: &Told, address: &str, malformed: bool) {
    assert_eq!((told.address, told.malformed), (address.parse().expect("an address"), malformed));
}

#[test]
fn the_walk_goes_from_the_right_over_trusted_proxies_and_no_further() {
    is(&x("203.0.113.7"), "203.0.113.7:0", false);
    is(&x("198.51.100.9, 203.0.113.7"), "203.0.113.7:0", false);
    is(&x("198.51.100.9, 203.0.113.7, 10.2.3.4, 192.0.2.1"), "203.0.113.7:0", false);
    is(&x("10.9.9.9, 10.8.8.8"), "10.9.9.9:0", false);
    is(&x(" ,203.0.113.7 , "), "203.0.113.7:0", false);
    is(&told("x-forwarded", &[]), "10.0.0.1:4711", false);
    let two = [("x-forwarded-for", "198.51.100.9"), ("x-forwarded-for", "203.0.113.7, 10.2.3.4")];
    is(&told("x-forwarded", &two), "203.0.113.7:0", false);
}

#[test]
fn addresses_come_in_all_their_spellings() {
    for (text, address) in [
        ("203.0.113.7:61000", "203.0.113.7:61000"),
        ("2001:db8::7", "[2001:db8::7]:0"),
        ("[2001:db8::7]", "[2001:db8::7]:0"),
        ("[2001:db8::7]:61000", "[2001:db8::7]:61000"),
        ("::ffff:203.0.113.7", "203.0.113.7:0"),
        ("203.0.113.7:_x", "203.0.113.7:0"),
        ("203.0.113.7, [fd00::1]:80", "203.0.113.7:0"),
        ("203.0.113.7, ::ffff:10.1.1.1", "203.0.113.7:0"),
    ] {
        is(&x(text), address, false);
    }
}

#[test]
fn what_cannot_be_read_ends_the_walk_where_it_is() {
    for bad in ["x", "1.2.3", "1.2.3.4.5", "203.0.113.7:99999", "[::1", "::1]:80", "127.1", "\"203.0.113.7\"", "a b"] {
        is(&x(bad), "10.0.0.1:4711", true);
        is(&x(&format!("203.0.113.7, {bad}, 10.2.3.4")), "10.2.3.4:0", true);
    }
    // To the left of what is believed anything may stand.
    is(&x("x, 203.0.113.7"), "203.0.113.7:0", false);
    let mut latin = HeaderMap::new();
    latin.insert(FOR, HeaderValue::from_bytes(b"203.0.113.7\xff").expect("a value"));
    let proxies = Proxies { forwarded: Forwarded::XForwarded, ..Proxies::default() };
    is(&read(&latin, "10.0.0.1:1".parse().expect("an address"), &proxies), "10.0.0.1:1", true);
    for hidden in ["unknown", "Unknown", "_gazonk"] {
        is(&x(hidden), "10.0.0.1:4711", false);
        is(&x(&format!("{hidden}, 10.2.3.4")), "10.2.3.4:0", false);
    }
}

#[test]
fn scheme_and_host_stand_beside_the_address_that_is_believed() {
    let all = |addresses: &str, proto: &str, host: &str| {
        let headers = [("x-forwarded-for", addresses), ("x-forwarded-proto", proto), ("x-forwarded-host", host)];
        let Told { secure, host, malformed, .. } = told("x-forwarded", &headers);
        (secure, host.unwrap_or_default(), malformed)
    };
    let is = |secure, host: &str, malformed| (secure, host.to_owned(), malformed);
    assert_eq!(all("203.0.113.7", "https", "app.example:8443"), is(Some(true), "app.example:8443", false));
    assert_eq!(all("203.0.113.7", "HTTP", "a"), is(Some(false), "a", false));
    // What a client has written itself stands to the left.
    assert_eq!(all("203.0.113.7", "https, http", "evil, a"), is(Some(false), "a", false));
    assert_eq!(all("203.0.113.7, 10.2.3.4", "https, http", "a, b"), is(Some(true), "a", false));
    assert_eq!(all("203.0.113.7, 10.2.3.4", "https", "a"), is(Some(true), "a", false));
    assert_eq!(all("203.0.113.7, 10.2.3.4", "http, https, http", "evil, a, b"), is(Some(true), "a", false));
    assert_eq!(all("203.0.113.7", "ftp", "a"), is(None, "a", true));
    for host in ["a/b", "a@b", "a b", "a#", ""] {
        assert_eq!(all("203.0.113.7", "https", host), is(Some(true), "", !host.is_empty()), "{host}");
    }
    let alone = told("x-forwarded", &[("x-forwarded-proto", "https")]);
    assert_eq!((alone.secure, alone.address.port()), (Some(true), 4711));
}

#[test]
fn an_element_of_forwarded_tells_of_one_hop() {
    let told = standard("for=203.0.113.7;proto=https;host=\"app.example\";by=10.0.0.1");
    assert_eq!((told.secure, told.host.as_deref()), (Some(true), Some("app.example")));
    is(&told, "203.0.113.7:0", false);
    is(&standard("For=\"[2001:db8::7]:4711\""), "[2001:db8::7]:4711", false);
    is(&standard("for=198.51.100.9, for=203.0.113.7, for=10.2.3.4"), "203.0.113.7:0", false);
    is(&standard("for=\"203.0.113.7:80\" ; proto=http;"), "203.0.113.7:80", false);
    let outer = standard("for=203.0.113.7;proto=https, for=10.2.3.4;proto=http");
    assert_eq!(outer.secure, Some(true));
    let silent = standard("for=203.0.113.7, for=10.2.3.4;proto=https");
    assert_eq!(silent.secure, None, "the inner hop does not speak for the outer one");
    let no_address = standard("for=203.0.113.7, proto=https");
    assert_eq!((no_address.secure, no_address.address.port()), (Some(true), 4711));
    is(&standard("for=_hidden, for=10.2.3.4"), "10.2.3.4:0", false);
}

#[test]
fn a_quote_to_the_left_takes_nothing_away() {
    is(&standard("for=\"198.51.100.9, for=203.0.113.7"), "203.0.113.7:0", false);
    is(&standard("for=\"a\\\", for=203.0.113.7"), "203.0.113.7:0", false);
    is(&standard("for=1.1.1.1;x=\"a,b\\\",c\", for=\"10.2.3.4\";x=\"a,\\\\\""), "1.1.1.1:0", false);
    for bad in ["for", "for=\"203.0.113.7", "for=\"203.0.113.7\"x", "x", "for=203.0.113.7;y"] {
        is(&standard(bad), "10.0.0.1:4711", true);
    }
    is(&standard("for=203.0.113.7:x"), "10.0.0.1:4711", true);
}

#[test]
fn only_the_kind_that_is_configured_is_read_and_the_host_only_if_it_is_wanted() {
    let both = [("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=203.0.113.8")];
    is(&told("x-forwarded", &both), "203.0.113.7:0", false);
    is(&told("forwarded", &both), "203.0.113.8:0", false);
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("a"));
    let proxies = Proxies { forwarded: Forwarded::XForwarded, ..Proxies::default() };
    assert_eq!(read(&headers, "10.0.0.1:1".parse().expect("an address"), &proxies).host, None);
}
