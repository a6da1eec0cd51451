//! How often this process was asked to stop, and how often to take up what has changed: the configuration, programs.
//!
//! Ctrl-C and `kill` count alike: once means in order, once more means faster. SIGHUP asks for a reload, unless it says
//! that the terminal is gone in which this process was started; then it means Ctrl-C.

use std::fs::File;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Counts; clones see the same count.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    /// How many, and the name of the last one.
    stops: watch::Receiver<(u32, &'static str)>,
    reloads: watch::Receiver<u32>,
}

impl Signals {
    /// Begins to count. From here on none of them ends the process by itself.
    pub(crate) fn listen() -> io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        let ((stop, stops), (reload, reloads)) = (watch::channel((0, "")), watch::channel(0));
        tokio::spawn(listen([interrupt?, terminate?, hangup?], has_terminal(), stop, reload));
        Ok(Self { stops, reloads })
    }

    /// Completes once the process was asked to stop `times` times.
    pub(crate) async fn reached(&self, times: u32) {
        // The counting task ends only with the runtime.
        if self.stops.clone().wait_for(|(count, _)| *count >= times).await.is_err() {
            std::future::pending().await
        }
    }

    /// Completes once the process was asked to stop, with the name of the signal.
    pub(crate) async fn stopped(&self) -> &'static str {
        self.reached(1).await;
        self.stops.borrow().1
    }

    /// Changes each time a reload is asked for.
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
    stops: watch::Sender<(u32, &'static str)>,
    reloads: watch::Sender<u32>,
) {
    loop {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            _ = hangup.recv() => "SIGHUP",
        };
        let asks_for_reload = name == "SIGHUP" && (!terminal || has_terminal());
        if asks_for_reload {
            reloads.send_modify(|count| *count = count.saturating_add(1));
        } else {
            stops.send_modify(|(count, last)| (*count, *last) = (count.saturating_add(1), name));
        }
    }
}
