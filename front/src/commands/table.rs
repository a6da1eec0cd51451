//! Text in columns, and times as people say them.

/// Rows under a head, each column as wide as its widest cell.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// The table, indented, a line end after every row.
    pub(super) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
        let line = |row: &Vec<String>| {
            let cells: String = row.iter().zip(&widths).map(|(cell, width)| format!("  {cell:<width$}")).collect();
            format!("{}\n", cells.trim_end())
        };
        self.rows.iter().map(line).collect()
    }
}

/// Records are other processes' words: nothing in them may speak to the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || turns_text(c) { '\u{fffd}' } else { c }).collect()
}

/// Marks that change the direction of all that follows them in a line.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A duration in ms in its two largest units: `3d 4h`, `12m 5s`, `0s`.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(size, _)| seconds >= *size).unwrap_or(units.len() - 1);
    let (size, name) = units[first];
    match units.get(first + 1) {
        Some((small, unit)) => format!("{}{name} {}{unit}", seconds / size, seconds % size / small),
        None => format!("{}{name}", seconds / size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::new(&["a", "long"]);
        table.row(["wider".into(), "x".into()]);
        table.row(["ü\u{1b}[31m".into(), String::new()]);
        assert_eq!(table.text(), "  a       long\n  wider   x\n  ü\u{fffd}[31m\n");
    }

    #[test]
    fn durations_have_two_units() {
        let said = [0, 59_999, 61_000, 3_600_000, 90_061_000].map(duration);
        assert_eq!(said, ["0s", "59s", "1m 1s", "1h 0m", "1d 1h"]);
    }
}
