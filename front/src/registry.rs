//! What fronts say of themselves in Redis, and what they clear up after dead ones.
//!
//! Every reactor beats once a second; the first reactor also writes the front's record and frees the lists of
//! reactors that have stopped beating, again and again, because a late answer creates such a list anew.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis_protocol::resp2::types::BytesFrame;
use serde::Serialize;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::broker::{Broker, Command, text_of};
use crate::config::{Channels, Config, RouteKind};
use crate::http::Current;
use crate::hub::{Busy, Hub};
use crate::ident::ReactorId;
use crate::listener::Address;
use crate::reactor::Shared;
use crate::telemetry::{AnswerOutcome, Problem, level};

/// Time between beats.
pub const BEAT: Duration = Duration::from_secs(1);
/// A reactor that has not beaten for this long is dead.
const DEAD_MS: u64 = 5_000;
/// How often dead reactors' lists are freed.
const CLEAR_EVERY: u32 = 5;
/// How often the rules of channels are written, in beats, and how long they last without that, in ms.
const HISTORY_EVERY: u32 = 10;
const HISTORY_MS: &[u8] = b"86400000";
/// A queue that nobody has announced for this long is forgotten.
const QUEUE_MS: u64 = 24 * 3600 * 1000;
/// A dead reactor is remembered for the longest deadline and this much more.
const REMEMBER_MS: u64 = 3600 * 1000;

/// A front's record, as `tempest status` reads it.
#[derive(Debug, Serialize)]
struct Record<'a> {
    id: &'a str,
    host: &'a str,
    pid: u32,
    version: &'a str,
    listen: Vec<String>,
    admin: Option<String>,
    started: u64,
    reactors: Vec<String>,
    counters: Counters,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<level::Now>,
    channels: Vec<Busy>,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Counters {
    requests: u64,
    in_flight: i64,
    connections: i64,
    streams: i64,
    channels: i64,
    answers_late: u64,
    answers_malformed: u64,
}

/// All rules in their order, since the first that matches holds; one that keeps nothing has no numbers.
fn history_rules(channels: &Channels) -> Vec<u8> {
    let rules = channels.rules.iter().map(|rule| {
        let (messages, ms) = rule.history.map(|history| (history.messages, history.time.as_millis() as u64)).unzip();
        json!({"prefix": channels.prefix, "pattern": rule.pattern.as_str(), "messages": messages, "ms": ms})
    });
    serde_json::Value::from_iter(rules).to_string().into_bytes()
}

/// Says which channels keep what, for whoever publishes.
pub(crate) fn say_history(broker: &Broker, config: &Config) {
    let (rules, key) = (history_rules(&config.channels), config.redis.keys.history());
    broker.forget(Command::new(&[b"SET", key.as_bytes(), &rules, b"PX", HISTORY_MS]));
}

/// The queues that routes lead to, each once.
fn queues(config: &Config) -> Vec<&str> {
    let named = config.routes.iter().filter_map(|route| match &route.kind {
        RouteKind::Queue(route) => Some(route.queue.as_str()),
        _ => None,
    });
    let mut queues: Vec<&str> = named.collect();
    queues.sort_unstable();
    queues.dedup();
    queues
}

/// The registry's side of one reactor.
pub struct Registry {
    shared: Arc<Shared>,
    current: Rc<Current>,
    reactor: ReactorId,
    index: usize,
    broker: Rc<Broker>,
    hub: Rc<Hub>,
    up: std::cell::Cell<bool>,
    /// Every reactor that was seen, by its last beat in ms: a Redis that has lost its memory is told of them, since a
    /// late answer to a dead one makes a list that nobody would look for.
    seen: RefCell<HashMap<String, u64>>,
    /// The incarnation of Redis that was told.
    told: RefCell<String>,
    /// The configuration whose rules were written.
    written: RefCell<Option<Arc<Config>>>,
}

impl Registry {
    /// For reactor number `index`.
    pub fn new(shared: Arc<Shared>, index: usize, broker: Rc<Broker>, current: Rc<Current>) -> Self {
        let reactor = ReactorId::new(&shared.front, index);
        let hub = Rc::clone(&current.get().hub);
        Self {
            shared,
            current,
            reactor,
            index,
            broker,
            hub,
            up: std::cell::Cell::new(false),
            seen: RefCell::default(),
            told: RefCell::default(),
            written: RefCell::default(),
        }
    }

    /// Beats until dropped.
    pub async fn beat(self) {
        // Looks often while there is no connection, so that «ready» comes soon.
        let mut looks = interval(Duration::from_millis(50));
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut beats = 0;
        let mut looked = 0;
        loop {
            looks.tick().await;
            let fresh = self.note_connection();
            looked += 1;
            let reloaded = self.is_reloaded();
            if fresh || reloaded || looked >= 20 {
                looked = 0;
                self.write();
                if self.index == 0 && (fresh || reloaded || beats % HISTORY_EVERY == 0) {
                    self.write_history();
                }
                if self.index == 0 && beats % CLEAR_EVERY == 0 {
                    self.clear().await;
                }
                beats += 1;
            }
        }
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.current.get().config)
    }

    /// True where another configuration holds than was written.
    fn is_reloaded(&self) -> bool {
        !self.written.borrow().as_ref().is_some_and(|written| Arc::ptr_eq(written, &self.config()))
    }

    /// Counts this reactor among the connected ones; true when it has just become so.
    fn note_connection(&self) -> bool {
        let up = self.broker.is_up() && self.broker.subscriptions().is_up();
        let was = self.up.replace(up);
        match (was, up) {
            (false, true) => self.shared.connected.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.shared.connected.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
        up && !was
    }

    fn write(&self) {
        let config = self.config();
        let keys = &config.redis.keys;
        self.written.replace(Some(Arc::clone(&config)));
        let now = self.broker.now_ms().to_string();
        let now = now.as_bytes();
        let reactor = self.reactor.as_str().as_bytes();
        self.broker.forget(Command::new(&[b"ZADD", keys.fronts().as_bytes(), now, reactor]));
        self.shared.census.tell(self.index, self.hub.busy_channels());
        if self.index != 0 {
            return;
        }
        let record = record(&self.shared);
        let front = keys.front(self.shared.front.as_str());
        self.broker.forget(Command::new(&[b"SET", front.as_bytes(), &record, b"PX", b"5000"]));
        let queues = queues(&config);
        if !queues.is_empty() {
            let key = keys.queues();
            let mut parts: Vec<&[u8]> = vec![b"ZADD", key.as_bytes()];
            queues.iter().for_each(|queue| parts.extend([now, queue.as_bytes()]));
            self.broker.forget(Command::new(&parts));
        }
    }

    fn write_history(&self) {
        say_history(&self.broker, &self.config());
    }

    /// Frees the lists of dead reactors and forgets what is long gone.
    async fn clear(&self) {
        let config = self.config();
        let keys = &config.redis.keys;
        let (now, fronts) = (self.broker.now_ms(), keys.fronts());
        self.remind(&fronts);
        let all = Command::new(&[b"ZRANGE", fronts.as_bytes(), b"0", b"-1", b"WITHSCORES"]);
        let Ok(BytesFrame::Array(members)) = self.broker.call(all).await else { return };
        let members: Vec<String> = members.iter().map(text_of).collect();
        let beats = members.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].parse::<f64>().unwrap_or(0.0) as u64));
        let beats: HashMap<String, u64> = beats.collect();
        let dead = beats.iter().filter(|(_, beat)| **beat <= now.saturating_sub(DEAD_MS));
        let lists: Vec<String> = dead.map(|(id, _)| keys.reactor(id)).collect();
        *self.seen.borrow_mut() = beats;
        if !lists.is_empty() {
            let mut parts: Vec<&[u8]> = vec![b"UNLINK"];
            parts.extend(lists.iter().map(|list| list.as_bytes()));
            self.broker.forget(Command::new(&parts));
        }
        let forgotten = now.saturating_sub(self.longest_deadline() + REMEMBER_MS).to_string();
        self.broker.forget(Command::new(&[b"ZREMRANGEBYSCORE", fronts.as_bytes(), b"0", forgotten.as_bytes()]));
        let unused = now.saturating_sub(QUEUE_MS).to_string();
        self.broker.forget(Command::new(&[b"ZREMRANGEBYSCORE", keys.queues().as_bytes(), b"0", unused.as_bytes()]));
    }

    /// Tells another incarnation of Redis whom the one before knew.
    fn remind(&self, fronts: &str) {
        let run_id = self.broker.run_id();
        let before = self.told.replace(run_id.clone());
        let seen = self.seen.borrow();
        if before == run_id || before.is_empty() || seen.is_empty() {
            return;
        }
        let scores: Vec<(String, &str)> = seen.iter().map(|(id, beat)| (beat.to_string(), id.as_str())).collect();
        let mut parts: Vec<&[u8]> = vec![b"ZADD", fronts.as_bytes(), b"NX"];
        scores.iter().for_each(|(beat, id)| parts.extend([beat.as_bytes(), id.as_bytes()]));
        self.broker.forget(Command::new(&parts));
    }

    fn longest_deadline(&self) -> u64 {
        let config = self.config();
        let timeouts = config.routes.iter().filter_map(|route| match &route.kind {
            RouteKind::Queue(route) => Some(route.timeout.as_millis() as u64),
            _ => None,
        });
        timeouts.max().unwrap_or(0)
    }
}

/// A front's record, as JSON.
pub fn record(shared: &Shared) -> Vec<u8> {
    let metrics = &shared.metrics;
    let record = Record {
        id: shared.front.as_str(),
        host: &shared.host,
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION"),
        listen: listening(shared),
        admin: shared.admin.get().map(ToString::to_string),
        started: shared.started,
        reactors: (0..shared.reactors).map(|n| ReactorId::new(&shared.front, n).as_str().to_owned()).collect(),
        counters: Counters {
            requests: metrics.requests.total(),
            in_flight: metrics.requests_in_flight.get(),
            connections: metrics.connections_open.get(),
            streams: metrics.streams_open.get(),
            channels: metrics.channels.get(),
            answers_late: metrics.answers.get(AnswerOutcome::Late),
            answers_malformed: metrics.answers.get(AnswerOutcome::Malformed),
        },
        log: level::now(),
        channels: shared.census.busiest(),
        problems: shared.problems.recent(),
    };
    serde_json::to_vec(&record).expect("a record is plain data")
}

fn listening(shared: &Shared) -> Vec<String> {
    if shared.listening.is_empty() {
        return vec![Address::Application.to_string()];
    }
    shared.listening.iter().map(ToString::to_string).collect()
}

/// Milliseconds since the epoch by this machine's clock.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
