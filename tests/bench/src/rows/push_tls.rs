//! Streams by TLS and by HTTP/2 that wait, and how the memory of each way grows. Part of `./dev bench push`.

use super::push::{parts, several};
use crate::measure::{grown, held};
use crate::peers::{Speaks, nginx, tempest};
use crate::plan::{Case, Contender, Metric, Table};

/// The server that ratios are to.
const NCHAN: &str = "nchan, TLS";
/// Streams over one connection, where there are several: as many as a browser's tabs never have.
const SEVERAL: Speaks = Speaks::Http2(100);
const SINGLE: Speaks = Speaks::Http2(1);

/// Both, with the numbers of streams divided by `divide`.
pub(super) fn tables(divide: usize) -> [Table; 2] {
    [of_memory(&parts(&[1_000, 5_000, 10_000], divide)), of_growth((1_000 / divide).max(1), (19_000 / divide).max(1))]
}

fn ours(name: &'static str, tls: Option<Speaks>) -> Contender {
    Contender::new(name, move |place| tempest::start(place, tempest::Setup { tls, ..tempest::FRONT }))
}

fn nchan(name: &'static str, speaks: Speaks, buffer: Option<&'static str>) -> Contender {
    Contender::new(name, move |place| nginx::streams_by_tls(place, speaks, buffer))
}

fn of_memory(counts: &[usize]) -> Table {
    let case = |count: usize| Case::new(several(count, "stream"), move |server| held(server, &[server.address], count));
    Table {
        name: "push-tls",
        quick: false,
        title: "Memory of streams that wait, by TLS",
        about: "As above, one reactor beside one worker of nginx. TLS 1.3, each greeting a whole one, certificates of P-256; \
                the client trusts them and chooses HTTP/1.1 or HTTP/2 by ALPN.",
        base: NCHAN,
        contenders: vec![
            ours("tempest, plain", None),
            ours("tempest, TLS", Some(Speaks::Http1)),
            ours("tempest, HTTP/2, 1 a connection", Some(SINGLE)),
            ours("tempest, HTTP/2, 100 a connection", Some(SEVERAL)),
            nchan(NCHAN, Speaks::Http1, None),
            nchan("nchan, TLS, buffers of 4 KB", Speaks::Http1, Some("4k")),
            nchan("nchan, HTTP/2, 1 a connection", SINGLE, None),
            nchan("nchan, HTTP/2, 100 a connection", SEVERAL, None),
        ],
        cases: counts.iter().copied().map(case).collect(),
        metrics: vec![
            Metric::new("idle_kb", "KB/stream", 2).chart("less is better"),
            Metric::new("kernel_kb", "kernel KB/stream, both ends", 2),
            Metric::new("memory_mb", "memory MB", 1),
            Metric::new("open_per_s", "streams opened/s", 0),
            Metric::new("open_cpu_us", "server CPU µs/stream", 1),
        ],
    }
}

fn of_growth(step: usize, count: usize) -> Table {
    let case = Case::new(format!("up to {}", several(count, "stream")), move |server| grown(server, step, count));
    Table {
        name: "push-growth",
        quick: false,
        title: "What a further stream takes",
        about: "Streams are opened one after another, and stay. By the line that lies nearest to the memory after each \
                thousand: what the server takes once, beyond what it begins with, and what for each further stream; the \
                same of the first and of the last half alone; and how far the line is off at most.",
        base: "nchan",
        contenders: vec![
            ours("tempest", None),
            ours("tempest, TLS", Some(Speaks::Http1)),
            ours("tempest, HTTP/2, 1 a connection", Some(SINGLE)),
            ours("tempest, HTTP/2, 100 a connection", Some(SEVERAL)),
            Contender::new("nchan", nginx::streams),
            nchan(NCHAN, Speaks::Http1, None),
        ],
        cases: vec![case],
        metrics: vec![
            Metric::new("begin_mb", "MB at the begin", 1),
            Metric::new("once_mb", "MB once", 1),
            Metric::new("slope_bytes", "bytes/further stream", 0).chart("less is better"),
            Metric::new("first_bytes", "first half", 0),
            Metric::new("last_bytes", "last half", 0),
            Metric::new("bend", "last to first", 2),
            Metric::new("off_mb", "MB off at most", 1),
            Metric::new("memory_mb", "memory MB", 1),
        ],
    }
}
