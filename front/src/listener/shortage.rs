//! What becomes of accepting when it fails, mostly for want of descriptors or memory.
//!
//! The connection stays in the kernel's queue and would be tried again at once, for ever, at the cost of those that are
//! open. So whoever accepts waits, longer each time; what is open goes on meanwhile and ends, which is what makes room.
//! An outage is logged when it begins and when it has ended, and not for each of its failures.

use std::io::{Error, ErrorKind};
use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// Bounds of the first wait and of the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// An outage has ended when accepting has not failed for so long: at the limit, each connection that ends lets one in,
/// and the next one fails again.
const QUIET: Duration = Duration::from_secs(5);

/// How one accepting loop fares.
#[derive(Debug)]
pub struct Shortage {
    waits: Backoff,
    /// When accepting failed last, while there is an outage.
    failed: Option<Instant>,
}

impl Default for Shortage {
    fn default() -> Self {
        Self { waits: Backoff::new(WAITS.0, WAITS.1), failed: None }
    }
}

impl Shortage {
    /// Accepting failed: how long to wait before the next try. None: it was one connection's own failure.
    pub fn failed(&mut self, error: &Error) -> Option<Duration> {
        if is_of_one_connection(error) {
            return None;
        }
        if self.failed.replace(Instant::now()).is_none() {
            tracing::warn!(
                "cannot accept connections: {error}; those that are open go on. Allow more open files (ulimit -n, \
                 LimitNOFILE) than limits.connections, or lower that"
            );
        }
        Some(self.waits.next_wait())
    }

    /// A connection was accepted.
    pub fn accepted(&mut self) {
        // Almost always there is none.
        if self.failed.is_some() {
            self.accepted_at(Instant::now());
        }
    }

    fn accepted_at(&mut self, now: Instant) {
        self.waits.reset();
        if self.failed.is_some_and(|failed| now.saturating_duration_since(failed) >= QUIET) {
            self.failed = None;
            tracing::info!("connections are accepted again");
        }
    }
}

/// Failures of the connection that was to be accepted: it is gone, and there may be another (`accept(2)`).
fn is_of_one_connection(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn waits_grow_from_ten_milliseconds_to_a_second_and_begin_anew_after_a_success() {
        let mut shortage = Shortage::default();
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            let first = shortage.failed(&errno.into()).expect("a wait");
            assert!(first <= WAITS.0, "{first:?}");
            let last = (0..20).filter_map(|_| shortage.failed(&errno.into())).last().expect("a wait");
            assert!(last >= WAITS.1 / 2 && last <= WAITS.1, "{last:?}");
            shortage.accepted();
        }
        assert!(shortage.failed.is_some(), "one that was let in is not the end of it");
        shortage.accepted_at(Instant::now() + QUIET);
        assert!(shortage.failed.is_none());
    }

    #[test]
    fn a_connection_that_is_gone_is_no_shortage() {
        let mut shortage = Shortage::default();
        for errno in [Errno::CONNABORTED, Errno::INTR, Errno::PERM, Errno::NETUNREACH] {
            assert_eq!(shortage.failed(&errno.into()), None, "{errno}");
        }
        assert!(shortage.failed.is_none());
    }
}
