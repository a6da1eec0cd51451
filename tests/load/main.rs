//! Bounded load.
fn main() {}
