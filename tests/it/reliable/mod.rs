//! Requests whose workers die: what the front finds out, and what becomes of the request.

mod deaths;
mod overload;
mod priorities;
