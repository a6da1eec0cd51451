//! Phases of the process, the one way to know that everything has ended, and signs of life in between.
//!
//! A watch that every task sees, and a guard whose last drop means done. It must not know what it stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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

/// When each reactor last did anything at all: a thread that hangs has connections and answers none of them.
#[derive(Debug)]
pub struct Signs {
    since: Instant,
    /// Milliseconds after `since`.
    last: Box<[AtomicU64]>,
}

impl Signs {
    /// Time between two signs of one reactor.
    const EVERY: Duration = Duration::from_secs(1);
    /// A reactor that gives no sign for so long will not go on by itself.
    const STUCK: Duration = Duration::from_secs(10);

    /// Of so many reactors, which count as having given a sign now.
    pub fn new(reactors: usize) -> Self {
        Self { since: Instant::now(), last: (0..reactors).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Gives those of one reactor, on its thread, until dropped.
    pub async fn give(&self, reactor: usize) {
        loop {
            if let Some(last) = self.last.get(reactor) {
                last.store(self.now(), Ordering::Relaxed);
            }
            tokio::time::sleep(Self::EVERY).await;
        }
    }

    /// The reactors that have given none for too long.
    pub fn missing(&self) -> Vec<usize> {
        self.missing_at(self.now())
    }

    fn missing_at(&self, now: u64) -> Vec<usize> {
        let stuck = Self::STUCK.as_millis() as u64;
        let late = |last: &AtomicU64| now.saturating_sub(last.load(Ordering::Relaxed)) > stuck;
        self.last.iter().enumerate().filter(|(_, last)| late(last)).map(|(reactor, _)| reactor).collect()
    }

    fn now(&self) -> u64 {
        self.since.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reactor_that_gives_no_sign_is_missed() {
        let signs = Signs::new(2);
        assert_eq!(signs.missing_at(10_000), [0; 0]);
        signs.last[1].store(5_000, Ordering::Relaxed);
        assert_eq!(signs.missing_at(10_001), [0]);
        assert_eq!(signs.missing_at(15_001), [0, 1]);
        let signs = Signs { since: signs.since.checked_sub(Duration::from_secs(60)).expect("a clock"), ..signs };
        assert_eq!(signs.missing(), [0, 1]);
        let _ = tokio::time::timeout(Duration::ZERO, signs.give(1)).await;
        assert_eq!(signs.missing(), [0]);
    }

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
