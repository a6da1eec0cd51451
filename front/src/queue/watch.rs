//! Which workers of a queue are dead, judged from what Redis says of them.
//!
//! Two ways to tell. *Certain*: both connections that a worker registered are gone, and it has not registered new ones
//! for a while. *Suspected*: its record has expired, so it has not beaten. A long job is no sign of death, and one
//! connection gone is none either. Pure judgement over replies: it must not send anything.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A worker whose connections broke has this long to come back; dialling again takes it some milliseconds.
const RETURN_TIME: Duration = Duration::from_millis(100);
/// After Redis was away no record can be expected to have outlived it: workers have this long to beat again.
const SETTLE_TIME: Duration = Duration::from_secs(4);

/// A worker's registration: `<run_id> <connection> <connection>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    text: String,
    run_id: String,
    connections: Vec<u64>,
}

impl Registration {
    /// Reads one; whatever is not a number is no connection, and a worker without any can only be suspected.
    pub(super) fn parse(text: &str) -> Self {
        let mut words = text.split(' ');
        let run_id = words.next().unwrap_or_default().to_owned();
        Self { text: text.to_owned(), run_id, connections: words.filter_map(|word| word.parse().ok()).collect() }
    }
}

/// What one look at the workers found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The incarnation of Redis.
    pub(super) run_id: String,
    /// Workers that take claims, with their registrations.
    pub(super) claimers: Vec<(String, String)>,
    /// Connections that are there, of those that were asked about; None: Redis does not tell.
    pub(super) connected: Option<HashSet<u64>>,
    /// Workers whose records are there, of those that were asked about.
    pub(super) beating: HashSet<String>,
}

/// A worker that is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dead {
    pub(super) worker: String,
    /// Its registration, as it was seen.
    pub(super) registration: String,
    /// Its connections are gone; else it is silent.
    pub(super) certain: bool,
    /// Connections that may still be there.
    pub(super) connections: Vec<u64>,
}

/// What is remembered from look to look.
#[derive(Debug, Default)]
pub(super) struct Watch {
    run_id: String,
    /// When this incarnation of Redis was first seen, or looked at again after a pause.
    since: Option<Instant>,
    workers: HashMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    registration: Registration,
    gone_since: Option<Instant>,
}

impl Watch {
    /// The workers to ask about.
    pub(super) fn workers(&self) -> impl Iterator<Item = &str> {
        self.workers.keys().map(String::as_str)
    }

    /// Their connections.
    pub(super) fn connections(&self) -> impl Iterator<Item = u64> {
        let here = self.workers.values().filter(|known| known.registration.run_id == self.run_id);
        here.flat_map(|known| known.registration.connections.iter().copied())
    }

    /// Nobody looked for a while: what was remembered may be wrong by now.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Takes in what a look found, which had asked about [`Watch::workers`] and [`Watch::connections`].
    pub(super) fn judge(&mut self, seen: Seen, now: Instant) -> Vec<Dead> {
        let Seen { run_id, claimers, connected, beating } = seen;
        if self.run_id != run_id {
            self.run_id = run_id;
            self.since = Some(now);
        }
        let settled = self.since.is_some_and(|since| now.saturating_duration_since(since) >= SETTLE_TIME);
        let mut before = std::mem::take(&mut self.workers);
        let mut dead = Vec::new();
        for (worker, text) in claimers {
            let registration = Registration::parse(&text);
            let same = before.remove(&worker).filter(|known| known.registration == registration);
            // What was not asked about says nothing yet.
            let Some(mut known) = same else {
                self.workers.insert(worker, Known { registration, gone_since: None });
                continue;
            };
            let here = known.registration.run_id == self.run_id;
            let gone = here && is_gone(&known.registration.connections, connected.as_ref());
            known.gone_since = gone.then(|| known.gone_since.unwrap_or(now));
            let certain = known.gone_since.is_some_and(|since| now.saturating_duration_since(since) >= RETURN_TIME);
            if certain || (settled && !beating.contains(&worker)) {
                let connections = if here { known.registration.connections.clone() } else { Vec::new() };
                dead.push(Dead { worker: worker.clone(), registration: text, certain, connections });
            }
            self.workers.insert(worker, known);
        }
        dead
    }
}

fn is_gone(connections: &[u64], connected: Option<&HashSet<u64>>) -> bool {
    !connections.is_empty() && connected.is_some_and(|here| connections.iter().all(|id| !here.contains(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn seen(run_id: &str, registration: &str, connected: &[u64], beats: bool) -> Seen {
        Seen {
            run_id: run_id.into(),
            claimers: vec![("w".into(), registration.into())],
            connected: Some(connected.iter().copied().collect()),
            beating: if beats { HashSet::from(["w".to_owned()]) } else { HashSet::new() },
        }
    }

    /// A watch that has known the worker for long.
    fn watch(registration: &str) -> (Watch, Instant) {
        let (mut watch, begin) = (Watch::default(), Instant::now());
        assert!(watch.judge(seen("r", registration, &[], false), begin).is_empty(), "the first look asks about nobody");
        (watch, begin + SETTLE_TIME)
    }

    #[test]
    fn both_connections_gone_for_a_while_is_certain() {
        let (mut watch, now) = watch("r 7 8");
        assert_eq!(watch.connections().collect::<Vec<_>>(), [7, 8]);
        assert_eq!(watch.workers().collect::<Vec<_>>(), ["w"]);
        assert!(watch.judge(seen("r", "r 7 8", &[], true), now).is_empty());
        assert!(watch.judge(seen("r", "r 7 8", &[], true), now + RETURN_TIME - MS).is_empty());
        let dead = watch.judge(seen("r", "r 7 8", &[], true), now + RETURN_TIME);
        let expected =
            Dead { worker: "w".into(), registration: "r 7 8".into(), certain: true, connections: vec![7, 8] };
        assert_eq!(dead, [expected]);
    }

    #[test]
    fn one_connection_gone_is_no_death() {
        let (mut watch, now) = watch("r 7 8");
        for later in 0..100 {
            assert!(watch.judge(seen("r", "r 7 8", &[8], true), now + later * RETURN_TIME).is_empty());
        }
    }

    #[test]
    fn who_comes_back_in_time_lives() {
        let (mut watch, now) = watch("r 7 8");
        watch.judge(seen("r", "r 7 8", &[], true), now);
        assert!(watch.judge(seen("r", "r 9 8", &[], true), now + RETURN_TIME).is_empty(), "a new registration");
        assert!(watch.judge(seen("r", "r 9 8", &[9], true), now + 2 * RETURN_TIME).is_empty());
        watch.judge(seen("r", "r 9 8", &[], true), now + 3 * RETURN_TIME);
        watch.judge(seen("r", "r 9 8", &[9], true), now + 4 * RETURN_TIME);
        assert!(watch.judge(seen("r", "r 9 8", &[], true), now + 5 * RETURN_TIME).is_empty(), "counted from anew");
    }

    #[test]
    fn silence_is_a_suspicion() {
        let (mut watch, now) = watch("r 7 8");
        assert!(watch.judge(seen("r", "r 7 8", &[7, 8], true), now).is_empty());
        let dead = watch.judge(seen("r", "r 7 8", &[7, 8], false), now);
        assert_eq!(dead.iter().map(|dead| dead.certain).collect::<Vec<_>>(), [false]);
        assert_eq!(dead[0].connections, [7, 8]);
    }

    #[test]
    fn after_redis_was_away_workers_have_time_to_beat() {
        let (mut watch, now) = watch("r 7 8");
        assert!(watch.judge(seen("s", "r 7 8", &[], false), now).is_empty(), "its connections were those of another");
        assert_eq!(watch.connections().count(), 0);
        assert!(watch.judge(seen("s", "r 7 8", &[], false), now + SETTLE_TIME - MS).is_empty());
        let dead = watch.judge(seen("s", "r 7 8", &[], false), now + SETTLE_TIME);
        assert_eq!(dead.iter().map(|dead| (dead.certain, dead.connections.len())).collect::<Vec<_>>(), [(false, 0)]);
    }

    #[test]
    fn where_redis_tells_no_connections_silence_alone_counts() {
        let (mut watch, now) = watch("r 7 8");
        for later in 0..3 {
            let seen = Seen { connected: None, ..seen("r", "r 7 8", &[], true) };
            assert!(watch.judge(seen, now + later * RETURN_TIME).is_empty());
        }
        let (mut watch, now) = self::watch("r - -");
        watch.judge(seen("r", "r - -", &[], true), now);
        assert!(watch.judge(seen("r", "r - -", &[], true), now + RETURN_TIME).is_empty());
    }

    #[test]
    fn who_is_reaped_or_signs_off_is_forgotten() {
        let (mut watch, now) = watch("r 7 8");
        watch.judge(Seen { run_id: "r".into(), ..Seen::default() }, now);
        assert_eq!(watch.workers().count(), 0);
        let (mut watch, now) = self::watch("r 7 8");
        watch.forget();
        assert_eq!(watch.workers().count(), 0);
        watch.judge(seen("r", "r 7 8", &[7], false), now);
        assert!(watch.judge(seen("r", "r 7 8", &[7], false), now + SETTLE_TIME - MS).is_empty(), "it begins anew");
    }
}
