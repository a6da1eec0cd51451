//! A port for the private Redis.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// The usual port of Redis.
const USUAL: u16 = 6379;
/// The first of the others.
const FIRST: u16 = 1379;
/// The last of the others.
const LAST: u16 = 1478;

/// Free ports tried where any will do; somebody else may be quicker to take one.
const ANY: usize = 5;

/// The ports to try, in order, where `wanted` is configured: 0 is any free one, None the usual one and then others.
pub(super) fn candidates(wanted: Option<u16>) -> Vec<u16> {
    match wanted {
        None => std::iter::once(USUAL).chain(FIRST..=LAST).collect(),
        Some(0) => any(),
        Some(port) => vec![port],
    }
}

fn any() -> Vec<u16> {
    // Held all at once, so that they differ.
    let held: Vec<_> = (0..ANY).filter_map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()).collect();
    held.iter().filter_map(|listener| Some(listener.local_addr().ok()?.port())).collect()
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
    fn the_usual_port_comes_first_and_a_configured_one_alone() {
        assert_eq!(candidates(None)[..3], [6379, 1379, 1380]);
        assert_eq!(candidates(Some(7000)), [7000]);
        assert!(candidates(Some(0)).iter().all(|port| *port != 0));
    }

    #[test]
    fn a_port_with_a_listener_is_not_free() {
        for listen in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(listen) else { continue };
            let port = listener.local_addr().expect("a bound listener has an address").port();
            assert!(!is_free(port), "{listen}");
        }
    }
}
