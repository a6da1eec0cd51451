//! What the front tells its operators: metrics and logs.
//!
//! Everything here is written to from the request path, so nothing here may block, wait for a disk or take a lock that
//! another thread holds for long. It must not know what the numbers mean to a request.

mod access;
mod kinds;
pub mod logging;
pub mod metrics;
mod problems;

pub use access::{AccessLog, Entry};
pub use kinds::{Counter, Gauge, Histogram, Label, ReasonCounter, StatusCounter};
pub use metrics::{
    AnswerOutcome, Description, Ending, Held, Metrics, PublicationKind, Refusal, ResumeOutcome, Sent, SessionFault,
    SessionOutcome, StreamDrop, TokenFault,
};
pub use problems::{Problem, Problems};
