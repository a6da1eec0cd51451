//! Names and the Redis keys derived from them: the one place that spells a key.
//!
//! A key of a queue carries the whole name of the job list as a Redis Cluster hash tag, so all keys of one queue
//! share a slot. This module must not know what is stored under a key.

use std::fmt;
use std::sync::Arc;

/// A queue's name: `[a-z0-9][a-z0-9_.-]{0,62}`, not ending in `.<digits>` (kept for shards).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName(Arc<str>);

/// Why a name was refused; its text says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A character, the length or the first character is outside the rule.
    #[error("`{0}` is not a queue name: use 1 to 63 of a-z 0-9 _ . - and begin with a letter or digit")]
    Shape(String),
    /// The ending `.<digits>` names a shard of a queue.
    #[error("`{0}` is not a queue name: an ending of a dot and digits is kept for shards")]
    Shard(String),
}

impl QueueName {
    /// Checks the rule above.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let bytes = name.as_bytes();
        let first_ok = bytes.first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let allowed = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-');
        if !first_ok || bytes.len() > 63 || !bytes.iter().all(allowed) {
            return Err(NameError::Shape(name.to_owned()));
        }
        match name.rsplit_once('.') {
            Some((_, end)) if !end.is_empty() && end.bytes().all(|b| b.is_ascii_digit()) => {
                Err(NameError::Shard(name.to_owned()))
            }
            _ => Ok(Self(name.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Spells every key under one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    /// `prefix` is `tempest` unless configured; it must not contain `{`, `}` or white space.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The prefix itself.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `tempest:web`: the list of jobs.
    pub fn queue(&self, queue: &str) -> String {
        format!("{}:{queue}", self.prefix)
    }

    /// `{tempest:web}:workers`: sorted set of worker ids by their last beat in ms.
    pub fn workers(&self, queue: &str) -> String {
        format!("{{{}:{queue}}}:workers", self.prefix)
    }

    /// `{tempest:web}:worker:<id>`: one worker's record, a JSON string that expires.
    pub fn worker(&self, queue: &str, worker: &str) -> String {
        format!("{{{}:{queue}}}:worker:{worker}", self.prefix)
    }

    /// The keys of one queue.
    pub fn of_queue(&self, queue: &str) -> QueueKeys {
        QueueKeys { normal: self.queue(queue), tag: format!("{{{}:{queue}}}", self.prefix) }
    }

    /// `tempest:@<reactor>`: the list, and the channel, on which one reactor is answered.
    pub fn reactor(&self, reactor: &str) -> String {
        format!("{}:@{reactor}", self.prefix)
    }

    /// `tempest:@fronts`: sorted set of reactor ids by their last beat in ms.
    pub fn fronts(&self) -> String {
        format!("{}:@fronts", self.prefix)
    }

    /// `tempest:@front:<front>`: one front's record, a JSON string that expires.
    pub fn front(&self, front: &str) -> String {
        format!("{}:@front:{front}", self.prefix)
    }

    /// `tempest:@queues`: sorted set of queue names by when they were last announced, in ms.
    pub fn queues(&self) -> String {
        format!("{}:@queues", self.prefix)
    }

    /// `tempest:@supervisors`: sorted set of supervisor ids by their last beat in ms.
    pub fn supervisors(&self) -> String {
        format!("{}:@supervisors", self.prefix)
    }

    /// `tempest:@supervisor:<id>`: what one supervisor runs, a JSON string that expires.
    pub fn supervisor(&self, id: &str) -> String {
        format!("{}:@supervisor:{id}", self.prefix)
    }

    /// `tempest:@history`: which channels have a history, a JSON string that expires.
    pub fn history(&self) -> String {
        format!("{}:@history", self.prefix)
    }

    /// `tempest:@count`: the channel on which reactors are asked for their streams.
    pub fn count(&self) -> String {
        format!("{}:@count", self.prefix)
    }

    /// `tempest:log:<channel>`: the log of a channel with history, and the channel on which it is announced. The name
    /// is the channel's in Redis.
    pub fn log(&self, channel: &str) -> String {
        format!("{}:log:{channel}", self.prefix)
    }

    /// `{tempest:log:<channel>}:once:<key>`: what remembers a publication's own key.
    pub fn once(&self, channel: &str, key: &str) -> String {
        format!("{{{}}}:once:{key}", self.log(channel))
    }

    /// `tempest:@session:{<root>}:<name>`: a session, a hash. The root stays when it gets a new name, and with it the slot.
    pub fn session(&self, root: &str, name: &str) -> String {
        format!("{}:@session:{{{root}}}:{name}", self.prefix)
    }

    /// True where a channel's name is ours, or Redis's own: no browser may read it.
    pub fn is_reserved(&self, channel: &str) -> bool {
        let tagged = channel.strip_prefix('{').unwrap_or(channel);
        channel.starts_with("__") || tagged.strip_prefix(&*self.prefix).is_some_and(|rest| rest.starts_with(':'))
    }

    /// True where an answer may be sent: under `<prefix>:@` and nowhere else, so that a forged job cannot make a
    /// worker write to any key.
    pub fn is_reply_to(&self, key: &str) -> bool {
        key.strip_prefix(&*self.prefix).is_some_and(|rest| rest.starts_with(":@"))
    }

    /// Splits the full key of a job list into prefix and queue (`tempest:web`); queue names hold no colon.
    pub fn split_queue_key(key: &str) -> Option<(Self, QueueName)> {
        let (prefix, queue) = key.rsplit_once(':')?;
        (!prefix.is_empty()).then(|| QueueName::new(queue).ok()).flatten().map(|queue| (Self::new(prefix), queue))
    }
}

/// The keys of one queue; all of them in one slot of a Redis Cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueKeys {
    normal: String,
    tag: String,
}

impl QueueKeys {
    /// `tempest:web`: jobs of normal priority.
    pub fn normal(&self) -> &str {
        &self.normal
    }

    /// `{tempest:web}:high`: more urgent jobs.
    pub fn high(&self) -> String {
        self.derived("high")
    }

    /// `{tempest:web}:low`: less urgent jobs.
    pub fn low(&self) -> String {
        self.derived("low")
    }

    /// `{tempest:web}:claimers`: hash of worker id to its registration.
    pub fn claimers(&self) -> String {
        self.derived("claimers")
    }

    /// `{tempest:web}:claimed:<worker>`: hash of claim number to job, and `started`.
    pub fn claimed(&self, worker: &str) -> String {
        self.derived(&format!("claimed:{worker}"))
    }

    /// `{tempest:web}:landing:<worker>`: list, where a job lies between the wait for it and its claim.
    pub fn landing(&self, worker: &str) -> String {
        self.derived(&format!("landing:{worker}"))
    }

    /// `{tempest:web}:batch:<worker>`: list, claims that were made by taking a whole list, behind what is known of them.
    pub fn batch(&self, worker: &str) -> String {
        self.derived(&format!("batch:{worker}"))
    }

    /// `{tempest:web}:workers`: sorted set of worker ids by their last beat in ms.
    pub fn workers(&self) -> String {
        self.derived("workers")
    }

    /// `{tempest:web}:worker:<id>`: one worker's record, a JSON string that expires.
    pub fn worker(&self, worker: &str) -> String {
        self.derived(&format!("worker:{worker}"))
    }

    /// `{tempest:web}:withdrawn`: sorted set of request ids nobody waits for any more by their deadlines in ms.
    pub fn withdrawn(&self) -> String {
        self.derived("withdrawn")
    }

    /// `{tempest:web}:lost`: list of jobs of dead workers, on their way to their fronts.
    pub fn lost(&self) -> String {
        self.derived("lost")
    }

    /// `{tempest:web}:attempts`: hash of job id to how many workers it has crashed, for jobs nobody waits for.
    pub fn attempts(&self) -> String {
        self.derived("attempts")
    }

    /// `{tempest:web}:dead`: list of jobs that are not tried again.
    pub fn dead(&self) -> String {
        self.derived("dead")
    }

    /// `{tempest:web}:stats`: hash of counters.
    pub fn stats(&self) -> String {
        self.derived("stats")
    }

    /// `{tempest:web}:lease`: who looks after the queue's workers.
    pub fn lease(&self) -> String {
        self.derived("lease")
    }

    /// The keys of `reap.lua` for a worker, in its order.
    pub fn of_reap(&self, worker: &str) -> [String; 11] {
        [
            self.claimers(),
            self.claimed(worker),
            self.landing(worker),
            self.worker(worker),
            self.workers(),
            self.normal.clone(),
            self.lost(),
            self.attempts(),
            self.dead(),
            self.stats(),
            self.batch(worker),
        ]
    }

    fn derived(&self, what: &str) -> String {
        format!("{}:{what}", self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names_follow_the_rule() {
        for good in ["web", "a", "0", "mail.high-prio_2", "web.v2", "a.1b", &"a".repeat(63)] {
            assert!(QueueName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "Web", "@fronts", "-a", "a:b", "a b", "ü", "web.0", "a.12", &"a".repeat(64)] {
            assert!(QueueName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_spelled_as_the_contract_says() {
        let keys = Keys::new("tempest");
        assert_eq!(keys.queue("web"), "tempest:web");
        assert_eq!(keys.worker("web", "w1"), "{tempest:web}:worker:w1");
        assert_eq!(keys.of_queue("web").normal(), "tempest:web");
        assert_eq!(keys.of_queue("web").claimed("w1"), "{tempest:web}:claimed:w1");
        assert_eq!((keys.history(), keys.count()), ("tempest:@history".to_owned(), "tempest:@count".to_owned()));
        assert_eq!(keys.log("a:b"), "tempest:log:a:b");
        assert_eq!(keys.once("news", "k"), "{tempest:log:news}:once:k");
        assert!(keys.is_reserved("tempest:web") && keys.is_reserved("{tempest:web}:x") && keys.is_reserved("__x"));
        assert!(!keys.is_reserved("tempest") && !keys.is_reserved("tempests:x") && !keys.is_reserved("_x"));
        assert!(keys.is_reply_to("tempest:@abc.0"));
        assert!(!keys.is_reply_to("tempest:web"));
        assert!(!keys.is_reply_to("other:@abc.0"));
        let (keys, queue) = Keys::split_queue_key("my:app:web").expect("a queue key");
        assert_eq!((keys.prefix(), queue.as_str()), ("my:app", "web"));
        assert!(Keys::split_queue_key("web").is_none());
    }
}
