//! Readers of one channel: opens them, publishes to them, and sees that each gets every message once and in order.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use super::child::{Busy, Go};
use super::message::{self, Finder};
use super::publisher::{self, Sender};
use super::{Phase, response};
use crate::peers::{Publish, Streams};

/// Streams that are being opened at a time.
pub(crate) const OPENING: usize = 256;
/// How long all streams may take to open, and what is published may take to arrive.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two messages while some stream has not got its first: a head may come before the subscription is made.
const PROBE: Duration = Duration::from_millis(250);
/// Before a stream that was refused is asked for again.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Bytes read at a time, into one buffer for all.
const READ: usize = 64 * 1024;
/// Numbers of messages under way that can be told apart.
const RING: usize = 4096;

/// What all readers share.
#[derive(Debug)]
struct Hub {
    epoch: Instant,
    count: usize,
    opened: Cell<usize>,
    /// Streams that have got a message.
    reached: Cell<usize>,
    /// The number of the next message.
    next: Cell<u64>,
    /// The first number that counts: what was published before may be missed.
    from: Cell<u64>,
    /// Deliveries of the message with each number, modulo the ring.
    got: RefCell<Vec<usize>>,
    /// Deliveries since the start of a phase.
    delivered: Cell<u64>,
    /// The first number that some stream has not got.
    complete: Cell<u64>,
    /// Microseconds from publishing to reading, while they are kept.
    times: RefCell<Vec<u32>>,
    keeping: Cell<bool>,
    error: RefCell<Option<String>>,
    changed: Notify,
}

pub(super) async fn run(address: SocketAddr, streams: Streams, count: usize, phases: &[Phase], mut go: Go) {
    let hub = Rc::new(Hub {
        epoch: Instant::now(),
        count,
        opened: Cell::new(0),
        reached: Cell::new(0),
        next: Cell::new(1),
        from: Cell::new(u64::MAX),
        got: RefCell::new(vec![0; RING]),
        delivered: Cell::new(0),
        complete: Cell::new(0),
        times: RefCell::default(),
        keeping: Cell::new(false),
        error: RefCell::new(None),
        changed: Notify::new(),
    });
    let paths: Vec<Rc<str>> = streams.paths.into_iter().map(Rc::from).collect();
    let opening = Rc::new(Semaphore::new(OPENING));
    let start = Busy::start();
    for nth in 0..count {
        let path = Rc::clone(&paths[nth % paths.len()]);
        let (hub, opening) = (Rc::clone(&hub), Rc::clone(&opening));
        tokio::task::spawn_local(async move {
            if let Err(error) = reader(address, &path, &opening, &hub).await {
                hub.fail(format!("a stream: {error}"));
            }
        });
    }
    let opened = hub.wait("all streams to open", |hub| hub.opened.get() == count).await;
    let (seconds, load) = start.end();
    if let Err(error) = opened {
        return go.fail(error).await;
    }
    if !go.next(json!({ "connect_seconds": seconds, "load": load })).await {
        return;
    }
    let publisher = hub.publisher(streams.publish);
    if let Err(error) = hub.reach_all(&publisher).await {
        return go.fail(error).await;
    }
    let mut said = json!({});
    for phase in phases {
        if !go.next(said).await {
            return;
        }
        match hub.measure(*phase, &publisher).await {
            Ok(result) => said = result,
            Err(error) => return go.fail(error).await,
        }
    }
    go.next(said).await;
}

impl Hub {
    fn fail(&self, error: String) {
        self.error.borrow_mut().get_or_insert(error);
        self.changed.notify_one();
    }

    async fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        let waiting = async {
            while self.error.borrow().is_none() && !done(self) {
                self.changed.notified().await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, waiting).await;
        if let Some(error) = self.error.borrow().clone() {
            return Err(error);
        }
        ended.map_err(|_| {
            let (opened, complete, next) = (self.opened.get(), self.complete.get(), self.next.get());
            format!("waited {PATIENCE:?} for {what}: {opened} streams open, all got up to {complete} of {next}")
        })
    }

    fn publisher(self: &Rc<Self>, publish: Publish) -> Sender {
        let hub = Rc::clone(self);
        publisher::start(publish, move |error| hub.fail(error))
    }

    fn publish(&self, to: &Sender) -> u64 {
        let number = self.next.get();
        self.next.set(number + 1);
        self.got.borrow_mut()[number as usize % RING] = 0;
        let _ = to.send(message::write(number, self.epoch));
        number
    }

    /// Publishes until every stream has got something; only what comes after that has to be complete.
    async fn reach_all(&self, publisher: &Sender) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while self.reached.get() < self.count {
            if Instant::now() > deadline {
                return Err(format!("{} of {} streams get messages", self.reached.get(), self.count));
            }
            self.publish(publisher);
            let _ = tokio::time::timeout(PROBE, self.wait("a message", |hub| hub.reached.get() == hub.count)).await;
            if let Some(error) = self.error.borrow().clone() {
                return Err(error);
            }
        }
        let first = self.next.get();
        self.complete.set(first);
        self.from.set(first);
        // Probes that some streams have not got yet may still come; the one with this number ends them.
        self.publish(publisher);
        self.wait("the last probe", |hub| hub.complete.get() > first).await
    }

    async fn measure(&self, phase: Phase, publisher: &Sender) -> Result<Value, String> {
        self.delivered.set(0);
        let busy = Busy::start();
        match phase {
            Phase::Backlog { window, run_ms } => {
                let end = Instant::now() + Duration::from_millis(run_ms);
                let mut newest = self.next.get() - 1;
                for _ in 0..window {
                    newest = self.publish(publisher);
                }
                while Instant::now() < end {
                    self.wait("the oldest message", |hub| hub.complete.get() + window > newest + 1).await?;
                    while self.complete.get() + window > newest + 1 {
                        newest = self.publish(publisher);
                    }
                }
                self.wait("the last messages", |hub| hub.complete.get() > newest).await?;
            }
            Phase::Rate { per_second, messages } => {
                self.keeping.set(true);
                let start = tokio::time::Instant::now();
                let mut newest = 0;
                for nth in 0..messages {
                    tokio::time::sleep_until(start + Duration::from_secs_f64(nth as f64 / per_second)).await;
                    newest = self.publish(publisher);
                }
                self.wait("the last messages", |hub| hub.complete.get() > newest).await?;
                self.keeping.set(false);
            }
        }
        let (seconds, load) = busy.end();
        let mut times = self.times.take();
        times.sort_unstable();
        let at = |share: f64| times.get(((times.len().max(1) - 1) as f64 * share) as usize).copied();
        Ok(json!({
            "deliveries": self.delivered.get(), "seconds": seconds, "load": load,
            "p50_us": at(0.5), "p99_us": at(0.99),
        }))
    }

    /// Counts a delivery. `expected`: the number that this stream must get, 0 before its first.
    fn got(&self, number: u64, micros: u64, expected: &mut u64) -> Result<(), String> {
        if *expected == 0 {
            self.reached.set(self.reached.get() + 1);
            self.changed.notify_one();
        } else if number != *expected {
            return Err(format!("got message {number} where {expected} was to come"));
        }
        *expected = number + 1;
        self.delivered.set(self.delivered.get() + 1);
        if self.keeping.get() {
            let now = self.epoch.elapsed().as_micros() as u64;
            self.times.borrow_mut().push(u32::try_from(now.saturating_sub(micros)).unwrap_or(u32::MAX));
        }
        if number >= self.from.get() {
            let mut got = self.got.borrow_mut();
            let one = &mut got[number as usize % RING];
            *one += 1;
            // In order in each stream, so a message is complete before any later one.
            if *one == self.count {
                self.complete.set(number + 1);
                self.changed.notify_one();
            }
        }
        Ok(())
    }
}

thread_local! {
    /// One buffer for all readers: what is read is looked at before anybody else reads.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// Opens one stream, and asks again where a server that cannot follow says so by a 5xx, as a browser's would.
async fn open(address: SocketAddr, path: &str) -> Result<(TcpStream, Vec<u8>), String> {
    loop {
        let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        match request(&mut stream, address, path).await? {
            (200, rest) => return Ok((stream, rest)),
            (500.., _) => tokio::time::sleep(ASK_AGAIN).await,
            (status, _) => return Err(format!("status {status}")),
        }
    }
}

/// Asks for a stream; the status, and what has come behind the head.
pub(super) async fn request(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    address: SocketAddr,
    path: &str,
) -> Result<(u16, Vec<u8>), String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut bytes = Vec::with_capacity(512);
    loop {
        match stream.read_buf(&mut bytes).await {
            Ok(0) => return Err("closed before its head".into()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
        if let Some(head) = response::head(&bytes)? {
            return Ok((head.status, bytes.split_off(head.length)));
        }
    }
}

async fn reader(address: SocketAddr, path: &str, opening: &Semaphore, hub: &Hub) -> Result<(), String> {
    let permit = opening.acquire().await.map_err(|error| error.to_string())?;
    let (mut stream, bytes) = open(address, path).await?;
    drop(permit);
    hub.opened.set(hub.opened.get() + 1);
    hub.changed.notify_one();
    let mut finder = Finder::default();
    let mut expected = 0;
    feed(&mut finder, &bytes, hub, &mut expected)?;
    drop(bytes);
    poll_fn(|context| {
        BUFFER.with_borrow_mut(|buffer| {
            loop {
                let mut into = ReadBuf::new(buffer);
                match Pin::new(&mut stream).poll_read(context, &mut into) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.to_string())),
                    Poll::Ready(Ok(())) if into.filled().is_empty() => {
                        return Poll::Ready(Err("closed by the server".into()));
                    }
                    Poll::Ready(Ok(())) => feed(&mut finder, into.filled(), hub, &mut expected)?,
                }
            }
        })
    })
    .await
}

fn feed(finder: &mut Finder, bytes: &[u8], hub: &Hub, expected: &mut u64) -> Result<(), String> {
    let mut result = Ok(());
    finder.feed(bytes, |number, micros| {
        if result.is_ok() {
            result = hub.got(number, micros, expected);
        }
    });
    result
}
