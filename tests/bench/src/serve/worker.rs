//! The worker in Rust, written as a user of the SDK would.

use std::time::Duration;

use tempest_worker::{App, Request, Response};

pub(super) fn serve(concurrency: Option<usize>) {
    let mut app = App::new().get("/hello", hello).get("/sleep", sleep).post("/echo", echo);
    app = app.get("/work", work).get("/long", long);
    if let Some(jobs) = concurrency {
        app = app.concurrency(jobs);
    }
    if let Err(error) = app.run() {
        panic!("{error}");
    }
}

async fn hello(request: Request) -> Response {
    Response::text(format!(
        "hello {}\n",
        request.query().and_then(|query| query.strip_prefix("n=")).unwrap_or_default()
    ))
}

async fn sleep(request: Request) -> Response {
    tokio::time::sleep(Duration::from_millis(20)).await;
    hello(request).await
}

async fn work(request: Request) -> Response {
    tokio::time::sleep(Duration::from_millis(5)).await;
    hello(request).await
}

async fn long(request: Request) -> Response {
    tokio::time::sleep(Duration::from_secs(15)).await;
    hello(request).await
}

async fn echo(request: Request) -> Response {
    Response::bytes(request.body().clone())
}
