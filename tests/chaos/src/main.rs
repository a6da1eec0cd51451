//! The chaos suite: load on real processes, which are killed at random, and a checker that reads what everybody wrote
//! down.
//!
//! It must not know how front or SDK work: what it holds them to is the contract. See the README beside it.

mod chance;
mod check;
mod load;
mod monkey;
mod mutants;
mod phases;
mod proxy;
mod report;
mod run;
mod stage;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tempest_chaos::clock;

/// Kills everything at random under load, and checks that what is promised holds.
#[derive(Debug, Parser)]
#[command(name = "chaos", bin_name = "./dev chaos", after_help = AFTER)]
struct Arguments {
    /// Goes through all phases again and again for about so long; without it: the short run, a minute.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=24 * 60))]
    minutes: Option<u64>,
    /// Repeats the choices of a run; its report says which seed it had.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Quick requests a second, instead of half of what the machine manages at the beginning.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,
    /// Plays these phases alone, between the first and the last: `--only workers,stops`.
    #[arg(long, value_name = "PHASES", value_delimiter = ',')]
    only: Vec<String>,
    /// Leaves out kinds of workers: rust, python, supervised-rust, supervised-script.
    #[arg(long, value_name = "WORKERS", value_delimiter = ',')]
    without: Vec<String>,
    /// Where the report goes.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Reads the ledgers of a former run again: the folder that its last line named.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["minutes", "mutants", "list"])]
    check: Option<PathBuf>,
    /// Lists phases, rules and mutants.
    #[arg(long)]
    list: bool,
    /// Breaks the code on purpose, in ways that are known, and demands that a run finds each out.
    #[arg(long)]
    mutants: bool,
    /// With --mutants: this one alone.
    #[arg(long, value_name = "NAME", requires = "mutants")]
    mutant: Option<String>,
}

const AFTER: &str = "\
Exit codes: 0 nothing is broken (or every mutant was found out), 1 something is (or a mutant survived), 2 it could not
be found out.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match (arguments.list, arguments.mutants) {
        (true, _) => mutants::list().map(|mutants| {
            say(&format!("{}{mutants}", run::list()));
            true
        }),
        (_, true) => mutants::run(arguments.mutant.as_deref(), arguments.seed),
        _ => arguments.check.as_deref().map_or_else(|| play(&arguments), run::check_again),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            progress(&error);
            ExitCode::from(2)
        }
    }
}

fn play(arguments: &Arguments) -> Result<bool, String> {
    run::run(&run::Plan {
        phases: phases::plan(arguments.minutes, &arguments.only)?,
        seed: arguments.seed.unwrap_or_else(|| clock::now() % 1_000_000),
        rate: arguments.rate,
        without: run::classes(&arguments.without)?,
        out: arguments.out.clone().unwrap_or_else(|| tempest_tests::target_folder().join("chaos")),
    })
}

/// What the run is about: to standard output, once.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// What is being done: to standard error.
fn progress(text: &str) {
    let _ = writeln!(std::io::stderr(), "chaos: {text}");
}
