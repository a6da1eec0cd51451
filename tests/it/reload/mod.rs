//! The configuration is read anew while everything runs: nobody who is there may notice, and nothing wrong is taken.

mod channels;
mod load;
mod refused;
mod runs;
mod taken;
