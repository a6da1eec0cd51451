//! What can go wrong with a request: what kind, whose fault, and whether another try makes sense.
//!
//! There is no HTTP in here; `http::respond` is the one place where a failure becomes a response.

use std::time::Duration;

use tempest_protocol::Reason;

/// When to look again whether a queue has a worker: one that is restarted is back by then.
const NO_WORKER_WAIT: Duration = Duration::from_secs(5);

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
    /// Not for this client; the text says what.
    Forbidden(&'static str),
    /// A token might open it. The text says what is wrong with the one that came, for the client; None: none came.
    Unauthorized(Option<&'static str>),
    /// The body exceeds the route's limit in bytes.
    BodyTooLarge(usize),
    /// The body stopped coming.
    BodyTimeout,
    /// The client went away in the middle of its request.
    ClientGone,
    /// A limit of this front is reached; the metric's name of the reason.
    Overload(&'static str),
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
            | Self::Expectation
            | Self::NotAcceptable(_)
            | Self::Forbidden(_)
            | Self::Unauthorized(_)
            | Self::BodyTooLarge(_)
            | Self::BodyTimeout
            | Self::ClientGone => Fault::Client,
            Self::Deadline | Self::Malformed(_) | Self::QueueFull(_) | Self::TooLong(_) => Fault::Worker,
            Self::NoWorker | Self::WorkerDied => Fault::Worker,
            Self::BrokerDown | Self::BrokerRefused(_) | Self::DeadlineUnknown => Fault::Broker,
            Self::Overload(_) | Self::Draining => Fault::Front,
        }
    }

    /// How long to wait before another try makes sense; None: it makes none, or it is not safe to say so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull(wait) | Self::TooLong(wait) => Some(*wait),
            Self::NoWorker => Some(NO_WORKER_WAIT),
            Self::Overload(_) | Self::BrokerDown | Self::BrokerRefused(_) | Self::Draining => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }
}
