//! The one place that writes to a terminal what is not a log.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// A line on standard output. Where nobody reads it any more (`tempest status | head -1`) there is nothing to do.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// A line on standard error, and the exit code that goes with it.
pub(crate) fn complain(code: u8, text: impl Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "tempest: {text}");
    ExitCode::from(code)
}
