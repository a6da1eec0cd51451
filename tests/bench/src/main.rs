//! The benchmark: Tempest and what people use today, on the same work, in turn, in one run.
//!
//! Machines drift, so only ratios of one run count; contenders are interleaved and everything is measured several
//! times. Answers are checked: a run that is short or wrong is a failure, not a fast one. What a server costs is the
//! processor time of all its processes, since the load takes a good part of a small machine.

mod callgrind;
mod guard;
mod load;
mod machine;
mod measure;
mod peers;
mod plan;
mod report;
mod rows;
mod run;
mod serve;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tempest_tests::target_folder;

use crate::plan::Size;

/// Measures Tempest beside what people use today; tables, JSON and charts go to target/bench/.
#[derive(Debug, Parser)]
#[command(name = "bench", bin_name = "./dev bench", args_conflicts_with_subcommands = true)]
struct Arguments {
    /// `quick` for a run within five minutes; names of tables for these alone, or the word before the dash of several.
    names: Vec<String>,
    /// Lists the tables and their contenders.
    #[arg(long)]
    list: bool,
    /// Where the report goes.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Divides the numbers of streams in the tables of `push`, and of slow clients in `slowloris`: to see that they work. The
    /// figures then mean nothing.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    divide: u16,
    #[command(subcommand)]
    inner: Option<Inner>,
}

/// What this program does besides, and what it is as a child of itself.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
enum Inner {
    /// Holds what the front executes for a request to what was accepted last.
    Check,
    /// Accepts what the front executes for a request.
    Accept,
    /// A load.
    #[command(hide = true)]
    Load {
        /// What to do, as JSON.
        spec: String,
    },
    /// A contender's process.
    #[command(hide = true)]
    Serve {
        #[command(subcommand)]
        what: serve::What,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.inner {
        Some(Inner::Check) => return end(guard::check()),
        Some(Inner::Accept) => return end(guard::accept()),
        Some(Inner::Load { spec }) => load::run(&spec),
        Some(Inner::Serve { what }) => {
            load::raise_file_limit();
            serve::run(what);
        }
        None => return benchmark(&arguments),
    }
    ExitCode::SUCCESS
}

fn benchmark(arguments: &Arguments) -> ExitCode {
    let said = |word: &str| arguments.names.iter().any(|name| name == word);
    let names: Vec<_> = arguments.names.iter().filter(|name| *name != "quick" && *name != "full").collect();
    // The tables of `push` alone are a quick run, unless it is said otherwise: within ten minutes.
    let push = !names.is_empty() && names.iter().all(|name| name.starts_with("push"));
    let size = if said("quick") || push && !said("full") { Size::Quick } else { Size::Full };
    let tables = rows::all(size, arguments.divide.into());
    if arguments.list {
        return list(&tables);
    }
    if let Some(unknown) = names.iter().find(|name| !tables.iter().any(|table| is_of(table, name))) {
        let known: Vec<_> = tables.iter().map(|table| table.name).collect();
        run::progress(&format!("bench: no table {unknown:?}; there are: quick, full, {}", known.join(", ")));
        return ExitCode::from(2);
    }
    load::raise_file_limit();
    let by_size = |table: &plan::Table| names.is_empty() && (size == Size::Full || table.quick);
    let by_name = |table: &plan::Table| names.iter().any(|name| is_of(table, name));
    let wanted = tables.into_iter().filter(|table| by_size(table) || by_name(table));
    let done: Vec<_> = wanted
        .map(|table| {
            let results = run::run(&table, size);
            (table, results)
        })
        .collect();
    let folder = arguments.out.clone().unwrap_or_else(|| target_folder().join("bench"));
    let mut command = format!("./dev bench {}", arguments.names.join(" "));
    if arguments.divide > 1 {
        command += &format!(" --divide {}", arguments.divide);
    }
    match report::write(&folder, size, command.trim_end(), &done) {
        Ok(text) => print(&text),
        Err(error) => {
            run::progress(&format!("bench: {}: {error}", folder.display()));
            return ExitCode::FAILURE;
        }
    }
    run::progress(&format!("report, JSON and charts: {}", folder.display()));
    // Whatever failed is named in the report; a benchmark of ours that fails is a fault.
    let ours_failed =
        done.iter().any(|(_, results)| results.failures.keys().any(|(who, _)| who.starts_with("tempest")));
    if ours_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Whether a name on the command line means this table: its own, or that of the group before its dash.
fn is_of(table: &plan::Table, name: &str) -> bool {
    table.name == name || table.name.split_once('-').is_some_and(|(group, _)| group == name)
}

fn end(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::progress(&format!("bench: {}", error.trim_end()));
            ExitCode::FAILURE
        }
    }
}

fn list(tables: &[plan::Table]) -> ExitCode {
    let mut text = String::new();
    for table in tables {
        let contenders: Vec<_> = table.contenders.iter().map(|one| one.name).collect();
        text += &format!("{:<14} {}\n{:14} {}\n", table.name, table.title, "", contenders.join("; "));
    }
    print(&text);
    ExitCode::SUCCESS
}

fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
