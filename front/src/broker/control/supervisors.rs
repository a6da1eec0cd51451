//! The registry of supervisors: what each says of the processes it runs, those that wait to be started again included.
//!
//! A worker's own record cannot say that it is not there. A supervisor's can.

use serde_json::Value;
use tempest_protocol::Keys;

use super::super::wire::Command;
use super::registry::{SILENCE_MS, json, latest, names};
use super::{Control, ControlError};

/// How long a record outlives its last beat, in ms.
const RECORD_MS: &[u8] = b"3000";
/// How long the set outlives the last beat of any, and a member its own, in ms.
const SET_MS: u64 = 3_600_000;

impl Control {
    /// Says for the next three seconds what the supervisor `id` runs; `record` is a JSON object.
    pub async fn announce_supervisor(&mut self, keys: &Keys, id: &str, record: &str) -> Result<(), ControlError> {
        let now = self.now_ms();
        let (set, score) = (keys.supervisors(), now.to_string());
        let (key, long_gone) = (keys.supervisor(id), now.saturating_sub(SET_MS).to_string());
        let commands = [
            Command::new(&[b"SET", key.as_bytes(), record.as_bytes(), b"PX", RECORD_MS]),
            Command::new(&[b"ZADD", set.as_bytes(), score.as_bytes(), id.as_bytes()]),
            Command::new(&[b"ZREMRANGEBYSCORE", set.as_bytes(), b"0", long_gone.as_bytes()]),
            Command::new(&[b"PEXPIRE", set.as_bytes(), SET_MS.to_string().as_bytes()]),
        ];
        self.batch(&commands).await.map(drop)
    }

    /// Takes the supervisor `id` out: it has ended in order.
    pub async fn dismiss_supervisor(&mut self, keys: &Keys, id: &str) -> Result<(), ControlError> {
        let (set, key) = (keys.supervisors(), keys.supervisor(id));
        let commands =
            [Command::new(&[b"DEL", key.as_bytes()]), Command::new(&[b"ZREM", set.as_bytes(), id.as_bytes()])];
        self.batch(&commands).await.map(drop)
    }

    /// The records of all live supervisors.
    pub async fn supervisors(&mut self, keys: &Keys) -> Result<Vec<Value>, ControlError> {
        let since = self.now_ms().saturating_sub(SILENCE_MS).to_string();
        let replies = self.batch(&[latest(&keys.supervisors(), &since)]).await?;
        let mut ids = replies.first().map(names).unwrap_or_default();
        ids.sort();
        let asked: Vec<Command> =
            ids.iter().map(|id| Command::new(&[b"GET", keys.supervisor(id).as_bytes()])).collect();
        let records = self.batch(&asked).await?;
        Ok(records.iter().map(json).filter(Value::is_object).collect())
    }
}
