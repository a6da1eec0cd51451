//! Routes to another HTTP server: where it is, how long it may take, and how much of it is used.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;

use super::path::PathPattern;
use super::section::Section;
use super::value::{Read, Value, bytes, count, one_of, string, time};
use super::{MIB, SOME, TICK};

/// What holds for the requests of a route to another server.
#[derive(Clone, Debug)]
pub struct ProxyRoute {
    /// Where it is.
    pub upstream: Upstream,
    /// Which host it is told.
    pub host: HostTold,
    /// Taken off the beginning of each path.
    pub strip_prefix: Option<String>,
    /// From the last piece of the request to the head of the answer.
    pub timeout: Duration,
    /// For a connection: a free place, the name and the handshake.
    pub connect_time: Duration,
    /// How long the server may be silent in the middle of an answer.
    pub quiet_time: Duration,
    /// How long a connection that is not used is kept.
    pub idle_time: Duration,
    /// Connections of one reactor.
    pub connections: usize,
    /// Largest body of a request in bytes; it is passed on as it comes and not held.
    pub body_limit: usize,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// As in the configuration, for logs.
    pub url: String,
    /// How it is reached.
    pub address: UpstreamAddress,
    /// The host that it has by its own name.
    pub authority: HeaderValue,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// A name or address, and a port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

/// Which `Host` a server is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostTold {
    /// The one that the client named.
    Keep,
    /// Its own.
    Upstream,
}

const HOSTS: &[(&str, HostTold)] = &[("keep", HostTold::Keep), ("upstream", HostTold::Upstream)];

/// The settings that only such a route has, besides `proxy`.
pub(super) const OWN: [&str; 6] =
    ["upstream_host", "strip_prefix", "connect_time", "quiet_time", "idle_time", "connections"];

/// Reads what belongs to a route to another server.
pub(super) fn read(section: &mut Section<'_>, pattern: Option<&PathPattern>) -> Option<ProxyRoute> {
    let upstream = section.require("proxy", upstream);
    let second = Duration::from_secs(1);
    let s = &mut *section;
    let route = ProxyRoute {
        host: s.get("upstream_host", one_of(HOSTS), HostTold::Keep),
        strip_prefix: s.optional("strip_prefix", prefix),
        timeout: s.get("timeout", time(TICK), 30 * second),
        connect_time: s.get("connect_time", time(TICK), 3 * second),
        quiet_time: s.get("quiet_time", time(TICK), 60 * second),
        idle_time: s.get("idle_time", time(TICK), 30 * second),
        connections: s.get("connections", count(SOME), 128),
        body_limit: s.get("body_limit", bytes(0), 64 * MIB),
        upstream: upstream.clone()?,
    };
    if let (Some(prefix), Some(path)) = (&route.strip_prefix, pattern)
        && !path.text.starts_with(prefix)
    {
        section.problem("strip_prefix", "expected what the route's path begins with");
    }
    Some(route)
}

fn prefix(value: &Value<'_>) -> Read<String> {
    let text = string(value)?;
    let good = text.len() > 1 && text.starts_with('/') && !text.ends_with('/') && !text.contains(['{', '?', '#']);
    if good { Ok(text) } else { Err(value.wrong("the beginning of a path, like /old, without a slash at its end")) }
}

fn upstream(value: &Value<'_>) -> Read<Upstream> {
    const EXPECTED: &str = "a server like http://127.0.0.1:8000 or http://unix:/run/app.sock, without a path";
    let wrong = || value.wrong(EXPECTED);
    let url = string(value)?;
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    if let Some(path) = rest.strip_prefix("unix:") {
        if !path.starts_with('/') {
            return Err(wrong());
        }
        let authority = HeaderValue::from_static("localhost");
        return Ok(Upstream { address: UpstreamAddress::Unix(path.into()), authority, url });
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let parsed: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
    if parsed.host().is_empty()
        || authority.contains('@')
        || (authority != parsed.host() && parsed.port_u16().is_none())
    {
        return Err(wrong());
    }
    let host = parsed.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let address = UpstreamAddress::Tcp(host, parsed.port_u16().unwrap_or(80));
    let authority = HeaderValue::from_str(authority).map_err(|_| wrong())?;
    Ok(Upstream { address, authority, url })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, RouteKind};

    #[test]
    fn servers_are_hosts_or_sockets() {
        let read = |text| upstream(&Value::text(text)).ok().map(|upstream| upstream.address);
        assert_eq!(read("http://127.0.0.1:8000"), Some(UpstreamAddress::Tcp("127.0.0.1".into(), 8000)));
        assert_eq!(read("http://app.internal/"), Some(UpstreamAddress::Tcp("app.internal".into(), 80)));
        assert_eq!(read("http://[::1]:81"), Some(UpstreamAddress::Tcp("::1".into(), 81)));
        assert_eq!(read("http://unix:/run/a.sock"), Some(UpstreamAddress::Unix("/run/a.sock".into())));
        for bad in
            ["127.0.0.1:8000", "https://a", "http://", "http://a/b", "http://u:p@a", "http://unix:a", "http://a:x"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_route_has_its_limits() {
        let read = |text: &str| Config::from_toml(text, Path::new("/"));
        let route = "[[route]]\npath = \"/old/{rest...}\"\nproxy = \"http://a\"\n";
        let config = read(route).expect("all else has defaults");
        let RouteKind::Proxy(usual) = &config.routes[0].kind else { panic!("a proxy") };
        assert_eq!((usual.host, usual.connections, usual.body_limit), (HostTold::Keep, 128, 64 << 20));
        let all = "upstream_host = \"upstream\"\nstrip_prefix = \"/old\"\ntimeout = 1\nconnect_time = 2\nquiet_time = 3\nidle_time = 4\nconnections = 1\nbody_limit = 0";
        let config = read(&format!("{route}{all}")).expect("good settings");
        let RouteKind::Proxy(given) = &config.routes[0].kind else { panic!("a proxy") };
        assert_eq!((given.host, given.strip_prefix.as_deref()), (HostTold::Upstream, Some("/old")));
        assert_eq!((given.timeout, given.quiet_time), (Duration::from_secs(1), Duration::from_secs(3)));
        for bad in ["strip_prefix = \"/new\"", "strip_prefix = \"/old/\"", "connections = 0", "queue_depth = 1"] {
            assert_eq!(read(&format!("{route}{bad}")).expect_err(bad).0.len(), 1, "{bad}");
        }
        assert!(read("[[route]]\npath = \"/\"\nkind = \"proxy\"").is_err(), "a proxy to nowhere");
    }
}
