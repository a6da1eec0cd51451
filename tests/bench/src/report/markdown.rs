//! One table as Markdown: a part for each case, a row for each contender.

use super::figures::{self, text};
use crate::plan::{Metric, Size, Table};
use crate::run::Results;

/// The share of the machine used by others above which a row says so.
const NOTEWORTHY: f64 = 0.08;

/// The whole table.
pub(super) fn table(table: &Table, results: &Results, size: Size) -> String {
    let mut text = format!("## {}\n\n{}\n\n", table.title, table.about);
    for case in table.cases.iter().filter(|case| size == Size::Full || case.quick) {
        text += &format!("### {}\n\n", case.name);
        let titles: Vec<_> = table.metrics.iter().map(|metric| metric.title).collect();
        text += &format!("| | {} | processor time by process |\n", titles.join(" | "));
        text += &format!("|-|{}-|\n", "-|".repeat(table.metrics.len()));
        for contender in table.contenders.iter().filter(|one| size == Size::Full || one.quick) {
            text += &row(table, results, contender.name, &case.name);
        }
        text.push('\n');
    }
    for (name, tuning) in &results.tuning {
        text += &format!("- {name}: {tuning}\n");
    }
    for (name, why) in &results.missing {
        text += &format!("- {name}: not measured, {why}\n");
    }
    text + "\n"
}

fn row(table: &Table, results: &Results, contender: &str, case: &str) -> String {
    let failures = |case: &str| results.failures.get(&(contender.to_owned(), case.to_owned()));
    let failed = failures(case).or_else(|| failures(""));
    let cells: Vec<_> = table.metrics.iter().map(|metric| cell(table, results, contender, case, *metric)).collect();
    let mut line = format!("| {contender} | {} | {}", cells.join(" | "), parts(results, contender, case));
    if let Some(errors) = failed {
        line += &format!(" **{} of the runs failed: {}**", errors.len(), errors[0]);
    }
    line += &notes(results, contender, case);
    line + " |\n"
}

fn cell(table: &Table, results: &Results, contender: &str, case: &str, metric: Metric) -> String {
    let Some(figure) = figures::of(results, contender, case, metric.key) else { return "–".into() };
    let digits = metric.digits;
    let spread =
        format!("{} ({}..{})", text(figure.median, digits), text(figure.min, digits), text(figure.max, digits));
    match figures::ratio(results, contender, table.base, case, metric.key) {
        Some(ratio) if contender != table.base => format!("{spread} ×{:.2}", ratio.median),
        _ => spread,
    }
}

/// Processor time by role, the median of each: `front 11.7, redis 4.5`.
fn parts(results: &Results, contender: &str, case: &str) -> String {
    let Some(first) = figures::samples(results, contender, case).first() else { return String::new() };
    let parts = first.keys().filter_map(|key| {
        let role = key.split_once("cpu_us:")?;
        let prefix = role.0.trim_end_matches('_');
        let figure = figures::of(results, contender, case, key)?;
        let label = if prefix.is_empty() { role.1.to_owned() } else { format!("{prefix} {}", role.1) };
        Some(format!("{label} {}", text(figure.median, 1)))
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// What a reader must know of these runs: a load at its limit, a machine used by others.
fn notes(results: &Results, contender: &str, case: &str) -> String {
    let samples = figures::samples(results, contender, case);
    let any = |end: &str, limit: f64| {
        samples.iter().filter(|one| one.iter().any(|(key, value)| key.ends_with(end) && *value >= limit)).count()
    };
    let mut text = String::new();
    if any("load_bound", 1.0) * 2 > samples.len() {
        text += " *(the load is the bottleneck)*";
    }
    let disturbed = any("foreign", NOTEWORTHY);
    if disturbed > 0 {
        text += &format!(" *({disturbed} of {} rounds disturbed)*", samples.len());
    }
    text
}
