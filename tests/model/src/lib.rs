//! A model of reliable mode: fronts, workers, their parents and a Redis that take steps in every possible order, and die,
//! stop or lose connections between any two of them. Its tests search all of it for a state that `protocol.md` forbids.
//!
//! It must stay a reading of `protocol.md` and of the scripts, one function each, and must not borrow code from front or
//! SDKs: what they do is tested with real processes; here it is asked whether what they are told to do is right.
//!
//! The systems of its tests have about four million states together; each has few dimensions, since their product has
//! billions. Where a rule of the contract is left out (`Rules`), the search must find what breaks.
//!
//! What is left out: priorities, withdrawn jobs, deadlines of jobs in the queue, a restart of Redis. Time is left out,
//! too: what may take longer than a limit is a step of its own that may come at any moment (a lease that lapses).

mod connection;
mod front;
mod keeper;
mod properties;
mod redis;
mod search;
mod system;
mod worker;

pub use connection::Event as ConnectionEvent;
pub use front::{Event as RequestEvent, Step as FrontStep};
pub use keeper::Step as KeeperStep;
pub use redis::{Job, Lost, Message, Redis, Registration, Tenure};
pub use search::{Model, Outcome, search, trace};
pub use system::{Action, Budget, Kind, Rules, State, System};

/// Places for fronts; a system may use fewer.
pub const FRONTS: usize = 2;
/// Places for workers.
pub const WORKERS: usize = 2;
/// Places for requests.
pub const REQUESTS: usize = 3;
