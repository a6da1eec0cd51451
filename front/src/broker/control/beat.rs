//! The registration of workers that do not register themselves.
//!
//! A raw worker only pops and answers, so whoever started it says that it is there. A worker with an SDK writes the same
//! record itself, and knows more: its record wins.

use bytes::Bytes;
use redis_protocol::resp2::types::BytesFrame;
use serde_json::json;
use tempest_protocol::Keys;

use super::super::wire::Command;
use super::{Control, ControlError};

/// How long a record outlives its last beat, in ms.
const RECORD_MS: &[u8] = b"3000";
/// How long a queue's set of workers outlives the last beat of any, in ms.
const SET_MS: &[u8] = b"3600000";
/// How long a member outlives its last beat, in ms: somebody died who could not take it out.
const MEMBER_MS: u64 = 3_600_000;

/// One worker to register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Its queue.
    pub queue: String,
    /// Its id.
    pub id: String,
    /// Its record, a JSON object; the same at every beat, by which it is known again.
    pub record: String,
}

/// The record of a worker of which nothing else is known yet: whoever claims for it has to be first to write one. It is
/// nobody's own.
pub fn stand_in(id: &str, queue: &str) -> String {
    json!({"id": id, "queue": queue}).to_string()
}

impl Control {
    /// Registers `workers` for the next three seconds, but for those that do it themselves; gives the records of those.
    pub async fn beat(&mut self, keys: &Keys, workers: &[Presence]) -> Result<Vec<Option<Bytes>>, ControlError> {
        let found = workers.iter().map(|worker| Command::new(&[b"GET", record_key(keys, worker).as_bytes()]));
        let found = self.batch(&found.collect::<Vec<_>>()).await?;
        let now = self.now_ms();
        let commands: Vec<Command> =
            workers.iter().zip(&found).flat_map(|(worker, found)| registration(keys, worker, found, now)).collect();
        self.batch(&commands).await?;
        Ok(workers.iter().zip(found).map(|(worker, found)| own_record(worker, found)).collect())
    }

    /// Takes out workers that have ended, whoever registered them.
    pub async fn leave(&mut self, keys: &Keys, workers: &[Presence]) -> Result<(), ControlError> {
        let commands = workers.iter().flat_map(|worker| {
            let set = keys.workers(&worker.queue);
            let record = Command::new(&[b"DEL", record_key(keys, worker).as_bytes()]);
            [record, Command::new(&[b"ZREM", set.as_bytes(), worker.id.as_bytes()])]
        });
        self.batch(&commands.collect::<Vec<_>>()).await.map(drop)
    }
}

/// The record, where the worker wrote it itself.
fn own_record(worker: &Presence, found: BytesFrame) -> Option<Bytes> {
    match found {
        BytesFrame::BulkString(text) if *text != *worker.record.as_bytes() && !is_stand_in(worker, &text) => Some(text),
        _ => None,
    }
}

fn is_stand_in(worker: &Presence, found: &[u8]) -> bool {
    found == stand_in(&worker.id, &worker.queue).as_bytes()
}

fn record_key(keys: &Keys, worker: &Presence) -> String {
    keys.worker(&worker.queue, &worker.id)
}

fn registration(keys: &Keys, worker: &Presence, found: &BytesFrame, now: u64) -> Vec<Command> {
    let key = record_key(keys, worker);
    let record = match found {
        // NX: it may register itself between the two trips.
        BytesFrame::Null => Command::new(&[b"SET", key.as_bytes(), worker.record.as_bytes(), b"NX", b"PX", RECORD_MS]),
        BytesFrame::BulkString(text) if **text == *worker.record.as_bytes() => {
            Command::new(&[b"PEXPIRE", key.as_bytes(), RECORD_MS])
        }
        BytesFrame::BulkString(text) if is_stand_in(worker, text) => {
            Command::new(&[b"SET", key.as_bytes(), worker.record.as_bytes(), b"PX", RECORD_MS])
        }
        _ => return Vec::new(),
    };
    let set = keys.workers(&worker.queue);
    let (score, stale) = (now.to_string(), format!("({}", now.saturating_sub(MEMBER_MS)));
    vec![
        record,
        Command::new(&[b"ZADD", set.as_bytes(), score.as_bytes(), worker.id.as_bytes()]),
        Command::new(&[b"ZREMRANGEBYSCORE", set.as_bytes(), b"-inf", stale.as_bytes()]),
        Command::new(&[b"PEXPIRE", set.as_bytes(), SET_MS]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> Presence {
        Presence { queue: "web".into(), id: "w-1".into(), record: r#"{"id":"w-1","pid":7}"#.into() }
    }

    fn text(text: &str) -> BytesFrame {
        BytesFrame::BulkString(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_record_is_the_workers_own_where_nobody_else_wrote_it() {
        let worker = worker();
        let own = |found: &str| own_record(&worker, text(found)).is_some();
        assert!(own(r#"{"id":"w-1","done":3}"#) && own("nonsense"));
        assert!(!own(&worker.record) && !own(&stand_in("w-1", "web")));
        assert!(own_record(&worker, BytesFrame::Null).is_none());
    }

    #[test]
    fn what_stood_in_is_replaced_and_the_workers_own_is_left_alone() {
        let (keys, worker) = (Keys::new("tempest"), worker());
        let first = |found: BytesFrame| {
            let commands = registration(&keys, &worker, &found, 0);
            commands.first().map(|command| String::from_utf8_lossy(&command.0).into_owned())
        };
        assert!(first(text(&stand_in("w-1", "web"))).is_some_and(|set| set.contains("SET") && !set.contains("NX")));
        assert!(first(BytesFrame::Null).is_some_and(|set| set.contains("NX")));
        assert!(first(text(&worker.record)).is_some_and(|beat| beat.contains("PEXPIRE")));
        assert!(first(text("own")).is_none());
    }
}
