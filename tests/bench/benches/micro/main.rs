//! Single functions on a request's and a message's way, by the clock: the quick look while one of them is being changed.
//!
//! What counts in the end is measured by the benchmark of whole processes. Nothing here may need a process, a socket or
//! a Redis, and inputs have the sizes that browsers and workers send.

mod answers;
mod events;
mod jobs;
mod routes;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    // All of them within two minutes; on a quiet machine that is enough to see a few percent.
    let criterion = Criterion::default().warm_up_time(Duration::from_millis(500));
    let mut criterion = criterion.measurement_time(Duration::from_secs(2)).configure_from_args();
    jobs::all(&mut criterion);
    answers::all(&mut criterion);
    events::all(&mut criterion);
    routes::all(&mut criterion);
    criterion.final_summary();
}
