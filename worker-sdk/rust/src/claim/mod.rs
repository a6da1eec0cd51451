//! How jobs are taken from the queue.
//!
//! Base mode pops them; reliable mode moves them into claims under the worker's name, where they stay until they are
//! answered. The loop asks either for jobs in the same way; it must not know how they spell it.

mod base;
mod reliable;

use crate::connection::{Pipeline, Reply};
use crate::waiting::Claimed;

pub(crate) use base::BaseClaim;
pub use base::ClaimCommand;
pub(crate) use reliable::{MOST_CLAIMS, Registered, ReliableClaim};

/// How a worker takes jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Claims {
    /// They stay in Redis until they are answered, and are taken back when the worker dies. Where Redis, or the
    /// rights of the user, do not allow that, the worker says so once and pops.
    #[default]
    Reliable,
    /// They are popped: a worker that dies takes along what it holds.
    Base,
}

/// What one request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Jobs, at most.
    pub(crate) count: usize,
    /// How many of them are going to start as soon as they are there.
    pub(crate) start_at_once: usize,
    /// Nothing else is at work: all of them are likely to end together.
    pub(crate) alone: bool,
}

/// Takes jobs over a connection; one request at a time.
pub(crate) trait Claim: Send {
    /// Appends commands that bring jobs, and wait for one where there is none; returns how many replies are due.
    fn request(&mut self, out: &mut Pipeline, wanted: Wanted) -> usize;
    /// Reads the next of these replies: the jobs in it.
    fn reply(&mut self, reply: Reply) -> Result<Vec<Claimed>, ClaimError>;
    /// Forgets the replies that were due: their connection is gone.
    fn reset(&mut self);
    /// The claims of reliable mode, for what only they can do.
    fn reliable(&mut self) -> Option<&mut ReliableClaim> {
        None
    }
}

/// Why a claim brought nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimError {
    /// This Redis needs other commands; the next request uses them.
    #[error("this Redis has no BLMPOP")]
    Unsupported,
    /// There is no reliable mode here.
    #[error("{0}")]
    Unable(String),
    /// Redis has forgotten the scripts.
    #[error("Redis has forgotten its scripts")]
    NoScript,
    /// The worker was declared dead.
    #[error("the worker was declared dead")]
    Unregistered,
    /// A job is claimed that this worker does not know.
    #[error("a claim whose job never arrived")]
    Lost,
    #[error("{0}")]
    Refused(String),
    #[error("a reply of an unexpected shape")]
    Shape,
}
