//! What waits in queues: how many jobs, and for how long the oldest.

use std::time::Duration;

use redis_protocol::resp2::types::BytesFrame;
use tempest_protocol::{Keys, pushed_ms};

use super::super::wire::Command;
use super::{Control, ControlError, number};

/// Gives the first bytes of the oldest job: a front writes its deadline there, and a whole job may be a megabyte.
const HEAD: &[u8] =
    b"local job = redis.call('LINDEX', KEYS[1], 0) if job then return string.sub(job, 1, 512) end return ''";

/// What waits in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Jobs.
    pub depth: u64,
    /// How long the oldest of them waits; None where it does not say, or this Redis runs no scripts for us.
    pub oldest: Option<Duration>,
}

impl Control {
    /// Looks at `queues`, in their order.
    pub async fn waiting(&mut self, keys: &Keys, queues: &[String]) -> Result<Vec<Waiting>, ControlError> {
        let commands = queues.iter().flat_map(|queue| {
            let key = keys.queue(queue);
            [Command::new(&[b"LLEN", key.as_bytes()]), Command::new(&[b"EVAL", HEAD, b"1", key.as_bytes()])]
        });
        let replies = self.batch_with_refusals(&commands.collect::<Vec<_>>()).await?;
        let now = self.now_ms();
        let of = |pair: &[BytesFrame]| {
            let oldest = match &pair[1] {
                BytesFrame::BulkString(head) => pushed_ms(head).map(|at| Duration::from_millis(now.saturating_sub(at))),
                _ => None,
            };
            Waiting { depth: number(&pair[0]).unwrap_or_default(), oldest }
        };
        Ok(replies.chunks_exact(2).map(of).collect())
    }
}
