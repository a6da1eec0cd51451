//! Key sets that change: a file is looked at, a URL is fetched, both away from the reactors.
//!
//! The keys that are there stay until newer ones are. A request whose token names an unknown key may ask for a look at
//! once and wait for it; how often that happens is bounded, since anybody can make such a token.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use url::Url;

use super::fetch::{self, FETCH_TIME};
use super::keys::{self, KeySet};
use crate::config::{KeySource, Tokens};
use crate::telemetry::Metrics;

/// How often it is looked whether a file has changed, and the least time before a look that a request asks for.
const FILE_LOOK: Duration = Duration::from_secs(2);
const FILE_PAUSE: Duration = Duration::from_millis(200);
/// A request does not wait longer for newer keys.
const WAIT: Duration = Duration::from_secs(FETCH_TIME.as_secs() + 1);

/// Where newer keys come from.
pub(super) struct Source {
    place: Place,
    /// Between two looks without need.
    every: Duration,
    /// The same after a failure.
    again: Duration,
    /// The least time before a look that a request asks for.
    pause: Duration,
    state: Mutex<State>,
    asked: Notify,
    looked: watch::Sender<u64>,
}

enum Place {
    File(PathBuf),
    Url(Url),
}

struct State {
    /// A look is under way, or asked for.
    busy: bool,
    last: Option<Instant>,
}

/// What shows that a file is another one: a look at it costs less than reading it.
type Stamp = (Option<SystemTime>, u64, u64);

impl Source {
    /// None where there is nothing that changes.
    pub(super) fn of(source: &KeySource, limits: &Tokens) -> Option<Self> {
        let (every, pause) = (limits.jwks_refresh, limits.jwks_pause);
        let (place, every, again, pause) = match source {
            KeySource::JwksFile(path) => (Place::File(path.clone()), FILE_LOOK, FILE_LOOK, FILE_PAUSE),
            KeySource::JwksUrl(url) => (Place::Url(url.clone()), every, every.min(pause), pause),
            _ => return None,
        };
        // The first look comes with the start.
        let state = Mutex::new(State { busy: true, last: None });
        Some(Self { place, every, again, pause, state, asked: Notify::new(), looked: watch::Sender::new(0) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the keys looked at now, or waits for the look that is under way; false where the last one was a moment ago.
    pub(super) async fn look(&self) -> bool {
        let mut looked = self.looked.subscribe();
        {
            let mut state = self.state();
            if !state.busy {
                if state.last.is_some_and(|last| last.elapsed() < self.pause) {
                    return false;
                }
                state.busy = true;
                self.asked.notify_one();
            }
        }
        timeout(WAIT, looked.changed()).await.is_ok_and(|changed| changed.is_ok())
    }

    async fn load(&self, seen: &mut Option<Stamp>, limits: &Tokens) -> Result<Option<Vec<u8>>, String> {
        match &self.place {
            Place::File(path) => {
                let (path, before, most) = (path.clone(), *seen, limits.jwks_bytes as u64);
                let work = tokio::task::spawn_blocking(move || {
                    let stamp = stamp(&path)?;
                    if before == Some(stamp) {
                        return Ok(None);
                    }
                    keys::read_up_to(&path, most).map(|bytes| Some((stamp, bytes)))
                });
                let found = work.await.map_err(|error| error.to_string())?;
                // One that was gone is read when it is back, even where it is the same.
                let before = seen.take();
                Ok(match found? {
                    Some((stamp, bytes)) => {
                        *seen = Some(stamp);
                        Some(bytes)
                    }
                    None => {
                        *seen = before;
                        None
                    }
                })
            }
            Place::Url(url) => fetch::fetch(url, limits.jwks_bytes).await.map(|bytes| Some(bytes.into())),
        }
    }
}

fn stamp(path: &std::path::Path) -> Result<Stamp, String> {
    use std::os::unix::fs::MetadataExt;
    let about = std::fs::metadata(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    Ok((about.modified().ok(), about.len(), about.ino()))
}

/// Keeps a set up to date, until dropped.
pub(super) async fn keep(set: Arc<KeySet>, limits: Tokens, metrics: Arc<Metrics>) {
    let Some(source) = &set.source else { return };
    let mut seen = None;
    let mut failing = false;
    loop {
        let loaded = source.load(&mut seen, &limits).await;
        let keys = loaded.and_then(|json| json.map(|json| keys::key_set(&json, set.alg, limits.jwks_keys)).transpose());
        match keys {
            Ok(keys) => {
                // A file that stays as it was after it was found wrong is still wrong.
                if keys.is_some() && std::mem::take(&mut failing) {
                    tracing::info!(key = set.name, "its keys can be read again");
                }
                if let Some(keys) = keys {
                    tracing::debug!(key = set.name, keys = keys.len(), "keys read");
                    set.replace(keys);
                }
            }
            Err(error) => {
                metrics.key_failures.inc();
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(key = set.name, "its keys cannot be read, so the ones that are there stay: {error}");
                }
            }
        }
        *source.state() = State { busy: false, last: Some(Instant::now()) };
        source.looked.send_modify(|looks| *looks += 1);
        let rest = if failing { source.again } else { source.every };
        tokio::select! {
            () = sleep(rest) => source.state().busy = true,
            () = source.asked.notified() => {}
        }
    }
}
