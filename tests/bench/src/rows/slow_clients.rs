//! Slow clients beside fast ones: does a crowd on bad connections take the server away from everybody else?

use crate::measure::crowd;
use crate::peers::{granian, gunicorn, nginx, tempest};
use crate::plan::{Case, Contender, Metric, Size, Table};

/// Clients that send a byte a second and read 1 KiB a second.
const SLOW: usize = 1_000;
/// Clients that are measured.
const FAST: usize = 50;

pub(super) fn table(size: Size) -> Table {
    let run_ms = match size {
        Size::Quick => 3_000,
        Size::Full => 8_000,
    };
    Table {
        name: "slow-clients",
        quick: true,
        title: "Slow clients beside fast ones",
        about: "1,000 clients send the end of a 64 KiB body at a byte a second and read the same 64 KiB at 1 KiB a second. \
                Beside them 50 fast clients ask for `/hello` in a closed loop and are measured; a request that is not \
                answered by the end counts with the time it has waited. Handlers are in Python everywhere.",
        base: "granian, 1 worker",
        contenders: vec![
            Contender::new("tempest, python", |place| tempest::start(place, tempest::PYTHON)),
            Contender::new("granian, 1 worker", granian::one_worker),
            Contender::new("gunicorn, 2 × 4 threads", gunicorn::gthread),
            Contender::new("nginx → gunicorn", nginx::before_gunicorn).full_only(),
        ],
        cases: vec![Case::new("1,000 slow, 50 fast", move |server| crowd(server, SLOW, FAST, run_ms))],
        metrics: vec![
            Metric::new("p99_ms", "p99 ms", 1).chart("less is better"),
            Metric::new("p50_ms", "p50 ms", 1),
            Metric::new("max_ms", "longest ms", 1),
            Metric::new("per_second", "requests/s", 0),
        ],
    }
}
