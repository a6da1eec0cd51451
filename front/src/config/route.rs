//! What a route is: which requests it takes, and what becomes of them.
//!
//! Plain data; [`super::routes`] reads it.

use std::time::Duration;

use http::Method;
use tempest_protocol::{Codec, QueueName};

use super::path::PathPattern;
use super::{FilesRoute, ProxyRoute, RouteAround};

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Which paths.
    pub path: PathPattern,
    /// Which methods; None: all.
    pub methods: Option<Vec<Method>>,
    /// Which host (without port, any case); None: all.
    pub host: Option<String>,
    /// What happens.
    pub kind: RouteKind,
    /// What is done with its answers, whoever gives them.
    pub around: RouteAround,
}

impl Route {
    /// True where only the answer of a worker reaches it.
    pub fn is_internal(&self) -> bool {
        matches!(&self.kind, RouteKind::Files(files) if files.internal)
    }
}

/// What a route does with a request.
#[derive(Clone, Debug)]
pub enum RouteKind {
    /// To a queue, answered by a worker.
    Queue(QueueRoute),
    /// A stream of the channel named by the path's `{channel…}` part.
    Subscribe,
    /// Messages for the channel named by the path's `{channel…}` part, or named in the body where it has none.
    Publish(PublishRoute),
    /// Another HTTP server.
    Proxy(ProxyRoute),
    /// A static folder.
    Files(FilesRoute),
}

/// What holds for the requests of a route that publishes.
#[derive(Clone, Debug)]
pub struct PublishRoute {
    /// The body names the channels, and may have several messages.
    pub batch: bool,
    /// Largest body in bytes.
    pub body_limit: usize,
    /// How long Redis is waited for.
    pub timeout: Duration,
}

/// What holds for the requests of a route to a queue.
#[derive(Clone, Debug)]
pub struct QueueRoute {
    /// The queue.
    pub queue: QueueName,
    /// From the request's arrival to the answer's first message.
    pub timeout: Duration,
    /// Largest body in bytes.
    pub body_limit: usize,
    /// Which of the queue's lists.
    pub priority: Priority,
    /// How its jobs are spelled. Answers may be spelled either way, whatever this says.
    pub codec: Codec,
    /// When a request may be given to a second worker.
    pub retry: Retry,
    /// What becomes of a job whose client has left.
    pub client_gone: ClientGone,
    /// What happens while the queue has no worker.
    pub when_no_worker: WhenNoWorker,
    /// Jobs in the queue beyond which requests of this route are refused; None: `limits.queue_depth`.
    pub queue_depth: Option<u64>,
    /// Requests of this route being handled in one process; None: no limit but `limits.pending`.
    pub max_requests: Option<usize>,
    /// Longest wait in the queue, as estimated, with which requests are taken; None: half of `timeout`.
    pub max_wait: Option<Duration>,
    /// Its jobs carry the client's session, where there are sessions.
    pub session: bool,
}

impl QueueRoute {
    /// A route to `queue` with nothing else said.
    pub fn new(queue: QueueName) -> Self {
        Self {
            queue,
            timeout: Duration::from_secs(30),
            body_limit: 1024 * 1024,
            priority: Priority::Normal,
            codec: Codec::Json,
            retry: Retry::Auto,
            client_gone: ClientGone::Cancel,
            when_no_worker: WhenNoWorker::Wait,
            queue_depth: None,
            max_requests: None,
            max_wait: None,
            session: true,
        }
    }
}

/// The lists of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Before the others, mostly.
    High,
    /// The list that every worker knows.
    Normal,
    /// When there is nothing else, and now and then.
    Low,
}

/// When a request may be given to a second worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Idempotent methods, and requests with an `Idempotency-Key`.
    Auto,
    /// All.
    Always,
    /// None of which a worker may have seen the first attempt.
    Never,
}

/// What becomes of a job whose client has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientGone {
    /// It is not started any more, and a worker that runs it is told.
    Cancel,
    /// It is taken out of the queue if it is there; where a worker has it, it is finished.
    Finish,
}

/// What happens while a queue has no worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenNoWorker {
    /// Requests wait for one until their deadline.
    Wait,
    /// They are refused.
    Fail,
}
