//! The table of waiting requests, driven by the events that a broker would tell it.
//!
//! Most of these tests have no Redis: a broker without a connection takes pushes into its buffer for as long as its
//! patience lasts, and what Redis would say is said by the test. Those that ask what becomes of the lists have a Redis of
//! their own (`with_redis`, `keeping`).

mod answers;
mod deaths;
mod jobs;
mod keeping;
mod parts;
mod pushes;
mod sequence;
mod with_redis;

use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tempest_protocol::{Keys, QueueName};

use super::lane::{Lane, QueueState};
use super::pending::{Pending, Sent};
use super::{Dispatch, Head, Holds, Part, Request, Ticket};
use crate::broker::{Broker, Options, Pushed};
use crate::config::{Config, Limits, QueueRoute, RedisUrl};
use crate::error::Failure;
use crate::ident::{FrontId, ReactorId};
use crate::telemetry::{AnswerOutcome, Metrics, Problem, Problems, Refusal, Spans};

/// Long enough for no test to reach it.
const FOREVER: Duration = Duration::from_secs(3600);
const TIMEOUT: Duration = Duration::from_secs(10);

/// One reactor's table with a queue of which a test says everything.
struct World {
    dispatch: Rc<Dispatch>,
    broker: Rc<Broker>,
    lane: Rc<Lane>,
    metrics: Arc<Metrics>,
    problems: Arc<Problems>,
}

/// What a test may change.
struct Setup {
    limits: Limits,
    route: QueueRoute,
    options: Options,
}

fn limits() -> Limits {
    Limits {
        connections: 10,
        connections_per_address: 0,
        requests_per_connection: 0,
        head_bytes: 16 * 1024,
        headers: 100,
        head_time: FOREVER,
        idle_time: FOREVER,
        body_time: FOREVER,
        body_rate: 0,
        body_memory: 1024 * 1024,
        pending: 100,
        requests_per_address: 0,
        answer_bytes: 64 * 1024,
        answer_buffer: 128 * 1024,
        answer_reorder: 4,
        queue_depth: 100,
        withdraw_depth: 200,
        outgoing_bytes: 1024 * 1024,
        attempts: 3,
        crashes: 3,
        dead_letters: 10,
        withdrawn: 10,
        ..Config::default().limits
    }
}

impl Setup {
    fn new() -> Self {
        let name = QueueName::new("web").expect("a name");
        let mut route = QueueRoute::new(name);
        route.timeout = TIMEOUT;
        let options = Options {
            url: "redis://127.0.0.1:1".parse::<RedisUrl>().expect("a URL"),
            name: "test".into(),
            answers_key: "tempest:@test.0".into(),
            stall: FOREVER,
            patience: FOREVER,
            outgoing_bytes: 1024 * 1024,
        };
        Self { limits: limits(), route, options }
    }

    fn build(self) -> World {
        let metrics = Arc::new(Metrics::new());
        let problems = Arc::new(Problems::default());
        let reactor = ReactorId::new(&FrontId::random(), 0);
        let reply_to = self.options.answers_key.clone();
        let broker = Broker::new(self.options, Arc::clone(&metrics));
        let name = self.route.queue.clone();
        let queue = QueueState::new(name, Keys::new("tempest").of_queue("web"), &metrics);
        let lane = Lane::new(Rc::clone(&queue), self.route, self.limits.queue_depth);
        let channels = Config::from_toml("", Path::new(".")).expect("the defaults are good").channels;
        let holds = Holds { keys: Keys::new("tempest"), channels: Rc::new(channels) };
        let (dispatch_metrics, dispatch_problems) = (Arc::clone(&metrics), Arc::clone(&problems));
        let dispatch = Dispatch::new(
            Rc::clone(&broker),
            reactor,
            reply_to,
            self.limits,
            holds,
            (dispatch_metrics, dispatch_problems, Spans::off()),
        );
        dispatch.add_queue(&queue);
        World { dispatch, broker, lane, metrics, problems }
    }
}

fn world(change: impl FnOnce(&mut Setup)) -> World {
    let mut setup = Setup::new();
    change(&mut setup);
    setup.build()
}

fn plain() -> World {
    world(|_| {})
}

/// One waiting request, and the number by which the table knows it.
struct Waiting {
    ticket: Ticket,
    serial: u64,
    id: String,
}

impl World {
    fn try_submit(&self, method: Method, headers: &[(&str, &str)], body: &[u8]) -> Result<Waiting, Failure> {
        let id = self.dispatch.next_id();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a name");
            map.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let request = Request {
            lane: &self.lane,
            method: &method,
            uri: &Uri::from_static("/a%2Fb?c=d"),
            host: Some("shop.example"),
            scheme: "http",
            http: "1.1",
            peer: "192.0.2.7:61000",
            server: "192.0.2.1:1337",
            headers: &map,
            body,
            session: None,
            own_cookie: None,
            trace: None,
        };
        let ticket = self.dispatch.submit(&request, &id)?;
        Ok(Waiting { ticket, serial: id.serial(), id: id.to_string() })
    }

    fn submit(&self, method: Method) -> Waiting {
        self.try_submit(method, &[], b"").unwrap_or_else(|failure| panic!("not taken: {failure:?}"))
    }

    /// Why a request is not even taken.
    fn refusal(&self) -> Failure {
        match self.try_submit(Method::GET, &[], b"") {
            Ok(_) => panic!("it was taken"),
            Err(failure) => failure,
        }
    }

    /// A request whose job is in the list.
    fn queued(&self, method: Method) -> Waiting {
        let waiting = self.submit(method);
        self.pushed(&waiting, Pushed::Depth(1));
        waiting
    }

    fn pushed(&self, waiting: &Waiting, result: Pushed) {
        let mut results = vec![(waiting.serial, result)];
        self.dispatch.pushed(&mut results);
        assert!(results.is_empty(), "all of them are taken");
    }

    fn answer(&self, text: &str) {
        self.dispatch.answers(&[Bytes::copy_from_slice(text.as_bytes())]);
    }

    /// What the table knows of a request that still waits.
    fn look<T>(&self, waiting: &Waiting, look: impl FnOnce(&Pending) -> T) -> T {
        look(self.dispatch.pending.borrow().get(&waiting.serial).expect("it waits"))
    }

    fn sent(&self, waiting: &Waiting) -> Sent {
        self.look(waiting, |pending| pending.sent)
    }

    fn attempt(&self, waiting: &Waiting) -> u32 {
        self.look(waiting, |pending| pending.attempt)
    }

    fn counted(&self, outcome: AnswerOutcome) -> u64 {
        self.metrics.answers.get(outcome)
    }

    fn refused(&self, why: Refusal) -> u64 {
        self.metrics.refused.get(why)
    }

    /// The one problem that was noted.
    fn problem(&self) -> Problem {
        let recent = self.problems.recent();
        assert_eq!(recent.len(), 1, "{recent:?}");
        recent[0].clone()
    }

    /// Nothing waits, and the queue knows it.
    fn assert_empty(&self) {
        assert_eq!(self.dispatch.waiting(), 0);
        assert!(!self.lane.queue.is_waited_for());
    }
}

impl Waiting {
    /// An answer to it, with these fields besides the id.
    fn message(&self, fields: &str) -> String {
        format!("{{\"id\":\"{}\"{fields}}}", self.id)
    }

    /// What has come of it so far; None: it waits.
    fn head(&self) -> Option<Result<Head, Failure>> {
        ready(self.ticket.head())
    }

    fn part(&self) -> Option<Result<Part, Failure>> {
        match self.ticket.poll_part(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    #[track_caller]
    fn status(&self) -> u16 {
        self.head().expect("an answer").expect("no failure").status.as_u16()
    }

    #[track_caller]
    fn failure(&self) -> Failure {
        match self.head() {
            Some(Err(failure)) => failure,
            Some(Ok(head)) => panic!("it was answered: {head:?}"),
            None => panic!("it waits"),
        }
    }
}

/// What a future gives at once.
fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Runs a future that starts tasks of its own.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(future)
}
