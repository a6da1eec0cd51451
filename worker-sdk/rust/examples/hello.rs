//! The smallest whole worker: answers every request with a line of text.
//!
//! Run it beside a front, or alone: `cargo run -p tempest-worker --example hello`.

use tempest_worker::{App, Error, Request, Response};

async fn hello(request: Request) -> Response {
    Response::text(format!("hello from rust, {} {}\n", request.method(), request.path()))
        .with_header("x-worker", "rust")
}

fn main() -> Result<(), Error> {
    App::new().fallback(hello).run()
}
