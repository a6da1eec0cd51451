//! More than a server can do: what of it is of use to those who asked, what the server holds meanwhile, and when it is
//! itself again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempest_tests::Http;

use super::{Usage, number, times};
use crate::load::{Ask, Child, Spec};
use crate::machine;
use crate::peers::Server;
use crate::plan::Sample;

/// Clients that keep a server busy and make nothing pile up: eight for each of the four requests it works at.
const PEAK_CLIENTS: usize = 32;
const PEAK_WARM_UP_MS: u64 = 500;
const PEAK_RUN_MS: u64 = 2_000;
/// How long a client waits.
const PATIENCE_MS: u64 = 2_000;
/// In this time what waits at one and a half times the peak has become more than anybody waits for.
const WARM_UP_MS: u64 = 4_500;
const RUN_MS: u64 = 5_000;
/// A server that answers this fast has recovered.
const RECOVERED: Duration = Duration::from_millis(100);
/// How often that is tried, and for how long.
const TRY_EACH: Duration = Duration::from_millis(200);
const TRY_FOR: Duration = Duration::from_secs(90);

/// The most that each server has been seen to answer in a second, by its first process: measured once for all steps.
pub(crate) type Peaks = Rc<RefCell<HashMap<u32, f64>>>;

/// Requests at `times_peak` times the rate that the server can answer.
pub(crate) fn overload(server: &Server, times_peak: f64, peaks: &Peaks) -> Result<Sample, String> {
    let peak = peak(server, peaks)?;
    let before = machine::memory(&held(server));
    let spec = Spec::Overload {
        address: server.address,
        per_second: peak * times_peak,
        patience_ms: PATIENCE_MS,
        warm_up_ms: WARM_UP_MS,
        run_ms: RUN_MS,
    };
    let (mut child, _) = Child::start(&spec)?;
    let usage = Usage::now(server, &child);
    let loaded = machine::memory(&held(server));
    let result = child.phase()?;
    // The load goes on until it is dropped.
    let memory = machine::memory(&held(server));
    let mut sample = Sample::new();
    let offered = number(&result, "offered").max(1.0);
    usage.into_sample(server, &child, offered, "", &mut sample);
    drop(child);
    let good_per_s = number(&result, "good") / number(&result, "seconds");
    sample.insert("offered".into(), times_peak);
    sample.insert("peak".into(), peak);
    sample.insert("good_per_s".into(), good_per_s);
    sample.insert("good_share".into(), good_per_s / peak);
    for key in ["refused", "left", "failed"] {
        sample.insert(key.into(), 100.0 * number(&result, key) / offered);
    }
    times(&result, "", &mut sample);
    let mb = |bytes: u64| bytes as f64 / 1e6;
    sample.insert("before_mb".into(), mb(before));
    sample.insert("memory_mb".into(), mb(memory));
    sample.insert("memory_growth".into(), memory as f64 / loaded.max(1) as f64);
    sample.insert("recovered_s".into(), recovery(server).as_secs_f64());
    Ok(sample)
}

fn peak(server: &Server, peaks: &Peaks) -> Result<f64, String> {
    let first = server.processes.first().map_or(0, tempest_tests::Process::pid);
    if let Some(known) = peaks.borrow().get(&first) {
        return Ok(*known);
    }
    let spec = Spec::Requests {
        address: server.address,
        clients: PEAK_CLIENTS,
        ask: Ask::Work,
        warm_up_ms: PEAK_WARM_UP_MS,
        run_ms: PEAK_RUN_MS,
    };
    let (mut child, _) = Child::start(&spec)?;
    let result = child.phase()?;
    let peak = number(&result, "requests") / number(&result, "seconds");
    if peak < 1.0 {
        return Err("it answers nothing".into());
    }
    peaks.borrow_mut().insert(first, peak);
    Ok(peak)
}

/// The processes that hold what waits: all but the workers of a queue, where there is one.
fn held(server: &Server) -> Vec<u32> {
    let holds = server.processes.iter().filter(|process| process.name() != "worker");
    holds.flat_map(|process| machine::tree(process.pid())).collect()
}

/// How long it takes after an overload until one client is served as if nothing had been.
fn recovery(server: &Server) -> Duration {
    let begin = Instant::now();
    while begin.elapsed() < TRY_FOR {
        let asked = begin.elapsed();
        if let Ok(mut http) = Http::try_connect(server.address) {
            http.request("GET", "/work?n=00000000", &[], b"");
            if http.readable_within(RECOVERED) && http.response().status == 200 {
                return asked;
            }
        }
        sleep(TRY_EACH);
    }
    TRY_FOR
}
