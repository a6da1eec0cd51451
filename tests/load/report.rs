//! What was measured: kept in order, printed as a table and as JSON.

use std::io::Write;

use serde_json::{Map, Value};

/// The figures of one run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Vec<(String, Value, &'static str)>,
    failed: Vec<String>,
}

impl Report {
    /// Adds a figure and says it at once, since the whole takes minutes.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: impl Into<Value>, unit: &'static str) {
        let (name, value) = (name.into(), value.into());
        write(&format!("  {name:<44} {:>14} {unit}", shown(&value)));
        self.figures.push((name, value, unit));
    }

    /// Notes a bound that was not kept.
    pub(crate) fn check(&mut self, holds: bool, what: &str) {
        if !holds {
            write(&format!("  NOT KEPT: {what}"));
            self.failed.push(what.to_owned());
        }
    }

    /// True where every bound was kept.
    pub(crate) fn passed(&self) -> bool {
        self.failed.is_empty()
    }

    /// Prints the whole table, then one line of JSON.
    pub(crate) fn print(&self) {
        write("\nfigure                                                  value unit");
        write(&"-".repeat(72));
        for (name, value, unit) in &self.figures {
            write(&format!("{name:<46} {:>14} {unit}", shown(value)));
        }
        let all: Map<String, Value> =
            self.figures.iter().map(|(name, value, unit)| (format!("{name} [{unit}]"), value.clone())).collect();
        write(&format!("\n{}", serde_json::json!({"figures": all, "not_kept": self.failed})));
    }
}

/// A title between figures.
pub(crate) fn title(text: &str) {
    write(text);
}

fn write(line: &str) {
    // Nobody reads any more: then nobody misses it.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn shown(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if value.is_f64() => format!("{number:.2}"),
        _ => value.to_string(),
    }
}
