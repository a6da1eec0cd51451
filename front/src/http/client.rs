//! Who asks, and how: the one place that decides it for each request.
//!
//! Whoever limits, logs, signs in or tells a worker by the client's address, by whether it came over TLS or by the host
//! it asked for takes it from here and from nowhere else: the connection says it, or a trusted proxy does. What others
//! write into the same headers is never a fact.

use std::net::SocketAddr;
use std::rc::Rc;

use http::{HeaderMap, Request, header};

use super::forwarded::{self, Told};
use super::{Context, Incoming, Peer, host_of};
use crate::error::Failure;

/// The client of one request.
pub struct Client<'p> {
    peer: &'p Rc<Peer>,
    told: Option<Box<(Told, String)>>,
}

impl<'p> Client<'p> {
    /// Decides who it is; what a trusted proxy says and nobody can read is counted.
    pub(super) fn of(context: &Context, peer: &'p Rc<Peer>, headers: &HeaderMap) -> Self {
        // Asked for each request: a proxy that is not trusted any more may have connections open.
        let proxies = &context.config.front.proxies;
        if !proxies.believes(peer.remote.ip()) {
            return Self { peer, told: None };
        }
        let told = forwarded::read(headers, peer.remote, proxies);
        if told.malformed {
            context.metrics.forwarded_malformed.inc();
        }
        let text = told.address.to_string();
        Self { peer, told: Some(Box::new((told, text))) }
    }

    /// Its connection, or that of the proxy in front.
    pub fn peer(&self) -> &'p Rc<Peer> {
        self.peer
    }

    /// Its address; port 0 where a proxy named none.
    pub fn address(&self) -> SocketAddr {
        self.told.as_ref().map_or(self.peer.remote, |told| told.0.address)
    }

    /// The same as `ip:port`.
    pub fn text(&self) -> &str {
        self.told.as_ref().map_or(&self.peer.address, |told| &told.1)
    }

    /// Whether it has come over TLS, to the front or to a trusted proxy in front of it.
    pub fn is_secure(&self) -> bool {
        self.told.as_ref().and_then(|told| told.0.secure).unwrap_or_else(|| self.peer.is_secure())
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.is_secure() { "https" } else { "http" }
    }

    /// The host that it asked for.
    ///
    /// # Errors
    /// The request names none, or more than one, where it has to.
    pub fn host<'r>(&'r self, request: &'r Request<Incoming>) -> Result<Option<&'r str>, Failure> {
        let own = host_of(request)?;
        Ok(self.told_host().or(own))
    }

    /// The same of a request that has a route: that its fields name one host has been seen by then.
    pub fn host_of_routed<'r>(&'r self, request: &'r Request<Incoming>) -> Option<&'r str> {
        let own = || match request.uri().authority() {
            Some(authority) => Some(authority.as_str()),
            None => request.headers().get(header::HOST)?.to_str().ok(),
        };
        self.told_host().or_else(own)
    }

    fn told_host(&self) -> Option<&str> {
        self.told.as_ref().and_then(|told| told.0.host.as_deref())
    }
}
