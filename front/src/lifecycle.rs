//! Phases of the process, and the one way to know that everything has ended.
//!
//! A watch that every task sees, and a guard whose last drop means done. It must not know what it stops.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

/// Where the process is in its life; only ever forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not everything is connected yet.
    Starting,
    /// Serving.
    Ready,
    /// No new connections; what is in flight is finished, streams are sent away.
    Draining,
    /// The time for that is over: everything ends now.
    Stopping,
}

/// Moves the phase on and waits for the end.
#[derive(Debug)]
pub struct Lifecycle {
    phase: Arc<watch::Sender<Phase>>,
    guard: mpsc::Sender<()>,
    done: mpsc::Receiver<()>,
}

/// What every part holds: it sees the phase, and while it lives the process has not ended.
#[derive(Clone, Debug)]
pub struct Life {
    phase: watch::Receiver<Phase>,
    _guard: mpsc::Sender<()>,
}

/// Moves the phase on from anywhere.
#[derive(Clone, Debug)]
pub struct PhaseSetter(Arc<watch::Sender<Phase>>);

impl PhaseSetter {
    /// Goes to `phase`, never backwards.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = phase > *now;
            if later {
                *now = phase;
            }
            later
        });
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// In phase `Starting`.
    pub fn new() -> Self {
        let (guard, done) = mpsc::channel(1);
        Self { phase: Arc::new(watch::Sender::new(Phase::Starting)), guard, done }
    }

    /// One more part.
    pub fn life(&self) -> Life {
        Life { phase: self.phase.subscribe(), _guard: self.guard.clone() }
    }

    /// Sees the phase without being a part: it holds up nothing.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// A handle that moves the phase on.
    pub fn setter(&self) -> PhaseSetter {
        PhaseSetter(Arc::clone(&self.phase))
    }

    /// Resolves when the last [`Life`] is gone.
    pub async fn ended(self) {
        let Self { guard, mut done, .. } = self;
        drop(guard);
        // Nothing is ever sent: the end of the channel is the message.
        while done.recv().await.is_some() {}
    }
}

impl Life {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Resolves when `phase` is reached or passed.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the setter is gone, and with it any later phase: the same as the last one.
        let _ = self.phase.wait_for(|now| *now >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn the_end_is_the_last_life() {
        let lifecycle = Lifecycle::new();
        let setter = lifecycle.setter();
        let mut life = lifecycle.life();
        let task = tokio::spawn(async move {
            life.reached(Phase::Draining).await;
            assert_eq!(life.phase(), Phase::Stopping, "phases may be passed over");
        });
        setter.advance(Phase::Stopping);
        setter.advance(Phase::Ready);
        lifecycle.ended().await;
        task.await.expect("the task saw its phase");
    }
}
