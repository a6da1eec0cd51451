//! Runs tables: rounds, contenders in turn, and what becomes of runs that fail or were disturbed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempest_tests::{Signal, assert_no_process, kill, processes_of, scratch};

use crate::machine;
use crate::peers::{Missing, Place, Server};
use crate::plan::{Case, Contender, Sample, Size, Table};

/// Above this share of the machine used by others a run is measured once more.
const DISTURBED: f64 = 0.08;
/// How often at most.
const RETRIES: usize = 1;
/// Between two looks at the memory of a server that has just started, and how often it is looked at most.
const SETTLE: Duration = Duration::from_millis(100);
const LOOKS: usize = 20;

/// All samples of a table: by contender, by case, one for each round.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Samples by contender and case.
    pub(crate) samples: BTreeMap<(String, String), Vec<Sample>>,
    /// Why there are none, or fewer: contender, and case where one is meant.
    pub(crate) failures: BTreeMap<(String, String), Vec<String>>,
    /// Contenders that cannot run here.
    pub(crate) missing: BTreeMap<String, String>,
    /// How each was tuned.
    pub(crate) tuning: BTreeMap<String, String>,
}

/// Measures everything in `table`.
pub(crate) fn run(table: &Table, size: Size) -> Results {
    let mut results = Results::default();
    let wanted: Vec<_> = table.contenders.iter().filter(|one| size == Size::Full || one.quick).collect();
    for round in 0..size.rounds() {
        for nth in 0..wanted.len() {
            // Each round begins with another one, so that nobody always follows the same neighbour.
            let contender = wanted[(nth + round) % wanted.len()];
            if !results.missing.contains_key(contender.name) {
                progress(&format!("{} {}/{}  {}", table.name, round + 1, size.rounds(), contender.name));
                visit(table, contender, size, &mut results);
            }
        }
    }
    results
}

fn visit(table: &Table, contender: &Contender, size: Size, results: &mut Results) {
    let (dir, mark) = scratch();
    let place = Place { dir, mark };
    let start = Instant::now();
    let mut server = match catch_unwind(AssertUnwindSafe(|| (contender.start)(&place))) {
        Ok(Ok(server)) => server,
        Ok(Err(Missing(why))) => {
            progress(&format!("  missing: {why}"));
            results.missing.insert(contender.name.into(), why);
            let _ = fs::remove_dir_all(&place.dir);
            return;
        }
        Err(_) => {
            // Whatever of it came up goes: its first process is ended already, its descendants are not.
            processes_of(&place.mark).into_iter().for_each(|(pid, _)| kill(pid, Signal::KILL));
            return results.fail(contender.name, "", "it does not start".into());
        }
    };
    let start_ms = start.elapsed().as_secs_f64() * 1e3;
    server.memory = settled(&server);
    results.tuning.insert(contender.name.into(), server.tuning.clone());
    for case in &table.cases {
        if size == Size::Full || case.quick {
            match undisturbed(case, &server) {
                Ok(mut sample) => {
                    sample.insert("start_ms".into(), start_ms);
                    progress(&format!("  {:<28} {}", case.name, shown(table, &sample)));
                    results.samples.entry((contender.name.into(), case.name.clone())).or_default().push(sample);
                }
                Err(error) => results.fail(contender.name, &case.name, error),
            }
        }
    }
    end(server, &place);
}

/// Its memory once that is the same at two looks: a server may accept connections before all of its processes have what
/// they take at their start, which would be counted to its first streams.
fn settled(server: &Server) -> u64 {
    let mut last = machine::memory(&server.pids());
    for _ in 0..LOOKS {
        sleep(SETTLE);
        let now = machine::memory(&server.pids());
        if now == last {
            break;
        }
        last = now;
    }
    last
}

/// Measures once more where others used the machine; what comes last counts, and says by `foreign` how it was.
fn undisturbed(case: &Case, server: &Server) -> Result<Sample, String> {
    let mut sample = (case.measure)(server)?;
    for _ in 0..RETRIES {
        let foreign = sample.iter().filter(|(key, _)| key.ends_with("foreign")).map(|(_, value)| *value);
        if foreign.fold(0.0, f64::max) < DISTURBED {
            break;
        }
        progress(&format!("  {:<28} disturbed by other processes, once more", case.name));
        sample = (case.measure)(server)?;
    }
    Ok(sample)
}

fn end(server: Server, place: &Place) {
    for mut process in server.processes {
        process.terminate();
    }
    assert_no_process(&place.mark);
    let _ = fs::remove_dir_all(&place.dir);
}

impl Results {
    fn fail(&mut self, contender: &str, case: &str, error: String) {
        progress(&format!("  {case:<28} FAILED: {error}"));
        self.failures.entry((contender.into(), case.into())).or_default().push(error);
    }
}

fn shown(table: &Table, sample: &Sample) -> String {
    let parts = table.metrics.iter().filter_map(|metric| {
        let value = sample.get(metric.key)?;
        Some(format!("{} {value:.*}", metric.title, metric.digits))
    });
    parts.collect::<Vec<_>>().join(" · ")
}

/// A line for whoever waits.
pub(crate) fn progress(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
