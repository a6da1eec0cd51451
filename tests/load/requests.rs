//! Concurrent requests: requests a second and how long each takes, with one worker.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::report::Report;
use crate::stage::Stage;

/// Requests under way at the same time, one a connection.
const CLIENTS: usize = 2_000;
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(10);

/// What all clients of one run share.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Responses with status 200.
    pub(crate) good: Cell<u64>,
    /// Responses with another status.
    pub(crate) other: Cell<u64>,
    /// Connections that ended without a response.
    pub(crate) broken: Cell<u64>,
    /// Microseconds of each request, while they are kept.
    times: RefCell<Vec<u32>>,
    keeping: Cell<bool>,
    stop: Cell<bool>,
    /// Requests after which clients stop; 0: none.
    bound: Cell<u64>,
}

impl Tally {
    /// Stops clients after so many requests in all.
    pub(crate) fn up_to(requests: u64) -> Rc<Self> {
        let tally = Self::default();
        tally.bound.set(requests);
        Rc::new(tally)
    }

    /// All outcomes.
    pub(crate) fn all(&self) -> u64 {
        self.good.get() + self.other.get() + self.broken.get()
    }

    fn over(&self) -> bool {
        self.stop.get() || (self.bound.get() > 0 && self.all() >= self.bound.get())
    }
}

pub(crate) async fn measure(language: &str, stage: &mut Stage, report: &mut Report) {
    stage.worker(language);
    let tally = Rc::new(Tally::default());
    let address = stage.address();
    let took = LocalSet::new()
        .run_until(async {
            let clients: Vec<_> =
                (0..CLIENTS).map(|_| tokio::task::spawn_local(client(address, Rc::clone(&tally)))).collect();
            tokio::time::sleep(WARM_UP).await;
            let (start, before) = (Instant::now(), tally.good.get());
            tally.keeping.set(true);
            tokio::time::sleep(MEASURED).await;
            let (took, done) = (start.elapsed(), tally.good.get() - before);
            tally.stop.set(true);
            for client in clients {
                client.await.expect("a client ends");
            }
            (took, done)
        })
        .await;
    let mut times = tally.times.take();
    times.sort_unstable();
    let at = |share: f64| f64::from(times[((times.len() - 1) as f64 * share) as usize]) / 1_000.0;
    report.add(format!("{language}: concurrent requests"), CLIENTS, "clients");
    report.add(format!("{language}: requests per second"), took.1 as f64 / took.0.as_secs_f64(), "1/s");
    report.add(format!("{language}: p50"), at(0.5), "ms");
    report.add(format!("{language}: p99"), at(0.99), "ms");
    report.add(format!("{language}: not 200"), tally.other.get() + tally.broken.get(), "requests");
    report.check(tally.other.get() + tally.broken.get() == 0, "every request is answered with 200");
    report.add(format!("{language}: memory of the front"), stage.memory() / 1024, "KiB");
}

/// Asks again and again over one connection, until the tally says stop.
pub(crate) async fn client(address: SocketAddr, tally: Rc<Tally>) {
    while !tally.over() {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            tally.broken.set(tally.broken.get() + 1);
            continue;
        };
        let _ = stream.set_nodelay(true);
        let mut buffer = Vec::with_capacity(1024);
        while !tally.over() {
            let start = Instant::now();
            match ask(&mut stream, &mut buffer).await {
                Some(200) => tally.good.set(tally.good.get() + 1),
                Some(_) => tally.other.set(tally.other.get() + 1),
                None => {
                    tally.broken.set(tally.broken.get() + 1);
                    break;
                }
            }
            if tally.keeping.get() {
                let micros = u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX);
                tally.times.borrow_mut().push(micros);
            }
        }
    }
}

/// One request; its status, or None where the connection ended.
async fn ask(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<u16> {
    stream.write_all(b"GET /hello HTTP/1.1\r\nHost: load\r\n\r\n").await.ok()?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
        if let Some(status) = complete(buffer) {
            return Some(status);
        }
    }
}

/// The status, once head and body are there. Every response here has a length.
fn complete(response: &[u8]) -> Option<u16> {
    const END: &[u8] = b"\r\n\r\n";
    let end = response.windows(END.len()).position(|part| part == END)?;
    let head = std::str::from_utf8(&response[..end]).ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse::<usize>().ok()?;
    (response.len() >= end + END.len() + length).then(|| head.get(9..12)?.parse().ok())?
}
