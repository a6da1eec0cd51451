//! What went wrong with a request, for the log and for `tempest status`.
//!
//! Never anything that a client sent.

use super::Dispatch;
use crate::telemetry::Problem;

impl Dispatch {
    pub(super) fn note(&self, what: &'static str, serial: u64, detail: &str) {
        let queue = self.pending.borrow().get(&serial).map(|p| p.lane.queue.name.to_string()).unwrap_or_default();
        self.note_of(what, &queue, self.reactor.request(serial).as_str(), detail);
    }

    /// Notes what went wrong with a request of this id.
    pub fn note_of(&self, what: &'static str, queue: &str, request: &str, detail: &str) {
        tracing::warn!(what, %queue, %request, "{detail}");
        let (queue, request, detail) = (queue.to_owned(), request.to_owned(), detail.to_owned());
        self.problems.note(Problem { at: self.broker.now_ms(), what, queue, request, detail });
    }
}
