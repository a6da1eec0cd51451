//! Server-Sent Events: opening streams, holding them, delivering to them.

use crate::measure::{StreamWork, streams};
use crate::peers::{centrifugo, mercure, nginx, pushpin, tempest};
use crate::plan::{Case, Contender, Metric, Size, Table};

/// Messages under way in the phase with a backlog.
const WINDOW: u64 = 4;

pub(super) fn table(size: Size) -> Table {
    let (backlog_ms, messages) = match size {
        Size::Quick => (2_000, 2.0),
        Size::Full => (4_000, 6.0),
    };
    let case = |name: &str, count, per_second: f64| {
        let work = StreamWork {
            count,
            backlog: (WINDOW, backlog_ms),
            rate: (per_second, (per_second * messages).max(4.0) as u64),
        };
        Case::new(name, move |server| streams(server, work))
    };
    Table {
        name: "streams",
        quick: true,
        title: "Server-Sent Events",
        about: "All streams read one channel; each must get every message of 100 bytes once and in order. Backlog: four \
                messages are always under way, so a server may join those that wait. Rate: 10 messages a second to \
                1,000 readers, 1 a second to 10,000, one at a time; the time is from publishing to reading, over all \
                readers, all of them on this machine. Memory: resident, of all processes of the server, per stream, \
                before the first message.",
        base: "nchan, 2 workers",
        contenders: vec![
            Contender::new("tempest", |place| tempest::start(place, tempest::FRONT)),
            Contender::new("tempest, 2 reactors", |place| {
                tempest::start(place, tempest::Setup { reactors: 2, ..tempest::FRONT })
            }),
            Contender::new("nchan, 2 workers", nginx::streams),
            Contender::new("mercure", mercure::streams).full_only(),
            Contender::new("centrifugo", centrifugo::streams).full_only(),
            Contender::new("pushpin", pushpin::streams).full_only(),
        ],
        cases: vec![case("1,000 readers", 1_000, 10.0), case("10,000 readers", 10_000, 1.0)],
        metrics: vec![
            Metric::new("backlog_per_s", "deliveries/s, backlog", 0).chart("more is better"),
            Metric::new("backlog_cpu_us", "CPU µs/delivery", 2),
            Metric::new("rate_cpu_us", "CPU µs/delivery, rate", 2).chart("less is better"),
            Metric::new("rate_p50_ms", "p50 ms, rate", 1),
            Metric::new("rate_p99_ms", "p99 ms, rate", 1).chart("less is better"),
            Metric::new("idle_bytes", "bytes/idle stream", 0).chart("less is better"),
            Metric::new("used_bytes", "bytes after traffic", 0),
            Metric::new("connect_per_s", "streams opened/s", 0),
        ],
    }
}
