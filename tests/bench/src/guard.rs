//! Holds the front to what it executes for a request: to the instructions and calls for memory that were accepted last.
//!
//! Worse is not better for having come in small steps, and what was won is lost unseen unless the bounds follow: a
//! figure may leave them at neither end. It must not be lenient on a machine with another compiler or libc, only say
//! that this is a reason. The figures lie in [`FILE`], which `bench accept` writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;
use tempest_tests::repository;

use crate::plan::{Sample, Size};
use crate::report::text;
use crate::rows;
use crate::run::{self, progress};

/// Where the accepted figures stand, in the repository.
const FILE: &str = "tests/bench/accepted.toml";
/// The table and the contender that are held.
const TABLE: &str = "instructions";
const CONTENDER: &str = "tempest";
/// What accepts new figures.
const ACCEPT: &str = "./dev bench accept";

/// Measurements before a build is said to execute more than it may.
const MEASURED_AT_MOST: usize = 4;

/// What is written above the figures.
const HEADER: &str = "\
# What the front executes for one request in the table `instructions` of the benchmark: instructions in user space
# without those by which its event loop waits, and calls for memory. ./dev test holds a release build to them, within
# 5 % of the instructions and a quarter of a call (one with one client), both ways. Accept what it executes now, and say in the commit why:
#     ./dev bench accept
";

/// A figure that is held, and how far it may be from what was accepted.
struct Held {
    /// Its key in samples and in the file.
    key: &'static str,
    what: &'static str,
    digits: usize,
    slack: Slack,
}

/// How far a figure may be off, either way: more than twice the spread of one build over twenty runs, on an idle machine
/// and on a busy one. That was 2 % of the instructions and a tenth of a call; half a call with one client, where requests
/// take so long under callgrind that what the clock has done meanwhile, which is taken off, is a tenth of them.
enum Slack {
    /// A share of what was accepted.
    Share(f64),
    /// A number. A call more in each request is one, however many there are.
    Number(f64),
}

/// The case with one client.
const ONE_CLIENT: &str = "hello, 1 client";
/// Slack of calls for memory with one client.
const ONE_CLIENT_CALLS: f64 = 1.0;

const HELD: [Held; 2] = [
    Held { key: "awake", what: "instructions", digits: 0, slack: Slack::Share(0.05) },
    Held { key: "allocations", what: "calls for memory", digits: 2, slack: Slack::Number(0.25) },
];

impl Held {
    /// The lowest and the highest value that pass.
    fn bounds(&self, case: &str, accepted: f64) -> (f64, f64) {
        let slack = match self.slack {
            Slack::Share(share) => accepted * share,
            Slack::Number(_) if case == ONE_CLIENT => ONE_CLIENT_CALLS,
            Slack::Number(number) => number,
        };
        (accepted - slack, accepted + slack)
    }
}

/// What was accepted, or is to be.
#[derive(Debug, Deserialize)]
struct Accepted {
    /// What it was built with.
    with: String,
    /// Figures by key, by case.
    cases: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Accepted {
    /// Takes over what is less in another measurement of the same build.
    fn keep_least(&mut self, other: &Self) {
        for (case, figures) in &mut self.cases {
            for (key, figure) in figures {
                let again = other.cases.get(case).and_then(|figures| figures.get(key));
                *figure = again.map_or(*figure, |again| figure.min(*again));
            }
        }
    }
}

/// Measures and compares; an error says what is to be done.
pub(crate) fn check() -> Result<(), String> {
    let path = file();
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}; {ACCEPT} writes it", path.display()))?;
    let accepted: Accepted = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut measured = measure()?;
    let mut faults = judge(&measured, &accepted);
    // A fault of the code is there every time; that of a busy machine is only ever too much.
    for _ in 1..MEASURED_AT_MOST {
        if faults.is_empty() {
            break;
        }
        progress(&format!("once more, since it may be the machine: {}", faults.lines().next().unwrap_or_default()));
        measured.keep_least(&measure()?);
        faults = judge(&measured, &accepted);
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Measures and writes the figures down.
pub(crate) fn accept() -> Result<(), String> {
    let measured = measure()?;
    fs::write(file(), as_toml(&measured)).map_err(|error| format!("{FILE}: {error}"))?;
    progress(&format!("{FILE} is written"));
    Ok(())
}

fn file() -> PathBuf {
    repository().join(FILE)
}

/// The figures of this build, each the least of two runs: what the front does by the clock comes on top of what it does
/// for requests, and there is more of it the longer the same requests take, on a busy machine.
fn measure() -> Result<Accepted, String> {
    let mut table = rows::all(Size::Quick, 1).into_iter().find(|table| table.name == TABLE).expect("it is one of them");
    table.contenders.retain(|one| one.name == CONTENDER);
    let results = run::run(&table, Size::Quick);
    let (missing, failures) = (results.missing.values(), results.failures.values().flatten());
    if let Some(why) = missing.chain(failures).next() {
        return Err(format!("the front could not be measured: {why}"));
    }
    let mut cases = BTreeMap::new();
    for ((_, case), samples) in results.samples {
        let figure = |held: &Held| {
            let least =
                least(&samples, held.key).ok_or_else(|| format!("{case}: no {}, see src/callgrind", held.key))?;
            Ok((held.key.to_owned(), least))
        };
        let figures = HELD.iter().map(figure).collect::<Result<_, String>>()?;
        cases.insert(case, figures);
    }
    Ok(Accepted { with: built_with(), cases })
}

fn least(samples: &[Sample], key: &str) -> Option<f64> {
    let values = samples.iter().map(|sample| sample.get(key).copied()).collect::<Option<Vec<_>>>()?;
    values.into_iter().reduce(f64::min)
}

/// What decides on the figures besides our code.
fn built_with() -> String {
    let first_line = |program: &str| {
        let output = Command::new(program).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).lines().next().unwrap_or(program).to_owned()
    };
    format!("{}, {}, {}", std::env::consts::ARCH, first_line("rustc"), first_line("ldd"))
}

fn as_toml(measured: &Accepted) -> String {
    let mut out = format!("{HEADER}\nwith = {:?}\n", measured.with);
    for (case, figures) in &measured.cases {
        out += &format!("\n[cases.{case:?}]\n");
        for held in &HELD {
            out += &format!("{} = {:.*}\n", held.key, held.digits, figures[held.key]);
        }
    }
    out
}

/// What is out of bounds and what to do about it; empty: nothing.
fn judge(measured: &Accepted, accepted: &Accepted) -> String {
    let mut faults = String::new();
    let (mut worse, mut better) = (false, false);
    if !measured.cases.keys().eq(accepted.cases.keys()) {
        faults += &format!("{FILE} has other cases than the benchmark: {ACCEPT}\n");
    }
    for (case, figures) in &measured.cases {
        for held in &HELD {
            let Some(was) = accepted.cases.get(case).and_then(|case| case.get(held.key)) else { continue };
            let now = figures[held.key];
            let (low, high) = held.bounds(case, *was);
            worse |= now > high;
            better |= now < low;
            if now > high || now < low {
                faults += &fault(case, held, now, *was);
            }
        }
    }
    if worse {
        faults += &format!(
            "More is executed than was accepted. target/bench/{TABLE}-{CONTENDER}-*.txt say where it goes; make them \
             of the commit before, too, and compare. If it is worth that: {ACCEPT}\n"
        );
    }
    if better {
        faults += &format!("Less is executed: {ACCEPT}, or what was won could be lost again unseen.\n");
    }
    if (worse || better) && measured.with != accepted.with {
        let (was, now) = (&accepted.with, &measured.with);
        faults += &format!("It was accepted with {was}; this is {now}, which alone may be the reason.\n");
    }
    faults
}

fn fault(case: &str, held: &Held, now: f64, was: f64) -> String {
    let (low, high) = held.bounds(case, was);
    let [shown, accepted, low, high] = [now, was, low, high].map(|figure| text(figure, held.digits));
    let (what, ratio) = (held.what, now / was);
    format!("{case}: {shown} {what} a request, accepted {accepted}: ratio {ratio:.3}; it may be {low} to {high}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(awake: f64, allocations: f64) -> Accepted {
        let figures = BTreeMap::from([("awake".into(), awake), ("allocations".into(), allocations)]);
        Accepted { with: "a compiler".into(), cases: BTreeMap::from([("hello, 64 clients".into(), figures)]) }
    }

    #[test]
    fn the_least_of_several_measurements_counts() {
        let mut measured = figures(110.0, 20.0);
        measured.keep_least(&figures(100.0, 21.0));
        assert_eq!(measured.cases, figures(100.0, 20.0).cases);
    }

    #[test]
    fn both_ends_are_held() {
        let accepted = figures(10_000.0, 20.0);
        assert_eq!(judge(&figures(10_499.0, 20.24), &accepted), "");
        assert_eq!(judge(&figures(9_501.0, 19.76), &accepted), "");
        let worse = judge(&figures(10_600.0, 20.0), &accepted);
        let line = "hello, 64 clients: 10,600 instructions a request, accepted 10,000: ratio 1.060; it may be 9,500 to 10,500\n";
        assert!(worse.starts_with(line) && worse.contains("More is executed"), "{worse}");
        let better = judge(&figures(10_000.0, 19.0), &accepted);
        assert!(
            better.contains("ratio 0.950; it may be 19.75 to 20.25") && better.contains("Less is executed"),
            "{better}"
        );
    }

    #[test]
    fn calls_of_one_client_have_more_room() {
        let calls = &HELD[1];
        assert_eq!(
            (calls.bounds(ONE_CLIENT, 18.0), calls.bounds("hello, 64 clients", 10.25)),
            ((17.0, 19.0), (10.0, 10.5))
        );
    }

    #[test]
    fn another_compiler_is_named_where_it_may_be_the_reason() {
        let mut accepted = figures(10_000.0, 20.0);
        accepted.with = "another".into();
        assert_eq!(judge(&figures(10_000.0, 20.0), &accepted), "");
        assert!(judge(&figures(5_000.0, 20.0), &accepted).contains("accepted with another; this is a compiler"));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let written = figures(10_000.4, 20.006);
        let read: Accepted = toml::from_str(&as_toml(&written)).expect("it is TOML");
        assert_eq!(read.with, written.with);
        assert_eq!(read.cases["hello, 64 clients"]["awake"].to_string(), "10000");
        assert_eq!(judge(&read, &written), "");
        let file: Accepted = toml::from_str(&fs::read_to_string(file()).expect("it is there")).expect("it is TOML");
        assert_eq!(file.cases.len(), 2, "the accepted figures of both cases");
    }
}
