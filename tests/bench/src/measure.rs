//! One measurement: a load against a running contender, with the processor time of all its processes beside it.

mod overload;
mod push;
mod slowloris;
mod watching;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tempest_tests::Http;

use crate::callgrind::{Counted, Profile};
use crate::load::{Ask, Child, Phase, Spec};
use crate::machine;
use crate::peers::{By, Server, installed};
use crate::plan::{Sample, Size};

pub(crate) use self::overload::{Peaks, overload};
pub(crate) use self::push::{StalledWork, grown, held, stalled};
pub(crate) use self::slowloris::slowloris;
pub(crate) use self::watching::watching;

/// Above this share of one processor the load is taken for the bottleneck.
const BUSY: f64 = 0.90;

/// Processor time at a moment: of the contender by role, of its load, of the machine.
#[derive(Debug)]
struct Usage {
    roles: BTreeMap<String, f64>,
    load: f64,
    machine: (f64, f64),
}

impl Usage {
    fn now(server: &Server, child: &Child) -> Self {
        let mut roles = BTreeMap::new();
        for process in &server.processes {
            *roles.entry(process.name().to_owned()).or_default() += machine::cpu_seconds(&machine::tree(process.pid()));
        }
        Self { roles, load: machine::cpu_seconds(&[child.pid()]), machine: machine::machine_seconds() }
    }

    /// Adds what was used since then, for each of `count` units of work.
    fn into_sample(self, server: &Server, child: &Child, count: f64, prefix: &str, sample: &mut Sample) {
        let now = Self::now(server, child);
        let micros = |seconds: f64| seconds * 1e6 / count.max(1.0);
        let mut servers = 0.0;
        for (role, seconds) in &now.roles {
            let used = seconds - self.roles.get(role).copied().unwrap_or_default();
            servers += used;
            sample.insert(format!("{prefix}cpu_us:{role}"), micros(used));
        }
        let load = now.load - self.load;
        sample.insert(format!("{prefix}cpu_us"), micros(servers));
        sample.insert(format!("{prefix}cpu_us:(load)"), micros(load));
        let (busy, had) = (now.machine.0 - self.machine.0, now.machine.1 - self.machine.1);
        sample.insert(format!("{prefix}foreign"), (busy - servers - load).max(0.0) / had.max(0.01));
        sample.insert(format!("{prefix}busy"), busy / had.max(0.01));
    }
}

/// Requests in a closed loop.
pub(crate) fn requests(server: &Server, ask: Ask, clients: usize, size: Size) -> Result<Sample, String> {
    let (warm_up_ms, run_ms) = (size.warm_up_ms(), size.run_ms());
    let spec = Spec::Requests { address: server.address, clients, ask, warm_up_ms, run_ms };
    let (mut child, _) = Child::start(&spec)?;
    answered(server, &mut child)
}

/// Fast clients beside slow ones.
pub(crate) fn crowd(server: &Server, slow: usize, fast: usize, run_ms: u64) -> Result<Sample, String> {
    let spec = Spec::Crowd { address: server.address, slow, fast, run_ms };
    let (mut child, _) = Child::start(&spec)?;
    answered(server, &mut child)
}

/// Requests of one warming up and one measurement, where instructions are counted.
const COUNTED: [u64; 2] = [500, 4_000];

/// What the start of a long request made everybody do is over by then; for so long the clock's part is counted.
const CLOCKED: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// Instructions and allocations for one request; the functions that they go to are written beside the report. What is
/// done by the clock while anybody waits is taken off: under callgrind the same requests take many times as long, another
/// time on each machine, and with one client a tenth of all that is counted was the clock's.
pub(crate) fn instructions(server: &Server, clients: usize) -> Result<Sample, String> {
    let [warm_up, requests] = COUNTED;
    let counted = Counted::of(server)?;
    let spec = Spec::Exactly { address: server.address, clients, ask: Ask::Hello, warm_up, requests };
    let (mut child, _) = Child::start(&spec)?;
    counted.zero()?;
    let result = child.phase()?;
    let who = if counted.name() == "front" { "tempest" } else { counted.name() };
    let folder = installed();
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let file = folder.join(format!("instructions-{who}-{clients}"));
    let profile = counted.take(&file.with_extension("callgrind"))?;
    std::fs::write(file.with_extension("txt"), profile.text(requests)).map_err(|error| error.to_string())?;
    let seconds = number(&result, "seconds");
    let clocked = by_the_clock(server, &counted, &file)?;
    let each = |count: u64, clocked: u64| {
        let by_the_clock = clocked as f64 * seconds / CLOCKED[1].as_secs_f64();
        (count as f64 - by_the_clock) / requests as f64
    };
    let mut sample = Sample::from([
        ("instructions".into(), each(profile.instructions, 0)),
        ("allocations".into(), each(profile.allocations, clocked.allocations)),
    ]);
    if let Some(awake) = profile.awake() {
        sample.insert("awake".into(), each(awake, clocked.awake().unwrap_or_default()));
    }
    sample.insert("seconds".into(), seconds);
    Ok(sample)
}

/// What is executed while one request waits and nothing else happens.
fn by_the_clock(server: &Server, counted: &Counted<'_>, file: &Path) -> Result<Profile, String> {
    let mut long = Http::try_connect(server.address).map_err(|error| format!("connecting: {error}"))?;
    // The request's number is of no interest; dropping its connection is how its client leaves.
    long.request("GET", "/long?n=00000000", &[], b"");
    sleep(CLOCKED[0]);
    counted.zero()?;
    sleep(CLOCKED[1]);
    counted.take(&file.with_extension("clock"))
}

fn answered(server: &Server, child: &mut Child) -> Result<Sample, String> {
    let usage = Usage::now(server, child);
    let result = child.phase()?;
    let count = number(&result, "requests");
    let mut sample = Sample::new();
    usage.into_sample(server, child, count, "", &mut sample);
    sample.insert("per_second".into(), count / number(&result, "seconds"));
    times(&result, "", &mut sample);
    Ok(sample)
}

/// What is asked of open streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamWork {
    /// Streams.
    pub(crate) count: usize,
    /// Messages under way in the phase with a backlog, and its milliseconds.
    pub(crate) backlog: (u64, u64),
    /// Messages a second, and how many, in the phase at a fixed rate.
    pub(crate) rate: (f64, u64),
}

/// Streams: opening them, their memory, a backlog, a fixed rate.
pub(crate) fn streams(server: &Server, work: StreamWork) -> Result<Sample, String> {
    let Some(streams) = server.streams.clone() else { return Err("it serves no streams".into()) };
    if !matches!(streams.by, By::Plain) {
        return Err("streams that are fed are read without TLS only".into());
    }
    let phases = vec![
        Phase::Backlog { window: work.backlog.0, run_ms: work.backlog.1 },
        Phase::Rate { per_second: work.rate.0, messages: work.rate.1 },
    ];
    let (mut child, ready) =
        Child::start(&Spec::Streams { address: server.address, streams, count: work.count, phases })?;
    let mut sample = Sample::new();
    // Against the start, since a server keeps what a smaller number of streams has made it take.
    let per_stream = |memory: u64| memory.saturating_sub(server.memory) as f64 / work.count as f64;
    sample.insert("idle_bytes".into(), per_stream(machine::memory(&server.pids())));
    sample.insert("connect_per_s".into(), work.count as f64 / number(&ready, "connect_seconds"));
    child.phase()?;
    for prefix in ["backlog_", "rate_"] {
        let usage = Usage::now(server, &child);
        let result = child.phase()?;
        let count = number(&result, "deliveries");
        usage.into_sample(server, &child, count, prefix, &mut sample);
        sample.insert(format!("{prefix}per_s"), count / number(&result, "seconds"));
        times(&result, prefix, &mut sample);
    }
    sample.insert("used_bytes".into(), per_stream(machine::memory(&server.pids())));
    Ok(sample)
}

/// A server of which nobody wants anything.
pub(crate) fn idle(server: &Server) -> Result<Sample, String> {
    // What it does after its start is over by then; what it does for ever is seen in as long a time.
    const SETTLE: Duration = Duration::from_secs(1);
    let pids = server.pids();
    sleep(SETTLE);
    let before = machine::cpu_seconds(&pids);
    sleep(SETTLE * 2);
    let used = machine::cpu_seconds(&pids) - before;
    let own = server.processes.iter().find(|process| process.name() == "front").or(server.processes.first());
    let binary = own.map(|process| format!("/proc/{}/exe", process.pid()));
    let bytes = binary.and_then(|path| std::fs::metadata(path).ok()).map_or(0, |file| file.len());
    Ok(Sample::from([
        ("memory_mb".to_owned(), machine::memory(&pids) as f64 / 1e6),
        ("idle_milli".to_owned(), used / (SETTLE * 2).as_secs_f64() * 1e3),
        ("binary_mb".to_owned(), bytes as f64 / 1e6),
    ]))
}

/// Times of a result in milliseconds, and whether the load was the bottleneck.
fn times(result: &Value, prefix: &str, sample: &mut Sample) {
    for (from, to) in [("p50_us", "p50_ms"), ("p99_us", "p99_ms"), ("max_us", "max_ms")] {
        if let Some(micros) = result[from].as_f64() {
            sample.insert(format!("{prefix}{to}"), micros / 1e3);
        }
    }
    let load = number(result, "load");
    sample.insert(format!("{prefix}load"), load);
    sample.insert(format!("{prefix}load_bound"), f64::from(u8::from(load > BUSY)));
}

fn number(result: &Value, key: &str) -> f64 {
    result[key].as_f64().unwrap_or_default()
}
