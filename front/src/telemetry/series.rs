//! What is counted of one route, and of one queue: their members of the families, held by who counts.
//!
//! A route's belong to the router's entries and a queue's to the queue's state, so that they go when the configuration that
//! named them goes.

use std::sync::Arc;
use std::time::Duration;

use super::kinds::{Gauge, Histogram, Seconds, StatusCounter};
use super::metrics::Metrics;

/// What is counted of a route.
#[derive(Debug)]
pub struct RouteSeries {
    path: Arc<str>,
    requests: Arc<StatusCounter>,
    seconds: Arc<Histogram>,
}

impl RouteSeries {
    /// Of the route in this place of the configuration, from 1; 0: of requests that no route takes.
    pub fn of(metrics: &Metrics, number: usize, path: &str) -> Self {
        let path: Arc<str> = path.into();
        let of = (number, &*path);
        Self { requests: metrics.route_requests.of(of), seconds: metrics.route_seconds.of(of), path }
    }

    /// The route's path as the configuration has it; nothing where there is no route.
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// A request has its answer's head, `took` after its arrival.
    pub fn answered(&self, status: u16, took: Duration) {
        self.requests.inc(status);
        self.seconds.observe(took);
    }
}

/// What is counted of a queue.
#[derive(Debug)]
pub struct QueueSeries {
    /// Jobs in its lists.
    pub depth: Arc<Gauge>,
    /// The age of the oldest of them.
    pub oldest: Arc<Seconds>,
    /// Workers that beat.
    pub workers: Arc<Gauge>,
    job: Arc<Histogram>,
    wait: Arc<Histogram>,
    service: Arc<Histogram>,
}

impl QueueSeries {
    /// Of the queue with this name.
    pub fn of(metrics: &Metrics, queue: &str) -> Self {
        Self {
            depth: metrics.queue_depth.of(queue),
            oldest: metrics.queue_oldest.of(queue),
            workers: metrics.queue_workers.of(queue),
            job: metrics.job_seconds.of(queue),
            wait: metrics.job_wait.of(queue),
            service: metrics.job_service.of(queue),
        }
    }

    /// The first message of an answer came `after` the push; the worker says that it `took` so much of that. A worker's
    /// clock may run a little faster than ours, or it may say anything: the wait is never below nothing.
    pub fn answered(&self, after: Duration, took: Option<Duration>) {
        self.job.observe(after);
        if let Some(took) = took.map(|took| took.min(after)) {
            self.service.observe(took);
            self.wait.observe(after - took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_and_service_add_up_to_the_whole() {
        let metrics = Metrics::new();
        let queue = QueueSeries::of(&metrics, "web");
        let ms = Duration::from_millis;
        queue.answered(ms(30), Some(ms(10)));
        queue.answered(ms(30), None);
        queue.answered(ms(30), Some(ms(1000)));
        let text = metrics.render();
        for line in [
            "tempest_job_duration_seconds_sum{queue=\"web\"} 0.09",
            "tempest_job_wait_seconds_sum{queue=\"web\"} 0.02",
            "tempest_job_service_seconds_sum{queue=\"web\"} 0.04",
            "tempest_job_service_seconds_count{queue=\"web\"} 2",
            "tempest_job_wait_seconds_bucket{queue=\"web\",le=\"0.0001\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    #[test]
    fn a_route_counts_for_itself() {
        let metrics = Metrics::new();
        RouteSeries::of(&metrics, 0, "").answered(404, Duration::ZERO);
        assert!(metrics.render().lines().all(|line| !line.contains("route=\"none\"")), "nobody holds it");
        let route = RouteSeries::of(&metrics, 2, "/a/{b}");
        let none = RouteSeries::of(&metrics, 0, "");
        route.answered(200, Duration::from_millis(2));
        none.answered(404, Duration::ZERO);
        let text = metrics.render();
        assert!(
            text.contains("tempest_route_requests_total{route=\"2\",path=\"/a/{b}\",status=\"200\"} 1\n"),
            "{text}"
        );
        assert!(text.contains("tempest_route_requests_total{route=\"none\",path=\"\",status=\"404\"} 1\n"), "{text}");
        assert!(
            text.contains("tempest_route_request_duration_seconds_sum{route=\"2\",path=\"/a/{b}\"} 0.002\n"),
            "{text}"
        );
    }
}
