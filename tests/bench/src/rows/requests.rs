//! Request → worker → answer: the whole way through front, Redis and worker, beside servers that answer themselves and
//! proxies that pass on.

use crate::load::Ask;
use crate::measure::requests;
use crate::peers::{self, mongrel2, nginx, tempest};
use crate::plan::{Case, Contender, Metric, Size, Table};

/// Bytes of the larger bodies, up and down.
const BODY: usize = 64 * 1024;

pub(super) fn table(size: Size) -> Table {
    let case = |name: &str, ask, clients| Case::new(name, move |server| requests(server, ask, clients, size));
    Table {
        name: "requests",
        quick: true,
        title: "Request, worker, answer",
        about: "A request with one header goes to a worker and its answer comes back, over kept connections, in a closed \
                loop. Each request carries a number that its answer must repeat. tempest: the full job with id, deadline \
                and headers goes through Redis to another process. hyper answers by itself: the limit of the front's own \
                HTTP library. `×` is the ratio to it, round by round.",
        base: "hyper, 2 threads",
        contenders: vec![
            Contender::new("hyper, 2 threads", peers::hyper_two_threads),
            Contender::new("hyper, 1 thread", peers::hyper_one_thread).full_only(),
            Contender::new("tempest, rust", |place| tempest::start(place, tempest::RUST)),
            Contender::new("tempest, rust × 2", |place| {
                tempest::start(place, tempest::Setup { workers: 2, ..tempest::RUST })
            })
            .full_only(),
            Contender::new("tempest, rust, TCP", |place| {
                tempest::start(place, tempest::Setup { unix: false, ..tempest::RUST })
            })
            .full_only(),
            Contender::new("tempest, python", |place| tempest::start(place, tempest::PYTHON)),
            Contender::new("tempest, python × 2", |place| {
                tempest::start(place, tempest::Setup { workers: 2, ..tempest::PYTHON })
            })
            .full_only(),
            Contender::new("mongrel2, rust", mongrel2::one_handler),
            Contender::new("nginx → hyper", nginx::proxy),
        ],
        cases: vec![
            case("hello, 1 client", Ask::Hello, 1),
            case("hello, 64 clients", Ask::Hello, 64),
            case("hello, 512 clients", Ask::Hello, 512).full_only(),
            case("64 KiB up and down, 64 clients", Ask::Echo(BODY), 64).full_only(),
        ],
        metrics: vec![
            Metric::new("per_second", "requests/s", 0).chart("more is better"),
            Metric::new("cpu_us", "server CPU µs/request", 1).chart("less is better"),
            Metric::new("p50_ms", "p50 ms", 2),
            Metric::new("p99_ms", "p99 ms", 2).chart("less is better"),
        ],
    }
}
