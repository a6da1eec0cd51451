//! Child processes: workers and the private Redis of `tempest up`.
//!
//! Every program has a guard (`guard`), is started and stopped through it (`child`) and started again when it ends
//! (`keep`). Nothing here knows of queues, HTTP or the broker; the private Redis is spoken to only to learn whether it
//! is ready.

pub mod child;
pub mod guard;
pub mod keep;
pub mod lines;
pub mod redis;
pub mod which;
