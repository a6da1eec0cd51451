//! The same small handler in Python: as a worker, and in the servers that Python applications run in today.

use crate::load::Ask;
use crate::measure::requests;
use crate::peers::{granian, gunicorn, tempest, uvicorn};
use crate::plan::{Case, Contender, Metric, Size, Table};

pub(super) fn table(size: Size) -> Table {
    let case = |name: &str, ask, clients| Case::new(name, move |server| requests(server, ask, clients, size));
    Table {
        name: "python",
        quick: true,
        title: "A handler in Python",
        about: "The same few lines in Python: as a Tempest worker behind front and Redis, and in the servers for WSGI and \
                ASGI applications, asked directly, without the proxy that their documents advise before them.",
        base: "uvicorn, 2 workers",
        contenders: vec![
            Contender::new("tempest, python", |place| tempest::start(place, tempest::PYTHON)),
            Contender::new("tempest, python × 2", |place| {
                tempest::start(place, tempest::Setup { workers: 2, ..tempest::PYTHON })
            })
            .full_only(),
            Contender::new("uvicorn, 2 workers", uvicorn::two_workers),
            Contender::new("uvicorn, 1 worker", uvicorn::one_worker).full_only(),
            Contender::new("granian, 1 worker", granian::one_worker),
            Contender::new("granian, 2 workers", granian::two_workers),
            Contender::new("granian, 2 workers, WSGI", granian::two_workers_wsgi).full_only(),
            Contender::new("gunicorn, 2 × 4 threads", gunicorn::gthread),
        ],
        cases: vec![
            case("hello, 1 client", Ask::Hello, 1).full_only(),
            case("hello, 64 clients", Ask::Hello, 64),
            case("hello, 512 clients", Ask::Hello, 512).full_only(),
        ],
        metrics: vec![
            Metric::new("per_second", "requests/s", 0).chart("more is better"),
            Metric::new("cpu_us", "server CPU µs/request", 1).chart("less is better"),
            Metric::new("p50_ms", "p50 ms", 2),
            Metric::new("p99_ms", "p99 ms", 2),
        ],
    }
}
