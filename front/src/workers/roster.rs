//! Which worker processes live at this moment, and their registration in Redis.
//!
//! The registration is for those who look (`tempest status`); nothing waits for it and its failures are one log line.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempest_protocol::Keys;
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::broker::control::{Control, ControlError, Presence};
use crate::config::RedisUrl;

/// Time between two beats; a record lives three times as long.
const BEAT: Duration = Duration::from_secs(1);
/// Bounds of the wait before Redis is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long the end waits to take the workers out.
const LEAVE_TIME: Duration = Duration::from_millis(500);

/// A handle; clones share the roster.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By the name of the place: `ruby.1`.
    live: BTreeMap<String, Live>,
    gone: Vec<Presence>,
}

#[derive(Debug)]
struct Live {
    presence: Presence,
    /// It does nothing, so nobody says that it lives: its record expires.
    held: bool,
}

impl Roster {
    /// The worker in `place` lives.
    pub fn enter(&self, place: &str, presence: Presence) {
        self.with(|state| drop(state.live.insert(place.to_owned(), Live { presence, held: false })));
        self.0.changed.notify_one();
    }

    /// The worker in `place` has ended.
    pub fn leave(&self, place: &str) {
        self.with(|state| state.gone.extend(state.live.remove(place).map(|live| live.presence)));
        self.0.changed.notify_one();
    }

    /// The worker in `place` is stopped and does nothing, or goes on.
    pub fn hold(&self, place: &str, held: bool) {
        self.with(|state| {
            if let Some(live) = state.live.get_mut(place) {
                live.held = held;
            }
        });
        self.0.changed.notify_one();
    }

    /// Registers them, for ever.
    pub async fn beat(self, redis: RedisUrl, keys: Keys) {
        let mut waits = Backoff::new(RETRY.0, RETRY.1);
        let mut silent = false;
        loop {
            let Err(error) = self.beat_while_connected(&redis, &keys, &mut waits).await;
            if !silent {
                tracing::debug!("workers are not registered at the moment: {error}");
            }
            silent = true;
            tokio::time::sleep(waits.next_wait()).await;
        }
    }

    async fn beat_while_connected(
        &self,
        redis: &RedisUrl,
        keys: &Keys,
        waits: &mut Backoff,
    ) -> Result<std::convert::Infallible, ControlError> {
        let mut control = Control::connect(redis, "tempest-up").await?;
        loop {
            let (live, gone) = self.with(|state| {
                let live = state.live.values().filter(|live| !live.held).map(|live| live.presence.clone());
                (live.collect::<Vec<_>>(), state.gone.clone())
            });
            control.leave(keys, &gone).await?;
            self.with(|state| state.gone.retain(|worker| !gone.contains(worker)));
            control.beat(keys, &live).await?;
            waits.reset();
            // A change is seen at once, but bursts of them are not.
            let _ = tokio::time::timeout(BEAT, self.0.changed.notified()).await;
        }
    }

    /// Takes out those that have ended, once more.
    pub async fn close(&self, redis: &RedisUrl, keys: &Keys) {
        let gone = self.with(|state| std::mem::take(&mut state.gone));
        let work = async { Control::connect(redis, "tempest-up").await?.leave(keys, &gone).await };
        // What fails here expires by itself.
        let _ = tokio::time::timeout(LEAVE_TIME, work).await;
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
