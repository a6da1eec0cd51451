//! How often this process was asked to stop.
//!
//! Ctrl-C, `kill` and a closed terminal count alike: once means in order, once more means faster.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Counts; clones see the same count.
#[derive(Clone, Debug)]
pub(super) struct Signals(watch::Receiver<u32>);

impl Signals {
    /// Begins to count. From here on none of them ends the process by itself.
    pub(super) fn listen() -> io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        let (count, seen) = watch::channel(0);
        tokio::spawn(listen([interrupt?, terminate?, hangup?], count));
        Ok(Self(seen))
    }

    /// Completes once the process was asked to stop `times` times.
    pub(super) async fn reached(&self, times: u32) {
        // The counting task ends only with the runtime.
        if self.0.clone().wait_for(|count| *count >= times).await.is_err() {
            std::future::pending().await
        }
    }
}

async fn listen([mut interrupt, mut terminate, mut hangup]: [Signal; 3], count: watch::Sender<u32>) {
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        count.send_modify(|count| *count = count.saturating_add(1));
    }
}
