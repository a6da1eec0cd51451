//! Browser channels: how a stream begins, what arrives on it, how it ends, and every answer that is no stream.

mod delivery;
mod endings;
mod opening;
mod payloads;
mod rights;
