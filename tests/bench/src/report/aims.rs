//! What we hold ourselves to: ratios in one run, a few figures that are ratios by themselves, and whether they are
//! reached.

use super::Done;
use super::figures;

/// A figure that is aimed at, mostly a ratio.
struct Aim {
    what: &'static str,
    table: &'static str,
    case: &'static str,
    metric: &'static str,
    of: &'static str,
    /// The contender that `of` is divided by; None: the figure is meant by itself.
    to: Option<&'static str>,
    bound: Bound,
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

use Bound::{AtLeast, AtMost};

const AIMS: &[Aim] = &[
    aim(
        "server CPU per request, Rust worker, to bare hyper",
        "requests",
        "hello, 64 clients",
        "cpu_us",
        "tempest, rust",
        "hyper, 2 threads",
        AtMost(1.9),
    ),
    aim(
        "the same, to mongrel2 with a Rust handler",
        "requests",
        "hello, 64 clients",
        "cpu_us",
        "tempest, rust",
        "mongrel2, rust",
        AtMost(0.65),
    ),
    aim(
        "requests/s, 64 clients, to bare hyper",
        "requests",
        "hello, 64 clients",
        "per_second",
        "tempest, rust",
        "hyper, 2 threads",
        AtLeast(0.53),
    ),
    aim(
        "p50 at 1 client, to bare hyper",
        "requests",
        "hello, 1 client",
        "p50_ms",
        "tempest, rust",
        "hyper, 2 threads",
        AtMost(2.5),
    ),
    aim(
        "front instructions per request, to bare hyper",
        "instructions",
        "hello, 64 clients",
        "instructions",
        "tempest",
        "hyper",
        AtMost(1.5),
    ),
    aim(
        "Python worker's requests/s, to uvicorn with 2 workers",
        "python",
        "hello, 64 clients",
        "per_second",
        "tempest, python",
        "uvicorn, 2 workers",
        AtLeast(1.0),
    ),
    aim(
        "the same, to granian with 1 worker",
        "python",
        "hello, 64 clients",
        "per_second",
        "tempest, python",
        "granian, 1 worker",
        AtLeast(0.7),
    ),
    aim(
        "reliable mode's requests/s, Rust worker, 64 clients, to base mode",
        "reliable",
        "hello, 64 clients",
        "per_second",
        "tempest, rust, reliable",
        "tempest, rust, base",
        AtLeast(0.85),
    ),
    aim(
        "the same, Python worker",
        "reliable",
        "hello, 64 clients",
        "per_second",
        "tempest, python, reliable",
        "tempest, python, base",
        AtLeast(0.85),
    ),
    aim(
        "server CPU per request in reliable mode, Rust worker, to bare hyper",
        "reliable",
        "hello, 64 clients",
        "cpu_us",
        "tempest, rust, reliable",
        "hyper, 2 threads",
        AtMost(2.2),
    ),
    by_itself(
        "goodput at 4 × the peak, of the peak",
        "overload",
        "4 × the peak",
        "good_share",
        "tempest, limited",
        AtLeast(0.9),
    ),
    by_itself(
        "memory of front and Redis at the end of it, to its begin",
        "overload",
        "4 × the peak",
        "memory_growth",
        "tempest, limited",
        AtMost(1.1),
    ),
    aim(
        "fast clients' p99 beside 1,000 slow ones, to gunicorn",
        "slow-clients",
        "1,000 slow, 50 fast",
        "p99_ms",
        "tempest, python",
        "gunicorn, 2 × 4 threads",
        AtMost(0.2),
    ),
    aim(
        "the same, to granian with 1 worker",
        "slow-clients",
        "1,000 slow, 50 fast",
        "p99_ms",
        "tempest, python",
        "granian, 1 worker",
        AtMost(1.0),
    ),
    aim(
        "deliveries/s with a backlog, 10,000 readers, to nchan",
        "streams",
        "10,000 readers",
        "backlog_per_s",
        "tempest",
        "nchan, 2 workers",
        AtLeast(4.0),
    ),
    aim(
        "server CPU per delivery, one message at a time, 1,000 readers, to nchan",
        "streams",
        "1,000 readers",
        "rate_cpu_us",
        "tempest",
        "nchan, 2 workers",
        AtMost(0.6),
    ),
    aim(
        "the same, 10,000 readers",
        "streams",
        "10,000 readers",
        "rate_cpu_us",
        "tempest",
        "nchan, 2 workers",
        AtMost(0.6),
    ),
    aim(
        "p99 at a fixed rate, 1,000 readers, to nchan",
        "streams",
        "1,000 readers",
        "rate_p99_ms",
        "tempest",
        "nchan, 2 workers",
        AtMost(0.4),
    ),
    aim(
        "the same, 10,000 readers",
        "streams",
        "10,000 readers",
        "rate_p99_ms",
        "tempest",
        "nchan, 2 workers",
        AtMost(0.4),
    ),
    aim(
        "memory per idle stream, to nchan",
        "streams",
        "10,000 readers",
        "idle_bytes",
        "tempest",
        "nchan, 2 workers",
        AtMost(0.15),
    ),
    aim(
        "the same by TLS, to nchan with TLS",
        "push-tls",
        "10,000 streams",
        "idle_kb",
        "tempest, TLS",
        "nchan, TLS",
        AtMost(0.5),
    ),
    aim(
        "the same, to nchan with TLS and buffers of 4 KB",
        "push-tls",
        "10,000 streams",
        "idle_kb",
        "tempest, TLS",
        "nchan, TLS, buffers of 4 KB",
        AtMost(0.5),
    ),
    by_itself(
        "memory per further stream, of the later half of 19,000 to the first",
        "push-growth",
        "up to 19,000 streams",
        "bend",
        "tempest",
        AtMost(1.1),
    ),
];

#[rustfmt::skip]
const fn aim(what: &'static str, table: &'static str, case: &'static str, metric: &'static str, of: &'static str, to: &'static str, bound: Bound) -> Aim {
    Aim { what, table, case, metric, of, to: Some(to), bound }
}

#[rustfmt::skip]
const fn by_itself(what: &'static str, table: &'static str, case: &'static str, metric: &'static str, of: &'static str, bound: Bound) -> Aim {
    Aim { what, table, case, metric, of, to: None, bound }
}

/// The aims of the tables that were measured, as Markdown; empty where there are none.
pub(super) fn table(done: &[Done]) -> String {
    let rows: Vec<_> = AIMS.iter().filter_map(|aim| row(aim, done)).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("## Aims\n\n| ratio | measured | aim | |\n|-|-|-|-|\n{}\n", rows.concat())
}

fn row(aim: &Aim, done: &[Done]) -> Option<String> {
    let (_, results) = done.iter().find(|(table, _)| table.name == aim.table)?;
    let ratio = match aim.to {
        Some(to) => figures::ratio(results, aim.of, to, aim.case, aim.metric),
        None => figures::of(results, aim.of, aim.case, aim.metric),
    };
    let (bound, reached) = match aim.bound {
        AtMost(bound) => (format!("≤ {bound}"), ratio.map(|ratio| ratio.median <= bound)),
        AtLeast(bound) => (format!("≥ {bound}"), ratio.map(|ratio| ratio.median >= bound)),
    };
    let measured = ratio.map_or_else(
        || "not measured".into(),
        |ratio| format!("{:.2} ({:.2}..{:.2})", ratio.median, ratio.min, ratio.max),
    );
    let reached = match reached {
        Some(true) => "reached",
        Some(false) => "**not reached**",
        None => "",
    };
    Some(format!("| {} | {measured} | {bound} | {reached} |\n", aim.what))
}
