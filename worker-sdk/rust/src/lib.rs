//! Workers for Tempest in Rust.
//!
//! A worker takes jobs from a Redis list and answers them; the front holds the connections to browsers. This crate
//! is the worker's side: it claims in batches, runs handlers, answers, publishes, and stops cleanly.
//!
//! ```no_run
//! use tempest_worker::{App, Error, Request};
//!
//! async fn hello(request: Request) -> String {
//!     format!("hello {}\n", request.param("name").unwrap_or("world"))
//! }
//!
//! fn main() -> Result<(), Error> {
//!     App::new().get("/", hello).get("/hello/{name}", hello).run()
//! }
//! ```
//!
//! It must not know the front: both depend on the contract (`tempest-protocol`) alone. It speaks reliable mode: a job
//! stays in Redis under the worker's name until it is answered, and is taken back when the worker dies.

mod address;
mod answer;
mod answer_lists;
mod app;
mod backoff;
mod batch;
mod cancel;
mod claim;
mod clock;
pub mod connection;
mod engine;
mod execution;
mod handler;
mod hold;
mod link;
mod log;
mod membership;
mod outlet;
mod panics;
mod publication;
mod publisher;
mod request;
mod response;
mod router;
mod scripts;
mod session;
mod settings;
mod signals;
mod status;
mod stream;
mod waiting;

/// The examples of the README are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use bytes::Bytes;
pub use tempest_protocol::{Job, JobFields};

pub use crate::address::{Address, AddressError};
pub use crate::app::App;
pub use crate::claim::{ClaimCommand, Claims};
pub use crate::handler::{Blocking, Dedicated, Handler, HandlerFuture, blocking, dedicated};
pub use crate::hold::Hold;
pub use crate::publication::{Publication, Published};
pub use crate::publisher::{PublishError, Publisher};
pub use crate::request::Request;
pub use crate::response::{IntoResponse, Response};
pub use crate::router::PatternError;
pub use crate::settings::{Error, Problem};
pub use crate::stream::{Gone, Sender};

/// Any error that can cross threads; what `?` makes of the others.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
