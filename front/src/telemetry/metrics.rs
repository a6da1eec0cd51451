//! Which metrics the front has: one declaration gives the field, its type, its name in Prometheus and, by its doc
//! comment, its help and the line in the manual.
//!
//! Whoever counts something new declares it here and nowhere else. Labels have fixed values only: a label whose value
//! comes from a client would let strangers fill the memory of two systems.

use std::fmt::Write;

use super::family::{Family, OfQueue, OfRoute};
use super::kinds::{Counter, Gauge, Histogram, Kind, ReasonCounter, Seconds, StatusCounter};
use super::labels::{
    AnswerOutcome, Held, ProxyOutcome, PublicationKind, Refusal, ResumeOutcome, Sent, SessionFault, SessionOutcome,
    StreamDrop, TokenFault,
};
use super::process::{Build, Cpu, Files, MostFiles, Read, Resident, Started};
use super::transport::{Ending, HandshakeFault, Http2End, Protocol};

/// One metric as the manual lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The name in Prometheus.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The labels of its series, separated by commas; empty where it has none.
    pub label: &'static str,
    /// One more label, or nothing.
    pub inner_label: &'static str,
    /// What it counts.
    pub help: &'static str,
}

/// Declares [`Metrics`]: `/// help` and `field: Kind => "name"`.
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ty => $name:literal,)+) => {
        /// All metrics of one process; shared by its reactors in an `Arc`.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[doc = $help])+ pub $field: $kind,)+
        }

        impl Metrics {
            /// All at zero.
            pub fn new() -> Self {
                Self::default()
            }

            /// All metrics, in the order of their declaration.
            pub fn describe() -> Vec<Description> {
                vec![$(Description {
                    name: $name,
                    kind: <$kind as Kind>::TYPE,
                    label: <$kind as Kind>::LABEL,
                    inner_label: <$kind as Kind>::INNER_LABEL,
                    help: concat!($($help),+).trim_ascii(),
                },)+]
            }

            /// Prometheus' text format, version 0.0.4.
            pub fn render(&self) -> String {
                let mut out = String::with_capacity(16 * 1024);
                let mut descriptions = Self::describe().into_iter();
                $(
                    let description = descriptions.next().expect("one description a metric");
                    head(&mut out, &description);
                    self.$field.samples($name, "", &mut out);
                )+
                out
            }
        }
    };
}

metrics! {
    /// Requests answered, by status code; a stream counts when its head is sent.
    requests: StatusCounter => "tempest_http_requests_total",
    /// Requests being handled.
    requests_in_flight: Gauge => "tempest_http_requests_in_flight",
    /// Requests that wait for an answer, or for the rest of one.
    requests_waiting: Gauge => "tempest_requests_waiting",
    /// Seconds from a request's arrival to the head of its answer, the time to its first byte.
    request_seconds: Histogram => "tempest_http_request_duration_seconds",
    /// Requests answered, by route (its place in the configuration, from 1), its path and status code; `none`: no route.
    route_requests: Family<OfRoute, StatusCounter> => "tempest_route_requests_total",
    /// Seconds from a request's arrival to the head of its answer, by route.
    route_seconds: Family<OfRoute, Histogram> => "tempest_route_request_duration_seconds",
    /// Jobs in a queue, of all priorities, looked at once a second; every front says the same of a queue they share.
    queue_depth: Family<OfQueue, Gauge> => "tempest_queue_depth",
    /// Seconds since the oldest job in a queue was pushed, looked at once a second; 0 where none waits.
    queue_oldest: Family<OfQueue, Seconds> => "tempest_queue_oldest_job_age_seconds",
    /// Workers of a queue that beat, looked at once a second; those that only pop are not seen.
    queue_workers: Family<OfQueue, Gauge> => "tempest_queue_workers",
    /// Seconds from the push of a job to the first message of its answer, as this front saw them.
    job_seconds: Family<OfQueue, Histogram> => "tempest_job_duration_seconds",
    /// Seconds of these before a worker began, where its answer says how long it took (`took`, as SDKs write).
    job_wait: Family<OfQueue, Histogram> => "tempest_job_wait_seconds",
    /// Seconds that the worker took for the first message of its answer, where the answer says so.
    job_service: Family<OfQueue, Histogram> => "tempest_job_service_seconds",
    /// Jobs pushed to queues.
    jobs_pushed: Counter => "tempest_jobs_pushed_total",
    /// Answer messages received, by what became of them.
    answers: ReasonCounter<AnswerOutcome> => "tempest_answers_total",
    /// Requests whose deadline passed before an answer.
    timeouts: Counter => "tempest_request_timeouts_total",
    /// Requests whose client left before the answer.
    clients_gone: Counter => "tempest_clients_gone_total",
    /// Jobs taken out of their queue because nobody waited any more.
    withdrawn: Counter => "tempest_jobs_withdrawn_total",
    /// Requests given to another worker, or to the queue, a second time.
    retried: Counter => "tempest_requests_retried_total",
    /// Requests whose worker died, or fell silent, before the end of the answer.
    deaths: Counter => "tempest_requests_orphaned_total",
    /// Workers found dead, or silent, by this front.
    reaped: Counter => "tempest_workers_reaped_total",
    /// Requests refused, by reason.
    refused: ReasonCounter<Refusal> => "tempest_requests_refused_total",
    /// Requests passed on to other servers, by what became of them.
    proxied: ReasonCounter<ProxyOutcome> => "tempest_proxy_requests_total",
    /// Connections to Redis made again after a loss.
    redis_reconnects: Counter => "tempest_redis_reconnects_total",
    /// Seconds from a command's write to its reply from Redis.
    redis_round_trip: Histogram => "tempest_redis_round_trip_seconds",
    /// Streams open.
    streams_open: Gauge => "tempest_streams_open",
    /// Streams opened.
    streams_opened: Counter => "tempest_streams_opened_total",
    /// Messages handed to streams.
    deliveries: Counter => "tempest_stream_deliveries_total",
    /// Bytes handed to streams.
    delivery_bytes: Counter => "tempest_stream_delivery_bytes_total",
    /// Streams ended, by reason.
    stream_drops: ReasonCounter<StreamDrop> => "tempest_stream_drops_total",
    /// Connections that answers handed to channels, by what became of them.
    holds: ReasonCounter<Held> => "tempest_holds_total",
    /// Channels subscribed.
    channels: Gauge => "tempest_channels_subscribed",
    /// Publications received from Redis, by kind.
    publications: ReasonCounter<PublicationKind> => "tempest_publications_received_total",
    /// Seconds from a publication (by its id, else its receipt) to its first write to a stream; one at a time a channel.
    stream_lag: Histogram => "tempest_stream_lag_seconds",
    /// Streams that resumed where an earlier one had ended, by outcome.
    stream_resumes: ReasonCounter<ResumeOutcome> => "tempest_stream_resumes_total",
    /// Messages of logs given to streams that resumed or had missed them.
    stream_replayed: Counter => "tempest_stream_replayed_total",
    /// Reads of logs of channels with history.
    log_reads: Counter => "tempest_log_reads_total",
    /// Messages published over HTTP, by what became of them.
    sent: ReasonCounter<Sent> => "tempest_publications_sent_total",
    /// Cookies of sessions that counted for nothing, by what was wrong with them.
    session_faults: ReasonCounter<SessionFault> => "tempest_session_cookies_refused_total",
    /// Sessions that were changed, or were to be, by what became of it.
    session_outcomes: ReasonCounter<SessionOutcome> => "tempest_sessions_total",
    /// Tokens refused, by what was wrong with them.
    tokens_refused: ReasonCounter<TokenFault> => "tempest_tokens_refused_total",
    /// Key sets (JWKS) that could not be read or fetched.
    key_failures: Counter => "tempest_key_set_failures_total",
    /// Client connections open.
    connections_open: Gauge => "tempest_connections_open",
    /// Client connections accepted.
    connections_accepted: Counter => "tempest_connections_accepted_total",
    /// Client connections that are over, or have become a stream, by what was spoken on them.
    protocols: ReasonCounter<Protocol> => "tempest_connections_served_total",
    /// Greetings of TLS that failed, by reason.
    handshake_failures: ReasonCounter<HandshakeFault> => "tempest_tls_handshake_failures_total",
    /// Certificates replaced by newer ones.
    certificates_replaced: Counter => "tempest_tls_certificates_replaced_total",
    /// Newer certificates that could not be used.
    certificate_failures: Counter => "tempest_tls_certificate_failures_total",
    /// Connections of HTTP/2 ended, by reason.
    http2_ends: ReasonCounter<Http2End> => "tempest_http2_connections_ended_total",
    /// Requests of HTTP/2 ended because their client took nothing of the answer.
    http2_stalls: Counter => "tempest_http2_requests_stalled_total",
    /// Tries to accept that failed, for want of descriptors or memory.
    accept_failures: Counter => "tempest_accept_failures_total",
    /// Client connections that the front ended, by why.
    endings: ReasonCounter<Ending> => "tempest_connections_ended_total",
    /// Requests of trusted proxies whose headers about the client could not be read.
    forwarded_malformed: Counter => "tempest_forwarded_malformed_total",
    /// Lines of logs dropped because their reader was too slow.
    log_lines_dropped: Counter => "tempest_log_lines_dropped_total",
    /// Spans handed over for export.
    spans: Counter => "tempest_spans_total",
    /// Spans dropped because too many waited, or because their collector did not take them.
    spans_dropped: Counter => "tempest_spans_dropped_total",
    /// Always 1; the label is the version of this program.
    build: Build => "tempest_build_info",
    /// Processor time of this process, user and system, in seconds.
    process_cpu: Read<Cpu> => "process_cpu_seconds_total",
    /// Resident memory of this process in bytes.
    process_resident: Read<Resident> => "process_resident_memory_bytes",
    /// Open file descriptors of this process.
    process_files: Read<Files> => "process_open_fds",
    /// Most file descriptors that this process may have open.
    process_most_files: Read<MostFiles> => "process_max_fds",
    /// When this process began, in seconds since 1970.
    process_started: Read<Started> => "process_start_time_seconds",
}

impl Metrics {
    /// The list of the manual.
    pub fn markdown() -> String {
        let mut out = String::from("| Metric | Kind | Label | What |\n| --- | --- | --- | --- |\n");
        for description in Self::describe() {
            let labels: Vec<String> = description.labels().map(|label| format!("`{label}`")).collect();
            let Description { name, kind, help, .. } = description;
            writeln!(out, "| `{name}` | {kind} | {} | {help} |", labels.join(", "))
                .expect("writing to a String cannot fail");
        }
        out
    }

    /// The list of `tempest help metrics`.
    pub fn manual() -> String {
        let mut out = String::from("Metrics of the admin listener, at /metrics. All times are in seconds.\n");
        for description in Self::describe() {
            let labels: Vec<&str> = description.labels().collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let Description { name, kind, help, .. } = description;
            write!(out, "\n{name}{labels} ({kind})\n    {help}\n").expect("writing to a String cannot fail");
        }
        out
    }
}

impl Description {
    /// The labels of its series.
    pub fn labels(&self) -> impl Iterator<Item = &'static str> {
        self.label.split(", ").chain([self.inner_label]).filter(|label| !label.is_empty())
    }
}

fn head(out: &mut String, description: &Description) {
    let Description { name, kind, help, .. } = description;
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::telemetry::Label;

    #[test]
    fn renders_every_kind_with_help_and_type() {
        let metrics = Metrics::new();
        metrics.requests.inc(200);
        metrics.requests_in_flight.inc();
        metrics.refused.inc(Refusal::TooManyPending);
        metrics.redis_round_trip.observe(Duration::from_millis(2));
        let text = metrics.render();
        for line in [
            "# HELP tempest_http_requests_total Requests answered, by status code; a stream counts when its head is sent.",
            "# TYPE tempest_http_requests_total counter",
            "tempest_http_requests_total{status=\"200\"} 1",
            "# TYPE tempest_http_requests_in_flight gauge",
            "tempest_http_requests_in_flight 1",
            "tempest_requests_refused_total{reason=\"queue_full\"} 0",
            "tempest_requests_refused_total{reason=\"too_many_pending\"} 1",
            "# TYPE tempest_redis_round_trip_seconds histogram",
            "tempest_redis_round_trip_seconds_bucket{le=\"0.001\"} 0",
            "tempest_redis_round_trip_seconds_bucket{le=\"0.0025\"} 1",
            "tempest_redis_round_trip_seconds_sum 0.002",
            "tempest_redis_round_trip_seconds_count 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        let all = Metrics::describe();
        let mut names = HashSet::new();
        for Description { name, kind, help, .. } in all {
            assert!(names.insert(name), "{name} twice");
            assert!(name.starts_with("tempest_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(kind != "histogram" || name.ends_with("_seconds"), "{name} without its unit");
            assert!(help.ends_with('.') && !help.starts_with(' '), "{name}: {help}");
        }
    }

    #[test]
    fn every_value_of_a_label_counts_in_its_own_series() {
        let metrics = Metrics::new();
        let outcomes = [
            AnswerOutcome::Answered,
            AnswerOutcome::Late,
            AnswerOutcome::Unknown,
            AnswerOutcome::Fenced,
            AnswerOutcome::Malformed,
            AnswerOutcome::Ignored,
            AnswerOutcome::Duplicate,
        ];
        for (n, outcome) in (1..).zip(outcomes) {
            metrics.answers.add(outcome, n);
        }
        let text = metrics.render();
        for (n, value) in (1..).zip(AnswerOutcome::VALUES) {
            let line = format!("tempest_answers_total{{outcome=\"{value}\"}} {n}\n");
            assert!(text.contains(&line), "{line}");
        }
        assert_eq!(metrics.answers.total(), 28);
    }
}
