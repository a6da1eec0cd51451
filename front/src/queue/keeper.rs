//! Looks after one queue: how deep it is, and whether its workers live.
//!
//! Every reactor asks once a second. While anything is claimed, or waited for here, the one that has the queue's lease
//! looks every 25 ms who of the workers is dead, takes their jobs from them and tells the fronts, as `protocol.md` says.
//! Nothing looks that often while the queue is idle. Who is dead is judged by `watch`; what becomes of a request is
//! decided by the dispatch that waits for it.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use redis_protocol::resp2::types::BytesFrame;
use tempest_protocol::{Keys, scripts};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, interval_at};

use super::Dispatch;
use super::lane::{Look, QueueState};
use super::watch::{Dead, Seen, Watch};
use crate::broker::claims::Lost;
use crate::broker::{Command, eval};

/// Time between looks at the workers while anything is claimed.
const WATCH: Duration = Duration::from_millis(25);
/// Time between looks at the queue.
const LOOK: Duration = Duration::from_secs(1);
/// Where somebody else has the lease, it is asked for each so many looks.
const ASK_AGAIN: u32 = 4;
/// How long the lease lasts; renewed at every look.
const LEASE_MS: &[u8] = b"300";
/// Lost jobs handed over in one go.
const HANDED: usize = 100;
/// A beat counts for so long.
const BEAT_MS: u64 = 3_000;
/// Time to live of a queue's statistics.
const STATS_MS: &[u8] = b"86400000";
/// Time to live of the counts of crashes.
const CRASHES_MS: &[u8] = b"604800000";

/// The keeper of one queue on one reactor.
pub struct Keeper {
    dispatch: Rc<Dispatch>,
    queue: Rc<QueueState>,
    keys: Keys,
    watch: Watch,
    holds_lease: bool,
    /// Something is claimed, by whomever for whomever.
    claimed: bool,
}

impl Keeper {
    /// One for each queue of a dispatch that has none.
    pub fn all(dispatch: &Rc<Dispatch>) -> Vec<Self> {
        let keeper = |queue: &Rc<QueueState>| Self {
            dispatch: Rc::clone(dispatch),
            queue: Rc::clone(queue),
            keys: Keys::split_queue_key(queue.keys.normal()).expect("the key of a queue").0,
            watch: Watch::default(),
            holds_lease: false,
            claimed: false,
        };
        dispatch.queues().iter().filter(|queue| !queue.kept.replace(true)).map(keeper).collect()
    }

    /// Keeps until dropped, or until nobody can ask for the queue any more and nothing of it is claimed.
    pub async fn keep(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => self.look().await,
                () = self.queue.wanted() => {}
            }
            if self.is_wanted() {
                self.watch_for(LOOK).await;
            }
            // Routes that lead to it hold it, and so do requests that wait.
            if Rc::strong_count(&self.queue) == 1 && !self.is_wanted() {
                tracing::debug!(queue = %self.queue.name, "no route leads to it any more");
                return;
            }
        }
    }

    fn is_wanted(&self) -> bool {
        self.claimed || self.queue.is_waited_for()
    }

    // ---- once a second -------------------------------------------------------------------------------------

    async fn look(&mut self) {
        let broker = &self.dispatch.broker;
        let keys = &self.queue.keys;
        let [normal, high, low] = self.queue.lists.each_ref().map(String::as_str);
        let (stats, workers, claimers) = (keys.stats(), keys.workers(), keys.claimers());
        let since = broker.now_ms().saturating_sub(BEAT_MS).to_string();
        let all = [normal, high, low, &stats, &workers, &claimers];
        // All reactors would see the same, so one tells of it.
        let tells = self.dispatch.reactor.is_first();
        let oldest_too: &[u8] = if tells { b"1" } else { b"0" };
        let reply = broker.call(eval(scripts::LOOK, &all, &[since.as_bytes(), STATS_MS, oldest_too])).await;
        let Ok(BytesFrame::Array(numbers)) = reply else { return self.queue.series.oldest.set(None) };
        let number = |at: usize| match numbers.get(at) {
            Some(BytesFrame::Integer(number)) => (*number).max(0) as u64,
            _ => 0,
        };
        let depth = number(0) + number(1) + number(2);
        self.queue.looked(Look { depth, taken: number(3), workers: number(4) }, Instant::now());
        if tells {
            self.tell(depth, number(4), number(6));
        }
        let lost = self.call(&[b"LLEN", keys.lost().as_bytes()]);
        self.claimed = (number(5) > 0 && self.is_anything_claimed().await) || self::number(lost.await) > 0;
    }

    /// For the metrics; `pushed` is when the oldest job was, in ms by the clock of Redis, and 0 where that is not known.
    fn tell(&self, depth: u64, workers: u64, pushed: u64) {
        let series = &self.queue.series;
        series.depth.set(depth as i64);
        series.workers.set(workers as i64);
        let age = (pushed > 0).then(|| self.dispatch.broker.now_ms().saturating_sub(pushed));
        series.oldest.set(age.or((depth == 0).then_some(0)));
    }

    async fn is_anything_claimed(&self) -> bool {
        let keys = &self.queue.keys;
        let names = self.call(&[b"HKEYS", keys.claimers().as_bytes()]).await;
        let asked: Vec<_> = strings(names.ok())
            .iter()
            .map(|worker| {
                let (claimed, landing, batch) = (keys.claimed(worker), keys.landing(worker), keys.batch(worker));
                // One of the fields may be the mark of what has been started; it stays when all is done.
                let marked = self.call(&[b"HEXISTS", claimed.as_bytes(), b"started"]);
                let moved = self.call(&[b"EXISTS", landing.as_bytes(), batch.as_bytes()]);
                [self.call(&[b"HLEN", claimed.as_bytes()]), marked, moved]
            })
            .collect();
        let mut any = false;
        for [fields, marked, moved] in asked {
            let (fields, marked, moved) = (number(fields.await), number(marked.await), number(moved.await));
            any |= fields > marked || moved > 0;
        }
        any
    }

    // ---- while anything is claimed -------------------------------------------------------------------------

    async fn watch_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        // Most requests are answered before the first look.
        let mut ticks = interval_at((Instant::now() + WATCH).into(), WATCH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut at = 0;
        while Instant::now() < until {
            ticks.tick().await;
            if !self.is_wanted() {
                break;
            }
            if self.holds_lease || at % ASK_AGAIN == 0 {
                self.watch_once().await;
            }
            at += 1;
        }
        if !self.is_wanted() {
            self.let_go();
        }
    }

    async fn watch_once(&mut self) {
        let (keys, me) = (&self.queue.keys, self.holder());
        let (lease, claimers) = (keys.lease(), keys.claimers());
        let held = self.dispatch.broker.call(eval(scripts::LEASE, &[&lease], &[me.as_bytes(), LEASE_MS]));
        if !std::mem::replace(&mut self.holds_lease, false) {
            self.watch.forget();
            self.holds_lease = is_one(held.await);
            return;
        }
        // All in one trip, with what the trip before told whom to ask about.
        let run_id = self.dispatch.broker.run_id();
        let lost = self.call(&[b"LRANGE", keys.lost().as_bytes(), b"0", (HANDED - 1).to_string().as_bytes()]);
        let registered = self.call(&[b"HGETALL", claimers.as_bytes()]);
        let connections: Vec<String> = self.watch.connections().map(|id| id.to_string()).collect();
        let mut list: Vec<&[u8]> = vec![b"CLIENT", b"LIST", b"ID"];
        list.extend(connections.iter().map(String::as_bytes));
        let connected = (!connections.is_empty()).then(|| self.call(&list));
        let asked: Vec<String> = self.watch.workers().map(str::to_owned).collect();
        let records: Vec<_> =
            asked.iter().map(|worker| self.call(&[b"EXISTS", keys.worker(worker).as_bytes()])).collect();
        self.holds_lease = is_one(held.await);
        let (lost, Ok(registered)) = (strings(lost.await.ok()), registered.await) else { return };
        let connected = match connected {
            Some(reply) => client_ids(reply.await.ok()),
            None => Some(HashSet::new()),
        };
        let mut beating = HashSet::new();
        for (worker, record) in asked.into_iter().zip(records) {
            // No reply is no sign of death.
            if !matches!(record.await, Ok(BytesFrame::Integer(0))) {
                beating.insert(worker);
            }
        }
        if !self.holds_lease || !matches!(registered, BytesFrame::Array(_)) {
            return;
        }
        let fields = strings(Some(registered));
        let claimers = fields.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        let dead = self.watch.judge(Seen { run_id, claimers, connected, beating }, Instant::now());
        let handed = self.hand_over(&lost);
        for dead in &dead {
            self.reap(dead).await;
        }
        if handed || !dead.is_empty() {
            self.hand_over_all().await;
        }
    }

    /// Takes everything from a dead worker.
    async fn reap(&self, dead: &Dead) {
        let keys = &self.queue.keys;
        let Dead { worker, registration, certain, connections } = dead;
        // From here on it can say nothing that Redis would still take for its word; a wait that Redis still holds for a
        // dead process would take one more job.
        for id in connections {
            self.dispatch.broker.forget(Command::new(&[b"CLIENT", b"KILL", b"ID", id.to_string().as_bytes()]));
        }
        let owned = keys.of_reap(worker);
        let all: Vec<&str> = owned.iter().map(String::as_str).collect();
        let (crashes, dead_letters) = {
            let limits = self.dispatch.limits.borrow();
            (limits.crashes.to_string(), limits.dead_letters.to_string())
        };
        let certain_flag: &[u8] = if *certain { b"1" } else { b"0" };
        let values: [&[u8]; 6] = [
            worker.as_bytes(),
            registration.as_bytes(),
            certain_flag,
            crashes.as_bytes(),
            dead_letters.as_bytes(),
            CRASHES_MS,
        ];
        let reply = self.dispatch.broker.call(eval(scripts::REAP, &all, &values)).await;
        if let Ok(BytesFrame::Array(counts)) = reply
            && let [BytesFrame::Integer(handed), BytesFrame::Integer(requeued), BytesFrame::Integer(buried)] =
                counts[..]
        {
            self.dispatch.metrics.reaped.inc();
            let what = if *certain { "its connections are gone" } else { "it has not beaten" };
            tracing::warn!(queue = %self.queue.name, %worker, handed, requeued, buried, "a worker is dead: {what}");
        }
    }

    async fn hand_over_all(&mut self) {
        let count = (HANDED - 1).to_string();
        while self.holds_lease {
            let lost = self.call(&[b"LRANGE", self.queue.keys.lost().as_bytes(), b"0", count.as_bytes()]);
            if !self.hand_over(&strings(lost.await.ok())) {
                return;
            }
        }
    }

    /// Tells the fronts of lost jobs and removes them, in one write; true: there were some.
    fn hand_over(&mut self, entries: &[String]) -> bool {
        if entries.is_empty() {
            return false;
        }
        let broker = &self.dispatch.broker;
        for entry in entries {
            // Over the list for our own requests, too: an answer that the worker gave before its end lies there.
            match Lost::read(entry.as_bytes(), &self.keys) {
                Some(lost) => broker.forget(lost.tell()),
                None => tracing::error!(entry, "a lost job that belongs to no front"),
            }
        }
        let (lease, lost, count) = (self.queue.keys.lease(), self.queue.keys.lost(), entries.len().to_string());
        broker.forget(eval(scripts::TRIM, &[&lease, &lost], &[self.holder().as_bytes(), count.as_bytes()]));
        true
    }

    /// The name under which the lease is held: another one for each connection, or what an old one wrote could act for
    /// the new one.
    fn holder(&self) -> String {
        format!("{}:{}", self.dispatch.reactor.as_str(), self.dispatch.broker.incarnation())
    }

    /// Leaves the lease to whoever needs it.
    fn let_go(&mut self) {
        if std::mem::take(&mut self.holds_lease) {
            let (lease, me) = (self.queue.keys.lease(), self.holder());
            self.dispatch.broker.forget(eval(scripts::LEASE, &[&lease], &[me.as_bytes(), b"1"]));
        }
        self.watch.forget();
    }

    fn call(&self, parts: &[&[u8]]) -> oneshot::Receiver<BytesFrame> {
        self.dispatch.broker.call(Command::new(parts))
    }
}

/// The number in a reply; 0 where there is none.
fn number(reply: Result<BytesFrame, oneshot::error::RecvError>) -> i64 {
    if let Ok(BytesFrame::Integer(number)) = reply { number } else { 0 }
}

fn is_one(reply: Result<BytesFrame, oneshot::error::RecvError>) -> bool {
    matches!(reply, Ok(BytesFrame::Integer(1)))
}

/// The strings of a list; whatever is none is left out.
fn strings(reply: Option<BytesFrame>) -> Vec<String> {
    let Some(BytesFrame::Array(list)) = reply else { return Vec::new() };
    let text = |frame: &BytesFrame| match frame {
        BytesFrame::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    };
    list.iter().filter_map(text).collect()
}

/// The ids in a reply to `CLIENT LIST`, a line of `id=7 addr=…` for each; None: it was refused, or did not come.
fn client_ids(reply: Option<BytesFrame>) -> Option<HashSet<u64>> {
    let Some(BytesFrame::BulkString(text)) = reply else { return None };
    let text = String::from_utf8_lossy(&text).into_owned();
    let id = |line: &str| line.strip_prefix("id=")?.split(' ').next()?.parse().ok();
    Some(text.lines().filter_map(id).collect())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn connections_are_read_off_the_list() {
        let text = "id=7 addr=127.0.0.1:1 name=a id=9\nid=12 addr=x\n";
        let ids = client_ids(Some(BytesFrame::BulkString(Bytes::from(text)))).expect("a list");
        assert_eq!(ids, HashSet::from([7, 12]));
        assert_eq!(client_ids(Some(BytesFrame::Error("NOPERM".into()))), None);
    }
}
