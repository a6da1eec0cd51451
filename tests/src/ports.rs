//! Free ports for servers that must be restarted on the port they had.
//!
//! They are taken from below the ephemeral range: a port from within it can be handed to some outgoing connection
//! while its server is down, even to the one that tries to reach that server, which then talks to itself.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A port on 127.0.0.1 that nobody listens on and that this process has not handed out before.
pub fn free_port() -> u16 {
    for _ in 0..COUNT {
        let nth = TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (std::process::id().wrapping_mul(61).wrapping_add(nth)) % COUNT;
        let port = u16::try_from(port).expect("the range lies below 65536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
