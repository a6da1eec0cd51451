//! The Rust worker of the chaos suite: does what a job's path says, and writes down when it begins and when it is done.
//!
//! Every part of an answer names request, attempt, part, the number of parts and the worker's process, so that whoever
//! reads it can tell whose it is. It must not judge anything.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempest_chaos::ledger::{Event, Writer};
use tempest_worker::{App, Gone, Request, Response};

struct Ledger {
    writer: Writer,
    pid: u32,
}

impl Ledger {
    fn open() -> Self {
        let setting = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let (folder, class, pid) = (setting("CHAOS_LEDGER"), setting("CHAOS_CLASS"), std::process::id());
        let path = Path::new(&folder).join(format!("worker-{class}-{pid}.jsonl"));
        let writer = Writer::open(&path).expect("the folder of ledgers is there");
        writer.note(Event::Up { pid, class });
        Self { writer, pid }
    }

    fn start(&self, id: &str, request: &Request) {
        let id = id.to_owned();
        let (job, attempt) = (request.id().to_owned(), request.attempt());
        self.writer.note(Event::Start { id, job, attempt, pid: self.pid });
    }

    fn end(&self, id: &str, request: &Request) {
        self.writer.note(Event::End { id: id.to_owned(), attempt: request.attempt(), pid: self.pid });
    }

    fn part(&self, id: &str, request: &Request, part: u64, parts: u64) -> String {
        format!("chaos {id} {} {part} {parts} {}\n", request.attempt(), self.pid)
    }
}

/// The id in the path; a header that names another one is a fault of whoever put the job together.
fn id_of(ledger: &Ledger, request: &Request) -> String {
    let id = request.param("id").unwrap_or_default().to_owned();
    let named = request.header("x-chaos-id").unwrap_or_default();
    if named != id || (request.method() == "POST" && request.text() != id) {
        let what = format!("path {id}, header {named}, body {}, {}", request.text(), request.method());
        ledger.writer.note(Event::Mixed { what });
    }
    id
}

fn number(request: &Request, name: &str) -> u64 {
    request.param(name).and_then(|text| text.parse().ok()).unwrap_or_default()
}

async fn work(ledger: Arc<Ledger>, request: Request) -> String {
    let id = id_of(&ledger, &request);
    ledger.start(&id, &request);
    let time = number(&request, "ms");
    if time > 0 {
        tokio::time::sleep(Duration::from_millis(time)).await;
    }
    ledger.end(&id, &request);
    ledger.part(&id, &request, 0, 1)
}

async fn stream(ledger: Arc<Ledger>, request: Request) -> Response {
    let (sender, response) = Response::channel();
    let id = id_of(&ledger, &request);
    ledger.start(&id, &request);
    tokio::spawn(async move {
        let (parts, time) = (number(&request, "parts"), number(&request, "ms"));
        for part in 0..parts {
            tokio::time::sleep(Duration::from_millis(time)).await;
            sender.send(ledger.part(&id, &request, part, parts)).await?;
        }
        ledger.end(&id, &request);
        Ok::<(), Gone>(())
    });
    response.with_header("content-type", "text/plain")
}

async fn background(ledger: Arc<Ledger>, request: Request) {
    let id = request.id().to_owned();
    ledger.start(&id, &request);
    let time = request.text().parse().unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(time)).await;
    ledger.end(&id, &request);
}

fn main() -> Result<(), tempest_worker::Error> {
    let ledger = Arc::new(Ledger::open());
    let (quick, quick_post, slow) = (Arc::clone(&ledger), Arc::clone(&ledger), Arc::clone(&ledger));
    let (slow_post, parts) = (Arc::clone(&ledger), Arc::clone(&ledger));
    App::new()
        .get("/quick/{id}", move |request| work(Arc::clone(&quick), request))
        .post("/quick/{id}", move |request| work(Arc::clone(&quick_post), request))
        .get("/slow/{ms}/{id}", move |request| work(Arc::clone(&slow), request))
        .post("/slow/{ms}/{id}", move |request| work(Arc::clone(&slow_post), request))
        .get("/stream/{parts}/{ms}/{id}", move |request| stream(Arc::clone(&parts), request))
        .action("chaos.job", move |request| {
            let ledger = Arc::clone(&ledger);
            async move {
                background(ledger, request).await;
            }
        })
        .run()
}
