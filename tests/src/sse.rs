//! A reader of Server-Sent Events that shows all of a stream: events, comments and reconnection times.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Duration;

use crate::http::{Chunk, Http, Response};
use crate::wait::PATIENCE;

/// One thing that came on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event.
    Event(Event),
    /// A comment, without its colon.
    Comment(String),
    /// A `retry:` line, in milliseconds.
    Retry(u64),
}

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its name; empty: the default.
    pub name: String,
    /// Its `data:` lines joined by LF.
    pub data: String,
    /// Its id; empty: none.
    pub id: String,
}

/// One open stream.
#[derive(Debug)]
pub struct Sse {
    http: Http,
    /// The response's head.
    pub head: Response,
    chunked: bool,
    text: Vec<u8>,
    items: VecDeque<Item>,
    current: Event,
    has_data: bool,
    /// The id that an EventSource would come back with.
    pub last_id: String,
}

impl Sse {
    /// Opens a stream and reads its head, which must be a 200.
    #[track_caller]
    pub fn open(address: SocketAddr, target: &str) -> Self {
        let stream = Self::on(Http::connect(address), target);
        assert_eq!(stream.head.status, 200, "{:?}", stream.head);
        stream
    }

    /// Asks for a stream on a connection and reads the head, whatever it is.
    #[track_caller]
    pub fn on(http: Http, target: &str) -> Self {
        Self::with(http, target, &[])
    }

    /// Comes back to a stream with the id of the last event; the head must be a 200.
    #[track_caller]
    pub fn resume(address: SocketAddr, target: &str, last_id: &str) -> Self {
        let stream = Self::with(Http::connect(address), target, &[&format!("Last-Event-ID: {last_id}")]);
        assert_eq!(stream.head.status, 200, "{:?}", stream.head);
        stream
    }

    /// Asks for a stream with header lines of its own, and reads the head, whatever it is.
    #[track_caller]
    pub fn with(mut http: Http, target: &str, headers: &[&str]) -> Self {
        let headers = [&["Accept: text/event-stream"], headers].concat();
        http.request("GET", target, &headers, b"");
        let head = http.read_head().expect("a response");
        Self::after(http, head)
    }

    /// The stream behind a head that has been read.
    pub fn after(http: Http, head: Response) -> Self {
        let chunked = head.header("transfer-encoding").is_some();
        let (text, items, last_id) = Default::default();
        Self { http, head, chunked, text, items, current: Event::default(), has_data: false, last_id }
    }

    /// The next event; comments and reconnection times are passed over.
    #[track_caller]
    pub fn event(&mut self) -> Event {
        loop {
            match self.item() {
                Item::Event(event) => return event,
                Item::Comment(_) | Item::Retry(_) => {}
            }
        }
    }

    /// The next event's data.
    #[track_caller]
    pub fn data(&mut self) -> String {
        self.event().data
    }

    /// The next comment; reconnection times are passed over, an event panics.
    #[track_caller]
    pub fn comment(&mut self) -> String {
        loop {
            match self.item() {
                Item::Comment(text) => return text,
                Item::Retry(_) => {}
                Item::Event(event) => panic!("an event where a comment was expected: {event:?}"),
            }
        }
    }

    /// The next thing of any kind.
    #[track_caller]
    pub fn item(&mut self) -> Item {
        self.try_item().expect("something on the stream")
    }

    /// The next thing, or why none came: the end of the stream, or nothing within [`PATIENCE`].
    pub fn try_item(&mut self) -> io::Result<Item> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Ok(item);
            }
            let bytes = self.read_some()?;
            self.text.extend_from_slice(&bytes);
            while let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                let line = String::from_utf8(line).expect("a stream is UTF-8");
                self.take_line(line.trim_end_matches(['\n', '\r']));
            }
        }
    }

    /// True where nothing at all comes within `time`. The stream stays usable.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        if !self.items.is_empty() {
            return false;
        }
        self.http.set_read_timeout(time);
        let result = self.try_item();
        self.http.set_read_timeout(PATIENCE);
        match result {
            Ok(item) => {
                self.items.push_front(item);
                false
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    /// Reads to the end of the stream and returns what came before it.
    #[track_caller]
    pub fn until_end(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        loop {
            match self.try_item() {
                Ok(item) => items.push(item),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the stream did not end"),
                Err(_) => return items,
            }
        }
    }

    /// The connection, to be written to or read raw.
    pub fn http(&mut self) -> &mut Http {
        &mut self.http
    }

    fn read_some(&mut self) -> io::Result<Vec<u8>> {
        if self.chunked {
            return self.http.read_chunk().and_then(|chunk| match chunk {
                Chunk::Data(bytes) => Ok(bytes),
                Chunk::End | Chunk::Cut => Err(io::ErrorKind::UnexpectedEof.into()),
            });
        }
        let mut bytes = vec![0; 16 * 1024];
        let count = self.http.read(&mut bytes)?;
        bytes.truncate(count);
        if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
    }

    fn take_line(&mut self, line: &str) {
        if line.is_empty() {
            let event = std::mem::take(&mut self.current);
            if std::mem::take(&mut self.has_data) {
                self.items.push_back(Item::Event(event));
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.items.push_back(Item::Comment(value.to_owned())),
            "retry" => self.items.push_back(Item::Retry(value.parse().expect("a number of milliseconds"))),
            "event" => self.current.name = value.to_owned(),
            "id" => {
                self.current.id = value.to_owned();
                self.last_id = value.to_owned();
            }
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.current.data.push('\n');
                }
                self.current.data.push_str(value);
            }
            other => panic!("a field that no event stream has: {other:?}"),
        }
    }
}
