//! Handlers that wait, as those do that ask a database: many at a time, with little to compute.

use crate::load::Ask;
use crate::measure::requests;
use crate::peers::{self, granian, gunicorn, tempest, uvicorn};
use crate::plan::{Case, Contender, Metric, Size, Table};

/// Requests under way.
const CLIENTS: usize = 1_000;

pub(super) fn table(size: Size) -> Table {
    Table {
        name: "waiting",
        quick: false,
        title: "Handlers that wait 20 ms",
        about: "1,000 clients ask a handler that sleeps for 20 ms. An ideal server answers 50,000 requests a second and \
                every p50 is 20 ms; what is missing is the server's.",
        base: "hyper, 2 threads",
        contenders: vec![
            Contender::new("hyper, 2 threads", peers::hyper_two_threads),
            Contender::new("tempest, rust", |place| {
                tempest::start(place, tempest::Setup { concurrency: Some(CLIENTS), ..tempest::RUST })
            }),
            Contender::new("tempest, python", |place| {
                tempest::start(place, tempest::Setup { concurrency: Some(CLIENTS), ..tempest::PYTHON })
            }),
            Contender::new("uvicorn, 2 workers", uvicorn::two_workers),
            Contender::new("granian, 2 workers", granian::two_workers).full_only(),
            Contender::new("gunicorn, 2 × 500 threads", gunicorn::many_threads),
        ],
        cases: vec![Case::new("1,000 clients", move |server| requests(server, Ask::Sleep, CLIENTS, size))],
        metrics: vec![
            Metric::new("per_second", "requests/s", 0).chart("more is better"),
            Metric::new("cpu_us", "server CPU µs/request", 1),
            Metric::new("p50_ms", "p50 ms", 1),
            Metric::new("p99_ms", "p99 ms", 1),
        ],
    }
}
