//! The tables `[workers.NAME]`, and the workers of a command line, which know the same settings.
//!
//! Ranges are one text (`"2..8"`), so that one setting has one value. What the settings do is not decided here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempest_protocol::QueueName;

use super::section::Section;
use super::units::duration;
use super::value::{
    Kind, Read, Value, bytes, command as command_line, count, list, name as text, one_of, path, queue, time,
};
use super::{Claims, Processes, Secret, TICK, Waits, Worker};

/// Processes of one kind at most.
const MOST_PROCESSES: usize = 1024;
/// Patterns of files that are watched at most.
const MOST_PATTERNS: usize = 64;
/// How jobs are taken.
const CLAIMS: &[(&str, Claims)] = &[("reliable", Claims::Reliable), ("base", Claims::Base)];
/// The table of a command line's workers.
pub(super) const SUPERVISE: &str = "supervise";

/// What a command line gives to run.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    /// Program and arguments; empty: none.
    pub(super) command: Vec<String>,
    /// The working folder, in which it is run.
    pub(super) folder: PathBuf,
}

/// All workers: those of the command line if there is a command, else those of the file.
pub(super) fn read(root: &mut Section<'_>, given: &Given, base: &Path) -> Vec<Worker> {
    let named = root.named("workers");
    let in_file: Vec<Worker> = named.into_iter().filter_map(|(name, one)| of_file(name, one, base)).collect();
    let Some(program) = given.command.first() else {
        root.refuse_overrides(
            SUPERVISE,
            "goes with a COMMAND after `--`; for the workers of a file it stands under their [workers.NAME]",
        );
        return in_file;
    };
    let mut section = Section::outside_the_file(root.source, SUPERVISE);
    vec![settings(group_name(program), given.command.clone(), &mut section, &given.folder)]
}

/// The program's name, as far as it makes a name of a group.
fn group_name(program: &str) -> String {
    let file = Path::new(program).file_stem().unwrap_or_default().to_string_lossy();
    let name: String = file.chars().filter(|c| is_fit(*c)).take(40).collect();
    if name.is_empty() { "worker".to_owned() } else { name }
}

fn is_fit(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn of_file(name: String, mut section: Section<'_>, base: &Path) -> Option<Worker> {
    // Their ids are made of it, and ids have 64 bytes.
    if name.is_empty() || name.len() > 40 || !name.chars().all(is_fit) {
        section.problem("", "expected a name of at most 40 letters, digits, _ - and .");
    }
    let command = section.require("command", command_line);
    let worker = settings(name, command.clone().unwrap_or_default(), &mut section, base);
    section.finish();
    command.map(|_| worker)
}

fn settings(name: String, command: Vec<String>, section: &mut Section<'_>, base: &Path) -> Worker {
    let web = QueueName::new("web").expect("`web` is a queue name");
    Worker {
        name,
        command,
        processes: section.get("processes", processes, Processes { least: 1, most: 1 }),
        queue: section.get("queue", queue, web),
        needs: section.optional("needs", text),
        env: read_env(section.section("env")),
        dir: section.optional("dir", path).map_or(base.to_owned(), |dir| base.join(dir)),
        stop_time: section.get("stop_time", time(Duration::ZERO), Duration::from_secs(10)),
        ready_time: section.get("ready_time", time(Duration::ZERO), Duration::from_secs(1)),
        idle_time: section.get("idle_time", time(TICK), Duration::from_secs(60)),
        restart_wait: section.get("restart_wait", waits, Waits::default()),
        max_jobs: section.optional("max_jobs", count(1..=usize::MAX)).map(|jobs| jobs as u64),
        max_age: section.optional("max_age", time(Duration::from_millis(100))),
        max_rss: section.optional("max_rss", bytes(1024 * 1024)).map(|bytes| bytes as u64),
        job_time: section.optional("job_time", time(Duration::from_millis(100))),
        watch: section.get("watch", patterns, Vec::new()),
        claims: section.get("claims", one_of(CLAIMS), Claims::Reliable),
    }
}

fn patterns(value: &Value<'_>) -> Read<Vec<String>> {
    let patterns = list(text)(value)?;
    if patterns.len() > MOST_PATTERNS {
        return Err(value.wrong(&format!("at most {MOST_PATTERNS} patterns")));
    }
    Ok(patterns)
}

/// `4`, or `"2..8"`.
fn processes(value: &Value<'_>) -> Read<Processes> {
    let given = match value.kind {
        Kind::Integer(number) => usize::try_from(number).ok().map(|n| (n, n)),
        Kind::Text(text) => range(text, |text| text.parse().ok()),
        _ => None,
    };
    let fit = given.filter(|(least, most)| least <= most && *most <= MOST_PROCESSES);
    fit.map(|(least, most)| Processes { least, most }).ok_or_else(|| {
        value.wrong(&format!("a number of processes like 4, or a range like \"2..8\", from 0 to {MOST_PROCESSES}"))
    })
}

/// `"1s"`, or `"200ms..30s"`.
fn waits(value: &Value<'_>) -> Read<Waits> {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let given = match value.kind {
        Kind::Integer(number) => u64::try_from(number).ok().map(Duration::from_secs).map(|wait| (wait, wait)),
        Kind::Text(text) => range(text, duration),
        _ => None,
    };
    let fit = given.filter(|(first, last)| TICK <= *first && first <= last && *last <= DAY);
    fit.map(|(first, last)| Waits { first, last })
        .ok_or_else(|| value.wrong("a time like \"1s\", or a range like \"200ms..30s\", from 1ms to a day"))
}

/// `A..B`, or `A` for both ends.
fn range<T: Copy>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<(T, T)> {
    match text.split_once("..") {
        Some((first, last)) => Some((read(first.trim())?, read(last.trim())?)),
        None => read(text.trim()).map(|one| (one, one)),
    }
}

fn read_env(section: Section<'_>) -> Vec<(String, Secret)> {
    section.pairs(|value| match value.kind {
        Kind::Text(text) if !text.contains('\0') => Ok(Secret::new(text)),
        Kind::Integer(integer) => Ok(Secret::new(integer.to_string())),
        Kind::Bool(boolean) => Ok(Secret::new(boolean.to_string())),
        _ => Err(value.wrong("a string without NUL")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T>(read: impl Fn(&Value<'_>) -> Read<T>, given: &str) -> Option<T> {
        read(&Value::text(given)).ok()
    }

    #[test]
    fn processes_are_a_number_or_a_range() {
        let range = |given| text(processes, given).map(|Processes { least, most }| (least, most));
        assert_eq!(range("4"), Some((4, 4)));
        assert_eq!(range("2..8"), Some((2, 8)));
        assert_eq!(range("0 .. 1024"), Some((0, 1024)));
        for bad in ["", "8..2", "..", "1..", "..2", "1..1025", "-1", "two"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }

    #[test]
    fn waits_are_a_time_or_a_range() {
        let range = |given| text(waits, given).map(|Waits { first, last }| (first.as_millis(), last.as_millis()));
        assert_eq!(range("200ms..30s"), Some((200, 30_000)));
        assert_eq!(range("1s"), Some((1000, 1000)));
        for bad in ["0s", "2s..1s", "1s..25h", "", "x"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_group_is_named_after_its_program() {
        for (program, name) in [("./bin/mail worker.py", "mailworker"), ("python3", "python3"), ("/", "worker")] {
            assert_eq!(group_name(program), name);
        }
    }
}
