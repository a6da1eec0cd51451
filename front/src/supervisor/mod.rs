//! Child processes: workers and the private Redis of `tempest up`.
//!
//! Every program has a guard (`guard`) and is started and stopped through it (`child`). One alone is started again when
//! it ends by `keep`; of several, each is a `run`, and whoever has them decides. Nothing here knows of queues, HTTP or the broker; the private Redis is spoken to only to learn whether it
//! is ready.

pub mod child;
pub mod guard;
pub mod keep;
pub mod lines;
pub mod redis;
pub mod run;
pub mod which;
