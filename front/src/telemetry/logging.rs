//! The log: lines on standard error, written by a thread of their own.
//!
//! A reactor that logs only hands a line over; when the reader of standard error is too slow, lines are dropped and
//! counted rather than waited for. Nothing that a client or a child process sends can begin a line or colour one:
//! control characters are written as escapes.

use std::fmt::{self, Write};
use std::io::{self, BufWriter, IsTerminal};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::Metrics;
use super::level::{self, Apply};
use crate::config::{Log, LogFormat};

/// Lines that wait for a slow reader; further ones are dropped.
const WAITING_LINES: usize = 8192;
/// The field that says on whose behalf a line is written: a child's name. It is shown before the message.
const FROM: &str = "from";
/// The field that says which of a child's streams a line came from. In JSON only: for eyes the line is enough.
const STREAM: &str = "stream";

/// A writer that never blocks, and what has to be kept for it.
#[derive(Debug)]
pub(super) struct Background {
    pub(super) writer: NonBlocking,
    pub(super) drops: ErrorCounter,
    /// Writes what is left when it is dropped.
    pub(super) _flush: WorkerGuard,
}

impl Background {
    pub(super) fn new(name: &str, to: impl io::Write + Send + 'static) -> Self {
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES).thread_name(name);
        // The thread flushes whenever it has nothing left to write.
        let (writer, guard) = builder.finish(BufWriter::new(to));
        Self { drops: writer.error_counter(), writer, _flush: guard }
    }
}

/// The running log. Dropped last: what is still waiting is written then.
pub struct Logging {
    background: Background,
    style: Style,
}

/// Takes lines that are lines of this log already: those of a child that logs as we do.
#[derive(Clone, Debug)]
pub struct Relay(NonBlocking);

impl Relay {
    /// Writes one line; drops it when too many are waiting. Never blocks.
    pub fn write(&self, line: &str) {
        let _ = io::Write::write_all(&mut self.0.clone(), format!("{line}\n").as_bytes());
    }
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Short and coloured, for eyes.
    Terminal,
    /// With date, without colour.
    Plain,
    /// A JSON object a line.
    Json,
}

/// Starts the log of this process. Once a process; the level has been checked when the configuration was read.
pub fn start(log: &Log) -> Logging {
    let background = Background::new("log", io::stderr());
    let style = match (log.format, io::stderr().is_terminal()) {
        (LogFormat::Json, _) | (LogFormat::Auto, false) => Style::Json,
        (_, true) if std::env::var_os("NO_COLOR").is_none() => Style::Terminal,
        _ => Style::Plain,
    };
    let (subscriber, apply) = subscriber(style, &log.level, background.writer.clone());
    match tracing::subscriber::set_global_default(subscriber) {
        Ok(()) => level::install(&log.level, apply),
        Err(_) => tracing::debug!("the log had been started before"),
    }
    Logging { background, style }
}

impl Logging {
    /// The format, decided.
    pub fn format(&self) -> LogFormat {
        if self.style == Style::Json { LogFormat::Json } else { LogFormat::Text }
    }

    /// Logs what this level, or filter, lets through from now on, or once what was set for a while is over. It has been checked
    /// when the configuration was read.
    pub fn set_level(&self, level: &str) {
        level::reconfigure(level);
    }

    /// For lines of children that log in [`Logging::format`].
    pub fn relay(&self) -> Relay {
        Relay(self.background.writer.clone())
    }

    /// Brings the metric of dropped lines up to date; `access` is the access log's share.
    pub fn count_dropped(&self, metrics: &Metrics, access: &super::AccessLog) {
        let dropped = self.background.drops.dropped_lines() + access.dropped();
        metrics.log_lines_dropped.set(dropped as u64);
    }
}

/// The subscriber, and what changes its filter.
fn subscriber(style: Style, level: &str, writer: NonBlocking) -> (Box<dyn Subscriber + Send + Sync>, Apply) {
    // Each style is a type of its own, and the filter's handle has it in its type.
    macro_rules! built {
        ($builder:expr) => {{
            let builder = $builder.with_env_filter(super::level::filter(level)).with_filter_reloading();
            let handle = builder.reload_handle();
            (Box::new(builder.finish()), Box::new(move |filter| handle.reload(filter).is_ok()))
        }};
    }
    let builder = tracing_subscriber::fmt().with_writer(writer);
    match style {
        Style::Json => built!(builder.json().flatten_event(true).with_current_span(false)),
        Style::Terminal => built!(builder.event_format(Lines { colour: true })),
        Style::Plain => built!(builder.event_format(Lines { colour: false })),
    }
}

/// Lines for people: time, who, level unless it is `info`, message, fields.
struct Lines {
    colour: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let module = event.metadata().target().rsplit("::").next().unwrap_or_default();
        let from = if parts.from.is_empty() { module } else { &parts.from };
        self.time(&mut out)?;
        self.painted(&mut out, colour_of(from), format_args!("{from:<10}"))?;
        out.write_char(' ')?;
        match *event.metadata().level() {
            Level::ERROR => self.painted(&mut out, 31, "ERROR ")?,
            Level::WARN => self.painted(&mut out, 33, "WARN ")?,
            Level::INFO => {}
            level => self.painted(&mut out, 2, format_args!("{level} "))?,
        }
        writeln!(out, "{}{}", parts.message, parts.rest)
    }
}

impl Lines {
    /// UTC: the time of day on a terminal, the whole date elsewhere.
    fn time(&self, out: &mut Writer<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let of_day = if self.colour { time.get(11..23) } else { None };
        self.painted(out, 2, of_day.unwrap_or(&time))?;
        out.write_char(' ')
    }

    fn painted(&self, out: &mut Writer<'_>, colour: u8, text: impl fmt::Display) -> fmt::Result {
        if self.colour { write!(out, "\x1b[{colour}m{text}\x1b[0m") } else { write!(out, "{text}") }
    }
}

/// Each name has a colour that stays the same from run to run.
fn colour_of(name: &str) -> u8 {
    const COLOURS: [u8; 10] = [32, 34, 35, 36, 92, 93, 94, 95, 96, 90];
    let base = name.split('.').next().unwrap_or(name);
    let sum = base.bytes().fold(7_usize, |sum, b| sum.wrapping_mul(31).wrapping_add(usize::from(b)));
    COLOURS[sum % COLOURS.len()]
}

/// An event's fields, escaped.
#[derive(Default)]
struct Parts {
    from: String,
    message: String,
    rest: String,
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = escape(value),
            FROM => self.from = escape(value),
            STREAM => {}
            name if value.contains([' ', '"', '=']) || value.is_empty() => self.add(name, &format!("{value:?}")),
            name => self.add(name, value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = escape(&format!("{value:?}")),
            FROM => self.from = escape(&format!("{value:?}")),
            name => self.add(name, &format!("{value:?}")),
        }
    }
}

impl Parts {
    fn add(&mut self, name: &str, value: &str) {
        write!(self.rest, " {name}={}", escape(value)).expect("writing to a String cannot fail");
    }
}

/// Control characters, tabs excepted, as escapes.
fn escape(text: &str) -> String {
    let harmless = |c: char| !c.is_control() || c == '\t';
    if text.chars().all(harmless) {
        return text.to_owned();
    }
    let escaped = |c: char| if harmless(c) { c.to_string() } else { c.escape_default().to_string() };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::EnvFilter;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the log holds after `act`, complete: the guard's drop writes all of it.
    fn logged(style: Style, level: &str, act: impl FnOnce()) -> String {
        let sink = Sink::default();
        let background = Background::new("test", sink.clone());
        let (subscriber, _) = subscriber(style, level, background.writer.clone());
        tracing::subscriber::with_default(subscriber, act);
        drop(background);
        let bytes = sink.0.lock().expect("no writer panics").clone();
        String::from_utf8(bytes).expect("the log is UTF-8")
    }

    #[test]
    fn plain_lines_have_date_origin_and_fields() {
        let text = logged(Style::Plain, "info", || {
            tracing::info!(queue = "web", reason = "a b", n = 3, "ready");
            tracing::warn!(from = "ruby.1", stream = "stderr", "{}", "slow");
            tracing::debug!("not shown");
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].ends_with("Z tests      ready queue=web reason=\"a b\" n=3"), "{text}");
        assert!(lines[0].starts_with("20") && lines[1].ends_with("Z ruby.1     WARN slow"), "{text}");
    }

    #[test]
    fn the_filter_changes_while_the_log_runs() {
        for style in [Style::Plain, Style::Terminal, Style::Json] {
            let sink = Sink::default();
            let background = Background::new("test", sink.clone());
            let (subscriber, apply) = subscriber(style, "info", background.writer.clone());
            tracing::subscriber::with_default(subscriber, || {
                for level in ["info", "debug", "info"] {
                    assert!(apply(EnvFilter::new(level)));
                    tracing::debug!("seen once");
                }
            });
            drop(background);
            let bytes = sink.0.lock().expect("no writer panics").clone();
            assert_eq!(String::from_utf8_lossy(&bytes).matches("seen once").count(), 1, "{style:?}");
        }
    }

    #[test]
    fn nobody_forges_a_line() {
        let evil = "x\n2026 ERROR forged\r\x1b[31m\u{9b}1m";
        for style in [Style::Plain, Style::Terminal, Style::Json] {
            let text = logged(style, "info", || {
                tracing::info!(path = evil, from = evil, debug = ?evil, "{evil}");
            });
            assert_eq!(text.lines().count(), 1, "{style:?}: {text}");
            assert!(!text.contains("\x1b[31m") && !text.contains('\r'), "{style:?}: {text:?}");
        }
    }

    #[test]
    fn json_lines_are_objects_with_their_fields() {
        let text = logged(Style::Json, "info", || tracing::info!(from = "ruby.1", n = 3, "ready"));
        let line: serde_json::Value = serde_json::from_str(&text).expect("a JSON object");
        assert_eq!((&line["message"], &line["from"], &line["n"]), (&"ready".into(), &"ruby.1".into(), &3.into()));
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn a_terminal_has_colours_and_the_time_of_day() {
        let text = logged(Style::Terminal, "info", || tracing::error!("no Redis"));
        assert!(text.contains("\x1b[31mERROR \x1b[0mno Redis"), "{text:?}");
        assert_eq!(colour_of("ruby.1"), colour_of("ruby.2"));
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_no_time() {
        /// Blocks its thread until the test ends.
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl io::Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (release, stuck) = std::sync::mpsc::channel();
        let mut background = Background::new("test", Stuck(stuck));
        // The buffer before the stuck writer takes 8 KiB, so one line that fills it stops the thread.
        io::Write::write_all(&mut background.writer, &[b'x'; 16 * 1024]).expect("never fails");
        for _ in 0..2 * WAITING_LINES {
            io::Write::write_all(&mut background.writer, &[b'y'; 16 * 1024]).expect("never fails");
        }
        assert!(background.drops.dropped_lines() >= WAITING_LINES - 1);
        drop(release);
    }
}
