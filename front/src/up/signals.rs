//! What this process was told by signals: to stop, how often, and to replace its fronts.
//!
//! Ctrl-C, `kill` and a closed terminal count alike: once means in order, once more means faster. SIGHUP is what a
//! closed terminal sends, but also how a daemon is told to take up a new configuration or program; which of them it is
//! shows in whether the terminal that there was has gone.

use std::fs::File;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Counts; clones see the same counts.
#[derive(Clone, Debug)]
pub(super) struct Signals {
    stops: watch::Receiver<u32>,
    restarts: watch::Receiver<u32>,
}

impl Signals {
    /// Begins to count. From here on none of them ends the process by itself. `restarts`: there is something that can be
    /// replaced; else every SIGHUP is one to stop.
    pub(super) fn listen(restarts: bool) -> io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        let ((stop, stops), (restart, asked)) = (watch::channel(0), watch::channel(0));
        let source = Source {
            interrupt: interrupt?,
            terminate: terminate?,
            hangup: hangup?,
            restarts,
            attended: has_terminal(),
        };
        tokio::spawn(source.count(stop, restart));
        Ok(Self { stops, restarts: asked })
    }

    /// Completes once the process was asked to stop `times` times.
    pub(super) async fn reached(&self, times: u32) {
        // The counting task ends only with the runtime.
        if self.stops.clone().wait_for(|count| *count >= times).await.is_err() {
            std::future::pending().await
        }
    }

    /// Completes once the fronts are to be replaced; several signals while they are being replaced are one.
    pub(super) async fn restart(&mut self) {
        if self.restarts.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

struct Source {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    restarts: bool,
    /// There was a terminal at first.
    attended: bool,
}

impl Source {
    async fn count(mut self, stop: watch::Sender<u32>, restart: watch::Sender<u32>) {
        loop {
            let counted = tokio::select! {
                _ = self.interrupt.recv() => &stop,
                _ = self.terminate.recv() => &stop,
                _ = self.hangup.recv() => {
                    let closed = self.attended && !has_terminal();
                    if self.restarts && !closed { &restart } else { &stop }
                }
            };
            counted.send_modify(|count| *count = count.saturating_add(1));
        }
    }
}

/// True while this process has a terminal that can end it.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}
