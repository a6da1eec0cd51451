//! Browser channels: how a stream begins, what arrives on it, how it ends, and every answer that is no stream.

mod clients;
mod delivery;
mod endings;
pub(crate) mod history;
mod life;
mod limits;
mod opening;
mod payloads;
mod rights;
mod seeing;
mod several;
