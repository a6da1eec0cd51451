//! The SDK against a real Redis; the front's side is played by plain Redis commands.
//!
//! One binary, a module a behaviour, a Redis of its own for each test.

mod answers;
mod batches;
mod cancellations;
mod claims;
mod connections;
mod deaths;
mod failures;
mod harness;
mod holds;
mod priorities;
mod processes;
mod publishing;
mod restarts;
mod stops;
mod streams;
mod throughput;
