//! What a run has shown: words and a table for people, JSON for programs, Markdown for both.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::Serialize;
use tempest_chaos::clock::MILLISECOND;
use tempest_chaos::ledger::Line;

use crate::check::{Counts, Detection, Finding, RULES};

/// Findings of one rule that are shown in words; all of them are in the JSON.
const SHOWN: usize = 5;
/// Lines of the ledger shown with a finding.
const HISTORY: usize = 30;

/// Everything that is worth keeping of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    /// Quick requests a second that the machine managed, and that were asked for then.
    pub(crate) peak: u64,
    pub(crate) rate: u64,
    pub(crate) deeds: BTreeMap<String, u64>,
    pub(crate) counts: Counts,
    pub(crate) stats: Vec<(String, i64)>,
    pub(crate) detection: Detection,
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn red(&self) -> bool {
        !self.findings.is_empty()
    }

    /// Writes both forms into a folder.
    pub(crate) fn write(&self, folder: &Path, text: &str) -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("report.json"), serde_json::to_string_pretty(self).map_err(std::io::Error::other)?)?;
        fs::write(folder.join("report.md"), text)
    }

    /// As Markdown.
    pub(crate) fn text(&self, lines: &[Line]) -> String {
        let mut out = String::new();
        let verdict = if self.red() { "RED" } else { "green" };
        let _ = writeln!(
            out,
            "# Chaos: {verdict}\n\n{} s, seed {}, peak {}/s, load {}/s and 24 slow clients\n",
            self.seconds, self.seed, self.peak, self.rate
        );
        table(&mut out, "deed", self.deeds.iter().map(|(name, count)| (name.clone(), count.to_string())));
        table(&mut out, "outcome by kind, result and phase", self.outcomes());
        table(
            &mut out,
            "other counts",
            self.counts.others.iter().map(|(name, count)| (name.clone(), count.to_string())),
        );
        table(
            &mut out,
            "statistics of the queue",
            self.stats.iter().map(|(name, count)| (name.clone(), count.to_string())),
        );
        out += "| from death to the next attempt, ms | deaths | median | p99 | longest |\n| --- | --- | --- | --- | --- |\n";
        for (class, times) in &self.detection.0 {
            let quantile = |share| self.detection.quantile(class, share).unwrap_or_default();
            let (median, p99, most) = (quantile(0.5), quantile(0.99), quantile(1.0));
            let _ = writeln!(out, "| {class} | {} | {median:.0} | {p99:.0} | {most:.0} |", times.len());
        }
        out += "\n| rule | what | broken |\n| --- | --- | --- |\n";
        for (rule, what) in RULES {
            let count = self.findings.iter().filter(|finding| finding.rule == rule).count();
            let _ = writeln!(out, "| {rule} | {what} | {count} |");
        }
        self.findings_in_words(&mut out, lines);
        out
    }

    /// Kinds in rows is what one wants to see; statuses and phases are counted in the JSON.
    fn outcomes(&self) -> impl Iterator<Item = (String, String)> {
        let mut by_result: BTreeMap<String, u64> = BTreeMap::new();
        for (name, count) in &self.counts.outcomes {
            let short = if name.contains(" 200 ") {
                name.rsplit_once(' ').map_or(name.as_str(), |(kept, _)| kept)
            } else {
                name
            };
            *by_result.entry(short.to_owned()).or_default() += count;
        }
        by_result.into_iter().map(|(name, count)| (name, count.to_string()))
    }

    fn findings_in_words(&self, out: &mut String, lines: &[Line]) {
        for (rule, _) in RULES {
            let of_rule: Vec<&Finding> = self.findings.iter().filter(|finding| finding.rule == rule).collect();
            for finding in of_rule.iter().take(SHOWN) {
                let _ = writeln!(out, "\n**{rule}** {} {}", finding.id, finding.what);
                history(out, &finding.id, lines);
            }
            if of_rule.len() > SHOWN {
                let _ = writeln!(out, "\n{} more of {rule} in report.json", of_rule.len() - SHOWN);
            }
        }
    }
}

fn table(out: &mut String, what: &str, rows: impl Iterator<Item = (String, String)>) {
    let _ = writeln!(out, "| {what} | |\n| --- | --- |");
    for (name, count) in rows {
        let _ = writeln!(out, "| {name} | {count} |");
    }
    out.push('\n');
}

/// What the ledgers say of one request, with the deeds in its time.
fn history(out: &mut String, id: &str, lines: &[Line]) {
    let own: Vec<&Line> = lines.iter().filter(|line| line.event.id() == Some(id)).collect();
    let (Some(&first), Some(&last)) = (own.first(), own.last()) else { return };
    let pids: Vec<u32> = own.iter().filter_map(|line| line.event.pid()).collect();
    // What happened to others says nothing.
    let told = |line: &&Line| line.event.deed().is_some() && line.event.pid().is_none_or(|pid| pids.contains(&pid));
    let span = first.t.saturating_sub(1000 * MILLISECOND)..=last.t;
    let mut shown: Vec<&Line> = lines.iter().filter(|line| span.contains(&line.t)).filter(told).collect();
    shown.extend(own);
    shown.sort_by_key(|line| line.t);
    out.push_str("```\n");
    for line in shown.iter().take(HISTORY) {
        let at = (line.t as f64 - first.t as f64) / MILLISECOND as f64;
        let _ = writeln!(out, "{at:>9.1} ms {}", serde_json::to_string(&line.event).unwrap_or_default());
    }
    out.push_str("```\n");
}
