//! Medians, spreads and ratios of samples.

use crate::plan::Sample;
use crate::run::Results;

/// A figure of several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

/// Median and spread; None of nothing.
pub(super) fn figure(mut values: Vec<f64>) -> Option<Figure> {
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
    Some(Figure { median, min, max })
}

/// A metric of a contender in a case.
pub(super) fn of(results: &Results, contender: &str, case: &str, metric: &str) -> Option<Figure> {
    figure(samples(results, contender, case).iter().filter_map(|sample| sample.get(metric).copied()).collect())
}

/// The ratio of two contenders' metric, taken round by round: what drifts between rounds falls out.
pub(super) fn ratio(results: &Results, of: &str, to: &str, case: &str, metric: &str) -> Option<Figure> {
    let (upper, lower) = (samples(results, of, case), samples(results, to, case));
    let pairs = upper.iter().zip(lower).filter_map(|(a, b)| Some((*a.get(metric)?, *b.get(metric)?)));
    figure(pairs.filter(|(_, b)| *b > 0.0).map(|(a, b)| a / b).collect())
}

/// The samples of a contender in a case.
pub(super) fn samples<'a>(results: &'a Results, contender: &str, case: &str) -> &'a [Sample] {
    results.samples.get(&(contender.to_owned(), case.to_owned())).map_or(&[], Vec::as_slice)
}

/// A number with a comma between thousands.
pub(crate) fn text(value: f64, digits: usize) -> String {
    let plain = format!("{value:.digits$}");
    let (whole, rest) = plain.split_once('.').map_or((plain.as_str(), String::new()), |(a, b)| (a, format!(".{b}")));
    let mut grouped = String::new();
    for (nth, digit) in whole.chars().enumerate() {
        if nth > 0 && (whole.len() - nth).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_lie_in_the_middle() {
        let middle = |values: &[f64]| figure(values.to_vec()).map(|figure| figure.median);
        assert_eq!(middle(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(middle(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(middle(&[]), None);
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(text(1_234_567.0, 0), "1,234,567");
        assert_eq!(text(12.345, 2), "12.35");
        assert_eq!(text(999.0, 0), "999");
    }
}
