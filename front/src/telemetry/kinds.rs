//! The kinds of metric: atomics with a name for what they count, and their text in Prometheus' format.
//!
//! All orderings are relaxed: a metric orders nothing, and a reader a microsecond late sees a number a microsecond old.
//! Which metrics exist is said in `metrics.rs` alone.

use std::fmt::{Display, Write};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What a kind of metric has to tell about itself.
pub(super) trait Kind: Default {
    /// Prometheus' word for it.
    const TYPE: &'static str;
    /// The label of its series; empty: it has one series.
    const LABEL: &'static str = "";
    /// A further label, for members of a family that have one of their own.
    const INNER_LABEL: &'static str = "";

    /// Appends its sample lines; `labels` (`a="b",c="d"`, or nothing) are those of the family it belongs to.
    fn samples(&self, name: &str, labels: &str, out: &mut String);
}

/// Counts up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Takes over a total that is counted elsewhere.
    pub fn set(&self, total: u64) {
        self.0.store(total, Relaxed);
    }

    /// The total.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Kind for Counter {
    const TYPE: &'static str = "counter";

    fn samples(&self, name: &str, labels: &str, out: &mut String) {
        sample(out, name, &[labels], self.get());
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// One less.
    pub fn dec(&self) {
        self.add(-1);
    }

    /// `n` more, or less where `n` is negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Says what it is now.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// What it is now.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

impl Kind for Gauge {
    const TYPE: &'static str = "gauge";

    fn samples(&self, name: &str, labels: &str, out: &mut String) {
        sample(out, name, &[labels], self.get());
    }
}

/// A moment or a length of time that others measured, in seconds; no series while it is not known.
#[derive(Debug)]
pub struct Seconds(AtomicU64);

impl Seconds {
    const UNKNOWN: u64 = u64::MAX;

    /// Says what it is now.
    pub fn set(&self, ms: Option<u64>) {
        self.0.store(ms.unwrap_or(Self::UNKNOWN), Relaxed);
    }
}

impl Default for Seconds {
    fn default() -> Self {
        Self(AtomicU64::new(Self::UNKNOWN))
    }
}

impl Kind for Seconds {
    const TYPE: &'static str = "gauge";

    fn samples(&self, name: &str, labels: &str, out: &mut String) {
        match self.0.load(Relaxed) {
            Self::UNKNOWN => {}
            ms => sample(out, name, &[labels], Duration::from_millis(ms).as_secs_f64()),
        }
    }
}

/// Counts by HTTP status code, 100 to 599; codes never seen have no series.
#[derive(Debug)]
pub struct StatusCounter([AtomicU64; 500]);

impl Default for StatusCounter {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl StatusCounter {
    /// One more of this status; codes outside 100 to 599 are not counted.
    pub fn inc(&self, status: u16) {
        if let Some(slot) = self.slot(status) {
            slot.fetch_add(1, Relaxed);
        }
    }

    /// The total of one status.
    pub fn get(&self, status: u16) -> u64 {
        self.slot(status).map_or(0, |slot| slot.load(Relaxed))
    }

    /// The total of all.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|slot| slot.load(Relaxed)).sum()
    }

    fn slot(&self, status: u16) -> Option<&AtomicU64> {
        self.0.get(usize::from(status).checked_sub(100)?)
    }
}

impl Kind for StatusCounter {
    const TYPE: &'static str = "counter";
    const LABEL: &'static str = "status";

    fn samples(&self, name: &str, labels: &str, out: &mut String) {
        for (status, slot) in (100..).zip(&self.0) {
            let count = slot.load(Relaxed);
            if count > 0 {
                sample(out, name, &[labels, &format!("status=\"{status}\"")], count);
            }
        }
    }
}

/// The values of a label, known beforehand, so that nobody outside can make series.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// All values, in the order of [`Label::index`].
    const VALUES: &'static [&'static str];

    /// The place of this value in [`Label::VALUES`].
    fn index(self) -> usize;
}

/// Counts by a label of fixed values; every value has a series from the start.
#[derive(Debug)]
pub struct ReasonCounter<L>(Box<[AtomicU64]>, PhantomData<L>);

impl<L: Label> Default for ReasonCounter<L> {
    fn default() -> Self {
        Self(L::VALUES.iter().map(|_| AtomicU64::new(0)).collect(), PhantomData)
    }
}

impl<L: Label> ReasonCounter<L> {
    /// One more of this.
    pub fn inc(&self, reason: L) {
        self.add(reason, 1);
    }

    /// `n` more of this.
    pub fn add(&self, reason: L, n: u64) {
        self.0[reason.index()].fetch_add(n, Relaxed);
    }

    /// The total of one value.
    pub fn get(&self, reason: L) -> u64 {
        self.0[reason.index()].load(Relaxed)
    }

    /// The total of all.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|slot| slot.load(Relaxed)).sum()
    }
}

impl<L: Label> Kind for ReasonCounter<L> {
    const TYPE: &'static str = "counter";
    const LABEL: &'static str = L::NAME;

    fn samples(&self, name: &str, labels: &str, out: &mut String) {
        for (value, slot) in L::VALUES.iter().zip(&self.0) {
            sample(out, name, &[labels, &format!("{}=\"{value}\"", L::NAME)], slot.load(Relaxed));
        }
    }
}

/// Upper bounds of a histogram's buckets in seconds: from a Redis on the same machine to a request that times out.
const BOUNDS: [f64; 17] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// How long something took, in fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One a bound, and one for all that is above the last; each counts its own observations only.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// 2^64 ns are 584 years of waiting.
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Takes one observation.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// How many observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }
}

impl Kind for Histogram {
    const TYPE: &'static str = "histogram";

    fn samples(&self, name: &str, labels: &str, out: &mut String) {
        // The count is the last cumulative bucket, not a number of its own: so the two agree in every reading.
        let mut total = 0;
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(&self.buckets) {
            total += bucket.load(Relaxed);
            sample(out, &format!("{name}_bucket"), &[labels, &format!("le=\"{bound}\"")], total);
        }
        let sum = Duration::from_nanos(self.sum_ns.load(Relaxed)).as_secs_f64();
        sample(out, &format!("{name}_sum"), &[labels], sum);
        sample(out, &format!("{name}_count"), &[labels], total);
    }
}

/// One line; `labels` are put together, those that are empty left out.
pub(super) fn sample(out: &mut String, name: &str, labels: &[&str], value: impl Display) {
    let mut opening = '{';
    out.push_str(name);
    for label in labels.iter().filter(|label| !label.is_empty()) {
        out.push(opening);
        out.push_str(label);
        opening = ',';
    }
    let closing = if opening == ',' { "}" } else { "" };
    writeln!(out, "{closing} {value}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<K: Kind>(kind: &K) -> String {
        let mut out = String::new();
        kind.samples("x", "", &mut out);
        out
    }

    #[test]
    fn a_gauge_goes_below_zero_rather_than_wrapping() {
        let gauge = Gauge::default();
        gauge.dec();
        assert_eq!(text(&gauge), "x -1\n");
    }

    #[test]
    fn a_status_counter_shows_what_was_seen_and_takes_no_other_codes() {
        let counter = StatusCounter::default();
        for status in [100, 200, 200, 599, 99, 600, 0, u16::MAX] {
            counter.inc(status);
        }
        assert_eq!(text(&counter), "x{status=\"100\"} 1\nx{status=\"200\"} 2\nx{status=\"599\"} 1\n");
        assert_eq!((counter.total(), counter.get(200), counter.get(600)), (4, 2, 0));
    }

    #[test]
    fn a_bound_belongs_to_its_bucket_and_buckets_add_up() {
        let histogram = Histogram::default();
        for micros in [100, 101, 30_000_000, 30_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let text = text(&histogram);
        for line in [
            "x_bucket{le=\"0.0001\"} 1\n",
            "x_bucket{le=\"0.00025\"} 2\n",
            "x_bucket{le=\"10\"} 2\n",
            "x_bucket{le=\"30\"} 3\n",
            "x_bucket{le=\"+Inf\"} 4\n",
            "x_sum 60.000202\n",
            "x_count 4\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert_eq!(histogram.count(), 4);
    }
}
