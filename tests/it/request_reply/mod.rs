//! A request becomes a job, an answer becomes a response: what the contract promises about both, and each failure.
//!
//! The test plays client and worker in one thread, so the order of events is the order of its lines.

mod answers;
mod concurrent;
mod failures;
mod jobs;
mod malformed;
mod routes;
mod streamed;
mod withdrawals;
