//! What a benchmark consists of: tables of contenders and cases. It must not know any of them.
//!
//! A table is one file in `rows/`. Each contender of a table is started anew in each round, measured in each case, and
//! ended before the next is started, so that a drift of the machine meets all of them.

use std::collections::BTreeMap;

use crate::peers::{Missing, Place, Server};

/// Figures of one contender in one case of one round, by the key of a [`Metric`]; `cpu_us:ROLE` are parts of `cpu_us`.
pub(crate) type Sample = BTreeMap<String, f64>;

/// One table of the report.
pub(crate) struct Table {
    /// What `./dev bench NAME` selects it by.
    pub(crate) name: &'static str,
    /// Whether the quick benchmark has it.
    pub(crate) quick: bool,
    /// Its heading.
    pub(crate) title: &'static str,
    /// How to read it: what is done, what the columns are.
    pub(crate) about: &'static str,
    /// The contender that ratios are to.
    pub(crate) base: &'static str,
    /// Who is measured, in the order of the report.
    pub(crate) contenders: Vec<Contender>,
    /// What is measured.
    pub(crate) cases: Vec<Case>,
    /// What of it is shown.
    pub(crate) metrics: Vec<Metric>,
}

/// Starts a contender.
pub(crate) type Start = Box<dyn Fn(&Place) -> Result<Server, Missing>>;
/// Measures a running contender; an error is a run that does not count, with its reason.
pub(crate) type Measure = Box<dyn Fn(&Server) -> Result<Sample, String>>;

/// One server, set up in one way.
pub(crate) struct Contender {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Whether the quick benchmark has it.
    pub(crate) quick: bool,
    /// Starts it.
    pub(crate) start: Start,
}

/// One kind of work.
pub(crate) struct Case {
    /// Its name in the report.
    pub(crate) name: String,
    /// Whether the quick benchmark has it.
    pub(crate) quick: bool,
    /// Does it and measures.
    pub(crate) measure: Measure,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    /// The key in samples.
    pub(crate) key: &'static str,
    /// The heading, with the unit.
    pub(crate) title: &'static str,
    /// Digits behind the point.
    pub(crate) digits: usize,
    /// What a chart says below its bars; None: no chart.
    pub(crate) chart: Option<&'static str>,
    /// The key in samples, and its title, over which it is drawn as a curve from case to case; None: no such chart.
    pub(crate) curve: Option<(&'static str, &'static str)>,
}

impl Contender {
    /// One that every run has.
    pub(crate) fn new(name: &'static str, start: impl Fn(&Place) -> Result<Server, Missing> + 'static) -> Self {
        Self { name, quick: true, start: Box::new(start) }
    }

    /// Leaves it out of the quick benchmark.
    pub(crate) fn full_only(mut self) -> Self {
        self.quick = false;
        self
    }
}

impl Case {
    /// One that every run has.
    pub(crate) fn new(name: impl Into<String>, measure: impl Fn(&Server) -> Result<Sample, String> + 'static) -> Self {
        Self { name: name.into(), quick: true, measure: Box::new(measure) }
    }

    /// Leaves it out of the quick benchmark.
    pub(crate) fn full_only(mut self) -> Self {
        self.quick = false;
        self
    }
}

impl Metric {
    /// A column without a chart.
    pub(crate) const fn new(key: &'static str, title: &'static str, digits: usize) -> Self {
        Self { key, title, digits, chart: None, curve: None }
    }

    /// Draws it, too.
    pub(crate) const fn chart(mut self, better: &'static str) -> Self {
        self.chart = Some(better);
        self
    }

    /// Draws a curve of it, over another figure that grows from case to case.
    pub(crate) const fn curve(mut self, key: &'static str, title: &'static str) -> Self {
        self.curve = Some((key, title));
        self
    }
}

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Within five minutes: two rounds of short runs, the most telling cases.
    Quick,
    /// Within an hour.
    Full,
}

impl Size {
    /// How many times everything is measured.
    pub(crate) fn rounds(self) -> usize {
        match self {
            Self::Quick => 2,
            Self::Full => 3,
        }
    }

    /// Milliseconds of one measurement.
    pub(crate) fn run_ms(self) -> u64 {
        match self {
            Self::Quick => 1_500,
            Self::Full => 3_000,
        }
    }

    /// Milliseconds before measuring begins.
    pub(crate) fn warm_up_ms(self) -> u64 {
        match self {
            Self::Quick => 500,
            Self::Full => 1_000,
        }
    }
}
