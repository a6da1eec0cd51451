//! What is logged, changed while the process runs: for a while, or until it ends.
//!
//! There is one log a process, so there is one of these. A level that was set for a while goes back to the configured one
//! by itself: a `debug` that somebody forgot fills a disk.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::config::is_log_level;

/// The word for the level of the configuration.
pub const CONFIGURED: &str = "default";
/// Longest time for which a level is set; without a time it holds until the process ends.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Makes a filter the one that holds; false: the log is gone.
pub(super) type Apply = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

/// What h2 warns of is what clients do, as often as they like; who names it in a filter gets it all the same.
pub(super) fn filter(level: &str) -> EnvFilter {
    EnvFilter::new(format!("h2=error,{level}"))
}

/// What is logged now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Now {
    /// What holds.
    pub level: String,
    /// What the configuration says.
    pub configured: String,
    /// When that holds again, in ms since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// Why a level was not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// It is no level.
    #[error(
        "{0:?} is no level: expected off, error, warn, info, debug, trace, a filter like info,tempest::broker=debug, \
         or default for that of the configuration"
    )]
    NoLevel(String),
    /// The time is none that a level may be set for.
    #[error("a level is set for 1 s to 24 h, or without a time until the process ends")]
    Time,
    /// This process logs in some other way.
    #[error("this process has no log of its own: whoever embeds the front decides what is logged")]
    NoLog,
}

/// The level of one log.
pub(super) struct Level {
    apply: Apply,
    state: Mutex<State>,
}

struct State {
    now: Now,
    /// Counts changes, so that the end of one does not end the next.
    changes: u64,
}

static LEVEL: OnceLock<Arc<Level>> = OnceLock::new();

/// To be called once, by whoever starts the log of the process.
pub(super) fn install(configured: &str, apply: Apply) {
    let _ = LEVEL.set(Level::new(configured, apply));
}

/// Sets the level of this process's log, for a while or until it ends. Must be called within a runtime.
///
/// # Errors
/// What is wrong with the level or the time; then nothing has changed.
pub fn set(level: &str, time: Option<Duration>) -> Result<Now, LevelError> {
    LEVEL.get().ok_or(LevelError::NoLog)?.set(level, time)
}

/// The configuration says something else now. What was set by hand stays for as long as it was to.
pub(super) fn reconfigure(configured: &str) {
    if let Some(level) = LEVEL.get() {
        level.reconfigure(configured);
    }
}

/// What is logged now; None: this process has no log of its own.
pub fn now() -> Option<Now> {
    LEVEL.get().map(|level| level.lock().now.clone())
}

impl Level {
    fn new(configured: &str, apply: Apply) -> Arc<Self> {
        let now = Now { level: configured.to_owned(), configured: configured.to_owned(), until: None };
        Arc::new(Self { apply, state: Mutex::new(State { now, changes: 0 }) })
    }

    /// Held for no longer than it takes to change the filter.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(self: &Arc<Self>, level: &str, time: Option<Duration>) -> Result<Now, LevelError> {
        let configured = self.lock().now.configured.clone();
        let level = if level == CONFIGURED { configured.clone() } else { level.to_owned() };
        if !is_log_level(&level) {
            return Err(LevelError::NoLevel(level));
        }
        if time.is_some_and(|time| !(Duration::from_secs(1)..=LONGEST).contains(&time)) {
            return Err(LevelError::Time);
        }
        let until = time.filter(|_| level != configured).map(|time| {
            let at = (SystemTime::now() + time).duration_since(UNIX_EPOCH).unwrap_or_default();
            (time, u64::try_from(at.as_millis()).unwrap_or(u64::MAX))
        });
        let now = Now { level, configured, until: until.map(|(_, at)| at) };
        let change = self.change(now.clone(), None)?;
        // Said after the change, and at a level that the new one shows wherever it can.
        tracing::warn!(level = now.level, "the log's level was changed");
        if let Some((time, _)) = until {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                this.go_back(change);
            });
        }
        Ok(now)
    }

    /// Makes it so, unless more than change `only_after` was made; gives this change's number.
    fn change(&self, now: Now, only_after: Option<u64>) -> Result<u64, LevelError> {
        let mut state = self.lock();
        if only_after.is_some_and(|change| change != state.changes) {
            return Ok(state.changes);
        }
        if !(self.apply)(filter(&now.level)) {
            return Err(LevelError::NoLog);
        }
        state.now = now;
        state.changes += 1;
        Ok(state.changes)
    }

    fn reconfigure(&self, configured: &str) {
        let mut state = self.lock();
        let was = std::mem::replace(&mut state.now.configured, configured.to_owned());
        if state.now.level == was && state.now.until.is_none() && (self.apply)(filter(configured)) {
            configured.clone_into(&mut state.now.level);
        }
    }

    fn go_back(&self, change: u64) {
        let configured = self.lock().now.configured.clone();
        let back = Now { level: configured.clone(), configured, until: None };
        if self.change(back, Some(change)).is_ok_and(|now| now != change) {
            tracing::info!("the log's level is that of the configuration again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level() -> (Arc<Level>, Arc<Mutex<Vec<String>>>) {
        let applied = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&applied);
        let apply = move |filter: EnvFilter| {
            let filter = filter.to_string();
            // Beside what was asked for stands what is always kept quiet.
            let asked = filter.strip_prefix("h2=error,").expect("h2 is kept quiet");
            noted.lock().expect("nobody panics").push(asked.to_owned());
            true
        };
        (Level::new("info", Box::new(apply)), applied)
    }

    // That the time is kept is tested with a front of its own.
    #[tokio::test]
    async fn a_level_set_for_a_while_goes_back_by_itself() {
        let (level, applied) = level();
        let now = level.set("debug", Some(Duration::from_secs(600))).expect("a level");
        assert_eq!((now.level.as_str(), now.configured.as_str(), now.until.is_some()), ("debug", "info", true));
        level.go_back(0);
        assert_eq!(level.lock().now.level, "debug");
        level.go_back(1);
        assert_eq!(level.lock().now, Now { level: "info".into(), configured: "info".into(), until: None });
        assert_eq!(*applied.lock().expect("nobody panics"), ["debug", "info"]);
    }

    #[tokio::test]
    async fn what_was_set_by_hand_outlives_another_configuration() {
        let (level, applied) = level();
        level.reconfigure("warn");
        let now = |level: &str, configured: &str| (level.to_owned(), configured.to_owned());
        let holds = |level: &Arc<Level>| {
            let state = level.lock();
            now(&state.now.level, &state.now.configured)
        };
        assert_eq!(holds(&level), now("warn", "warn"));
        level.set("debug", Some(Duration::from_secs(600))).expect("a level");
        level.reconfigure("error");
        assert_eq!(holds(&level), now("debug", "error"));
        level.go_back(1);
        assert_eq!(holds(&level), now("error", "error"));
        assert_eq!(*applied.lock().expect("nobody panics"), ["warn", "debug", "error"]);
    }

    #[tokio::test]
    async fn the_end_of_one_change_is_not_the_end_of_the_next() {
        let (level, _) = level();
        level.set("debug", Some(Duration::from_secs(10))).expect("a level");
        level.set("trace", None).expect("a level");
        level.go_back(1);
        assert_eq!(level.lock().now.level, "trace");
        assert_eq!(level.set(CONFIGURED, Some(LONGEST)).expect("the configured one").until, None);
        assert_eq!(level.lock().now.level, "info");
    }

    #[tokio::test]
    async fn what_is_wrong_changes_nothing() {
        let (level, applied) = level();
        for wrong in ["", "loud", "debg", "tempest", "tempest=loud", "a,b=nothing"] {
            assert_eq!(level.set(wrong, None), Err(LevelError::NoLevel(wrong.into())));
        }
        for wrong in [Duration::ZERO, Duration::from_millis(999), LONGEST + Duration::from_millis(1)] {
            assert_eq!(level.set("debug", Some(wrong)), Err(LevelError::Time));
        }
        assert!(applied.lock().expect("nobody panics").is_empty());
        let gone = Level::new("info", Box::new(|_| false));
        assert_eq!(gone.set("debug", None), Err(LevelError::NoLog));
        assert_eq!(gone.lock().now.level, "info");
    }
}
