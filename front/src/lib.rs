//! The front.
pub mod config;
pub mod telemetry;
