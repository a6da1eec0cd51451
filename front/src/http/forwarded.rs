//! What the headers of trusted proxies say of who is behind them.
//!
//! Each proxy adds, at the right, whom it was asked by. So they are read from the right, and as long as the address at
//! hand is that of a proxy whose word is taken, what it says of the one before it is taken, too; whatever stands further
//! to the left may have been written by anybody. What cannot be read ends the walk: the client is the last address that
//! could be, and how it reached the front is what the connection itself tells. Nothing here decides which peers may say
//! anything at all.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, header};

use crate::config::{Forwarded, Proxies};

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const HOST: &str = "x-forwarded-host";

/// What was said and is believed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The client; port 0 where none was named.
    pub(super) address: SocketAddr,
    /// Whether it has reached the outermost proxy over TLS; None: nobody said.
    pub(super) secure: Option<bool>,
    /// The host that it asked for; None: nobody said, or it is not believed.
    pub(super) host: Option<String>,
    /// A part of it could not be read.
    pub(super) malformed: bool,
}

/// One end of a hop.
#[derive(Debug, PartialEq, Eq)]
enum Node {
    Known(SocketAddr),
    /// The proxy does not know it, or does not tell.
    Hidden,
    Malformed,
}

/// Reads what `peer`, a trusted proxy, says.
pub(super) fn read(headers: &HeaderMap, peer: SocketAddr, proxies: &Proxies) -> Told {
    let mut told = Told { address: peer, secure: None, host: None, malformed: false };
    match proxies.forwarded {
        Forwarded::Off => {}
        Forwarded::XForwarded => told.walk_lists(headers, proxies),
        Forwarded::Standard => told.walk_elements(headers, proxies),
    }
    told
}

impl Told {
    /// `X-Forwarded-…`: a list for each fact.
    fn walk_lists(&mut self, headers: &HeaderMap, proxies: &Proxies) {
        let mut hops = 0;
        for text in from_the_right(headers, FOR) {
            if hops > 0 && !proxies.trusts(self.address.ip()) {
                break;
            }
            hops += 1;
            if !self.is_now(node(text)) {
                break;
            }
        }
        // Beside the address that is believed; many proxies replace these two and have one value whoever asked before.
        let beside = |name| from_the_right(headers, name).take(hops.max(1)).last();
        if let Some(proto) = beside(PROTO) {
            self.came_by(&trimmed(proto));
        }
        if let Some(host) = beside(HOST).filter(|_| proxies.forwarded_host) {
            self.asked_for(trimmed(host));
        }
    }

    /// `Forwarded`: an element for each hop.
    fn walk_elements(&mut self, headers: &HeaderMap, proxies: &Proxies) {
        for (hop, text) in from_the_right(headers, header::FORWARDED.as_str()).enumerate() {
            if hop > 0 && !proxies.trusts(self.address.ip()) {
                break;
            }
            let Some(pairs) = pairs(text) else {
                self.malformed = true;
                break;
            };
            let value = |name: &str| pairs.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            // What a hop does not say is not what the one before it has said.
            (self.secure, self.host) = (None, None);
            if let Some((_, proto)) = value("proto") {
                self.came_by(proto);
            }
            if let Some((_, host)) = value("host").filter(|_| proxies.forwarded_host) {
                self.asked_for(host.clone());
            }
            let node = value("for").map_or(Node::Hidden, |(_, text)| node(text.as_bytes()));
            if !self.is_now(node) {
                break;
            }
        }
    }

    /// One hop further; false: here it ends.
    fn is_now(&mut self, node: Node) -> bool {
        match node {
            Node::Known(address) => self.address = address,
            Node::Hidden => return false,
            Node::Malformed => {
                self.malformed = true;
                return false;
            }
        }
        true
    }

    fn came_by(&mut self, proto: &str) {
        self.secure = match proto {
            proto if proto.eq_ignore_ascii_case("https") => Some(true),
            proto if proto.eq_ignore_ascii_case("http") => Some(false),
            _ => {
                self.malformed = true;
                None
            }
        };
    }

    fn asked_for(&mut self, host: Cow<'_, str>) {
        if super::is_host(&host) {
            self.host = Some(host.into_owned());
        } else {
            self.malformed = true;
        }
    }
}

/// The elements of a header that is a list, the last first.
fn from_the_right<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.get_all(name).iter().rev();
    let elements = lines.flat_map(|line| FromTheRight(Some(line.as_bytes())));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// What stands between the commas of a line, but those in quotes, the last first: an open quote that somebody has put to
/// the left takes nothing away from what a proxy has added.
struct FromTheRight<'h>(Option<&'h [u8]>);

impl<'h> Iterator for FromTheRight<'h> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        let rest = self.0?;
        let mut quoted = false;
        for (at, byte) in rest.iter().enumerate().rev() {
            match byte {
                b'"' => quoted ^= rest[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0,
                b',' if !quoted => {
                    self.0 = Some(&rest[..at]);
                    return Some(&rest[at + 1..]);
                }
                _ => {}
            }
        }
        self.0 = None;
        Some(rest)
    }
}

/// The pairs of one element of `Forwarded`; None: it is none.
fn pairs(element: &[u8]) -> Option<Vec<(&str, Cow<'_, str>)>> {
    let mut rest = std::str::from_utf8(element).ok()?.trim_ascii();
    let mut pairs = Vec::new();
    loop {
        let (name, after) = rest.split_once('=')?;
        let value;
        (value, rest) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (Cow::Borrowed(after[..end].trim_ascii()), &after[end..])
            }
        };
        pairs.push((name.trim_ascii(), value));
        rest = rest.trim_ascii();
        match rest.strip_prefix(';').map(str::trim_ascii) {
            None if rest.is_empty() => return Some(pairs),
            None => return None,
            Some("") => return Some(pairs),
            Some(more) => rest = more,
        }
    }
}

/// The text of a quoted string whose opening quote has been taken off, and what stands behind it.
fn unquote(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut plain = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((Cow::Owned(plain), &text[at + 1..])),
            '\\' => plain.push(chars.next()?.1),
            c => plain.push(c),
        }
    }
    None
}

fn trimmed(text: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(text.trim_ascii())
}

/// An address with or without port, one of IPv6 with or without brackets; `unknown`, or a name beginning with `_`.
fn node(text: &[u8]) -> Node {
    let Ok(text) = std::str::from_utf8(text) else { return Node::Malformed };
    let text = text.trim_ascii();
    if text.eq_ignore_ascii_case("unknown") || text.starts_with('_') {
        return Node::Hidden;
    }
    // A port may have a name instead of a number.
    let text = text.split_once(":_").map_or(text, |(address, _)| address);
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let without_port = text.parse::<IpAddr>().ok().or_else(in_brackets).map(|ip| SocketAddr::new(ip, 0));
    match without_port.or_else(|| text.parse().ok()) {
        Some(address) => Node::Known(SocketAddr::new(address.ip().to_canonical(), address.port())),
        None => Node::Malformed,
    }
}

#[cfg(test)]
#[path = "forwarded_tests.rs"]
mod tests;
