//! One client: sends a request, notes what came of it, and asks for the next.
//!
//! It notes what it saw, word for word, and judges nothing. It must not panic on anything that a front does.

use std::io::{self, Read};
use std::time::Duration;

use tempest_chaos::ledger::{Event, Kind, Outcome, Writer};
use tempest_tests::{Http, Response};

use super::{PATIENCE, Shared};
use crate::chance::Chance;

/// Pause before a client tries again where nobody listens.
const AWAY: Duration = Duration::from_millis(20);
/// As much of a body as is noted; the longest that a worker writes is far shorter.
const NOTED: usize = 4096;
/// What is quick, by hundredths.
const QUICK: [(u64, Kind); 3] = [(55, Kind::GetQuick), (25, Kind::PostQuick), (20, Kind::PostKeyed)];
/// What takes its time, by hundredths.
const SLOW: [(u64, Kind); 5] =
    [(40, Kind::GetSlow), (20, Kind::PostSlow), (25, Kind::Stream), (10, Kind::GetLeft), (5, Kind::PostLeft)];

struct Client<'a> {
    shared: &'a Shared,
    ledger: Writer,
    chance: Chance,
    number: usize,
    sent: u64,
    open: Option<(Http, u32)>,
}

impl<'a> Client<'a> {
    fn new(shared: &'a Shared, number: usize) -> Self {
        let chance = Chance::new(shared.seed, 1000 + number as u64);
        Self { shared, ledger: shared.writer("clients"), chance, number, sent: 0, open: None }
    }
}

/// Asks for what is quick until told to stop.
pub(super) fn quick(shared: &Shared, number: usize) {
    let mut client = Client::new(shared, number);
    while !shared.stopped() {
        let kind = client.choose(&QUICK);
        if client.ask(kind) {
            shared.answered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        let pause = shared.pause();
        if !pause.is_zero() {
            std::thread::sleep(client.chance.poisson(pause).min(Duration::from_millis(500)));
        }
    }
}

/// Asks for what takes its time until told to stop.
pub(super) fn slow(shared: &Shared, number: usize) {
    let mut client = Client::new(shared, number);
    while !shared.stopped() {
        let kind = client.choose(&SLOW);
        client.ask(kind);
        std::thread::sleep(Duration::from_millis(client.chance.between(5, 60)));
    }
}

impl Client<'_> {
    fn choose(&mut self, among: &[(u64, Kind)]) -> Kind {
        let mut left = self.chance.between(0, 100);
        for (share, kind) in among {
            if left < *share {
                return *kind;
            }
            left -= share;
        }
        Kind::GetQuick
    }

    /// One request from beginning to end; false: nobody listened, so there was none.
    fn ask(&mut self, kind: Kind) -> bool {
        let Some(mut http) = self.connection() else {
            std::thread::sleep(AWAY);
            return false;
        };
        self.sent += 1;
        let id = format!("c{}-{}", self.number, self.sent);
        let target = self.target(kind, &id);
        let mut headers = vec![format!("x-chaos-id: {id}")];
        if kind == Kind::PostKeyed {
            headers.push(format!("Idempotency-Key: {id}"));
        }
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let body = if kind.method() == "POST" { id.as_bytes() } else { b"" };
        self.ledger.note(Event::Sent { id: id.clone(), kind, front: self.front() });
        http.0.request(kind.method(), &target, &headers, body);
        if matches!(kind, Kind::GetLeft | Kind::PostLeft) {
            std::thread::sleep(Duration::from_millis(self.chance.between(20, 300)));
            self.ledger.note(Event::Got { id, outcome: Outcome::Left, status: 0, body: String::new() });
            return true;
        }
        let (outcome, status, body, again) = receive(&mut http.0);
        self.ledger.note(Event::Got { id, outcome, status, body });
        self.open = again.then_some(http);
        true
    }

    fn target(&mut self, kind: Kind, id: &str) -> String {
        let time = self.chance.between(200, 3000);
        match kind {
            Kind::GetQuick | Kind::PostQuick | Kind::PostKeyed => format!("/quick/{id}"),
            Kind::GetSlow | Kind::PostSlow | Kind::GetLeft | Kind::PostLeft => format!("/slow/{time}/{id}"),
            Kind::Stream => format!("/stream/{}/{}/{id}", self.chance.between(3, 9), time / 10),
        }
    }

    /// A client keeps to one front, as a browser does.
    fn front(&self) -> usize {
        self.number % self.shared.places().len()
    }

    /// The connection kept open, or a new one where its front is no longer the one it led to.
    fn connection(&mut self) -> Option<(Http, u32)> {
        let front = self.front();
        let place = self.shared.places()[front];
        if let Some(open) = self.open.take().filter(|(_, generation)| *generation == place.generation) {
            return Some(open);
        }
        let mut http = Http::try_connect(place.address).ok()?;
        http.set_read_timeout(PATIENCE);
        Some((http, place.generation))
    }
}

/// Reads a response: how it ended, its status and body, and whether the connection is good for another one.
fn receive(http: &mut Http) -> (Outcome, u16, String, bool) {
    let head = match http.read_head() {
        Ok(head) => head,
        Err(error) => return (ended(&error, Outcome::Lost), 0, String::new(), false),
    };
    let mut body = Vec::new();
    let read = read_body(http, &head, &mut body);
    let keeps = !head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    body.truncate(NOTED);
    let body = String::from_utf8_lossy(&body).into_owned();
    match read {
        Ok(()) => (Outcome::Whole, head.status, body, keeps),
        Err(error) => (ended(&error, Outcome::Cut), head.status, body, false),
    }
}

fn ended(error: &io::Error, how: Outcome) -> Outcome {
    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) { Outcome::Silent } else { how }
}

fn read_body(http: &mut Http, head: &Response, body: &mut Vec<u8>) -> io::Result<()> {
    if let Some(length) = head.header("content-length") {
        let length: u64 = length.parse().map_err(io::Error::other)?;
        let read = http.by_ref().take(length).read_to_end(body)? as u64;
        return if read == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
    }
    loop {
        let line = http.line()?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; size + 2];
        http.read_exact(&mut chunk)?;
        if size == 0 {
            return Ok(());
        }
        body.extend_from_slice(&chunk[..size]);
    }
}
