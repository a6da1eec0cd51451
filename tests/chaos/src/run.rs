//! One run from beginning to end: start everything, load it, let the monkey play, let everything come to rest, check.
//!
//! Its folder stays where something was broken, and goes where nothing was.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempest_chaos::ledger::{self, Line};

use crate::check::{self, Book, Finding, RULES};
use crate::load::Load;
use crate::monkey::Monkey;
use crate::phases::{PHASES, Phase};
use crate::report::Report;
use crate::stage::{Class, Stage};
use crate::{progress, say};

/// The most that workers may take to start.
const STARTED: Duration = Duration::from_secs(20);
/// Before the peak is measured, and while it is.
const WARM_UP: Duration = Duration::from_millis(500);
const PEAK: Duration = Duration::from_millis(1500);
/// The most that everything may take to come to rest.
const REST: Duration = Duration::from_secs(30);
/// How often it is asked whether it has.
const LOOK: Duration = Duration::from_millis(50);

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) phases: Vec<Phase>,
    pub(crate) seed: u64,
    pub(crate) rate: Option<u64>,
    pub(crate) without: Vec<Class>,
    pub(crate) out: PathBuf,
}

/// Kinds of workers by name.
pub(crate) fn classes(names: &[String]) -> Result<Vec<Class>, String> {
    let known = || Class::ALL.map(Class::name).join(", ");
    let class = |name: &String| Class::ALL.into_iter().find(|class| class.name() == name);
    names
        .iter()
        .map(|name| class(name).ok_or_else(|| format!("there are no workers '{name}'; there are {}", known())))
        .collect()
}

/// Phases and rules, for `--list`.
pub(crate) fn list() -> String {
    let mut out = "phases\n".to_owned();
    for phase in PHASES {
        let short = if phase.short { "" } else { ", with --minutes" };
        out += &format!("  {:<12} {} ({} s{short})\n", phase.name, phase.what, phase.seconds);
    }
    out += "rules\n";
    for (rule, what) in RULES {
        out += &format!("  {rule:<12} {what}\n");
    }
    out
}

/// One run; true: nothing was broken.
pub(crate) fn run(plan: &Plan) -> Result<bool, String> {
    let begin = Instant::now();
    progress(&format!("seed {}", plan.seed));
    let stage = Stage::start(&plan.without);
    let dir = stage.dir().to_owned();
    let mut load = Load::new(stage.places(), stage.redis.port(), &stage.ledger(), plan.seed);
    wait_for_workers(&stage)?;
    load.start_quick();
    let peak = measure_peak(&load);
    let rate = plan.rate.unwrap_or(peak / 2).max(1);
    progress(&format!("peak {peak}/s, from now on {rate}/s and the slow ones; ledgers in {}", dir.display()));
    load.set_rate(rate);
    load.start_slow();
    let (mut findings, stage) = {
        let mut monkey = Monkey::new(stage, &load, plan.seed);
        for phase in &plan.phases {
            progress(&format!("{:<10} {}", phase.name, phase.what));
            monkey.play(phase);
        }
        (monkey.findings, monkey.stage)
    };
    let running: Vec<u32> = stage.victims().iter().map(|victim| victim.pid).collect();
    load.stop();
    let state = come_to_rest(stage, &mut findings);
    let lines = ledger::read(&dir.join("ledger"))?;
    let mut book = Book::new(&lines);
    book.dead = state.dead;
    let worker = |name: &String| format!("{name} has taken no job since Redis came back");
    findings.extend(book.idle_since_return(&running).iter().map(|name| Finding {
        rule: "I8",
        what: worker(name),
        id: String::new(),
    }));
    let handed = state.stats.iter().find(|(name, _)| name == "handed").map(|(_, count)| *count);
    let (found, mut counts, detection) = check::check(&book, handed);
    findings.extend(found);
    counts.others.insert("lines of the ledgers".into(), lines.len() as u64);
    let seconds = begin.elapsed().as_secs();
    let (seed, stats) = (plan.seed, state.stats);
    let report = Report { seed, seconds, peak, rate, deeds: deeds(&lines), counts, stats, detection, findings };
    finish(&report, plan, &dir, &lines)
}

/// Holds what a former run has written down to the rules once more. What only its processes could show is not seen.
pub(crate) fn check_again(folder: &std::path::Path) -> Result<bool, String> {
    let lines = ledger::read(&folder.join("ledger"))?;
    if lines.is_empty() {
        return Err(format!("{}: no ledgers of a run", folder.display()));
    }
    let (findings, ..) = check::check(&Book::new(&lines), None);
    for Finding { rule, what, id } in &findings {
        say(&format!("{rule} {id} {what}\n"));
    }
    say(&format!("{} findings in {} lines\n", findings.len(), lines.len()));
    Ok(findings.is_empty())
}

fn finish(report: &Report, plan: &Plan, dir: &std::path::Path, lines: &[Line]) -> Result<bool, String> {
    let text = report.text(lines);
    say(&text);
    report.write(&plan.out, &text).map_err(|error| format!("{}: {error}", plan.out.display()))?;
    progress(&format!("the report is in {}", plan.out.display()));
    if report.red() {
        progress(&format!("{} findings; ledgers and logs are in {}", report.findings.len(), dir.display()));
    } else {
        let _ = fs::remove_dir_all(dir);
    }
    Ok(!report.red())
}

fn wait_for_workers(stage: &Stage) -> Result<(), String> {
    let expected = stage.expected_workers();
    let there = || stage.victims().len();
    if tempest_tests::within(STARTED, || there() == expected) {
        return Ok(());
    }
    Err(format!("{} of {expected} workers run after {STARTED:?}: {:?}", there(), stage.victims()))
}

fn measure_peak(load: &Load) -> u64 {
    std::thread::sleep(WARM_UP);
    let (before, begin) = (load.answered(), Instant::now());
    std::thread::sleep(PEAK);
    ((load.answered() - before) as f64 / begin.elapsed().as_secs_f64()) as u64
}

/// Waits until no job is on its way, looks at what is left, and ends everything.
fn come_to_rest(mut stage: Stage, findings: &mut Vec<Finding>) -> check::State {
    let mut broken = |rule, what: String| findings.push(Finding { rule, what, id: String::new() });
    let begin = Instant::now();
    while !check::drained(&mut stage.redis) {
        if begin.elapsed() > REST {
            broken("I6", format!("jobs are still on their way {REST:?} after the last request"));
            break;
        }
        stage.restart_ended();
        std::thread::sleep(LOOK);
    }
    let mut state = check::check_state(&mut stage.redis);
    for what in stage.end() {
        broken("I6", what);
    }
    findings.append(&mut state.findings);
    state
}

/// What the monkey did, by name.
fn deeds(lines: &[Line]) -> BTreeMap<String, u64> {
    let mut deeds = BTreeMap::new();
    for name in lines.iter().filter_map(|line| line.event.deed()).filter(|name| !name.is_empty()) {
        *deeds.entry(name).or_default() += 1;
    }
    deeds
}
