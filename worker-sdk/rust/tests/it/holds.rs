//! Answers that hand their connection to channels.

use std::time::Duration;

use tempest_protocol::{Hold as Held, HoldMode};
use tempest_worker::{App, Hold, Request, Response};

use crate::harness::{Redis, Worker, get};

async fn stream(_: Request) -> Hold {
    Response::hold(["orders.42", "n\u{e9}ws"]).first("wel\"come").history("earliest").with_header("x-a", "b")
}

async fn once(_: Request) -> Hold {
    Response::hold(["a"]).once(Duration::from_secs(60)).with_status(202)
}

async fn bad(_: Request) -> Hold {
    Response::hold([""])
}

async fn with_a_body(_: Request) -> Response {
    Response::hold(["a"]).with_header("content-length", "0").into()
}

#[tokio::test]
async fn a_hold_is_sent_as_the_contract_says() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let app = App::new().get("/stream", stream).get("/once", once).get("/bad", bad).get("/length", with_a_body);
    let worker = Worker::start(&redis, app);
    let streamed = Held {
        first: Some("wel\"come".into()),
        history: Some("earliest".into()),
        ..Held::of(["orders.42", "n\u{e9}ws"])
    };
    let one = Held { mode: HoldMode::Once, timeout: Some(60_000), ..Held::of(["a"]) };
    for (path, status, hold) in [("/stream", 200, streamed), ("/once", 202, one), ("/length", 200, Held::of(["a"]))] {
        front.push(&get("r-1", path), b"").await;
        let answer = front.answer().await;
        assert_eq!((answer.status, answer.more, answer.body.len()), (status, false, 0), "{path}");
        assert_eq!(answer.hold.as_deref(), Some(&hold), "{path}");
    }
    front.push(&get("r-2", "/bad"), b"").await;
    assert_eq!(front.answer().await.status, 500, "refused before it is sent");
    worker.stopped().await;
}
