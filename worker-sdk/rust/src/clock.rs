//! The clock of Redis, the only one that deadlines are written in.
//!
//! A worker's own clock may be wrong by minutes, so it only measures what passed since Redis last told the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Milliseconds since the epoch as Redis counts them.
#[derive(Debug)]
pub(crate) struct Clock {
    base: Instant,
    /// The time of Redis at `base`; 0: not known yet.
    redis_ms_at_base: AtomicU64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { base: Instant::now(), redis_ms_at_base: AtomicU64::new(0) }
    }

    /// Takes over what Redis has just said. The time its reply took on the way makes deadlines late, never early.
    pub(crate) fn set(&self, redis_ms: u64) {
        self.redis_ms_at_base.store(redis_ms.saturating_sub(self.since_base_ms(Instant::now())), Ordering::Relaxed);
    }

    /// Now; a job comes only after a handshake, so the time is known by then.
    pub(crate) fn now_ms(&self) -> u64 {
        self.at(Instant::now())
    }

    /// The same for a moment that is known already.
    pub(crate) fn at(&self, moment: Instant) -> u64 {
        self.redis_ms_at_base.load(Ordering::Relaxed) + self.since_base_ms(moment)
    }

    fn since_base_ms(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.base).as_millis()).unwrap_or(u64::MAX)
    }
}
