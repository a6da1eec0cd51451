//! What servers use while next to nothing happens, by process: idle, or with a request that takes long.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use tempest_tests::Http;

use crate::machine;
use crate::peers::Server;
use crate::plan::Sample;

/// What the start, or the request, made everybody do is over by then.
const SETTLE: Duration = Duration::from_secs(2);
/// Long enough for what is done once a second, short enough for a request that takes 15 s.
const WATCHED: Duration = Duration::from_secs(10);

/// Thousandths of a processor that each role uses, with one request under way if `busy`.
pub(crate) fn watching(server: &Server, busy: bool) -> Result<Sample, String> {
    // The request's number is of no interest; dropping its connection is how its client leaves.
    let mut long = None;
    if busy {
        let mut http = Http::try_connect(server.address).map_err(|error| format!("connecting: {error}"))?;
        http.request("GET", "/long?n=00000000", &[], b"");
        long = Some(http);
    }
    sleep(SETTLE);
    let (before, machine) = (used(server), machine::machine_seconds());
    sleep(WATCHED);
    let (after, now) = (used(server), machine::machine_seconds());
    if let Some(http) = &mut long
        && http.readable_within(Duration::ZERO)
    {
        return Err(format!("the request ended early: {:?}", http.response()));
    }
    let milli = |seconds: f64| seconds / WATCHED.as_secs_f64() * 1e3;
    let mut sample = Sample::new();
    for (role, seconds) in &after {
        sample.insert(format!("{role}_milli"), milli(seconds - before.get(role).copied().unwrap_or_default()));
    }
    let all: f64 = sample.values().sum();
    sample.insert("all_milli".into(), all);
    let foreign = (now.0 - machine.0 - all * WATCHED.as_secs_f64() / 1e3).max(0.0) / (now.1 - machine.1).max(0.01);
    sample.insert("foreign".into(), foreign);
    Ok(sample)
}

fn used(server: &Server) -> BTreeMap<String, f64> {
    let mut roles = BTreeMap::new();
    for process in &server.processes {
        let seconds = machine::fine_cpu_seconds(&machine::tree(process.pid()));
        *roles.entry(process.name().to_owned()).or_default() += seconds;
    }
    roles
}
