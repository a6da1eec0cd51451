//! What went wrong with a request, for the log and for `tempest status`.
//!
//! Never anything that a client sent, but for the digits of a trace.

use super::Dispatch;
use crate::telemetry::Problem;

impl Dispatch {
    pub(super) fn note(&self, what: &'static str, serial: u64, detail: &str) {
        let (queue, trace) = match self.pending.borrow().get(&serial) {
            Some(pending) => (pending.lane.queue.name.to_string(), pending.trace.clone()),
            None => Default::default(),
        };
        let trace = trace.as_ref().map(|trace| trace.id());
        self.noted(what, (&queue, self.reactor.request(serial).as_str(), trace), detail);
    }

    /// Notes what went wrong with a request of this id.
    pub fn note_of(&self, what: &'static str, queue: &str, request: &str, detail: &str) {
        self.noted(what, (queue, request, None), detail);
    }

    fn noted(&self, what: &'static str, (queue, request, trace): (&str, &str, Option<&str>), detail: &str) {
        tracing::warn!(what, %queue, %request, trace, "{detail}");
        let (queue, request, detail) = (queue.to_owned(), request.to_owned(), detail.to_owned());
        self.problems.note(Problem { at: self.broker.now_ms(), what, queue, request, detail });
    }
}
