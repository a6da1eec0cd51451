//! Heads that never end: what do thousands of them do to everybody else?

use crate::measure::slowloris;
use crate::peers::tempest::Setup;
use crate::peers::{self, tempest};
use crate::plan::{Case, Contender, Metric, Size, Table};

/// Clients that never finish their head.
const SLOW: usize = 5_000;
/// Clients that are measured.
const FAST: usize = 8;

/// A time for heads that passes within a measurement: each slow client is ended and comes back, again and again.
const SETUP: Setup = Setup { settings: "limits.head_time = \"3s\"\n", ..tempest::RUST };

pub(super) fn table(size: Size, divide: usize) -> Table {
    let slow = SLOW / divide;
    Table {
        name: "slowloris",
        quick: false,
        title: "Heads that never end",
        about: "8 clients ask for `/hello` in a closed loop, first alone and then beside 5,000 connections that send a byte of \
                a header every second and never the end. The ratios are of one run: with them to without. Tempest gives a \
                head 3 s here (10 s by default); whoever is ended connects again at once. hyper, set up plainly, gives it for ever.",
        base: "hyper, 2 threads",
        contenders: vec![
            Contender::new("tempest, rust", |place| tempest::start(place, SETUP)),
            Contender::new("hyper, 2 threads", peers::hyper_two_threads),
        ],
        cases: vec![Case::new("5,000 slow heads", move |server| slowloris(server, slow, FAST, size))],
        metrics: vec![
            Metric::new("p99_ratio", "p99, with to without", 2).chart("less is better"),
            Metric::new("per_second_ratio", "requests/s, with to without", 2),
            Metric::new("p99_ms", "p99 ms with", 2),
            Metric::new("alone_p99_ms", "p99 ms without", 2),
            Metric::new("connected", "slow ones connected", 0),
            Metric::new("open", "of them at the end", 0),
            Metric::new("ended", "ended meanwhile", 0),
        ],
    }
}
