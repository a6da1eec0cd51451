//! Bars with their spread, as SVG. Few lines of our own: a picture that is text, needs no fonts and no renderer.

use super::figures::{self, text};
use crate::plan::{Metric, Table};
use crate::run::Results;

const LABELS: f64 = 210.0;
const BARS: f64 = 460.0;
const VALUES: f64 = 110.0;
const LINE: f64 = 20.0;
const TOP: f64 = 54.0;
const GAP: f64 = 30.0;
const OURS: &str = "#c2410c";
const OTHERS: &str = "#94a3b8";

/// A chart for each metric that wants one: file name and SVG.
pub(super) fn all(table: &Table, results: &Results) -> Vec<(String, String)> {
    let wanted = table.metrics.iter().filter_map(|metric| metric.chart.map(|better| (metric, better)));
    let charts = wanted.filter_map(|(metric, better)| {
        let svg = chart(table, results, *metric, better)?;
        Some((format!("{}-{}.svg", table.name, metric.key), svg))
    });
    charts.collect()
}

fn chart(table: &Table, results: &Results, metric: Metric, better: &str) -> Option<String> {
    let mut body = String::new();
    let mut y = TOP;
    for case in &table.cases {
        let bars: Vec<_> = table
            .contenders
            .iter()
            .filter_map(|one| Some((one.name, figures::of(results, one.name, &case.name, metric.key)?)))
            .collect();
        // Each case has its own scale: one client and 512 of them have nothing to say to each other.
        let most = bars.iter().map(|(_, figure)| figure.max).fold(0.0, f64::max);
        if bars.is_empty() || most <= 0.0 {
            continue;
        }
        body += &format!("<text x=\"8\" y=\"{}\" font-weight=\"bold\">{}</text>\n", y - 6.0, escaped(&case.name));
        for (name, figure) in bars {
            let scale = |value: f64| value / most * BARS;
            let colour = if name.starts_with("tempest") { OURS } else { OTHERS };
            let middle = y + LINE / 2.0;
            body += &format!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LABELS}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#1e293b\" stroke-width=\"2\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{}</text>\n",
                LABELS - 8.0,
                middle + 4.0,
                escaped(name),
                y + 2.0,
                scale(figure.median),
                LINE - 4.0,
                LABELS + scale(figure.min),
                LABELS + scale(figure.max),
                LABELS + scale(figure.max) + 6.0,
                middle + 4.0,
                text(figure.median, metric.digits),
            );
            y += LINE;
        }
        y += GAP;
    }
    if body.is_empty() {
        return None;
    }
    let width = LABELS + BARS + VALUES;
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {y}\" width=\"{width}\" height=\"{y}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#0f172a\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{}: {} ({})</text>\n{body}</svg>\n",
        escaped(table.title),
        escaped(metric.title),
        escaped(better),
    ))
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
