//! How our own costs grow: nothing may be worse than linear in what there is of it.

use crate::load::Ask;
use crate::measure::{StreamWork, requests, streams};
use crate::peers::tempest::{self, Setup};
use crate::plan::{Case, Contender, Metric, Size, Table};

/// Requests with more and more routes and queues, fronts and clients.
pub(super) fn of_requests(size: Size) -> Table {
    let contender = |name, setup: Setup| Contender::new(name, move |place| tempest::start(place, setup));
    let case = |name: &str, clients| Case::new(name, move |server| requests(server, Ask::Hello, clients, size));
    Table {
        name: "growth-requests",
        quick: false,
        title: "Growth: queues, reactors, fronts, clients",
        about: "The same request to a worker in Rust while there is more of everything else: queues (each with a route of \
                its own that is tried before the one that is taken), reactors, and fronts at the same Redis, of which one is \
                asked. `×` is the ratio to one of each.",
        base: "1 queue",
        contenders: vec![
            contender("1 queue", tempest::RUST),
            contender("10 queues", Setup { queues: 10, ..tempest::RUST }),
            contender("100 queues", Setup { queues: 100, ..tempest::RUST }),
            contender("1,000 queues", Setup { queues: 1_000, ..tempest::RUST }),
            contender("2 reactors", Setup { reactors: 2, ..tempest::RUST }),
            contender("4 reactors", Setup { reactors: 4, ..tempest::RUST }),
            contender("2 fronts", Setup { fronts: 2, ..tempest::RUST }),
            contender("4 fronts", Setup { fronts: 4, ..tempest::RUST }),
            contender("8 fronts", Setup { fronts: 8, ..tempest::RUST }),
        ],
        cases: vec![case("64 clients", 64), case("1,000 clients", 1_000), case("10,000 clients", 10_000)],
        metrics: vec![
            Metric::new("per_second", "requests/s", 0),
            Metric::new("cpu_us", "server CPU µs/request", 1).chart("less is better"),
            Metric::new("p99_ms", "p99 ms", 1),
        ],
    }
}

/// More and more streams.
pub(super) fn of_streams() -> Table {
    let case = |name: &str, count: usize| {
        // As many deliveries at each size, within a tenth of a second's worth of messages a second.
        let per_second = (10_000.0 / count as f64).clamp(0.5, 50.0);
        let work = StreamWork { count, backlog: (4, 2_000), rate: (per_second, (per_second * 4.0).max(3.0) as u64) };
        Case::new(name, move |server| streams(server, work))
    };
    Table {
        name: "growth-streams",
        quick: false,
        title: "Growth: streams of one channel",
        about: "One front, one channel, more and more readers, up to what a process may have open here.",
        base: "tempest",
        contenders: vec![Contender::new("tempest", |place| tempest::start(place, tempest::FRONT))],
        cases: vec![
            case("1 reader", 1),
            case("10 readers", 10),
            case("100 readers", 100),
            case("1,000 readers", 1_000),
            case("10,000 readers", 10_000),
            case("19,000 readers", 19_000),
        ],
        metrics: vec![
            Metric::new("backlog_per_s", "deliveries/s, backlog", 0).chart("more is better"),
            Metric::new("backlog_cpu_us", "CPU µs/delivery", 2),
            Metric::new("rate_cpu_us", "CPU µs/delivery, rate", 2).chart("less is better"),
            Metric::new("rate_p99_ms", "p99 ms, rate", 1),
            Metric::new("idle_bytes", "bytes/idle stream", 0),
            Metric::new("connect_per_s", "streams opened/s", 0),
        ],
    }
}

/// As many streams, of more and more channels.
pub(super) fn of_channels() -> Table {
    const STREAMS: usize = 1_000;
    let contender =
        |name, channels| Contender::new(name, move |place| tempest::start(place, Setup { channels, ..tempest::FRONT }));
    let work = StreamWork { count: STREAMS, backlog: (4, 2_000), rate: (5.0, 20) };
    Table {
        name: "growth-channels",
        quick: false,
        title: "Growth: channels",
        about: "1,000 streams read one channel, ten, a hundred, a thousand; every message is published to each channel, so \
                deliveries are as many and publications are more. `×` is the ratio to one channel.",
        base: "1 channel",
        contenders: vec![
            contender("1 channel", 1),
            contender("10 channels", 10),
            contender("100 channels", 100),
            contender("1,000 channels", 1_000),
        ],
        cases: vec![Case::new("1,000 readers", move |server| streams(server, work))],
        metrics: vec![
            Metric::new("backlog_per_s", "deliveries/s, backlog", 0),
            Metric::new("backlog_cpu_us", "CPU µs/delivery", 2),
            Metric::new("rate_cpu_us", "CPU µs/delivery, rate", 2).chart("less is better"),
            Metric::new("rate_p99_ms", "p99 ms, rate", 1),
            Metric::new("idle_bytes", "bytes/idle stream", 0),
            Metric::new("connect_per_s", "streams opened/s", 0),
        ],
    }
}
