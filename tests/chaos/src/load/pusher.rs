//! Pushes background jobs straight to Redis, one after the other, and notes which Redis acknowledged.
//!
//! A push without a reply may have arrived or not: it is noted as such, and never sent again under the same id.

use std::time::Duration;

use tempest_chaos::ledger::{Event, Writer};
use tempest_tests::{Resp, Value};

use super::Shared;
use crate::chance::Chance;

/// Pause before it looks again for a Redis that is away.
const AWAY: Duration = Duration::from_millis(50);

/// Pushes about `rate` jobs a second until told to stop.
pub(super) fn run(shared: &Shared, redis: u16, rate: u64) {
    let (ledger, mut chance) = (shared.writer("pushers"), Chance::new(shared.seed, 900));
    let mut open = None;
    let mut count = 0u64;
    while !shared.stopped() {
        if open.is_none() {
            open = Resp::connect(redis).ok();
        }
        let Some(connection) = &mut open else {
            std::thread::sleep(AWAY);
            continue;
        };
        count += 1;
        if !push(&ledger, connection, &format!("b-{count}"), chance.between(0, 60)) {
            open = None;
        }
        std::thread::sleep(chance.poisson(Duration::from_secs(1) / u32::try_from(rate).unwrap_or(1)));
    }
}

fn push(ledger: &Writer, redis: &mut Resp, id: &str, time: u64) -> bool {
    let job = format!("{{\"v\":1,\"id\":\"{id}\",\"attempt\":1,\"queue\":\"web\",\"action\":\"chaos.job\"}}\n{time}");
    ledger.note(Event::Push { id: id.to_owned() });
    let reply = redis.try_cmd(&["RPUSH", "tempest:web", &job]);
    let acknowledged = matches!(reply, Ok(Value::Int(_)));
    let id = id.to_owned();
    ledger.note(if acknowledged { Event::Pushed { id } } else { Event::Unpushed { id } });
    acknowledged
}
