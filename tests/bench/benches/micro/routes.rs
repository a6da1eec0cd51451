//! Finding the route of a request: the last of many, which is the longest way.

use std::hint::black_box;

use criterion::Criterion;
use http::Method;
use tempest::config::{QueueRoute, Route, RouteAround, RouteKind};
use tempest::http::{Router, Target};
use tempest::telemetry::Metrics;
use tempest_protocol::{Keys, QueueName};

pub(super) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find a route");
    for count in [1, 10, 100] {
        let routes: Vec<_> = (1..count).map(|nth| route(&format!("/api/v1/things{nth}/{{id}}"))).collect();
        let routes = [routes, vec![route("/{rest...}")]].concat();
        let (router, _) = Router::new(&routes, &Keys::new("tempest"), 10_000, &[], &Metrics::new());
        let find = || {
            router.find(black_box(&Method::GET), black_box(Some("app.example.org")), black_box("/api/v1/orders/18034"))
        };
        assert!(matches!(find().map(|found| found.target), Ok(Target::Queue(..))), "the last route takes everything");
        group.bench_function(format!("the last of {count}"), |bencher| bencher.iter(|| black_box(find().is_ok())));
    }
}

fn route(pattern: &str) -> Route {
    let queue = QueueName::new("web").expect("it is a name");
    let kind = RouteKind::Queue(QueueRoute::new(queue));
    Route {
        path: pattern.parse().expect("it is a pattern"),
        methods: None,
        host: None,
        kind,
        around: RouteAround::default(),
    }
}
