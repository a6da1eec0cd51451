//! Waiting for what announces itself by no event: polled, with a deadline and an account of what was awaited.
//!
//! Where an event exists (a line in a log, an answer, the end of a connection) it is awaited instead.

use std::time::{Duration, Instant};

/// How long anything may take before a test fails; far above what it takes, so that a slow machine passes. Less where
/// tests are built to fail: each of those lasts as long as its patience.
pub const PATIENCE: Duration = Duration::from_secs(if option_env!("TEST_OF_TESTS").is_some() { 10 } else { 30 });

const PAUSE: Duration = Duration::from_millis(10);

/// Polls until `condition` holds; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(within(PATIENCE, condition), "waited {PATIENCE:?} for {what}");
}

/// Polls until `condition` holds or `time` has passed; says which.
pub fn within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}
