//! What a server costs before anybody asks for anything: until it answers, on disk, in memory.

use crate::measure::idle;
use crate::peers::{self, centrifugo, granian, gunicorn, mercure, nginx, pushpin, tempest, uvicorn};
use crate::plan::{Case, Contender, Metric, Table};

pub(super) fn table() -> Table {
    Table {
        name: "start",
        quick: false,
        title: "Starting, and doing nothing",
        about: "Start: from the first process to the first connection that is accepted by all of them (for tempest: \
                Redis, front and worker are up and the front is ready). Memory: the proportional share of resident \
                pages, all processes of the server. CPU: while nothing happens, in thousandths of one processor. \
                Binary: of the first process; interpreters and libraries are not in it.",
        base: "tempest, rust",
        contenders: vec![
            Contender::new("tempest, rust", |place| tempest::start(place, tempest::RUST)),
            Contender::new("tempest, python", |place| tempest::start(place, tempest::PYTHON)),
            Contender::new("hyper, 2 threads", peers::hyper_two_threads),
            Contender::new("nchan, 2 workers", nginx::streams),
            Contender::new("mercure", mercure::streams),
            Contender::new("centrifugo", centrifugo::streams),
            Contender::new("pushpin", pushpin::streams),
            Contender::new("uvicorn, 2 workers", uvicorn::two_workers),
            Contender::new("granian, 2 workers", granian::two_workers),
            Contender::new("gunicorn, 2 × 4 threads", gunicorn::gthread),
        ],
        cases: vec![Case::new("idle", idle)],
        metrics: vec![
            Metric::new("start_ms", "start ms", 0).chart("less is better"),
            Metric::new("memory_mb", "memory MB", 1).chart("less is better"),
            Metric::new("idle_milli", "idle CPU ‰", 1),
            Metric::new("binary_mb", "binary MB", 1),
        ],
    }
}
