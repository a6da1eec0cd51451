//! Streams in great number: memory, opening, delivery, and readers that do not read. `./dev bench push` runs these
//! tables and those of TLS, within ten minutes.

use crate::measure::{StalledWork, StreamWork, held, stalled, streams};
use crate::peers::{fan_out, nginx, tempest};
use crate::plan::{Case, Contender, Metric, Table};
use crate::report::text;

/// Fronts where a machine is filled, and streams of each: what 20,000 descriptors leave room for.
const FRONTS: usize = 5;
const MOST: usize = 19_000;
/// The server that ratios are to.
const NCHAN: &str = "nchan, 2 workers";

/// All of them, with the numbers of streams divided by `divide`. What a case is called says what is really opened.
pub(super) fn tables(divide: usize) -> Vec<Table> {
    let parts = |counts: &[usize]| parts(counts, divide);
    let most = parts(&[MOST])[0];
    vec![
        of_memory(&parts(&[1_000, 5_000, 10_000, MOST])),
        of_fronts(most),
        of_opening(parts(&[10_000])[0]),
        of_delivery(&parts(&[1, 10, 100, 1_000, 10_000, MOST])),
        of_stalled(parts(&[1_000])[0]),
    ]
}

/// Numbers of streams, divided.
pub(super) fn parts(counts: &[usize], divide: usize) -> Vec<usize> {
    let mut parts: Vec<_> = counts.iter().map(|count| (count / divide).max(1)).collect();
    // A case is known by its name: two of the same would be one.
    parts.dedup();
    parts
}

fn ours(name: &'static str, setup: tempest::Setup) -> Contender {
    Contender::new(name, move |place| tempest::start(place, setup))
}

/// `19,000 streams`.
pub(super) fn several(count: usize, what: &str) -> String {
    format!("{} {what}{}", text(count as f64, 0), if count == 1 { "" } else { "s" })
}

fn of_memory(counts: &[usize]) -> Table {
    let case = |count: usize| Case::new(several(count, "stream"), move |server| held(server, &[server.address], count));
    Table {
        name: "push-memory",
        quick: false,
        title: "Memory of streams that wait",
        about: "So many streams of one channel are opened at one front, one load at a time, and nothing is published. Memory: \
                the proportional share of resident pages of all processes of the server, less what they had before the \
                first stream. Kernel: its own objects and what lies in the buffers of TCP, of the whole machine and so of both \
                ends. All streams must be open in the end.",
        base: NCHAN,
        contenders: vec![ours("tempest", tempest::FRONT), Contender::new(NCHAN, nginx::streams)],
        cases: counts.iter().copied().map(case).collect(),
        metrics: vec![
            Metric::new("idle_kb", "KB/stream", 2).chart("less is better"),
            Metric::new("kernel_kb", "kernel KB/stream, both ends", 2),
            Metric::new("memory_mb", "memory MB", 1),
            Metric::new("open_per_s", "streams opened/s", 0),
        ],
    }
}

fn of_fronts(count: usize) -> Table {
    let case = Case::new(format!("{} at each", several(count, "stream")), move |server| {
        held(server, &tempest::addresses(server), count)
    });
    Table {
        name: "push-fronts",
        quick: false,
        title: "A machine full of streams",
        about: "As above, with five fronts at one Redis, and as many streams at each. `×` is the ratio to one front \
                with a fifth of them.",
        base: "1 front",
        contenders: vec![
            ours("1 front", tempest::FRONT),
            ours("5 fronts", tempest::Setup { fronts: FRONTS, ..tempest::FRONT }),
        ],
        cases: vec![case],
        metrics: vec![
            Metric::new("idle_kb", "KB/stream", 2),
            Metric::new("kernel_kb", "kernel KB/stream, both ends", 2),
            Metric::new("memory_mb", "memory MB", 1),
            Metric::new("open_per_s", "streams opened/s", 0),
        ],
    }
}

fn of_opening(count: usize) -> Table {
    Table {
        name: "push-opening",
        quick: false,
        title: "Opening streams",
        about: "From the first connection until the head of the last stream has come, 256 of them on their way at a time, as after a \
                front or a network was gone.",
        base: NCHAN,
        contenders: vec![
            ours("tempest", tempest::FRONT),
            ours("tempest, 2 reactors", tempest::Setup { reactors: 2, ..tempest::FRONT }),
            Contender::new(NCHAN, nginx::streams),
        ],
        cases: vec![Case::new(several(count, "stream"), move |server| held(server, &[server.address], count))],
        metrics: vec![
            Metric::new("open_s", "seconds", 2).chart("less is better"),
            Metric::new("open_per_s", "streams opened/s", 0),
            Metric::new("open_cpu_us", "server CPU µs/stream", 1),
        ],
    }
}

/// Messages that are always under way, and the more of them of a second row for many readers.
const UNDER_WAY: u64 = 4;
const MORE_UNDER_WAY: u64 = 16;
/// From so many readers on there is a second row.
const MANY: usize = 1_000;

fn of_delivery(counts: &[usize]) -> Table {
    let case = |count: usize, under_way: u64| {
        // As many deliveries at each size as clock ticks need to tell them, within some two seconds.
        let per_second = (10_000.0 / count as f64).clamp(0.75, 500.0);
        let work = StreamWork {
            count,
            backlog: (under_way, 200 * under_way),
            rate: (per_second, (per_second * 1.5).max(2.0) as u64),
        };
        let name = several(count, "reader");
        let name = if under_way == UNDER_WAY { name } else { format!("{name}, {under_way} under way") };
        Case::new(name, move |server| streams(server, work))
    };
    Table {
        name: "push-delivery",
        quick: false,
        title: "Delivery to few and to many",
        about: "One channel, messages of 100 bytes. Backlog: four are always under way, or sixteen; those that are due at the same \
                time go to Redis in one write. Rate: one at a time, some 10,000 deliveries a second in all (500 to one reader). \
                Tokio alone: a task and a place in a broadcast channel for each reader, what waits joined into one write, and \
                nothing else that a front does.",
        base: "tokio alone, 2 threads",
        contenders: vec![
            ours("tempest", tempest::FRONT),
            ours("tempest, 2 reactors", tempest::Setup { reactors: 2, ..tempest::FRONT }),
            Contender::new("tokio alone, 2 threads", fan_out::two_threads),
            Contender::new(NCHAN, nginx::streams),
        ],
        cases: (counts.iter().map(|count| case(*count, UNDER_WAY)))
            .chain(counts.iter().filter(|count| **count >= MANY).map(|count| case(*count, MORE_UNDER_WAY)))
            .collect(),
        metrics: vec![
            Metric::new("backlog_per_s", "deliveries/s, backlog", 0).chart("more is better"),
            Metric::new("backlog_cpu_us", "CPU µs/delivery, backlog", 2),
            Metric::new("rate_cpu_us", "CPU µs/delivery, rate", 2).chart("less is better"),
            Metric::new("rate_p99_ms", "p99 ms, rate", 1),
        ],
    }
}

fn of_stalled(count: usize) -> Table {
    // Some 160 KB for each: the sockets between have been seen to take 90 and not to be full. No more than 1,024 messages
    // are behind those, or the front would disconnect.
    let work = StalledWork { readers: count, stalled: count, fill: (400.0, 1_200), rate: (10.0, 20) };
    Table {
        name: "push-stalled",
        quick: false,
        title: "Readers that do not read",
        about: "The readers get 10 messages a second, alone and then beside as many clients that opened the same stream and read \
                nothing. 1,200 messages go before, so that the buffers between are full. Stuck: of those clients, how many the \
                kernel had bytes for that it could not get rid of, before the measuring and after it; fewer after it were \
                disconnected. Ratio: p99 of the readers, beside to alone.",
        base: NCHAN,
        contenders: vec![ours("tempest", tempest::FRONT), Contender::new(NCHAN, nginx::streams)],
        cases: vec![Case::new(
            format!("{} beside as many that do not read", several(count, "reader")),
            move |server| stalled(server, work),
        )],
        metrics: vec![
            Metric::new("p99_ratio", "p99, beside to alone", 2).chart("less is better"),
            Metric::new("alone_p99_ms", "p99 ms, alone", 1),
            Metric::new("beside_p99_ms", "p99 ms, beside", 1),
            Metric::new("alone_cpu_us", "CPU µs/delivery, alone", 2),
            Metric::new("beside_cpu_us", "CPU µs/delivery, beside", 2),
            Metric::new("beside_stuck", "stuck before", 0),
            Metric::new("beside_stuck_after", "stuck after", 0),
        ],
    }
}
