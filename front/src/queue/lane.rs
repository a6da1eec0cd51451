//! A queue as one reactor sees it, and the lane of a route into it: what it lets in and what it says when it is full.
//!
//! It holds numbers that others measured. It must not send anything.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tempest_protocol::{QueueKeys, QueueName};
use tokio::sync::Notify;

use super::rate::Rate;
use crate::config::{Priority, QueueRoute};
use crate::telemetry::{Metrics, QueueSeries};

/// After a queue was found full, requests for it are refused this long without asking Redis.
const FULL_PAUSE: Duration = Duration::from_millis(100);
/// Bounds of `Retry-After`, in seconds.
const RETRY_AFTER: (f64, f64) = (1.0, 60.0);
/// A queue in which something was answered this recently has a worker, registered or not.
const ANSWERED_LATELY: Duration = Duration::from_secs(30);
/// The part of its time that a request may spend waiting for a worker; the rest is for the work.
const WAITING_SHARE: f64 = 0.5;

/// One queue as this reactor sees it.
pub struct QueueState {
    /// Its name.
    pub name: QueueName,
    /// Its keys in Redis.
    pub keys: QueueKeys,
    /// The keys of its three lists.
    pub(super) lists: [String; 3],
    pub(super) withdrawn: String,
    /// A keeper looks after it.
    pub(super) kept: Cell<bool>,
    /// Requests that wait for answers here.
    waiting: Cell<usize>,
    wanted: Notify,
    answered: Cell<u64>,
    last_answer: Cell<Option<Instant>>,
    depth: Cell<Depth>,
    full_until: Cell<Option<Instant>>,
    rate: RefCell<Rate>,
    taken: Cell<Option<u64>>,
    workers: Cell<u64>,
    /// What is counted of it.
    pub(super) series: QueueSeries,
}

/// How deep the queue was when.
#[derive(Clone, Copy)]
struct Depth {
    jobs: u64,
    at: Instant,
}

/// What a look at the queue found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Jobs in its lists.
    pub(super) depth: u64,
    /// Jobs ever claimed.
    pub(super) taken: u64,
    /// Workers that beat.
    pub(super) workers: u64,
}

impl QueueState {
    /// A queue with these keys.
    pub fn new(name: QueueName, keys: QueueKeys, metrics: &Metrics) -> Rc<Self> {
        Rc::new(Self {
            series: QueueSeries::of(metrics, name.as_str()),
            name,
            lists: [keys.normal().to_owned(), keys.high(), keys.low()],
            withdrawn: keys.withdrawn(),
            kept: Cell::new(false),
            keys,
            waiting: Cell::new(0),
            wanted: Notify::new(),
            answered: Cell::new(0),
            last_answer: Cell::new(None),
            depth: Cell::new(Depth { jobs: 0, at: Instant::now() }),
            full_until: Cell::new(None),
            rate: RefCell::default(),
            taken: Cell::new(None),
            workers: Cell::new(0),
        })
    }

    /// One more waits, or one less.
    pub(super) fn waits(&self, more: bool) {
        let before = self.waiting.get();
        self.waiting.set(if more { before + 1 } else { before - 1 });
        if before == 0 {
            self.wanted.notify_one();
        }
    }

    /// Resolves when somebody has begun to wait.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// True while requests of this reactor wait for answers.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.get() > 0
    }

    /// A worker has answered.
    pub(super) fn was_answered(&self, now: Instant) {
        self.answered.set(self.answered.get() + 1);
        self.last_answer.set(Some(now));
    }

    /// A push found it this deep.
    pub(super) fn note_depth(&self, jobs: u64, now: Instant) {
        self.depth.set(Depth { jobs, at: now });
    }

    /// To be called once a second with what was found.
    pub(super) fn looked(&self, look: Look, now: Instant) {
        let answered = self.answered.replace(0);
        self.workers.set(look.workers);
        self.note_depth(look.depth, now);
        // The first look has no second before it.
        let Some(before) = self.taken.replace(Some(look.taken)) else { return };
        // Claims are those of all workers for all fronts; what was answered here is a part of it, unless it was popped.
        let claimed = look.taken.saturating_sub(before);
        self.rate.borrow_mut().second(answered.max(claimed), look.depth > 0 && self.has_worker(now));
    }

    /// True where a worker is registered, or one answered lately.
    pub(super) fn has_worker(&self, now: Instant) -> bool {
        let lately = |at: Instant| now.saturating_duration_since(at) < ANSWERED_LATELY;
        self.workers.get() > 0 || self.last_answer.get().is_some_and(lately)
    }

    /// It was found to be full.
    pub(super) fn found_full(&self, now: Instant) {
        self.full_until.set(Some(now + FULL_PAUSE));
    }

    /// True for a moment after the queue was found full: then nothing is pushed to find out again.
    fn is_full(&self, now: Instant) -> bool {
        self.full_until.get().is_some_and(|until| now < until)
    }

    /// Seconds that a job pushed now is likely to wait; None: nobody knows.
    fn wait(&self, now: Instant) -> Option<f64> {
        let rate = self.rate.borrow();
        let Depth { jobs, at } = self.depth.get();
        let gone = rate.per_second()? * now.saturating_duration_since(at).as_secs_f64();
        rate.wait((jobs as f64 - gone).max(0.0))
    }

    /// When another try makes sense, by depth and rate; whole seconds.
    pub(super) fn retry_after(&self, now: Instant) -> Duration {
        let seconds = self.wait(now).unwrap_or(RETRY_AFTER.0);
        Duration::from_secs_f64(seconds.clamp(RETRY_AFTER.0, RETRY_AFTER.1).ceil())
    }
}

/// A route's way into its queue.
pub struct Lane {
    /// The queue.
    pub queue: Rc<QueueState>,
    /// What the route says.
    pub route: QueueRoute,
    /// Jobs in the queue beyond which it is full.
    pub(super) depth_limit: u64,
    max_wait: f64,
}

impl Lane {
    /// The lane of `route`; `depth_limit` where it names none.
    pub fn new(queue: Rc<QueueState>, route: QueueRoute, depth_limit: u64) -> Rc<Self> {
        let max_wait = route.max_wait.map_or(route.timeout.as_secs_f64() * WAITING_SHARE, |wait| wait.as_secs_f64());
        let depth_limit = route.queue_depth.unwrap_or(depth_limit);
        Rc::new(Self { queue, route, depth_limit, max_wait })
    }

    /// Why a request should not even be pushed now; the time is when to try again.
    pub(super) fn closed(&self, now: Instant) -> Option<Closed> {
        // Urgent jobs do not wait behind what the depth counts.
        let waits = self.route.priority != Priority::High && self.queue.wait(now).is_some_and(|s| s > self.max_wait);
        match self.queue.is_full(now) {
            true => Some(Closed::Full(self.queue.retry_after(now))),
            false => waits.then(|| Closed::TooLong(self.queue.retry_after(now))),
        }
    }
}

/// Why a lane takes nothing at the moment, and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// The queue has as many jobs as it may.
    Full(Duration),
    /// The job would wait longer than it may.
    TooLong(Duration),
}

#[cfg(test)]
mod tests {
    use tempest_protocol::Keys;

    use super::*;

    fn lane(change: impl FnOnce(&mut QueueRoute)) -> Rc<Lane> {
        let name = QueueName::new("web").expect("a name");
        let mut route = QueueRoute::new(name.clone());
        change(&mut route);
        Lane::new(QueueState::new(name, Keys::new("tempest").of_queue("web"), &Metrics::new()), route, 100)
    }

    /// Three seconds of a queue `depth` deep from which `rate` jobs a second are claimed.
    fn measured(lane: &Lane, depth: u64, rate: u64) -> Instant {
        let now = Instant::now();
        for second in 0..4 {
            lane.queue.looked(Look { depth, taken: second * rate, workers: 1 }, now);
        }
        now
    }

    #[test]
    fn a_wait_longer_than_the_request_has_is_refused() {
        let four = || lane(|route| route.timeout = Duration::from_secs(4));
        let lane = four();
        let now = measured(&lane, 0, 10);
        lane.queue.note_depth(90, now);
        assert_eq!(lane.closed(now), None, "nothing is known before a job waited");
        let lane = four();
        let now = measured(&lane, 20, 10);
        assert_eq!(lane.closed(now), None, "two seconds are within half of four");
        lane.queue.note_depth(21, now);
        assert_eq!(lane.closed(now), Some(Closed::TooLong(Duration::from_secs(3))));
        assert_eq!(lane.closed(now + Duration::from_millis(100)), None, "one job has left by now");
    }

    #[test]
    fn a_route_has_limits_of_its_own() {
        let quick = lane(|route| route.max_wait = Some(Duration::from_millis(500)));
        let now = measured(&quick, 6, 10);
        assert_eq!(quick.closed(now), Some(Closed::TooLong(Duration::from_secs(1))), "a second at the least");
        let urgent = lane(|route| {
            route.max_wait = Some(Duration::from_millis(500));
            route.priority = Priority::High;
        });
        let now = measured(&urgent, 6, 10);
        assert_eq!(urgent.closed(now), None, "it overtakes what waits");
        assert_eq!(lane(|_| {}).depth_limit, 100);
        assert_eq!(lane(|route| route.queue_depth = Some(7)).depth_limit, 7);
    }

    #[test]
    fn a_full_queue_stays_closed_for_a_moment() {
        let lane = lane(|_| {});
        let now = measured(&lane, 100, 10);
        lane.queue.found_full(now);
        assert_eq!(lane.closed(now), Some(Closed::Full(Duration::from_secs(10))));
        assert_eq!(lane.closed(now + FULL_PAUSE), None);
    }

    #[test]
    fn four_times_slower_means_four_times_later() {
        let after = |rate| {
            let lane = lane(|_| {});
            let now = measured(&lane, 40, rate);
            lane.queue.retry_after(now).as_secs()
        };
        assert_eq!((after(20), after(5), after(1000)), (2, 8, 1));
        let never = lane(|_| {});
        assert_eq!(never.queue.retry_after(Instant::now()).as_secs(), 1);
        let endless = lane(|_| {});
        let now = measured(&endless, 100_000, 1);
        assert_eq!(endless.queue.retry_after(now).as_secs(), 60);
    }

    #[test]
    fn a_queue_has_a_worker_when_one_beats_or_answered_lately() {
        let queue = &lane(|_| {}).queue;
        let now = Instant::now();
        assert!(!queue.has_worker(now));
        queue.looked(Look { workers: 1, ..Look::default() }, now);
        assert!(queue.has_worker(now));
        queue.looked(Look::default(), now);
        assert!(!queue.has_worker(now));
        queue.was_answered(now);
        assert!(queue.has_worker(now + ANSWERED_LATELY - Duration::from_millis(1)));
        assert!(!queue.has_worker(now + ANSWERED_LATELY));
    }

    #[test]
    fn answers_count_where_workers_pop_by_themselves() {
        let queue = &lane(|_| {}).queue;
        let now = Instant::now();
        for _ in 0..4 {
            (0..5).for_each(|_| queue.was_answered(now));
            queue.looked(Look { depth: 10, taken: 0, workers: 0 }, now);
        }
        assert_eq!(queue.retry_after(now).as_secs(), 2);
    }

    #[test]
    fn those_who_wait_are_counted() {
        let queue = &lane(|_| {}).queue;
        let wanted = || {
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            std::pin::pin!(queue.wanted()).poll(&mut cx).is_ready()
        };
        assert!(!wanted());
        queue.waits(true);
        assert!(wanted() && !wanted(), "who looks after the queue is told once");
        queue.waits(true);
        assert!(!wanted(), "and not of every one");
        queue.waits(false);
        assert!(queue.is_waited_for());
        queue.waits(false);
        assert!(!queue.is_waited_for());
    }
}
