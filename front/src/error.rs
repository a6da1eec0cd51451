//! What can go wrong with a request: what kind, whose fault, and whether another try makes sense.
//!
//! There is no HTTP in here; `http::respond` is the one place where a failure becomes a response.

use std::time::Duration;

use tempest_protocol::Reason;

/// When to look again whether a queue has a worker: one that is restarted is back by then.
const NO_WORKER_WAIT: Duration = Duration::from_secs(5);
/// When to look again whether a client that has too much open has closed some of it: that takes people, or a page that
/// notices, and not the second in which a front gets room again.
pub const TOO_MANY_WAIT: Duration = Duration::from_secs(10);

/// Who has to change something for it to go better next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Whoever sent the request.
    Client,
    /// The worker that answered, or did not.
    Worker,
    /// Redis, or the way to it.
    Broker,
    /// The front, by a limit or by a defect.
    Front,
}

/// Why a message was not published, or nobody knows whether it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPublished {
    /// Redis is not there, and nothing was written to it.
    Away,
    /// Too much waits to be written to Redis.
    Congested,
    /// Redis refused; its words are in the log.
    Refused,
    /// It was written, and Redis said nothing.
    Unknown,
}

impl NotPublished {
    /// The one word of it in the answer to a batch.
    pub fn word(self) -> &'static str {
        match self {
            Self::Away => "redis-away",
            Self::Congested => "congested",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// A request that ends without a worker's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No route matches.
    NoRoute,
    /// Routes match the path, but not the method; the methods that would.
    Method(Vec<http::Method>),
    /// The request is not one that we can serve; the text says why, for the client.
    BadRequest(&'static str),
    /// The client expects something else than `100-continue`.
    Expectation,
    /// The client cannot take what the route gives.
    NotAcceptable(&'static str),
    /// What was sent to be published is not fit for it; the text says why, for the client. All of it was taken in.
    BadContent(String),
    /// A body of a kind that is not taken here.
    MediaType(&'static str),
    /// The failure of one message of a batch, counted from 0; nothing of the batch was published.
    InBatch(usize, Box<Failure>),
    /// A message was not published, or it is not known whether it was; `keyed`: it has a key, by which a second try is
    /// known.
    NotPublished {
        /// Why.
        why: NotPublished,
        /// It has a key of its own.
        keyed: bool,
    },
    /// Not for this client; the text says what.
    Forbidden(&'static str),
    /// The session would become larger than it may: bytes, and the limit.
    SessionTooLarge(usize, usize),
    /// The session could not be read from Redis, or the change of it is lost.
    SessionAway,
    /// A token might open it. The text says what is wrong with the one that came, for the client; None: none came.
    Unauthorized(Option<&'static str>),
    /// The head of the request has more header fields than may be.
    HeadTooLarge,
    /// The body exceeds the route's limit in bytes.
    BodyTooLarge(usize),
    /// The body stopped coming.
    BodyTimeout,
    /// The client went away in the middle of its request.
    ClientGone,
    /// A limit of this front is reached; the text says which, for the client.
    Overload(&'static str),
    /// The client has as many of something as it may have; the text says of what.
    TooMany(&'static str),
    /// The queue holds as many jobs as it may.
    QueueFull(Duration),
    /// The job would wait for a worker longer than it may.
    TooLong(Duration),
    /// The queue has no worker, and its route does not wait for one.
    NoWorker,
    /// The worker that had the job died, and no other may get it.
    WorkerDied,
    /// Redis is not there, and nothing was written to it.
    BrokerDown,
    /// Redis refused the job.
    BrokerRefused(String),
    /// Nobody answered before the deadline.
    Deadline,
    /// Nobody answered before the deadline, and whether the job ever reached the queue is not known.
    DeadlineUnknown,
    /// The worker's answer broke the contract.
    Malformed(Reason),
    /// The worker's answer named a file that the front may not send.
    BadFile,
    /// The server behind a route cannot be reached, or broke off; the text says which, for the client.
    Upstream(&'static str),
    /// It does not answer in time.
    UpstreamLate(&'static str),
    /// What is asked for is not built.
    NotBuilt(&'static str),
    /// The front is being shut down.
    Draining,
}

impl Failure {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoRoute
            | Self::Method(_)
            | Self::BadRequest(_)
            | Self::BadContent(_)
            | Self::MediaType(_)
            | Self::Expectation
            | Self::NotAcceptable(_)
            | Self::Forbidden(_)
            | Self::Unauthorized(_)
            | Self::HeadTooLarge
            | Self::BodyTooLarge(_)
            | Self::BodyTimeout
            | Self::ClientGone
            | Self::TooMany(_)
            | Self::NotBuilt(_) => Fault::Client,
            Self::SessionTooLarge(..) | Self::Deadline | Self::Malformed(_) | Self::QueueFull(_) | Self::TooLong(_) => {
                Fault::Worker
            }
            Self::InBatch(_, failure) => failure.fault(),
            Self::NotPublished { why: NotPublished::Congested, .. } => Fault::Front,
            Self::NotPublished { .. } => Fault::Broker,
            Self::NoWorker | Self::WorkerDied | Self::BadFile | Self::Upstream(_) | Self::UpstreamLate(_) => {
                Fault::Worker
            }
            Self::SessionAway | Self::BrokerDown | Self::BrokerRefused(_) | Self::DeadlineUnknown => Fault::Broker,
            Self::Overload(_) | Self::Draining => Fault::Front,
        }
    }

    /// How long to wait before another try makes sense; None: it makes none, or it is not safe to say so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull(wait) | Self::TooLong(wait) => Some(*wait),
            Self::NoWorker => Some(NO_WORKER_WAIT),
            Self::TooMany(_) => Some(TOO_MANY_WAIT),
            Self::NotPublished { why: NotPublished::Unknown, keyed: false } => None,
            Self::Overload(_)
            | Self::BrokerDown
            | Self::BrokerRefused(_)
            | Self::Draining
            | Self::NotPublished { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}
