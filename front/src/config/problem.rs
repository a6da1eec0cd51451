//! What is wrong with a configuration: all of it at once, each with its place, the setting and what was expected.
//!
//! Values that may be secret are never repeated; that is up to who makes the message.

use std::cell::RefCell;
use std::fmt;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `tempest.toml:12`, `--listen` or `TEMPEST_LISTEN`.
    pub place: String,
    /// The setting in dotted form (`front.listen`); empty where no setting is to blame.
    pub setting: String,
    /// What was expected and what was found.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.setting.as_str() {
            "" => write!(f, "{}: {}", self.place, self.message),
            setting => write!(f, "{}: {setting}: {}", self.place, self.message),
        }
    }
}

/// Every fault of a configuration, in the order of its text; one a line when displayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// Collects faults while a configuration is read; each with the line it came from, 0 for none.
#[derive(Debug, Default)]
pub(super) struct Collector(RefCell<Vec<(usize, Problem)>>);

impl Collector {
    pub(super) fn add(&self, line: usize, problem: Problem) {
        self.0.borrow_mut().push((line, problem));
    }

    /// Drops what was found in a line, faults of syntax excepted: they have no setting.
    pub(super) fn forget(&self, line: usize) {
        self.0.borrow_mut().retain(|(at, problem)| *at != line || problem.setting.is_empty());
    }

    /// The faults by line; those of flags and environment, which have none, come last.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut all = self.0.into_inner();
        all.sort_by_key(|(line, _)| if *line == 0 { usize::MAX } else { *line });
        all.dedup();
        all.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// Of `known`, the one that a mistyped `word` most likely meant.
pub(super) fn did_you_mean<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = |known: &&'a str| (distance(word, known), *known);
    let (distance, best) = known.iter().map(near).min_by_key(|(distance, _)| *distance)?;
    (distance <= (word.chars().count() / 3).max(1)).then_some(best)
}

/// Edit distance: insertions, deletions, replacements.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_a_typo_and_nothing_far_away() {
        let known = ["listen", "admin", "reactors", "grace"];
        for (typo, meant) in [
            ("listn", Some("listen")),
            ("lissten", Some("listen")),
            ("Listen", Some("listen")),
            ("reactor", Some("reactors")),
            ("admn", Some("admin")),
            ("port", None),
            ("x", None),
        ] {
            assert_eq!(did_you_mean(typo, &known), meant, "{typo}");
        }
        assert_eq!(did_you_mean("a", &[]), None);
    }

    #[test]
    fn problems_come_in_the_order_of_the_file() {
        let collector = Collector::default();
        for line in [3, 0, 1] {
            let problem = Problem { place: line.to_string(), setting: "a.b".into(), message: "no".into() };
            collector.add(line, problem);
        }
        assert_eq!(Problems(collector.into_problems()).to_string(), "1: a.b: no\n3: a.b: no\n0: a.b: no");
    }
}
