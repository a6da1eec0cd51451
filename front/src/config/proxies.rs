//! Whose word is taken: the proxies in front, and by which means they say who is behind them.
//!
//! Names and networks only; what is made of a header is decided where requests are handled.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::Listen;
use super::section::Section;
use super::value::{Kind, Read, Value, Wrong, boolean, list, listen, one_of};

/// The proxies in front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Networks of proxies whose word is taken.
    pub trusted: Vec<IpNet>,
    /// Whoever connects over a Unix socket is such a proxy.
    pub trusted_unix: bool,
    /// The headers by which they say who is behind them.
    pub forwarded: Forwarded,
    /// Whether the host that these headers name is taken, too.
    pub forwarded_host: bool,
    /// Listeners on which a connection begins with a header of the PROXY protocol.
    pub protocol: ProxyProtocol,
}

/// The headers by which a trusted proxy says who is behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarded {
    /// None are looked at.
    #[default]
    Off,
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Standard,
}

/// On which listeners a connection has to begin with a header of the PROXY protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// On none.
    #[default]
    Off,
    /// On all.
    Required,
    /// On those that listen on one of these addresses.
    RequiredOn(Vec<SocketAddr>),
}

impl Proxies {
    /// True where what headers say is believed of whoever connects from `address`; of the unspecified one: by a Unix socket.
    pub fn believes(&self, address: IpAddr) -> bool {
        let trusted = if address.is_unspecified() { self.trusted_unix } else { self.trusts(address) };
        self.forwarded != Forwarded::Off && trusted
    }

    /// True where `address` is that of a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

impl ProxyProtocol {
    /// True where a connection by a Unix socket has to begin with a header.
    pub fn is_required_on_unix(&self) -> bool {
        *self == Self::Required
    }

    /// True where a connection that has reached `server` has to begin with a header.
    pub fn is_required_on(&self, server: SocketAddr) -> bool {
        match self {
            Self::Off => false,
            Self::Required => true,
            Self::RequiredOn(listeners) => listeners.iter().any(|listener| {
                // A connection to a listener on all addresses has reached one of them.
                let reached = listener.ip().is_unspecified() || listener.ip() == server.ip().to_canonical();
                reached && listener.port() == server.port()
            }),
        }
    }
}

const FORWARDED: &[(&str, Forwarded)] =
    &[("off", Forwarded::Off), ("x-forwarded", Forwarded::XForwarded), ("forwarded", Forwarded::Standard)];

/// Reads them out of `[front]`, whose listeners are `listening`.
pub(super) fn read(section: &mut Section<'_>, listening: &[Listen]) -> Proxies {
    let named = section.get("trusted_proxies", list(trusted), Vec::new());
    let proxies = Proxies {
        trusted: named.iter().filter_map(|one| *one).collect(),
        trusted_unix: named.contains(&None),
        forwarded: section.get("forwarded", one_of(FORWARDED), Forwarded::Off),
        forwarded_host: section.get("forwarded_host", boolean, false),
        protocol: section.get("proxy_protocol", protocol, ProxyProtocol::Off),
    };
    if named.is_empty() {
        let nobody = "means nothing as long as front.trusted_proxies names nobody whose word is taken";
        if proxies.forwarded != Forwarded::Off {
            section.problem("forwarded", nobody);
        }
        if proxies.protocol != ProxyProtocol::Off {
            section.problem("proxy_protocol", nobody);
        }
    }
    if proxies.forwarded_host && proxies.forwarded == Forwarded::Off {
        section.problem("forwarded_host", "means nothing while front.forwarded is off");
    }
    if let ProxyProtocol::RequiredOn(addresses) = &proxies.protocol {
        for address in addresses.iter().filter(|address| !listening.contains(&Listen::Tcp(**address))) {
            section.problem(
                "proxy_protocol",
                format!("expected addresses of front.listen or front.tls, {address} is none of them"),
            );
        }
    }
    proxies
}

/// One that is trusted; None stands for whoever connects over a Unix socket.
fn trusted(value: &Value<'_>) -> Read<Option<IpNet>> {
    let expected = || value.wrong("an address like 127.0.0.1, a network like 10.0.0.0/8 or fd00::/8, or unix");
    let Kind::Text(text) = value.kind else { return Err(expected()) };
    if text == "unix" {
        return Ok(None);
    }
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse().map_err(|_| expected())?,
    };
    let exact = network.trunc();
    if exact == network {
        return Ok(Some(network));
    }
    // Whoever writes 10.1.2.3/8 means a host or a network, and which one decides who may lie.
    Err(Wrong { at: value.at, message: format!("expected a network or an address, {text} is both: {exact}?") })
}

fn protocol(value: &Value<'_>) -> Read<ProxyProtocol> {
    const WORDS: &[(&str, ProxyProtocol)] = &[("off", ProxyProtocol::Off), ("required", ProxyProtocol::Required)];
    if let Ok(word) = one_of(WORDS)(value) {
        return Ok(word);
    }
    let expected = || value.wrong("off, required, or those addresses of front.listen on which it is required");
    let listeners = list(listen)(value).map_err(|_| expected())?;
    let tcp = |listener| match listener {
        Listen::Tcp(address) => Some(address),
        Listen::Unix(_) => None,
    };
    let addresses: Option<Vec<_>> = listeners.into_iter().map(tcp).collect();
    addresses.filter(|all| !all.is_empty()).map(ProxyProtocol::RequiredOn).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn proxies(text: &str) -> Result<Proxies, String> {
        let config = Config::from_toml(&format!("[front]\n{text}"), Path::new("/"));
        config.map(|config| config.front.proxies).map_err(|problems| problems.to_string())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses_networks_and_unix_sockets_are_trusted() {
        let some = proxies("trusted_proxies = ['127.0.0.1', '10.0.0.0/8', 'fd00::/8', '::ffff:192.0.2.1', 'unix']");
        let some = some.expect("all are good");
        assert!(some.trusted_unix);
        for yes in ["127.0.0.1", "10.0.0.0", "10.255.255.255", "fd00::1", "::ffff:10.1.2.3", "192.0.2.1"] {
            assert!(some.trusts(ip(yes)), "{yes}");
        }
        for no in ["127.0.0.2", "11.0.0.0", "9.255.255.255", "fe00::", "::1", "192.0.2.2"] {
            assert!(!some.trusts(ip(no)), "{no}");
        }
        let nobody = proxies("").expect("nobody is trusted");
        assert!(!nobody.trusted_unix && !nobody.trusts(ip("127.0.0.1")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            ("trusted_proxies = 'proxy.example'", "expected an address like 127.0.0.1, a network"),
            ("trusted_proxies = '10.0.0.0/33'", "expected an address like 127.0.0.1, a network"),
            ("trusted_proxies = '10.1.2.3/8'", "10.1.2.3/8 is both: 10.0.0.0/8?"),
            ("forwarded = 'forwarded'", "front.forwarded: means nothing as long as front.trusted_proxies"),
            ("proxy_protocol = 'required'", "front.proxy_protocol: means nothing as long as front.trusted_proxies"),
            ("trusted_proxies = 'unix'\nforwarded_host = true", "front.forwarded_host: means nothing while"),
            ("trusted_proxies = 'unix'\nforwarded = 'x-real-ip'", "expected one of off, x-forwarded, forwarded"),
            ("trusted_proxies = 'unix'\nproxy_protocol = 'on'", "expected off, required, or those addresses"),
            ("trusted_proxies = 'unix'\nproxy_protocol = '127.0.0.1:9'", "127.0.0.1:9 is none of them"),
        ] {
            let error = proxies(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn the_protocol_is_required_on_all_listeners_or_on_some() {
        let on = |text: &str| {
            let given = "listen = ['127.0.0.1:81', '0.0.0.0:82']\ntrusted_proxies = '127.0.0.1'\n";
            proxies(&format!("{given}proxy_protocol = {text}")).expect("good").protocol
        };
        let at = |text: &str| text.parse().expect("an address and port");
        assert!(on("'required'").is_required_on(at("127.0.0.1:81")));
        assert!(!on("'off'").is_required_on(at("127.0.0.1:81")) && !on("false").is_required_on(at("127.0.0.1:81")));
        let second = on("['0.0.0.0:82']");
        assert!(second.is_required_on(at("127.0.0.1:82")) && second.is_required_on(at("192.0.2.1:82")));
        assert!(!second.is_required_on(at("127.0.0.1:81")));
        let first = on("'127.0.0.1:81'");
        assert!(first.is_required_on(at("127.0.0.1:81")) && !first.is_required_on(at("127.0.0.2:81")));
    }
}
