//! Limits of connections and requests, each met exactly and exceeded by one.

mod clients;
mod descriptors;
mod heads;
mod routes;
mod slow;

use tempest_tests::World;

/// Requests refused for this reason.
fn refused(world: &World, reason: &str) -> i64 {
    world.count("tempest_requests_refused_total", &[&format!("reason=\"{reason}\"")])
}

/// Connections that the front ended for this reason.
fn ended(world: &World, reason: &str) -> i64 {
    world.count("tempest_connections_ended_total", &[&format!("reason=\"{reason}\"")])
}
