//! Word to a running job that nobody wants its answer any more.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Shared by a job's handler and those who may call it off.
#[derive(Debug, Default)]
pub(crate) struct Cancellation {
    cancelled: AtomicBool,
    changed: Notify,
}

impl Cancellation {
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Completes once it is cancelled, at once where it has been.
    pub(crate) async fn cancelled(&self) {
        let mut changed = std::pin::pin!(self.changed.notified());
        // Listening begins before the look, so that no change falls between them.
        changed.as_mut().enable();
        if !self.is_cancelled() {
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn all_that_wait_are_told_and_late_ones_too() {
        let cancellation = Arc::new(Cancellation::default());
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let cancellation = cancellation.clone();
                tokio::spawn(async move { cancellation.cancelled().await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(!cancellation.is_cancelled());
        cancellation.cancel();
        for waiting in waiting {
            waiting.await.expect("told");
        }
        cancellation.cancelled().await;
    }
}
