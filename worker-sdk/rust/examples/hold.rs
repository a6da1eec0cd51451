//! A worker that says who may read the events of an order, and holds none of the streams: kill it, and they go on.
//!
//! Run it beside a front, open `/orders/42/events` and publish: `redis-cli publish orders.42 paid`.

use tempest_worker::{App, Error, Request, Response};

async fn events(request: Request) -> Response {
    let order = request.param("order").unwrap_or_default();
    // Where a session would be looked at, or a database.
    if order == "0" {
        return Response::text("not yours\n").with_status(403);
    }
    Response::hold([format!("orders.{order}")]).first("welcome").into()
}

fn main() -> Result<(), Error> {
    App::new().get("/orders/{order}/events", events).run()
}
