//! An open loop: requests come at fixed times, whatever becomes of the ones before, as they do from the many clients of
//! the real world, and each client leaves when it has waited too long. Only what is answered in time is of use.
//!
//! A request counts from the moment at which it was due, so a load that falls behind flatters nobody.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::Ask;
use super::child::{Busy, Go};
use super::requests::{Request, respond};

/// What clock there is for sending: requests that are due within it leave together.
const STEP: Duration = Duration::from_millis(1);

/// What all requests share.
struct Crowd {
    address: SocketAddr,
    patience: Duration,
    /// Connections that wait for their next request, the latest used last.
    idle: RefCell<Vec<TcpStream>>,
    measuring: Cell<bool>,
    tally: Tally,
}

/// What became of the requests that were due while measuring.
#[derive(Default)]
struct Tally {
    offered: Cell<u64>,
    /// 503: come later.
    refused: Cell<u64>,
    /// Not answered within the patience: the client left.
    left: Cell<u64>,
    /// Another status, a wrong body, a broken connection.
    failed: Cell<u64>,
    /// Microseconds of those that were answered, and rightly.
    good: RefCell<Vec<u32>>,
    /// The first thing that failed.
    error: RefCell<Option<String>>,
}

enum Outcome {
    Good,
    Refused,
    Failed(String),
}

/// `times` are the milliseconds of warming up and of measuring.
pub(super) async fn run(address: SocketAddr, per_second: f64, patience_ms: u64, times: [u64; 2], mut go: Go) {
    let [warm_up, run] = times.map(Duration::from_millis);
    let patience = Duration::from_millis(patience_ms);
    let crowd = Rc::new(Crowd {
        address,
        patience,
        idle: RefCell::default(),
        measuring: Cell::new(false),
        tally: Tally::default(),
    });
    // To the end of the process: what is measured must not be relieved before its last request is over.
    tokio::task::spawn_local(offer(Rc::clone(&crowd), per_second));
    sleep(warm_up).await;
    if !go.next(json!({})).await {
        return;
    }
    let busy = Busy::start();
    crowd.measuring.set(true);
    sleep(run).await;
    crowd.measuring.set(false);
    let (seconds, load) = busy.end();
    // The last ones have their time, too.
    sleep(patience + Duration::from_millis(100)).await;
    go.next(crowd.tally.result(seconds, load)).await;
}

/// Sends requests when they are due.
async fn offer(crowd: Rc<Crowd>, per_second: f64) {
    let begin = Instant::now();
    let mut sent = 0_u32;
    loop {
        while f64::from(sent) <= begin.elapsed().as_secs_f64() * per_second {
            let due = begin + Duration::from_secs_f64(f64::from(sent) / per_second);
            tokio::task::spawn_local(one(Rc::clone(&crowd), sent, due));
            sent += 1;
        }
        sleep(STEP).await;
    }
}

/// One request of one client.
async fn one(crowd: Rc<Crowd>, number: u32, due: Instant) {
    let counts = crowd.measuring.get();
    let left = crowd.patience.saturating_sub(due.elapsed());
    // Dropping what is under way closes its connection: that is how a client leaves.
    let outcome = timeout(left, crowd.ask(number)).await;
    if counts {
        crowd.tally.count(outcome.ok(), due);
    }
}

impl Crowd {
    async fn ask(&self, number: u32) -> Outcome {
        let mut request = Request::new(Ask::Work);
        request.number(number);
        let mut buffer = Vec::with_capacity(1024);
        loop {
            let kept = self.idle.borrow_mut().pop();
            let fresh = kept.is_none();
            let stream = match kept {
                Some(stream) => Ok(stream),
                None => TcpStream::connect(self.address).await,
            };
            let mut stream = match stream {
                Ok(stream) => stream,
                Err(error) => return Outcome::Failed(format!("connecting: {error}")),
            };
            let _ = stream.set_nodelay(true);
            let head = match respond(&mut stream, &request, &mut buffer).await {
                Ok(Some(head)) => head,
                // Closed by the server between two requests: asked again.
                Ok(None) if !fresh => continue,
                Ok(None) => return Outcome::Failed("the connection was closed without an answer".into()),
                Err(error) => return Outcome::Failed(error),
            };
            if !head.close {
                self.idle.borrow_mut().push(stream);
            }
            return match head.status {
                200 if request.is_right(head, &buffer) => Outcome::Good,
                503 => Outcome::Refused,
                status => Outcome::Failed(format!("status {status}")),
            };
        }
    }
}

impl Tally {
    /// Counts one; None: it was not answered in time.
    fn count(&self, outcome: Option<Outcome>, due: Instant) {
        let more = |cell: &Cell<u64>| cell.set(cell.get() + 1);
        more(&self.offered);
        match outcome {
            Some(Outcome::Good) => {
                self.good.borrow_mut().push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
            Some(Outcome::Refused) => more(&self.refused),
            Some(Outcome::Failed(error)) => {
                more(&self.failed);
                self.error.borrow_mut().get_or_insert(error);
            }
            None => more(&self.left),
        }
    }

    fn result(&self, seconds: f64, load: f64) -> Value {
        let mut good = self.good.take();
        good.sort_unstable();
        let at = |share: f64| good.get(((good.len().max(1) - 1) as f64 * share) as usize).copied();
        json!({
            "offered": self.offered.get(), "good": good.len(), "refused": self.refused.get(), "left": self.left.get(),
            "failed": self.failed.get(), "why": self.error.borrow().clone(), "seconds": seconds, "load": load,
            "p50_us": at(0.5), "p99_us": at(0.99), "max_us": at(1.0),
        })
    }
}
