//! Configuration as plain data, one small struct a concern.
//!
//! Everything else in the front takes its settings from here and never from the environment, a file or a flag. The
//! readers (file, environment, flags) live beside this file and report every error at once; nothing here opens a
//! connection or a file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use tempest_protocol::{Keys, QueueName, matches_pattern};

mod file;
mod load;
pub mod options;
mod problem;
mod redis_url;
mod routes;
mod section;
#[cfg(test)]
mod tests;
mod tokens;
mod units;
mod value;
mod words;
mod workers;

pub use load::{Flags, Loaded, Mode, load};
pub use problem::{Problem, Problems};
pub use redis_url::{RedisAddress, RedisUrl, RedisUrlError, Secret};
pub(crate) use tokens::LEAST_SECRET;
pub use tokens::{KeySource, TokenAlg, TokenKey, Tokens};
pub use units::duration;

/// All settings of one process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Redis and the names used in it.
    pub redis: Redis,
    /// The listeners.
    pub front: Front,
    /// Every limit of the request path.
    pub limits: Limits,
    /// Browser channels.
    pub channels: Channels,
    /// Routes; the first that matches wins.
    pub routes: Vec<Route>,
    /// Workers that `tempest up` and `tempest supervise` run.
    pub workers: Vec<Worker>,
    /// Logs.
    pub log: Log,
    /// The folder of the configuration file, or the working folder: what relative paths are relative to.
    pub base: PathBuf,
}

/// Redis and the names used in it.
#[derive(Clone, Debug)]
pub struct Redis {
    /// None: `tempest up` starts a private server, `tempest front` uses `redis://127.0.0.1:6379`.
    pub url: Option<RedisUrl>,
    /// What every key begins with.
    pub keys: Keys,
    /// A server that leaves a PING or a command unanswered this long is taken for stalled.
    pub stall: Duration,
    /// How long a request waits for a lost connection to come back before it is refused.
    pub patience: Duration,
    /// The executable of the private Redis: a name, or a path relative to the configuration; None: one on PATH.
    pub server: Option<PathBuf>,
    /// The port of the private Redis on 127.0.0.1, 0 for any free one; None: 6379 if it is free, else 1379 and up.
    pub port: Option<u16>,
    /// Where the private Redis keeps its data; None: a folder of the user's for this configuration.
    pub dir: Option<PathBuf>,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and port; port 0 takes a free one.
    Tcp(SocketAddr),
}

/// The listeners and the reactors behind them.
#[derive(Clone, Debug)]
pub struct Front {
    /// For browsers.
    pub listen: Vec<Listen>,
    /// For operators; None: no admin listener.
    pub admin: Option<Listen>,
    /// Event loops, each on a thread of its own.
    pub reactors: usize,
    /// How long a drain waits for requests in flight.
    pub grace: Duration,
    /// How long a drain keeps an idle connection: its next request gets an answer that says «close».
    pub drain_idle: Duration,
    /// Processes that `tempest up` keeps; 0: the front runs in its own.
    pub processes: usize,
    /// How long `tempest up` waits for a new process to be ready before it keeps the old one.
    pub ready_time: Duration,
}

/// Every limit of the request path.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections in all; further ones are answered 503 and closed.
    pub connections: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Header fields of a request.
    pub headers: usize,
    /// Time from a connection's first byte, or the last answer, to a whole head.
    pub head_time: Duration,
    /// Time an idle keep-alive connection is kept.
    pub idle_time: Duration,
    /// Time without any byte of a body.
    pub body_time: Duration,
    /// Bytes of request bodies held in one process.
    pub body_memory: usize,
    /// Requests that wait for an answer in one process.
    pub pending: usize,
    /// Bytes of one answer message.
    pub answer_bytes: usize,
    /// Bytes of a streamed answer held for a client that reads slowly, and of messages that came out of order.
    pub answer_buffer: usize,
    /// Messages of a streamed answer held because an earlier one is missing.
    pub answer_reorder: usize,
    /// Jobs in one queue; beyond it requests are refused.
    pub queue_depth: u64,
    /// The list is searched for the job of a client that left only up to this depth.
    pub withdraw_depth: u64,
    /// Bytes in the buffer towards Redis; beyond it requests are refused.
    pub outgoing_bytes: usize,
    /// How often one request is given to a worker, at most.
    pub attempts: u32,
    /// Workers that a job nobody waits for may crash before it is given up.
    pub crashes: u32,
    /// Jobs given up that are kept in a queue's list of dead ones; the oldest go.
    pub dead_letters: usize,
    /// Ids of withdrawn jobs noted in a queue; those with the earliest deadline go.
    pub withdrawn: usize,
}

/// Browser channels.
#[derive(Clone, Debug)]
pub struct Channels {
    /// Patterns (`*` any text, `?` one character) of the channels that anybody may read.
    pub public: Vec<Pattern>,
    /// Patterns of the channels that anybody who reaches the front may publish on over HTTP.
    pub publish: Vec<Pattern>,
    /// What a browser's channel name is prefixed with in Redis.
    pub prefix: String,
    /// Origins allowed to read across origins; `*` allows all.
    pub cors: Vec<String>,
    /// Rules by pattern; the first that matches wins.
    pub rules: Vec<ChannelRule>,
    /// Time between comments on a quiet stream.
    pub heartbeat: Duration,
    /// What `retry:` tells an EventSource.
    pub retry: Duration,
    /// Bytes that wait for one reader; beyond it the reader is disconnected.
    pub buffer_bytes: usize,
    /// Messages that wait for one reader; beyond it the reader is disconnected.
    pub buffer_messages: usize,
    /// Streams in one process; further ones are answered 503.
    pub streams: usize,
    /// Streams of one client address in one process, of a /64 for IPv6; 0: no limit. Further ones are answered 429.
    pub streams_per_address: usize,
    /// Streams of one user in one process; 0: no limit. Further ones are answered 429.
    pub streams_per_user: usize,
    /// A stream is ended, to come back, after 80 to 100 % of this; None: it may last for ever.
    pub stream_life: Option<Duration>,
    /// Over how long a drain spreads the ends of its streams.
    pub goodbye: Duration,
    /// Channels subscribed by one process; further ones are answered 503.
    pub channels: usize,
    /// Bytes of a channel's name.
    pub name_bytes: usize,
    /// How long a new stream waits for Redis.
    pub subscribe_time: Duration,
    /// Patterns that anybody may read as a whole, live.
    pub patterns: Vec<Pattern>,
    /// Channels and patterns that one stream may name; further ones are refused.
    pub per_stream: usize,
    /// Of these, channels with history.
    pub logs_per_stream: usize,
    /// Streams of one reactor that read what they have missed at the same time; the others wait.
    pub resuming: usize,
    /// Messages of one request that publishes.
    pub publish_batch: usize,
    /// How long a publication's own key is remembered.
    pub key_time: Duration,
    /// How long the other reactors are waited for where they are asked for their streams.
    pub count_time: Duration,
    /// Whose tokens open what is not public.
    pub tokens: Tokens,
}

impl Channels {
    /// The rule that holds for a channel, by the name that browsers use.
    pub fn rule(&self, name: &str) -> Option<&ChannelRule> {
        self.rules.iter().find(|rule| rule.pattern.matches(name))
    }

    /// True for channels that keep their messages.
    pub fn has_history(&self, name: &str) -> bool {
        self.rule(name).is_some_and(|rule| rule.history.is_some())
    }
}

/// What holds for the channels that a pattern matches.
#[derive(Clone, Debug)]
pub struct ChannelRule {
    /// Which channels.
    pub pattern: Pattern,
    /// `["$unsubscribe"]` ends the streams.
    pub control: bool,
    /// Payloads of array form are read as events; false: everything is text.
    pub array_form: bool,
    /// What is kept of what was published; None: nothing.
    pub history: Option<History>,
    /// There is nothing to read any more: answered 204, after which an EventSource does not come back.
    pub gone: bool,
}

/// What a channel keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Messages; the oldest go.
    pub messages: usize,
    /// For how long.
    pub time: Duration,
}

/// A pattern over names: `*` is any text, `?` one character, everything else itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Takes the pattern as written.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True where the whole of `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        matches_pattern(&self.0, name)
    }
}

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
    /// A static folder.
    Files {
        /// The folder, absolute.
        dir: PathBuf,
    },
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
    /// When a request may be given to a second worker.
    pub retry: Retry,
    /// What becomes of a job whose client has left.
    pub client_gone: ClientGone,
    /// What happens while the queue has no worker.
    pub when_no_worker: WhenNoWorker,
    /// Jobs in the queue beyond which requests of this route are refused; None: `limits.queue_depth`.
    pub queue_depth: Option<u64>,
    /// Longest wait in the queue, as estimated, with which requests are taken; None: half of `timeout`.
    pub max_wait: Option<Duration>,
}

impl QueueRoute {
    /// A route to `queue` with nothing else said.
    pub fn new(queue: QueueName) -> Self {
        Self {
            queue,
            timeout: Duration::from_secs(30),
            body_limit: 1024 * 1024,
            priority: Priority::Normal,
            retry: Retry::Auto,
            client_gone: ClientGone::Cancel,
            when_no_worker: WhenNoWorker::Wait,
            queue_depth: None,
            max_wait: None,
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

/// A path pattern in parts: `/a/{x}/{rest...}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// As written.
    pub text: String,
    /// The segments between slashes.
    pub segments: Vec<Segment>,
}

/// One segment of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text.
    Literal(String),
    /// Any one segment.
    One(String),
    /// All that is left, slashes included, possibly nothing; only at the end.
    Rest(String),
}

/// Workers of one kind.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The name in the configuration.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// How many processes.
    pub processes: Processes,
    /// The queue they are told to serve.
    pub queue: QueueName,
    /// A program (found on PATH, or a path relative to the configuration) without which they are left out.
    pub needs: Option<String>,
    /// Additional environment.
    pub env: Vec<(String, String)>,
    /// Working folder, absolute.
    pub dir: PathBuf,
    /// From SIGTERM to SIGKILL.
    pub stop_time: Duration,
    /// A process that does not register itself counts as ready when it has run this long.
    pub ready_time: Duration,
    /// The queue must have been empty this long before one process of several is given up.
    pub idle_time: Duration,
    /// Bounds of the wait before a process that ended is started again.
    pub restart_wait: Waits,
    /// A process is replaced after this many jobs.
    pub max_jobs: Option<u64>,
    /// A process is replaced at this age.
    pub max_age: Option<Duration>,
    /// A process is replaced when it has more bytes of resident memory.
    pub max_rss: Option<u64>,
    /// A process is killed when one job runs longer.
    pub job_time: Option<Duration>,
    /// All are replaced, one after the other, when a file changes that one of these patterns names.
    pub watch: Vec<String>,
    /// What becomes of its jobs when it dies.
    pub claims: Claims,
}

/// How a worker takes jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Claims {
    /// As claims, which are given back when it dies; pops become claims on their way to Redis.
    #[default]
    Reliable,
    /// It pops, and what it holds when it dies is lost.
    Base,
}

/// How many processes, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processes {
    /// Always there.
    pub least: usize,
    /// Where there is much to do.
    pub most: usize,
}

/// Bounds of a wait that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Bounds the first wait.
    pub first: Duration,
    /// Bounds every later one.
    pub last: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), last: Duration::from_secs(30) }
    }
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The access log.
    pub access: AccessLog,
    /// The format of everything else.
    pub format: LogFormat,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter of tracing-subscriber.
    pub level: String,
}

/// The access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// None.
    Off,
    /// Apache's combined format.
    Combined,
    /// A JSON object a line.
    Json,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON lines elsewhere.
    Auto,
    /// Text.
    Text,
    /// JSON lines.
    Json,
}
