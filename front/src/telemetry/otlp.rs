//! Sends spans to an OpenTelemetry collector: OTLP over HTTP, as JSON, from a thread of its own.
//!
//! The collector may be slow, away or wrong: then spans are dropped and counted, and nobody waits but this thread. What
//! becomes a span, and with which ids, is decided where requests are handled; here it only gets the form that collectors
//! know. Built with the feature `otel` only.

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::metrics::Metrics;
use super::spans::{Message, Span, Spans, What};
use super::trace::Numbers;
use crate::config::Telemetry;

/// Where a collector takes spans.
const PATH: &str = "/v1/traces";
/// Bytes of a collector's answer.
const ANSWER_BYTES: usize = 1024 * 1024;
/// The port of `http`.
const PORT: u16 = 80;

/// Starts the thread; spans handed to what this gives are sent.
pub(super) fn start(collector: &str, config: &Telemetry, metrics: &Arc<Metrics>) -> io::Result<Spans> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client)
        .with_protocol(Protocol::HttpJson)
        .with_endpoint(format!("{collector}{PATH}"))
        .with_timeout(config.otlp_time)
        .build();
    let mut exporter = exporter.map_err(io::Error::other)?;
    exporter.set_resource(&Resource::builder().with_service_name(config.service.clone()).build());
    let (queue, waiting) = sync_channel(config.otlp_queue);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let scope = InstrumentationScope::builder("tempest").with_version(env!("CARGO_PKG_VERSION")).build();
    let sender = Sender {
        exporter,
        runtime,
        scope,
        metrics: Arc::clone(metrics),
        numbers: Numbers::default(),
        batch: config.otlp_batch,
        wait: config.otlp_wait,
        time: config.otlp_time,
        failing: false,
    };
    std::thread::Builder::new().name("spans".to_owned()).spawn(move || sender.run(&waiting))?;
    Ok(Spans::to(queue, Arc::clone(metrics)))
}

struct Sender {
    exporter: SpanExporter,
    runtime: tokio::runtime::Runtime,
    scope: InstrumentationScope,
    metrics: Arc<Metrics>,
    numbers: Numbers,
    batch: usize,
    wait: Duration,
    time: Duration,
    /// The last batch was not taken, and that has been said.
    failing: bool,
}

/// Spans that go together, and who wants to know that they have gone.
#[derive(Default)]
struct Batch {
    spans: Vec<Span>,
    told: Option<oneshot::Sender<()>>,
}

impl Sender {
    fn run(mut self, waiting: &Receiver<Message>) {
        while let Some(batch) = self.gather(waiting) {
            self.send(batch.spans);
            if let Some(told) = batch.told {
                let _ = told.send(());
            }
        }
    }

    /// The next batch: full, or as old as one may get; None: nobody is left who makes spans.
    fn gather(&self, waiting: &Receiver<Message>) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut next = Ok(waiting.recv().ok()?);
        let until = Instant::now() + self.wait;
        loop {
            match next {
                Ok(Message::Span(span)) => batch.spans.push(*span),
                Ok(Message::End(told)) => {
                    batch.told = Some(told);
                    return Some(batch);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Some(batch),
            }
            if batch.spans.len() >= self.batch {
                return Some(batch);
            }
            next = waiting.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }

    fn send(&mut self, spans: Vec<Span>) {
        if spans.is_empty() {
            return;
        }
        let count = spans.len() as u64;
        let data: Vec<SpanData> = spans.into_iter().flat_map(|span| self.data(span)).collect();
        let time = self.time;
        let sent = self.runtime.block_on(async { tokio::time::timeout(time, self.exporter.export(data)).await });
        let why = match sent {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {time:?}")),
        };
        match why {
            None if std::mem::take(&mut self.failing) => tracing::info!("the collector takes spans again"),
            None => {}
            Some(why) => {
                self.metrics.spans_dropped.add(count);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!("the collector does not take spans, they are dropped: {why}");
                }
            }
        }
    }

    /// A request is one span; a job is two where its worker said how long it took, else one.
    fn data(&self, span: Span) -> Vec<SpanData> {
        let Span { trace, began, lasted, what } = span;
        let ended = began + lasted;
        let id = |digits: &str| SpanId::from_hex(digits).unwrap_or(SpanId::INVALID);
        let ours = id(trace.span());
        let one = |span: SpanId, parent: SpanId, time: (SystemTime, SystemTime), name: String| SpanData {
            span_context: SpanContext::new(
                TraceId::from_hex(trace.id()).unwrap_or(TraceId::INVALID),
                span,
                TraceFlags::SAMPLED,
                false,
                trace.state().and_then(|state| state.parse().ok()).unwrap_or_default(),
            ),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: Cow::Owned(name),
            start_time: time.0,
            end_time: time.1,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        };
        match what {
            What::Request { id: request, method, route, path, status, bytes, peer } => {
                let parent = trace.before().map_or(SpanId::INVALID, id);
                // Without a route the path would be a name that clients choose.
                let name = if route.is_empty() { method.clone() } else { format!("{method} {route}") };
                let mut span = one(ours, parent, (began, ended), name);
                span.span_kind = SpanKind::Server;
                span.parent_span_is_remote = parent != SpanId::INVALID;
                if status >= 500 {
                    span.status = Status::error("");
                }
                span.attributes = vec![
                    KeyValue::new("http.request.method", method),
                    KeyValue::new("http.route", route),
                    KeyValue::new("url.path", path),
                    KeyValue::new("http.response.status_code", i64::from(status)),
                    KeyValue::new("http.response.body.size", i64::try_from(bytes).unwrap_or(i64::MAX)),
                    KeyValue::new("client.address", peer),
                    KeyValue::new("tempest.request.id", request),
                ];
                vec![span]
            }
            What::Job { queue, took, attempt } => {
                let child = || SpanId::from_bytes(self.numbers.next(0).to_be_bytes());
                let attributes = [
                    KeyValue::new("tempest.queue", queue.clone()),
                    KeyValue::new("tempest.attempt", i64::from(attempt)),
                ];
                let mut spans = match took.map(|took| ended - took.min(lasted)) {
                    None => vec![one(child(), ours, (began, ended), format!("job {queue}"))],
                    Some(taken) => vec![
                        one(child(), ours, (began, taken), format!("wait {queue}")),
                        one(child(), ours, (taken, ended), format!("work {queue}")),
                    ],
                };
                spans.iter_mut().for_each(|span| span.attributes = attributes.to_vec());
                spans
            }
        }
    }
}

/// One connection for each batch: there is one a second at most, unless there are many spans.
#[derive(Debug)]
struct Client;

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    // As the macro of the trait would write it.
    fn send_bytes<'life0, 'async_trait>(&'life0 self, request: Request<Bytes>) -> Answer<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(post(request))
    }
}

async fn post(request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (mut parts, body) = request.into_parts();
    let host = parts.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let socket = TcpStream::connect((host, parts.uri.port_u16().unwrap_or(PORT))).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    if let Some(authority) = parts.uri.authority() {
        parts.headers.insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
    }
    // An origin server wants the path alone.
    parts.uri = parts.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
    let exchange = async move {
        let response = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await?.to_bytes();
        Ok::<_, HttpError>(Response::from_parts(head, body))
    };
    // The connection does the work, and ends once the exchange has let go of it; what it failed by, the exchange knows.
    tokio::join!(exchange, connection).0
}
