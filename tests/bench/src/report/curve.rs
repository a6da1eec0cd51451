//! A figure over another that grows from case to case, a line a contender, as SVG: text like the bars of `chart`.

use super::chart::escaped;
use super::figures::{self, text};
use crate::plan::{Metric, Table};
use crate::run::Results;

const LEFT: f64 = 60.0;
const TOP: f64 = 44.0;
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 260.0;
/// For the names at the ends of the lines.
const NAMES: f64 = 190.0;
const FOOT: f64 = 50.0;
/// Ours first; told apart by dashes, too, for who does not see colours.
const LINES: [(&str, &str); 5] =
    [("#c2410c", ""), ("#0369a1", "7 4"), ("#64748b", "2 3"), ("#15803d", "9 3 2 3"), ("#7e22ce", "4 2")];
/// Lines of a grid, besides the axes.
const TICKS: u32 = 4;
/// Names stand at least this far from each other.
const APART: f64 = 15.0;

/// A point: what it is drawn over, and the median with its spread.
type Point = (f64, figures::Figure);

/// A chart for each metric that wants one: file name and SVG.
pub(super) fn all(table: &Table, results: &Results) -> Vec<(String, String)> {
    let charts = table.metrics.iter().filter_map(|metric| {
        let (key, title) = metric.curve?;
        let svg = chart(table, results, metric, key, title)?;
        Some((format!("{}-{}-curve.svg", table.name, metric.key), svg))
    });
    charts.collect()
}

fn chart(table: &Table, results: &Results, metric: &Metric, over: &str, title: &str) -> Option<String> {
    let points = |contender: &str| -> Vec<Point> {
        let point = |case: &str| {
            let x = figures::of(results, contender, case, over)?.median;
            Some((x, figures::of(results, contender, case, metric.key)?))
        };
        table.cases.iter().filter_map(|case| point(&case.name)).collect()
    };
    let lines: Vec<_> = table.contenders.iter().map(|one| (one.name, points(one.name))).collect();
    let all = || lines.iter().flat_map(|(_, points)| points);
    let most_x = all().map(|(x, _)| *x).fold(0.0, f64::max);
    let most_y = all().map(|(_, figure)| figure.max).fold(0.0, f64::max);
    if most_x <= 0.0 || most_y <= 0.0 {
        return None;
    }
    let x = |value: f64| LEFT + value / most_x * WIDTH;
    let y = |value: f64| TOP + HEIGHT - value / most_y * HEIGHT;
    let mut body = grid(most_x, most_y, metric.digits.max(1));
    // A name stands beside the end of its line, or below the name that is there.
    let mut ends: Vec<(f64, String)> = Vec::new();
    for ((name, points), (colour, dashes)) in lines.iter().zip(LINES.iter().cycle()) {
        let Some((_, last)) = points.last() else { continue };
        let path: Vec<_> = points.iter().map(|(at, figure)| format!("{:.1},{:.1}", x(*at), y(figure.median))).collect();
        body += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\n",
            path.join(" "),
        );
        for (at, figure) in points {
            let (at, low, high) = (x(*at), y(figure.min), y(figure.max));
            body += &format!("<path d=\"M{at:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\"/>\n");
            body += &format!("<circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>\n", y(figure.median));
        }
        ends.push((y(last.median) + 4.0, format!("fill=\"{colour}\">{}</text>\n", escaped(name))));
    }
    ends.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut free = 0.0;
    for (wanted, rest) in ends {
        let at = wanted.max(free);
        body += &format!("<text x=\"{}\" y=\"{at:.1}\" {rest}", LEFT + WIDTH + 10.0);
        free = at + APART;
    }
    let (width, height) = (LEFT + WIDTH + NAMES, TOP + HEIGHT + FOOT);
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#0f172a\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{}: {}</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n{body}</svg>\n",
        escaped(table.title),
        escaped(metric.title),
        LEFT + WIDTH / 2.0,
        height - 10.0,
        escaped(title),
    ))
}

fn grid(most_x: f64, most_y: f64, digits: usize) -> String {
    let mut body = String::new();
    for tick in 0..=TICKS {
        let share = f64::from(tick) / f64::from(TICKS);
        let (x, y) = (LEFT + share * WIDTH, TOP + HEIGHT - share * HEIGHT);
        let (foot, right) = (TOP + HEIGHT, LEFT + WIDTH);
        body += &format!("<path d=\"M{LEFT} {y:.1}H{right}M{x:.1} {TOP}V{foot}\" stroke=\"#e2e8f0\" fill=\"none\"/>\n");
        let (across, up) = (text(share * most_x, digits), text(share * most_y, digits));
        body += &format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{up}</text>\n", LEFT - 6.0, y + 4.0);
        body += &format!("<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{across}</text>\n", foot + 16.0);
    }
    body
}

#[cfg(test)]
mod tests {
    use crate::plan::{Case, Contender, Sample};

    use super::*;

    #[test]
    fn each_contender_has_a_line_over_the_cases() {
        let case = |name: &str| Case::new(name, |_: &crate::peers::Server| Err("not run".into()));
        let contender =
            |name| Contender::new(name, |_: &crate::peers::Place| Err(crate::peers::Missing("not run".into())));
        let table = Table {
            name: "overload",
            quick: false,
            title: "Overload",
            about: "",
            base: "a",
            contenders: vec![contender("a"), contender("b & c"), contender("missing")],
            cases: vec![case("1"), case("4")],
            metrics: vec![
                Metric::new("good", "goodput", 2).curve("offered", "offered"),
                Metric::new("other", "other", 0),
            ],
        };
        let mut results = Results::default();
        for (who, case, offered, good) in [("a", "1", 1.0, 1.0), ("a", "4", 4.0, 0.5), ("b & c", "1", 1.0, 0.25)] {
            let sample = Sample::from([("offered".into(), offered), ("good".into(), good)]);
            results.samples.entry((who.into(), case.into())).or_default().push(sample);
        }
        let charts = all(&table, &results);
        assert_eq!(charts.len(), 1);
        let (name, svg) = &charts[0];
        assert_eq!(name, "overload-good-curve.svg");
        assert!(svg.contains("<polyline points=\"190.0,44.0 580.0,174.0\""), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 2, "who was not measured has no line");
        assert!(svg.contains("b &amp; c"));
        assert!(all(&table, &Results::default()).is_empty());
    }
}
