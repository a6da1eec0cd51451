//! A port for the private Redis.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// The usual port of Redis.
const USUAL: u16 = 6379;
/// The first of the others.
const FIRST: u16 = 1379;
/// The last of the others.
pub(super) const LAST: u16 = 1478;

/// The ports to try, in order.
pub(super) fn usual() -> Vec<u16> {
    std::iter::once(USUAL).chain(FIRST..=LAST).collect()
}

/// True where nobody listens on loopback at `port`. Somebody may be quicker; the server's own words say so then.
pub(super) fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    // Some systems let an address be bound beside a listener on all addresses; that one answers.
    TcpListener::bind(address).is_ok() && TcpStream::connect(address).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_with_a_listener_is_not_free() {
        for listen in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(listen) else { continue };
            let port = listener.local_addr().expect("a bound listener has an address").port();
            assert!(!is_free(port), "{listen}");
        }
    }
}
