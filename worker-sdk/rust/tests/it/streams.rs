//! Answers in parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempest_worker::{App, BoxError, Bytes, Gone, Request, Response};
use tokio::sync::mpsc;

use crate::harness::{REPLY_TO, Redis, Signal, Worker, get};

#[tokio::test]
async fn parts_arrive_while_the_answer_goes_on() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (part, parts) = mpsc::channel::<&'static str>(1);
    let parts = Arc::new(tokio::sync::Mutex::new(parts));
    let handler = move |_| {
        let parts = parts.clone();
        async move {
            let (sender, response) = Response::channel();
            tokio::spawn(async move {
                while let Some(part) = parts.lock().await.recv().await {
                    sender.send(part).await?;
                }
                Ok::<(), Gone>(())
            });
            response.with_header("content-type", "text/event-stream").with_status(201)
        }
    };
    let worker = Worker::start(&redis, App::new().fallback(handler));
    front.push(&get("r-1", "/"), b"").await;
    let head = front.answer().await;
    assert_eq!((head.status, head.n, head.more, head.body.len()), (201, 0, true, 0));
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    for (n, text) in [(1, "one"), (2, "two")] {
        part.send(text).await.expect("a reader");
        let answer = front.answer().await;
        assert_eq!((answer.n, answer.more, answer.text().as_str()), (n, true, text));
        assert!(answer.headers.is_empty(), "headers are said once");
    }
    drop(part);
    let last = front.answer().await;
    assert_eq!((last.n, last.more, last.body.len()), (3, false, 0));
    worker.stopped().await;
}

#[tokio::test]
async fn large_parts_are_cut() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let handler = |_| async { Response::stream(tokio_stream::iter([vec![b'x'; 200_000], vec![b'y'; 10]])) };
    let worker = Worker::start(&redis, App::new().fallback(handler));
    front.push(&get("r-1", "/"), b"").await;
    let parts = front.whole_stream().await;
    let sizes: Vec<usize> = parts.iter().map(|part| part.body.len()).collect();
    assert_eq!(sizes, [65536, 65536, 65536, 3402]);
    assert!(parts.iter().zip(0..).all(|(part, n)| part.n == n));
    assert_eq!(front.number(&["LLEN", REPLY_TO]).await, 0);
    worker.stopped().await;
}

/// A source that counts how much was asked of it.
fn counted(parts: usize, asked: Arc<AtomicUsize>, reached: (usize, Signal)) -> Response {
    let source = (0..parts).map(move |_| {
        if asked.fetch_add(1, Ordering::SeqCst) + 1 == reached.0 {
            reached.1.give();
        }
        Bytes::from_static(&[b'x'; 64 * 1024])
    });
    Response::stream(tokio_stream::iter(source))
}

#[tokio::test]
async fn a_source_waits_while_redis_does_not_take_more() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (entered, paused, window_full) = (Signal::default(), Signal::default(), Signal::default());
    let asked = Arc::new(AtomicUsize::new(0));
    let (in_it, go, full, count) = (entered.clone(), paused.clone(), window_full.clone(), asked.clone());
    let handler = move |_| {
        let (entered, paused, count, full) = (entered.clone(), paused.clone(), count.clone(), full.clone());
        async move {
            entered.give();
            paused.given().await;
            counted(100, count, (4, full))
        }
    };
    let worker = Worker::start(&redis, App::new().fallback(handler));
    front.push(&get("r-1", "/"), b"").await;
    in_it.given().await;
    front.command(&["CLIENT", "PAUSE", "60000", "WRITE"]).await;
    go.give();
    window_full.given().await;
    // Everything else runs on this one thread: after so many turns it has done what it can.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let ahead = asked.load(Ordering::SeqCst);
    assert!(ahead <= 8, "{ahead} parts were asked for although Redis takes none");
    front.command(&["CLIENT", "UNPAUSE"]).await;
    let parts = front.whole_stream().await;
    assert_eq!(parts.iter().map(|part| part.body.len()).sum::<usize>(), 100 * 64 * 1024);
    worker.stopped().await;
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_given_up() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (gone, mut goings) = mpsc::unbounded_channel();
    let handler = move |_| {
        let gone = gone.clone();
        async move {
            let (sender, response) = Response::channel();
            tokio::spawn(async move {
                while sender.send("x").await.is_ok() {
                    tokio::task::yield_now().await;
                }
                gone.send(()).map_err(|_| "no test")
            });
            response
        }
    };
    // A list as long as that belongs to a front that is gone.
    let filler = vec!["x"; 9000];
    let mut push = vec!["RPUSH", REPLY_TO];
    push.extend(filler);
    front.command(&push).await;
    let worker = Worker::start(&redis, App::new().fallback(handler));
    front.push(&get("r-1", "/"), b"").await;
    goings.recv().await.expect("the source was told");
    let length = front.number(&["LLEN", REPLY_TO]).await;
    assert!(length < 9100, "{length}");
    worker.stopped().await;
}

#[tokio::test]
async fn a_broken_source_does_not_look_complete() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let handler = |_: Request| async {
        Response::try_stream(tokio_stream::iter([Ok(Bytes::from("part")), Err(BoxError::from("broken"))]))
    };
    let worker = Worker::start(&redis, App::new().fallback(handler));
    front.push(&get("r-1", "/"), b"").await;
    let part = front.answer().await;
    assert_eq!((part.text().as_str(), part.more), ("part", true));
    let end = front.answer().await;
    assert_eq!((end.n, end.more, end.body.len()), (1_000_001, false, 0), "a gap that the front cannot close");
    worker.stopped().await;
}
