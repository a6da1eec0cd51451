//! A picture of who is there: fronts, queues and workers, as they registered themselves.
//!
//! Records are other processes' words: they are passed on as JSON and not trusted to have any shape.

use redis_protocol::resp2::types::BytesFrame;
use serde::Serialize;
use serde_json::Value;
use tempest_protocol::Keys;

use super::super::wire::{Command, text_of};
use super::{Control, ControlError, number};

/// Members read of one registry; the latest count.
const MEMBERS: &[u8] = b"1000";
/// A front or worker that was silent this long, in ms, is not shown.
pub(super) const SILENCE_MS: u64 = 5_000;

/// Who is there.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Registry {
    /// The time of the picture in ms since the epoch, by the clock of Redis.
    pub at: u64,
    /// Live fronts.
    pub fronts: Vec<FrontState>,
    /// Queues that a front announced within a day.
    pub queues: Vec<QueueState>,
    /// What live supervisors say of themselves and the processes they run.
    pub supervisors: Vec<Value>,
}

/// A live front.
#[derive(Clone, Debug, Serialize)]
pub struct FrontState {
    /// Its id.
    pub id: String,
    /// Its live reactors.
    pub reactors: usize,
    /// What it says of itself; null while its record is missing.
    pub record: Value,
}

/// A queue.
#[derive(Clone, Debug, Serialize)]
pub struct QueueState {
    /// Its name.
    pub name: String,
    /// Jobs that wait in it.
    pub depth: u64,
    /// The records of the live workers that registered.
    pub workers: Vec<Value>,
}

impl Control {
    /// Reads the registries in five trips.
    pub async fn registry(&mut self, keys: &Keys) -> Result<Registry, ControlError> {
        let at = self.now_ms();
        let since = at.saturating_sub(SILENCE_MS).to_string();
        let replies = self.batch(&[latest(&keys.fronts(), &since), latest(&keys.queues(), "-inf")]).await?;
        let mut fronts = group_reactors(&names(&replies[0]));
        let mut queues = sorted(names(&replies[1]));
        let mut workers = self.detail(keys, &since, &mut fronts, &mut queues).await?;
        let asked: Vec<Command> = workers.iter().map(|(_, key)| Command::new(&[b"GET", key.as_bytes()])).collect();
        for ((queue, _), reply) in workers.drain(..).zip(self.batch(&asked).await?) {
            // A worker whose record has expired is gone.
            if let record @ Value::Object(_) = json(&reply) {
                queues[queue].workers.push(record);
            }
        }
        let supervisors = self.supervisors(keys).await?;
        Ok(Registry { at, fronts, queues, supervisors })
    }

    /// Fills in fronts and queues; returns the keys of the workers' records by the index of their queue.
    async fn detail(
        &mut self,
        keys: &Keys,
        since: &str,
        fronts: &mut [FrontState],
        queues: &mut [QueueState],
    ) -> Result<Vec<(usize, String)>, ControlError> {
        let records = fronts.iter().map(|front| Command::new(&[b"GET", keys.front(&front.id).as_bytes()]));
        let depths = queues.iter().map(|queue| Command::new(&[b"LLEN", keys.queue(&queue.name).as_bytes()]));
        let members = queues.iter().map(|queue| latest(&keys.workers(&queue.name), since));
        let mut replies = self.batch(&records.chain(depths).chain(members).collect::<Vec<_>>()).await?.into_iter();
        fronts.iter_mut().zip(&mut replies).for_each(|(front, reply)| front.record = json(&reply));
        queues.iter_mut().zip(&mut replies).for_each(|(queue, reply)| queue.depth = number(&reply).unwrap_or_default());
        let mut workers = Vec::new();
        for (index, reply) in replies.enumerate() {
            let name = &queues[index].name;
            workers.extend(sorted_ids(&reply).iter().map(|id| (index, keys.worker(name, id))));
        }
        Ok(workers)
    }
}

/// The members of a sorted set by score, latest first, from `since` on.
pub(super) fn latest(key: &str, since: &str) -> Command {
    Command::new(&[b"ZREVRANGEBYSCORE", key.as_bytes(), b"+inf", since.as_bytes(), b"LIMIT", b"0", MEMBERS])
}

pub(super) fn names(reply: &BytesFrame) -> Vec<String> {
    match reply {
        BytesFrame::Array(members) => members.iter().map(text_of).collect(),
        _ => Vec::new(),
    }
}

fn sorted_ids(reply: &BytesFrame) -> Vec<String> {
    let mut ids = names(reply);
    ids.sort();
    ids
}

fn sorted(mut names: Vec<String>) -> Vec<QueueState> {
    names.sort();
    names.into_iter().map(|name| QueueState { name, depth: 0, workers: Vec::new() }).collect()
}

/// A reactor's id is its front's, a dot and a number.
fn group_reactors(reactors: &[String]) -> Vec<FrontState> {
    let mut ids: Vec<&str> =
        reactors.iter().map(|id| id.rsplit_once('.').map_or(id.as_str(), |(front, _)| front)).collect();
    ids.sort_unstable();
    let chunks = ids.chunk_by(|a, b| a == b);
    chunks.map(|same| FrontState { id: same[0].to_owned(), reactors: same.len(), record: Value::Null }).collect()
}

pub(super) fn json(reply: &BytesFrame) -> Value {
    match reply {
        BytesFrame::BulkString(bytes) => serde_json::from_slice(bytes).unwrap_or_default(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reactors_are_grouped_by_their_front() {
        let fronts = group_reactors(&["b.0".into(), "a.1".into(), "a.0".into()]);
        let seen: Vec<_> = fronts.iter().map(|front| (front.id.as_str(), front.reactors)).collect();
        assert_eq!(seen, [("a", 2), ("b", 1)]);
    }

    #[test]
    fn what_is_no_json_is_null() {
        assert_eq!(json(&BytesFrame::BulkString("{".into())), Value::Null);
        assert_eq!(json(&BytesFrame::Null), Value::Null);
    }
}
