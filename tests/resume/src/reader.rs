//! One reader: what an EventSource does, with a memory for what it has got, and the habit to leave at any moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::chance::Chance;
use crate::stage::Ports;

/// A stream on which nothing comes for longer is given up; there are comments every 15 s.
const SILENCE: Duration = Duration::from_secs(30);

/// What all readers have seen.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    events: AtomicU64,
    streams: AtomicU64,
    resumed: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    disordered: AtomicU64,
    announced: AtomicU64,
    /// Messages of each channel, once that is known.
    last: Mutex<Option<Vec<u64>>>,
}

impl Counts {
    pub(crate) fn faults(&self) -> u64 {
        [&self.lost, &self.doubled, &self.disordered, &self.announced]
            .map(|count| count.load(Ordering::Relaxed))
            .iter()
            .sum()
    }

    /// Nothing more is published.
    pub(crate) fn end_at(&self, last: &[u64]) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last.to_vec());
    }

    fn ended(&self) -> Option<Vec<u64>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn table(&self) -> String {
        let rows = [
            ("events", &self.events),
            ("streams opened", &self.streams),
            ("of them with an id to resume from", &self.resumed),
            ("tries without a stream", &self.refused),
            ("messages lost", &self.lost),
            ("doubled", &self.doubled),
            ("out of order", &self.disordered),
            ("losses announced", &self.announced),
        ];
        let row = |(name, count): &(&str, &AtomicU64)| format!("| {name} | {} |\n", count.load(Ordering::Relaxed));
        format!("| resume | |\n| --- | --- |\n{}", rows.iter().map(row).collect::<String>())
    }
}

pub(crate) struct Reader {
    name: &'static str,
    channels: Vec<usize>,
    /// The number that comes next, of each.
    next: Vec<u64>,
    last_id: String,
    chance: Chance,
    fronts: Ports,
    counts: Arc<Counts>,
}

/// An event as far as it is needed.
#[derive(Default)]
struct Event {
    name: String,
    data: String,
}

/// What to do after an event.
enum Go {
    On,
    Leave,
}

impl Reader {
    pub(crate) fn new(
        name: &'static str,
        channels: &[usize],
        chance: Chance,
        fronts: Ports,
        counts: Arc<Counts>,
    ) -> Self {
        // As one who saw the empty channel: from then on nothing may be missing.
        let last_id = vec!["0-0"; channels.len()].join(",");
        Self { name, channels: channels.to_vec(), next: vec![0; channels.len()], last_id, chance, fronts, counts }
    }

    /// Reads until it has all that was published, leaving and coming back again and again.
    pub(crate) async fn run(mut self) {
        loop {
            let stay = self.chance.ms(200, 15_000);
            let counts = Arc::clone(&self.counts);
            let ended = timeout(
                stay,
                self.stream(|reader, event| {
                    reader.check(&event);
                    if reader.has_all(&counts) { Go::Leave } else { Go::On }
                }),
            );
            let _ = ended.await;
            if self.has_all(&counts) {
                return;
            }
            sleep(self.chance.ms(0, 500)).await;
        }
    }

    fn has_all(&self, counts: &Counts) -> bool {
        counts
            .ended()
            .is_some_and(|last| self.channels.iter().zip(&self.next).all(|(channel, next)| *next >= last[*channel]))
    }

    /// Reads its one channel up to this number.
    pub(crate) async fn read_to(&mut self, end: u64) {
        while self.next[0] < end {
            self.stream(|reader, event| {
                reader.check(&event);
                if reader.next[0] < end { Go::On } else { Go::Leave }
            })
            .await;
        }
    }

    /// Comes back once: the number of messages that are said to be lost, and then all up to `end`.
    pub(crate) async fn read_loss_and_to(&mut self, end: u64) -> Option<u64> {
        let mut told = None;
        while self.next[0] < end {
            let seen = &mut told;
            self.stream(|reader, event| {
                if event.name == "$lost" {
                    *seen = number_behind(&event.data, "\"missed\":");
                    reader.next[0] += seen.unwrap_or(0);
                } else {
                    reader.check(&event);
                }
                if reader.next[0] < end { Go::On } else { Go::Leave }
            })
            .await;
        }
        told
    }

    fn check(&mut self, event: &Event) {
        self.counts.events.fetch_add(1, Ordering::Relaxed);
        if event.name == "$lost" {
            self.counts.announced.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let (at, data) = match self.channels.len() {
            1 => (0, event.data.clone()),
            // `tell=channel`: {"channel":"log.3","event":null,"data":"17"}
            _ => {
                let channel = number_behind(&event.data, &format!("\"channel\":\"{}.", self.name));
                let at = self.channels.iter().position(|known| Some(*known as u64) == channel);
                let data = number_behind(&event.data, "\"data\":\"").unwrap_or(u64::MAX);
                (at.unwrap_or(0), data.to_string())
            }
        };
        let number: u64 = data.parse().unwrap_or(u64::MAX);
        let next = &mut self.next[at];
        let fault = match number.cmp(next) {
            std::cmp::Ordering::Equal => {
                *next += 1;
                return;
            }
            std::cmp::Ordering::Less if number + 1 == *next => &self.counts.doubled,
            std::cmp::Ordering::Less => &self.counts.disordered,
            std::cmp::Ordering::Greater => &self.counts.lost,
        };
        fault.fetch_add(1, Ordering::Relaxed);
        *next = number.saturating_add(1).max(*next);
    }

    /// One stream, until it ends, breaks, or `take` has had enough.
    async fn stream(&mut self, mut take: impl FnMut(&mut Self, Event) -> Go) {
        let port = self.fronts[self.chance.below(self.fronts.len())];
        if self.try_stream(port, &mut take).await.is_none() {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// None: there was no stream.
    async fn try_stream(&mut self, port: u16, take: &mut impl FnMut(&mut Self, Event) -> Go) -> Option<()> {
        let mut socket = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.ok()?);
        let names: Vec<String> =
            self.channels.iter().map(|channel| format!("channel={}.{channel}", self.name)).collect();
        let tell = if self.channels.len() > 1 { "&tell=channel" } else { "" };
        let request = format!(
            "GET /sub?{}{tell} HTTP/1.1\r\nHost: resume\r\nAccept: text/event-stream\r\nLast-Event-ID: {}\r\n\r\n",
            names.join("&"),
            self.last_id
        );
        socket.write_all(request.as_bytes()).await.ok()?;
        let (mut status, mut chunked) = (false, false);
        loop {
            let mut line = String::new();
            timeout(SILENCE, socket.read_line(&mut line)).await.ok()?.ok().filter(|read| *read > 0)?;
            status |= line.starts_with("HTTP/1.1 200");
            chunked |= line.eq_ignore_ascii_case("transfer-encoding: chunked\r\n");
            if line == "\r\n" {
                break;
            }
        }
        if !status || !chunked {
            return None;
        }
        self.counts.streams.fetch_add(1, Ordering::Relaxed);
        self.counts.resumed.fetch_add(u64::from(!self.last_id.starts_with("0-0")), Ordering::Relaxed);
        self.read_events(&mut socket, take).await;
        Some(())
    }

    async fn read_events(
        &mut self,
        socket: &mut BufReader<TcpStream>,
        take: &mut impl FnMut(&mut Self, Event) -> Go,
    ) -> Option<()> {
        let (mut text, mut event, mut id) = (Vec::new(), Event::default(), None);
        loop {
            let mut size = String::new();
            timeout(SILENCE, socket.read_line(&mut size)).await.ok()?.ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok().filter(|size| *size > 0)?;
            let start = text.len();
            text.resize(start + size + 2, 0);
            timeout(SILENCE, socket.read_exact(&mut text[start..])).await.ok()?.ok()?;
            text.truncate(start + size);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line[..end]).into_owned();
                match line.split_once(": ") {
                    Some(("id", value)) => id = Some(value.to_owned()),
                    Some(("event", value)) => event.name = value.to_owned(),
                    Some(("data", value)) => event.data = value.to_owned(),
                    _ if line.is_empty() => {
                        // An EventSource takes the id over at the end of the block, with data or without.
                        if let Some(id) = id.take() {
                            self.last_id = id;
                        }
                        let event = std::mem::take(&mut event);
                        if !event.data.is_empty() && matches!(take(self, event), Go::Leave) {
                            return Some(());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The number that stands right behind `mark`.
fn number_behind(text: &str, mark: &str) -> Option<u64> {
    let rest = &text[text.find(mark)? + mark.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
