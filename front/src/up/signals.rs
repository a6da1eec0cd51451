//! How often this process was asked to stop, and how often to replace its fronts and workers.
//!
//! Ctrl-C and `kill` count alike: once means in order, once more means faster. SIGHUP asks for a rolling restart, unless
//! it says that the terminal is gone in which this process was started; then it means Ctrl-C.

use std::fs::File;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Counts; clones see the same count.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    stops: watch::Receiver<u32>,
    reloads: watch::Receiver<u32>,
}

impl Signals {
    /// Begins to count. From here on none of them ends the process by itself.
    pub(crate) fn listen() -> io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        let ((stop, stops), (reload, reloads)) = (watch::channel(0), watch::channel(0));
        tokio::spawn(listen([interrupt?, terminate?, hangup?], has_terminal(), stop, reload));
        Ok(Self { stops, reloads })
    }

    /// Completes once the process was asked to stop `times` times.
    pub(crate) async fn reached(&self, times: u32) {
        // The counting task ends only with the runtime.
        if self.stops.clone().wait_for(|count| *count >= times).await.is_err() {
            std::future::pending().await
        }
    }

    /// Changes each time a rolling restart is asked for.
    pub(crate) fn reloads(&self) -> watch::Receiver<u32> {
        self.reloads.clone()
    }
}

/// True while this process has a terminal that can end it.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

async fn listen(
    [mut interrupt, mut terminate, mut hangup]: [Signal; 3],
    terminal: bool,
    stops: watch::Sender<u32>,
    reloads: watch::Sender<u32>,
) {
    loop {
        let count = tokio::select! {
            _ = interrupt.recv() => &stops,
            _ = terminate.recv() => &stops,
            _ = hangup.recv() => if terminal && !has_terminal() { &stops } else { &reloads },
        };
        count.send_modify(|count| *count = count.saturating_add(1));
    }
}
