//! Jobs of other priorities than the normal one.

use std::time::Duration;

use tempest_protocol::scripts::PUSH;
use tempest_worker::App;
use tokio::time::Instant;

use crate::harness::{Front, QUEUE, Redis, Worker, get};

const HIGH: &str = "{tempest:web}:high";
const LOW: &str = "{tempest:web}:low";

/// As the front pushes what a route calls urgent, or not.
async fn push(front: &mut Front, id: &str, class: &str) {
    let job = get(id, "/").to_string() + "\n";
    front.script(PUSH, &[QUEUE, HIGH, LOW], &[&job, class]).await;
}

#[tokio::test]
async fn the_urgent_goes_first_and_nothing_starves() {
    const EACH: usize = 40;
    let redis = Redis::start();
    let mut front = redis.front().await;
    for n in 0..EACH {
        for (class, key) in [("low", LOW), ("normal", QUEUE), ("high", HIGH)] {
            front.command(&["RPUSH", key, &(get(&format!("{class}-{n}"), "/").to_string() + "\n")]).await;
        }
    }
    // One at a time, so that the order of the answers is that of the claims.
    let app = App::new().fallback(|_| async {}).concurrency(1).batch(1);
    let worker = Worker::start(&redis, app);
    let mut order = Vec::new();
    for _ in 0..3 * EACH {
        order.push(front.answer().await.id);
    }
    let place = |class: &str| {
        let places = order.iter().enumerate().filter(|(_, id)| id.starts_with(class)).map(|(at, _)| at);
        places.collect::<Vec<_>>()
    };
    let (high, normal, low) = (place("high"), place("normal"), place("low"));
    // Of ten claims seven, two, one, as long as there are jobs of all three.
    let first = |places: &[usize]| places.iter().filter(|&&at| at < 50).count();
    assert_eq!((first(&high), first(&normal), first(&low)), (35, 10, 5), "{order:?}");
    assert!(low[0] < 10, "the head of the lowest list came as number {}", low[0] + 1);
    // At the end, when one list after another is empty, heads of two are taken in turn.
    for class in ["high", "normal", "low"] {
        let numbers = order[..50].iter().filter_map(|id| id.strip_prefix(class)?[1..].parse::<usize>().ok());
        assert!(numbers.enumerate().all(|(at, number)| at == number), "{class} keeps its order: {order:?}");
    }
    worker.stopped().await;
}

#[tokio::test]
async fn a_worker_that_waits_is_woken_at_once() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let worker = Worker::start(&redis, App::new().fallback(|_| async {}));
    let mut shortest = Duration::MAX;
    for round in 0..4 {
        for class in ["high", "low"] {
            front.until_waiting(1).await;
            let (id, since) = (format!("{class}-{round}"), Instant::now());
            push(&mut front, &id, class).await;
            assert_eq!(front.answer().await.id, id);
            shortest = shortest.min(since.elapsed());
        }
    }
    // A wait lasts for a second, and nobody looks before its end.
    assert!(shortest < Duration::from_millis(500), "{shortest:?}");
    // What a stranger pushes past the script is found after it.
    front.until_waiting(1).await;
    front.command(&["RPUSH", HIGH, &(get("raw", "/").to_string() + "\n")]).await;
    assert_eq!(front.answer().await.id, "raw");
    worker.stopped().await;
}
