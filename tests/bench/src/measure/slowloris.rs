//! Ordinary requests without and with clients that never finish the head of theirs.

use super::{answered, number};
use crate::load::{Ask, Child, Spec};
use crate::peers::Server;
use crate::plan::{Sample, Size};

/// Milliseconds between two bytes of a slow client.
const PAUSE_MS: u64 = 1_000;
/// Times as long as elsewhere, so that a good part of the slow ones is ended meanwhile.
const LONGER: u64 = 3;

/// `fast` clients in a closed loop, first alone and then beside `slow` ones.
pub(crate) fn slowloris(server: &Server, slow: usize, fast: usize, size: Size) -> Result<Sample, String> {
    let spec = Spec::Requests {
        address: server.address,
        clients: fast,
        ask: Ask::Hello,
        warm_up_ms: size.warm_up_ms(),
        run_ms: LONGER * size.run_ms(),
    };
    let ordinary = || {
        let (mut child, _) = Child::start(&spec)?;
        answered(server, &mut child)
    };
    let alone = ordinary()?;
    let (mut crowd, ready) =
        Child::start(&Spec::Slowloris { address: server.address, clients: slow, pause_ms: PAUSE_MS })?;
    let mut sample = ordinary()?;
    let result = crowd.phase()?;
    let of_alone = |key: &str| alone.get(key).copied().unwrap_or_default();
    let ratio = |key: &str| sample.get(key).copied().unwrap_or_default() / of_alone(key).max(f64::MIN_POSITIVE);
    let (p99, per_second) = (ratio("p99_ms"), ratio("per_second"));
    sample.insert("p99_ratio".into(), p99);
    sample.insert("per_second_ratio".into(), per_second);
    sample.insert("alone_p99_ms".into(), of_alone("p99_ms"));
    sample.insert("connected".into(), number(&ready, "connected"));
    sample.insert("open".into(), number(&result, "open"));
    sample.insert("ended".into(), number(&result, "ended"));
    Ok(sample)
}
