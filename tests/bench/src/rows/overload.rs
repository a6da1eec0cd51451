//! More requests than a worker can do: is what can be done still done, for those who still wait?

use crate::measure::{Peaks, overload};
use crate::peers::tempest::Setup;
use crate::peers::{gunicorn, tempest};
use crate::plan::{Case, Contender, Metric, Table};

/// Requests that a worker works at at a time: with 5 ms each some 700 a second, so that clients and front have room.
const CONCURRENCY: Option<usize> = Some(4);

/// The defaults, with a deadline as long as the clients' patience.
const LIMITED: Setup = Setup {
    concurrency: CONCURRENCY,
    tables: r#"
[[route]]
path = "/{rest...}"
queue = "web"
timeout = "2s"
"#,
    ..tempest::RUST
};

/// A plain queue: everything that limits it, or takes out what nobody waits for, is off.
const UNLIMITED: Setup = Setup {
    concurrency: CONCURRENCY,
    settings: r#"
limits.queue_depth = 1000000000
limits.pending = 1000000
limits.withdraw_depth = 0
"#,
    tables: r#"
[[route]]
path = "/{rest...}"
queue = "web"
timeout = "60s"
max_wait = "1h"
client_gone = "finish"
"#,
    ..tempest::RUST
};

pub(super) fn table() -> Table {
    let peaks = Peaks::default();
    let case = |times_peak: f64| {
        let peaks = Peaks::clone(&peaks);
        let case = Case::new(format!("{times_peak} × the peak"), move |server| overload(server, times_peak, &peaks));
        // What a short look at it cannot do without: all that can be done, and far more.
        if matches!(times_peak, 1.0 | 4.0) { case } else { case.full_only() }
    };
    Table {
        name: "overload",
        quick: false,
        title: "Overload",
        about: "A request takes 5 ms of a worker that works at four at a time; the peak is what 32 clients get out of it in a \
                closed loop. Then requests come at a fixed rate, whatever becomes of them, and each client leaves after \
                2 s. Goodput: right answers within the patience; it is measured after 4.5 s of this load. limited: the \
                defaults, with a route whose timeout is those 2 s. unlimited: the same front and worker with everything \
                switched off that limits the queue, or takes out of it what nobody waits for any more. Memory: of front and \
                Redis (of all processes, where there are no others), before this load and at its end; growth: its end to \
                its begin, both under load. Itself again: how long after it one client is answered within 100 ms; 90 s are \
                the most that is tried.",
        base: "tempest, limited",
        contenders: vec![
            Contender::new("tempest, limited", |place| tempest::start(place, LIMITED)),
            Contender::new("tempest, unlimited", |place| tempest::start(place, UNLIMITED)),
            Contender::new("gunicorn, 4 threads", gunicorn::four_threads),
        ],
        cases: [0.5, 1.0, 1.5, 2.0, 3.0, 4.0].map(case).into(),
        metrics: vec![
            Metric::new("good_share", "goodput, of the peak", 2).curve("offered", "offered load, of the peak"),
            Metric::new("good_per_s", "goodput/s", 0),
            Metric::new("p99_ms", "p99 ms of the answered", 0),
            Metric::new("refused", "refused %", 1),
            Metric::new("left", "client left %", 1),
            Metric::new("failed", "failed %", 1),
            Metric::new("before_mb", "memory MB before", 1),
            Metric::new("memory_mb", "at the end", 1),
            Metric::new("memory_growth", "growth", 2),
            Metric::new("recovered_s", "itself again, s", 1),
        ],
    }
}
