//! A last resort for the log: plain lines on standard error.
//!
//! The SDK reports by `tracing`. A program that has set up no subscriber would lose every error of its handlers,
//! so [`App::run`](crate::App::run) puts this one in place then; it must not grow into a logging library.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

struct Plain;

/// Sets the subscriber unless the program has one.
pub(crate) fn install_if_missing() {
    // Somebody was quicker: then there is one.
    let _ = tracing::subscriber::set_global_default(Plain);
}

impl Subscriber for Plain {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line { message: String::new(), fields: String::new() };
        event.record(&mut line);
        let metadata = event.metadata();
        // A closed standard error is no reason to stop working.
        let _ = writeln!(
            std::io::stderr().lock(),
            "{} {}: {}{}",
            metadata.level(),
            metadata.target().split("::").next().unwrap_or_default(),
            line.message,
            line.fields
        );
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
