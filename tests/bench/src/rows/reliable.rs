//! What reliable mode costs: jobs that stay in Redis until they are answered, and the watch over the workers.

use crate::load::Ask;
use crate::measure::{requests, watching};
use crate::peers::tempest::{self, Claims, Language, Setup};
use crate::peers::{self};
use crate::plan::{Case, Contender, Metric, Size, Table};

fn contender(name: &'static str, setup: Setup, claims: Option<Claims>) -> Contender {
    Contender::new(name, move |place| tempest::start(place, Setup { claims, ..setup }))
}

fn alone(language: Language) -> Setup {
    Setup { language: Some(language), ..tempest::RUST }
}

/// Requests.
pub(super) fn of_requests(size: Size) -> Table {
    let case = |name: &str, clients| Case::new(name, move |server| requests(server, Ask::Hello, clients, size));
    let (base, reliable) = (Some(Claims::Base), Some(Claims::Reliable));
    Table {
        name: "reliable",
        quick: true,
        title: "Reliable mode and base mode",
        about: "The same request, worker and answer as above. base: the worker pops jobs, and takes along what it holds \
                when it dies. reliable: it claims them, they stay in Redis until they are answered, and while any is \
                claimed the front looks every 25 ms whether the workers live. raw python: a script with a Redis client, \
                one job at a time; supervised: the same script under `tempest supervise`, which claims for it. `×` is \
                the ratio to base mode in Rust.",
        base: "tempest, rust, base",
        contenders: vec![
            Contender::new("hyper, 2 threads", peers::hyper_two_threads),
            contender("tempest, rust, base", tempest::RUST, base),
            contender("tempest, rust, reliable", tempest::RUST, reliable),
            contender("tempest, python, base", tempest::PYTHON, base),
            contender("tempest, python, reliable", tempest::PYTHON, reliable),
            contender("tempest, raw python", alone(Language::RawPython), None).full_only(),
            contender("tempest, raw python, supervised", alone(Language::SupervisedPython), None).full_only(),
        ],
        cases: vec![
            case("hello, 1 client", 1).full_only(),
            case("hello, 64 clients", 64),
            case("hello, 512 clients", 512).full_only(),
        ],
        metrics: vec![
            Metric::new("per_second", "requests/s", 0).chart("more is better"),
            Metric::new("cpu_us", "server CPU µs/request", 1).chart("less is better"),
            Metric::new("p50_ms", "p50 ms", 2),
            Metric::new("p99_ms", "p99 ms", 2),
        ],
    }
}

/// Doing nothing, and watching over one worker that works.
pub(super) fn of_watching() -> Table {
    let case = |name: &str, busy| Case::new(name, move |server| watching(server, busy));
    Table {
        name: "watching",
        quick: false,
        title: "Watching over the workers",
        about: "What looking after a queue costs, in thousandths of one processor over ten seconds. Idle: each queue is \
                looked at once a second. One long request: it takes longer than is measured, nothing else happens, and the \
                workers of its queue are looked at every 25 ms, so that the death of one is known at once. The \
                difference is what the watch costs, however many requests there are.",
        base: "tempest, rust, base",
        contenders: vec![
            contender("tempest, rust, base", tempest::RUST, Some(Claims::Base)),
            contender("tempest, rust, reliable", tempest::RUST, Some(Claims::Reliable)),
            contender("tempest, python, reliable", tempest::PYTHON, Some(Claims::Reliable)),
        ],
        cases: vec![case("idle", false), case("one long request", true)],
        metrics: vec![
            Metric::new("front_milli", "front ‰", 2),
            Metric::new("redis_milli", "Redis ‰", 2),
            Metric::new("worker_milli", "worker ‰", 2),
            Metric::new("all_milli", "all ‰", 2).chart("less is better"),
        ],
    }
}
