//! Spans: what the front did for a request that is traced, handed over to whoever exports it.
//!
//! A reactor only hands a span over, to a bounded queue; where that is full the span is dropped and counted. Most builds
//! export nothing: then no span is ever made. How spans look on the wire is not known here.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::metrics::Metrics;
use super::trace::Trace;
use crate::config::Telemetry;

/// A span, with all that its exporter needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace it belongs to, its own span and that of the client.
    pub trace: Trace,
    /// When it began.
    pub began: SystemTime,
    /// How long it lasted.
    pub lasted: Duration,
    /// What it is.
    pub what: What,
}

/// What a span is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A request, from its arrival to the end of its answer: the span that the trace names.
    Request {
        /// The request's id.
        id: String,
        /// Its method.
        method: String,
        /// The path of its route.
        route: String,
        /// The path that was asked for.
        path: String,
        /// The status of the answer.
        status: u16,
        /// Bytes of the answer's body.
        bytes: u64,
        /// The client's address.
        peer: String,
    },
    /// A job, from its push to the first message of its answer: a child of the request's span.
    Job {
        /// The queue.
        queue: String,
        /// How much of that its worker took; None: it did not say.
        took: Option<Duration>,
        /// Which try was answered.
        attempt: u32,
    },
}

/// What goes to the exporter.
#[derive(Debug)]
pub enum Message {
    /// A span.
    Span(Box<Span>),
    /// The end: everything is to be sent, and then this is to be told.
    End(oneshot::Sender<()>),
}

/// Hands spans over; cheap to clone, one for each reactor.
#[derive(Clone, Debug, Default)]
pub struct Spans(Option<(SyncSender<Message>, Arc<Metrics>)>);

impl Spans {
    /// To the exporter behind `queue`.
    pub fn to(queue: SyncSender<Message>, metrics: Arc<Metrics>) -> Self {
        Self(Some((queue, metrics)))
    }

    /// To the configured collector, or nowhere where there is none.
    ///
    /// # Errors
    /// When its thread cannot be started, or this build has no exporter.
    pub fn start(config: &Telemetry, metrics: &Arc<Metrics>) -> io::Result<Self> {
        match &config.otlp {
            Some(collector) => Self::export(collector, config, metrics),
            None => Ok(Self::off()),
        }
    }

    #[cfg(feature = "otel")]
    fn export(collector: &str, config: &Telemetry, metrics: &Arc<Metrics>) -> io::Result<Self> {
        super::otlp::start(collector, config, metrics)
    }

    #[cfg(not(feature = "otel"))]
    fn export(_: &str, _: &Telemetry, _: &Arc<Metrics>) -> io::Result<Self> {
        let why = "telemetry.otlp names a collector, but this program was built without OpenTelemetry: take the setting out, or \
                   build with --features otel";
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }

    /// None are exported.
    pub fn off() -> Self {
        Self(None)
    }

    /// True where spans of this trace are wanted: else they need not be made.
    pub fn want(&self, trace: Option<&Rc<Trace>>) -> bool {
        self.0.is_some() && trace.is_some_and(|trace| trace.is_sampled())
    }

    /// Hands one over that began at `began` and ends now. Never blocks.
    pub fn send(&self, trace: &Trace, began: Instant, lasted: Duration, what: What) {
        let Some((queue, metrics)) = &self.0 else { return };
        let began = SystemTime::now() - began.elapsed();
        let span = Span { trace: trace.clone(), began, lasted, what };
        match queue.try_send(Message::Span(Box::new(span))) {
            Ok(()) => metrics.spans.inc(),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => metrics.spans_dropped.inc(),
        }
    }

    /// Has everything sent that waits; for at most `patience`.
    pub async fn finish(&self, patience: Duration) {
        let Some((queue, _)) = &self.0 else { return };
        let (done, told) = oneshot::channel();
        // A queue that is full has an exporter that gets nowhere.
        if queue.try_send(Message::End(done)).is_ok() {
            let _ = tokio::time::timeout(patience, told).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let metrics = Arc::new(Metrics::new());
        let (queue, waiting) = sync_channel(2);
        let spans = Spans::to(queue, Arc::clone(&metrics));
        let trace = Rc::new(Trace::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").expect("a trace"));
        assert!(spans.want(Some(&trace)) && !spans.want(None) && !Spans::off().want(Some(&trace)));
        let job = || What::Job { queue: "web".into(), took: None, attempt: 1 };
        for _ in 0..5 {
            spans.send(&trace, Instant::now(), Duration::from_secs(1), job());
        }
        assert_eq!((metrics.spans.get(), metrics.spans_dropped.get()), (2, 3));
        let Ok(Message::Span(span)) = waiting.try_recv() else { panic!("a span") };
        assert_eq!((&span.trace, span.lasted, span.what), (&*trace, Duration::from_secs(1), job()));
    }

    #[cfg(not(feature = "otel"))]
    #[test]
    fn a_build_without_export_does_not_start_with_a_collector() {
        let text = "telemetry.otlp = \"http://127.0.0.1:4318\"";
        let config = crate::config::Config::from_toml(text, std::path::Path::new(".")).expect("a good configuration");
        let why = Spans::start(&config.telemetry, &Arc::default()).expect_err("not built").to_string();
        assert!(why.contains("--features otel"), "{why}");
    }

    #[tokio::test]
    async fn an_exporter_that_gets_nowhere_holds_nobody_up() {
        let (queue, waiting) = sync_channel(1);
        let spans = Spans::to(queue, Arc::default());
        spans.finish(Duration::from_millis(1)).await;
        assert!(matches!(waiting.try_recv(), Ok(Message::End(_))));
        drop(waiting);
        spans.finish(Duration::from_secs(3600)).await;
    }
}
