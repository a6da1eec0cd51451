//! What operators see and may change while everything runs: metrics that add up, health, the log's level, traces.

mod health;
mod level;
mod metrics;
mod traces;
