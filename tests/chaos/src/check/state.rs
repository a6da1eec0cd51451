//! What must be left in Redis when all is done: nothing that has neither a time to live nor an owner that lives.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use tempest_tests::{Redis, Resp, Value};

use super::Finding;

/// Silence after which a dead front's lists must be gone.
const FRONT_GONE_MS: i64 = 10_000;
/// Keys that belong to all and to nobody, and have no time to live: their members have.
const SHARED: [&str; 2] = ["tempest:@fronts", "tempest:@queues"];
/// What stands before the names of a queue's keys.
const QUEUE: &str = "{tempest:web}:";

/// What is left, and what is wrong with it; also the ids of dead letters, and the statistics of the queue.
pub(crate) struct State {
    pub(crate) findings: Vec<Finding>,
    pub(crate) dead: Vec<String>,
    pub(crate) stats: Vec<(String, i64)>,
}

struct Look<'a> {
    redis: &'a mut Resp,
    findings: Vec<Finding>,
    /// Workers and reactors that live.
    workers: BTreeSet<String>,
    reactors: BTreeSet<String>,
}

/// True when no job is on its way any more; a claim's `started` is no job.
pub(crate) fn drained(redis: &mut Redis) -> bool {
    redis.renew_client();
    let client = redis.client();
    let lists = ["tempest:web", "{tempest:web}:high", "{tempest:web}:low", "{tempest:web}:lost"];
    let empty = lists.iter().all(|key| client.cmd(&["LLEN", key]).int() == 0);
    let kinds = ["claimed:", "landing:", "batch:"];
    let claimed =
        |key: &String| key.strip_prefix(QUEUE).is_some_and(|name| kinds.iter().any(|kind| name.starts_with(kind)));
    let keys: Vec<String> = keys(client).into_iter().filter(claimed).collect();
    empty && keys.iter().all(|key| held(client, key) == 0)
}

/// Jobs that a worker holds under a key of its claims, its landing or its batch.
fn held(redis: &mut Resp, key: &str) -> usize {
    if key.contains("landing") {
        return redis.cmd(&["LRANGE", key, "0", "-1"]).list().len();
    }
    if key.contains("batch") {
        // Behind its head; a job that is done has left an empty place.
        return redis.cmd(&["LRANGE", key, "1", "-1"]).list().iter().filter(|job| !job.text().is_empty()).count();
    }
    redis.cmd(&["HKEYS", key]).list().iter().filter(|field| field.text() != "started").count()
}

fn keys(redis: &mut Resp) -> Vec<String> {
    redis.cmd(&["KEYS", "*"]).list().iter().map(|key| key.text()).collect()
}

/// Looks at every key.
pub(crate) fn check_state(redis: &mut Redis) -> State {
    redis.renew_client();
    let mut look = Look::new(redis.client());
    for key in keys(look.redis) {
        look.key(&key);
    }
    look.members();
    look.fronts();
    let dead = look.redis.cmd(&["LRANGE", "{tempest:web}:dead", "0", "-1"]);
    let id = |job: String| serde_json::from_str::<Json>(job.lines().next()?).ok()?["id"].as_str().map(str::to_owned);
    let dead = dead.list().iter().filter_map(|job| id(job.text())).collect();
    let stats = look.redis.cmd(&["HGETALL", "{tempest:web}:stats"]);
    let stats = stats.list().chunks(2).filter_map(|pair| Some((pair[0].text(), pair[1].text().parse().ok()?)));
    State { stats: stats.collect(), findings: look.findings, dead }
}

impl<'a> Look<'a> {
    fn new(redis: &'a mut Resp) -> Self {
        let all = keys(redis);
        let named = |start: &'static str| all.iter().filter_map(move |key| key.strip_prefix(start)).map(str::to_owned);
        let workers = named("{tempest:web}:worker:").collect();
        let mut reactors = BTreeSet::new();
        for front in named("tempest:@front:") {
            let record = redis.cmd(&["GET", &format!("tempest:@front:{front}")]).text();
            let record: Json = serde_json::from_str(&record).unwrap_or_default();
            let ids = record["reactors"].as_array().cloned().unwrap_or_default();
            reactors.extend(ids.iter().filter_map(|id| id.as_str().map(str::to_owned)));
        }
        Self { redis, findings: Vec::new(), workers, reactors }
    }

    fn broken(&mut self, rule: &'static str, what: String) {
        self.findings.push(Finding { rule, what, id: String::new() });
    }

    fn key(&mut self, key: &str) {
        let lives = self.redis.cmd(&["PTTL", key]).int();
        if lives != -1 || SHARED.contains(&key) {
            return; // it goes by itself, or has gone
        }
        if let Some(reactor) = key.strip_prefix("tempest:@") {
            // One that fronts still know of is theirs to remove, within 10 s.
            let known = self.redis.cmd(&["ZSCORE", "tempest:@fronts", reactor]) != Value::Nil;
            if !self.reactors.contains(reactor) && !known {
                self.broken("I7", format!("{key} has no time to live, and no front that lives or is known to be dead"));
            }
            return;
        }
        let Some((name, worker)) = key.strip_prefix(QUEUE).map(|name| name.split_once(':').unwrap_or((name, "")))
        else {
            return self.broken("I6", format!("{key} is left"));
        };
        match name {
            "claimed" | "landing" | "batch" => {
                let held = held(self.redis, key);
                if !self.workers.contains(worker) {
                    self.broken("I6", format!("{key} is left of a worker that is gone, {held} jobs in it"));
                } else if held > 0 {
                    self.broken("I6", format!("{key}: {held} jobs, and the worker is idle"));
                }
            }
            // Claimers are looked at member by member; dead letters are taken away by hand.
            "claimers" | "dead" => {}
            _ => self.broken("I6", format!("{key} is left without a time to live")),
        }
    }

    /// Members of what all workers of a queue share.
    fn members(&mut self) {
        for worker in self.redis.cmd(&["HKEYS", "{tempest:web}:claimers"]).list() {
            if !self.workers.contains(&worker.text()) {
                self.broken("I6", format!("{} is registered for claims and gone", worker.text()));
            }
        }
        let crashed = self.redis.cmd(&["HKEYS", "{tempest:web}:attempts"]).list().len();
        if crashed > 0 {
            self.broken("I6", format!("{crashed} crash counts of jobs that are done"));
        }
    }

    fn fronts(&mut self) {
        let time = self.redis.cmd(&["TIME"]);
        let now = time.list()[0].text().parse::<i64>().unwrap_or_default() * 1000;
        let dead = (now - FRONT_GONE_MS).to_string();
        for reactor in self.redis.cmd(&["ZRANGEBYSCORE", "tempest:@fronts", "-inf", &dead]).list() {
            let key = format!("tempest:@{}", reactor.text());
            if self.redis.cmd(&["EXISTS", &key]).int() > 0 {
                self.broken("I7", format!("{key} is there more than 10 s after its front was"));
            }
        }
    }
}
