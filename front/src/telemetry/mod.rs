//! What the front tells its operators: metrics and logs.
//!
//! Everything here is written to from the request path, so nothing here may block, wait for a disk or take a lock that
//! another thread holds for long. It must not know what the numbers mean to a request.

mod access;
mod family;
mod kinds;
mod labels;
pub mod level;
pub mod logging;
pub mod metrics;
#[cfg(feature = "otel")]
mod otlp;
mod problems;
mod process;
mod series;
mod spans;
mod trace;
mod transport;

pub use access::{AccessLog, Entry};
pub use kinds::{Counter, Gauge, Histogram, Label, ReasonCounter, Seconds, StatusCounter};
pub use labels::{
    AnswerOutcome, Held, ProxyOutcome, PublicationKind, Refusal, ResumeOutcome, Sent, SessionFault, SessionOutcome,
    StreamDrop, TokenFault,
};
pub use metrics::{Description, Metrics};
pub use problems::{Problem, Problems};
pub use series::{QueueSeries, RouteSeries};
pub use spans::{Message, Span, Spans, What};
pub use trace::{Trace, Traces};
pub use transport::{Ending, HandshakeFault, Http2End, Protocol};
