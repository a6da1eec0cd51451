//! The one integration binary: the whole system with a real Redis, real processes and a real browser, by behaviour.

mod hostile;
mod raw_workers;
mod redis_down;
mod request_reply;
mod sse;
mod tidy;
