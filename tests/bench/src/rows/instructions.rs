//! Instructions and allocations of the front for one request: what an optimisation is guided and judged by, since it
//! shows a percent where clocks show none.

use crate::callgrind;
use crate::measure::instructions;
use crate::peers::{hyper_one_thread_under, tempest};
use crate::plan::{Case, Contender, Metric, Table};

/// Everything is some forty times slower under callgrind, so what the front takes for a stall comes later.
const SETTINGS: &str = r#"
redis.stall = "60s"
redis.patience = "10s"
"#;

pub(super) fn table() -> Table {
    let case = |name: &str, clients| Case::new(name, move |server| instructions(server, clients));
    Table {
        name: "instructions",
        quick: true,
        title: "Instructions of the front",
        about: "What the front executes in user space for one request that a worker answers, and how often it asks for \
                memory, counted by callgrind. Without waiting: without those by which the event loop waits for what \
                comes next, which it does the more often the less comes at a time. hyper answers by itself: the limit \
                of the front's own HTTP library. Beside this report lie `instructions-*.txt`, with the functions that \
                it goes to, and the raw dumps.",
        base: "hyper",
        contenders: vec![
            Contender::new("hyper", |place| {
                callgrind::installed()?;
                Ok(hyper_one_thread_under(place, callgrind::COMMAND))
            }),
            Contender::new("tempest", |place| {
                callgrind::installed()?;
                let counted = tempest::Setup { wrapper: callgrind::COMMAND, settings: SETTINGS, ..tempest::RUST };
                tempest::start(place, counted)
            }),
        ],
        cases: vec![case("hello, 1 client", 1), case("hello, 64 clients", 64)],
        metrics: vec![
            Metric::new("instructions", "instructions/request", 0).chart("less is better"),
            Metric::new("awake", "without waiting", 0),
            Metric::new("allocations", "allocations/request", 2),
        ],
    }
}
