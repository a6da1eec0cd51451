//! Rust workers.
