//! Spans as a collector gets them: a front in this process, a real Redis, and a collector that takes OTLP as JSON.
//!
//! Built with the feature `otel` alone, which `./dev test` does.

mod collector;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use collector::Collector;
use serde_json::{Value, json};
use tempest::config::Config;
use tempest::listener::{Address, Listeners};
use tempest::server::{self, Running};
use tempest::telemetry::AccessLog;
use tempest_tests::{Http, Job, Redis, Response, assert_no_process, scratch, wait_until};

const CLIENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A front that exports to a collector.
struct World {
    redis: Redis,
    collector: Collector,
    running: Running,
    runtime: tokio::runtime::Runtime,
    mark: String,
}

impl World {
    fn start(wait: &str) -> Self {
        let (dir, mark) = scratch();
        let redis = Redis::start(&dir.join("redis"), &mark);
        let collector = Collector::start();
        let text = format!(
            "front.listen = \"127.0.0.1:0\"\nfront.admin = false\n[telemetry]\notlp = \"{}\"\nservice = \"shop\"\notlp_wait = \"{wait}\"\n[[route]]\n\
             path = \"/orders/{{id}}\"\nqueue = \"web\"\n",
            collector.url()
        );
        let config = Config::from_toml(&text, Path::new(".")).unwrap_or_else(|problems| panic!("{problems}"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let url = redis.url().parse().expect("the URL of a Redis");
        let listeners = Listeners::open(&config.front, Vec::new()).expect("a free port");
        let sockets = (listeners.http, Duration::from_secs(10));
        let running = runtime.block_on(async {
            server::start(Arc::new(config), sockets, url, AccessLog::start(tempest::config::AccessLog::Off))
        });
        let running = running.unwrap_or_else(|error| panic!("{error}"));
        wait_until("the front to be ready", || running.view().not_ready().is_none());
        Self { redis, collector, running, runtime, mark }
    }

    fn address(&self) -> std::net::SocketAddr {
        match &self.running.entrances()[0].address {
            Address::Tcp(address) => *address,
            other => panic!("{other} is no address"),
        }
    }

    /// One request, answered with `fields`; its job and what the client got.
    fn ask(&mut self, headers: &[&str], fields: Value) -> (Job, Response) {
        let mut http = Http::connect(self.address());
        http.request("GET", "/orders/7?token=secret", headers, b"");
        let taken = self.redis.cmd(&["BLPOP", "tempest:web", "20"]);
        let job = Job::parse(taken.list()[1].bytes().expect("a job"));
        self.redis.cmd(&[b"RPUSH".as_ref(), job.reply_to().as_bytes(), &job.answer(fields, b"")]);
        (job, http.response())
    }

    fn counted(&self, name: &str) -> u64 {
        let text = self.running.view().metrics().render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
    }

    fn finish(mut self) -> Vec<Value> {
        self.runtime.block_on(self.running.drain());
        self.redis.kill();
        assert_no_process(&self.mark);
        self.collector.spans()
    }
}

fn traceparent(job: &Job) -> Vec<&str> {
    job["traceparent"].as_str().expect("a job that is traced says so").split('-').collect()
}

fn named<'s>(spans: &'s [Value], name: &str) -> &'s Value {
    spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("{name} in {spans:?}"))
}

fn attribute<'s>(span: &'s Value, key: &str) -> &'s Value {
    let all = span["attributes"].as_array().expect("attributes").iter();
    all.filter(|one| one["key"] == key).map(|one| &one["value"]).next().unwrap_or(&Value::Null)
}

fn nanos(span: &Value, field: &str) -> u128 {
    span[field].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{field} in {span}"))
}

#[test]
fn a_request_is_a_span_between_the_clients_and_the_workers() {
    let mut world = World::start("10ms");
    let (job, response) = world.ask(&[&format!("traceparent: {CLIENT}"), "tracestate: a=1"], json!({"took": 1}));
    assert_eq!(response.status, 200);
    let (stated, id) = (traceparent(&job).join("-"), job.id().to_owned());
    wait_until("three spans", || world.collector.spans().len() == 3);
    assert_eq!((world.counted("tempest_spans_total"), world.counted("tempest_spans_dropped_total")), (2, 0));
    let spans = world.finish();
    assert_eq!(spans.len(), 3, "each is sent once");
    let parts: Vec<&str> = stated.split('-').collect();
    let (trace, ours) = (parts[1], parts[2]);
    assert_eq!(trace, &CLIENT[3..35], "the client's trace goes on");
    assert_ne!(ours, &CLIENT[36..52], "in a span of the front's");
    assert!(spans.iter().all(|span| span["traceId"] == trace), "{spans:?}");
    let request = named(&spans, "GET /orders/{id}");
    assert_eq!((&request["spanId"], &request["parentSpanId"]), (&json!(ours), &json!(&CLIENT[36..52])));
    assert_eq!((&request["kind"], &request["traceState"]), (&json!(2), &json!("a=1")));
    assert_eq!(attribute(request, "http.route")["stringValue"], "/orders/{id}");
    assert_eq!(attribute(request, "url.path")["stringValue"], "/orders/7", "what follows the ? may be secret");
    assert_eq!(attribute(request, "tempest.request.id")["stringValue"], id);
    assert_eq!(attribute(request, "http.response.status_code")["intValue"], "200");
    let [wait, work] = ["wait web", "work web"].map(|name| named(&spans, name));
    assert!([wait, work].iter().all(|span| span["parentSpanId"] == ours));
    let ids: std::collections::HashSet<_> = spans.iter().map(|span| span["spanId"].as_str()).collect();
    assert_eq!(ids.len(), 3);
    let ends = [wait, work, request].map(|span| nanos(span, "endTimeUnixNano"));
    assert!(nanos(wait, "endTimeUnixNano") == nanos(work, "startTimeUnixNano") && ends.is_sorted(), "{spans:?}");
    assert!(nanos(work, "endTimeUnixNano") - nanos(work, "startTimeUnixNano") == 1_000, "as the worker said");
}

#[test]
fn a_trace_is_begun_where_the_client_has_none() {
    let mut world = World::start("10ms");
    let (job, _) = world.ask(&["traceparent: nonsense"], json!({"status": 500}));
    let parts = traceparent(&job).join("-");
    wait_until("two spans", || world.collector.spans().len() == 2);
    assert!(world.collector.resources().iter().any(|resource| resource.to_string().contains("\"shop\"")));
    let spans = world.finish();
    let request = named(&spans, "GET /orders/{id}");
    assert_eq!(format!("00-{}-{}-01", text(&request["traceId"]), text(&request["spanId"])), parts);
    assert_eq!(request["parentSpanId"].as_str().unwrap_or_default(), "");
    assert_eq!(request["status"]["code"], 2, "a 500 is an error");
    assert_eq!(named(&spans, "job web")["parentSpanId"], request["spanId"], "its worker does not say how long it took");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn what_is_not_sampled_is_not_exported_and_what_waits_at_the_end_is() {
    // Only the end sends these.
    let mut world = World::start("1h");
    let (job, _) = world.ask(&[&format!("traceparent: {}", CLIENT.replace("-01", "-00"))], json!({}));
    assert_eq!(job["traceparent"], CLIENT.replace("-01", "-00"), "without a span of ours nothing stands between");
    let (job, _) = world.ask(&[], json!({}));
    let ours = traceparent(&job)[1].to_owned();
    let spans = world.finish();
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert!(spans.iter().all(|span| span["traceId"] == ours), "{spans:?}");
}

#[test]
fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let mut world = World::start("10ms");
    world.collector.go_away();
    for _ in 0..3 {
        assert_eq!(world.ask(&[], json!({})).1.status, 200);
    }
    wait_until("all spans to be dropped", || world.counted("tempest_spans_dropped_total") == 6);
    world.finish();
}
