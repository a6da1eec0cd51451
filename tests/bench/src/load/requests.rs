//! Clients that ask again as soon as they are answered, each over its own connection, and check every answer.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Ask;
use super::child::{Busy, Go};
use super::response::{self, Head};

/// What the clients of a run share.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Right answers since measuring began.
    done: Cell<u64>,
    /// Connections that a server closed between two requests.
    reconnects: Cell<u64>,
    /// The first few things that went wrong.
    wrong: RefCell<Vec<String>>,
    /// Microseconds of each request that ended while measuring.
    times: RefCell<Vec<u32>>,
    measuring: Cell<bool>,
}

/// The things that went wrong which are kept.
const KEPT_WRONG: usize = 3;

pub(super) async fn run(address: SocketAddr, clients: usize, ask: Ask, warm_up_ms: u64, run_ms: u64, mut go: Go) {
    let tally = Rc::new(Tally::default());
    for nth in 0..clients {
        tokio::task::spawn_local(client(address, ask, nth, Rc::clone(&tally)));
    }
    tokio::time::sleep(Duration::from_millis(warm_up_ms)).await;
    if go.next(json!({})).await {
        let result = tally.measure(run_ms).await;
        go.next(result).await;
    }
}

impl Tally {
    /// Measures for some time.
    pub(super) async fn measure(&self, run_ms: u64) -> Value {
        self.done.set(0);
        self.times.borrow_mut().clear();
        self.measuring.set(true);
        let busy = Busy::start();
        tokio::time::sleep(Duration::from_millis(run_ms)).await;
        let (seconds, load) = busy.end();
        self.measuring.set(false);
        if let Some(wrong) = self.wrong.borrow().first() {
            return json!({ "error": format!("an answer was wrong: {wrong}") });
        }
        let mut times = self.times.take();
        times.sort_unstable();
        let at = |share: f64| times.get(((times.len().max(1) - 1) as f64 * share) as usize).copied();
        json!({
            "requests": self.done.get(), "seconds": seconds, "load": load, "reconnects": self.reconnects.get(),
            "p50_us": at(0.5), "p99_us": at(0.99), "max_us": at(1.0),
        })
    }

    fn wrong(&self, text: String) {
        let mut wrong = self.wrong.borrow_mut();
        if wrong.len() < KEPT_WRONG {
            wrong.push(text);
        }
    }

    fn right(&self, start: Instant) {
        if self.measuring.get() {
            self.done.set(self.done.get() + 1);
            self.times.borrow_mut().push(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// Counts the time of a request that is still under way when measuring ends: leaving it out would flatter a
    /// server that answers nothing.
    pub(super) fn unfinished(&self, start: Instant) {
        self.times.borrow_mut().push(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
}

/// One client.
pub(super) async fn client(address: SocketAddr, ask: Ask, nth: usize, tally: Rc<Tally>) {
    let mut request = Request::new(ask);
    let mut number = (nth as u32) << 20;
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let mut stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(error) => return tally.wrong(format!("connecting: {error}")),
        };
        let _ = stream.set_nodelay(true);
        let mut first = true;
        loop {
            number = number.wrapping_add(1);
            request.number(number);
            let start = Instant::now();
            match exchange(&mut stream, &request, &mut buffer).await {
                Ok(Some(close)) => {
                    tally.right(start);
                    if close {
                        break;
                    }
                }
                // Closed before a byte came, on a connection that has served: asked again on a new one.
                Ok(None) if !first => {
                    tally.reconnects.set(tally.reconnects.get() + 1);
                    break;
                }
                Ok(None) => return tally.wrong("the connection was closed without an answer".into()),
                Err(error) => return tally.wrong(error),
            }
            first = false;
        }
    }
}

/// A request with a number in it, written in place.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
    /// Where the number stands.
    at: usize,
    body: usize,
}

/// Digits of a number.
const DIGITS: usize = 8;

impl Request {
    pub(super) fn new(ask: Ask) -> Self {
        let (line, body) = match ask {
            Ask::Hello => ("GET /hello?n=", 0),
            Ask::Sleep => ("GET /sleep?n=", 0),
            Ask::Work => ("GET /work?n=", 0),
            Ask::Echo(size) => ("POST /echo?n=", size),
        };
        let length = if body > 0 { format!("content-length: {body}\r\n") } else { String::new() };
        let mut bytes = format!("{line}00000000 HTTP/1.1\r\nhost: bench\r\n{length}\r\n").into_bytes();
        bytes.resize(bytes.len() + body, b'b');
        Self { bytes, at: line.len(), body }
    }

    pub(super) fn number(&mut self, number: u32) {
        let digits = format!("{number:08x}");
        self.bytes[self.at..self.at + DIGITS].copy_from_slice(digits.as_bytes());
        if self.body > 0 {
            let start = self.bytes.len() - self.body;
            self.bytes[start..start + DIGITS].copy_from_slice(digits.as_bytes());
        }
    }

    /// True where the response in `buffer` is what must be answered.
    pub(super) fn is_right(&self, head: Head, buffer: &[u8]) -> bool {
        head.status == 200 && self.is_answer(&buffer[head.length..])
    }

    /// True where `body` is what must be answered.
    fn is_answer(&self, body: &[u8]) -> bool {
        if self.body > 0 {
            return body == &self.bytes[self.bytes.len() - self.body..];
        }
        body.strip_prefix(b"hello ").and_then(|rest| rest.strip_suffix(b"\n"))
            == Some(&self.bytes[self.at..self.at + DIGITS])
    }
}

/// One request and its answer, which must be right: whether the server closes then; None where the connection was
/// closed before a byte.
pub(super) async fn exchange(
    stream: &mut TcpStream,
    request: &Request,
    buffer: &mut Vec<u8>,
) -> Result<Option<bool>, String> {
    let Some(head) = respond(stream, request, buffer).await? else { return Ok(None) };
    if request.is_right(head, buffer) {
        return Ok(Some(head.close));
    }
    let body = &buffer[head.length..];
    let shown = String::from_utf8_lossy(&body[..body.len().min(80)]);
    Err(format!("status {}, {} bytes: {shown:?}", head.status, body.len()))
}

/// One request and its whole response, whatever it is; None where the connection was closed before a byte.
pub(super) async fn respond(
    stream: &mut TcpStream,
    request: &Request,
    buffer: &mut Vec<u8>,
) -> Result<Option<Head>, String> {
    if stream.write_all(&request.bytes).await.is_err() {
        return Ok(None);
    }
    buffer.clear();
    let mut known = None;
    loop {
        match stream.read_buf(buffer).await {
            Ok(0) | Err(_) if buffer.is_empty() => return Ok(None),
            Ok(0) => return Err(format!("cut after {} bytes", buffer.len())),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
        if known.is_none() {
            known = response::head(buffer)?;
        }
        if let Some(head) = known.filter(|head| response::is_whole(*head, buffer)) {
            return Ok(Some(head));
        }
    }
}

/// A fast client beside slow ones: counts a request that is cut by the end of measuring, too, and goes on after a
/// connection was refused or cut, which then has cost it that time.
pub(super) async fn patient_client(address: SocketAddr, nth: usize, tally: Rc<Tally>, end: Rc<Cell<bool>>) {
    let mut request = Request::new(Ask::Hello);
    let mut number = (nth as u32) << 20;
    let mut buffer = Vec::with_capacity(1024);
    let mut stream = None;
    while !end.get() {
        number = number.wrapping_add(1);
        request.number(number);
        let start = Instant::now();
        let answered = async {
            loop {
                if stream.is_none() {
                    stream = TcpStream::connect(address).await.ok();
                }
                let Some(open) = stream.as_mut() else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                match exchange(open, &request, &mut buffer).await {
                    Ok(Some(close)) => {
                        if close {
                            stream = None;
                        }
                        return Ok(());
                    }
                    Ok(None) => stream = None,
                    Err(error) => return Err(error),
                }
            }
        };
        tokio::select! {
            answer = answered => match answer {
                Ok(()) => tally.right(start),
                Err(error) => return tally.wrong(error),
            },
            () = until(&end) => return tally.unfinished(start),
        }
    }
}

async fn until(end: &Cell<bool>) {
    while !end.get() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
