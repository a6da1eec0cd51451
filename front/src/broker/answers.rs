//! Reading the answer list without losing any of it.
//!
//! A destructive pop loses what was on its way when the connection breaks. So one trip waits, reads, and removes only
//! what the trip before has handled: `LTRIM key <handled> -1`, `BLMOVE key key LEFT LEFT t` (a wait that moves
//! nothing), `LRANGE key 0 m`. After a reconnect nothing is trimmed first: what is read twice is told apart by its
//! id and sequence number further up. Needs Redis 6.2. It must not look into the messages.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::dial::{Dialled, Stream, dial};
use super::link::pause;
use super::wire::{Command, take_reply, text_of, write_command};
use super::{Outage, Shared};
use crate::backoff::Backoff;
use crate::lifecycle::{Life, Phase};

/// How long one trip waits for an answer. Short enough that a connection that leads nowhere is found out soon.
const BLOCK: Duration = Duration::from_secs(2);
/// Messages of one trip, at most.
const MOST_MESSAGES: usize = 512;
/// Bytes that one trip aims to stay under, by the average of the last: many answers of 1 MiB must not become one reply.
const TRIP_BYTES: usize = 4 * 1024 * 1024;
/// Waits between tries to connect.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

pub(super) fn start(shared: Rc<Shared>, mut life: Life) {
    tokio::task::spawn_local(async move {
        let key = shared.options.answers_key.clone();
        let block = BLOCK.as_secs().to_string();
        let wait = [b"BLMOVE", key.as_bytes(), key.as_bytes(), b"LEFT", b"LEFT", block.as_bytes()];
        let reader = Reader { wait: Command::new(&wait).0, key, shared, outage: Outage::default() };
        tokio::select! {
            () = reader.run() => {}
            () = life.reached(Phase::Stopping) => {}
        }
    });
}

struct Reader {
    key: String,
    /// The command that waits.
    wait: Bytes,
    shared: Rc<Shared>,
    outage: Outage,
}

impl Reader {
    async fn run(&self) {
        let mut backoff = Backoff::new(RECONNECT.0, RECONNECT.1);
        let name = format!("{}:answers", self.shared.options.name);
        loop {
            let error = match dial(&self.shared.options.url, &name).await {
                Ok(dialled) => {
                    backoff.reset();
                    self.outage.over();
                    let forgot = self.shared.greeted(&dialled.greeting);
                    if let (true, Some(sink)) = (forgot, self.shared.sink()) {
                        sink.connected(true);
                    }
                    self.read(dialled).await.to_string()
                }
                Err(error) => error.to_string(),
            };
            if self.outage.begins() {
                tracing::warn!(link = "answers", "no answers from Redis: {error}");
            }
            pause(&mut backoff).await;
        }
    }

    async fn read(&self, dialled: Dialled) -> io::Error {
        let Dialled { mut stream, mut buffer, .. } = dialled;
        let mut handled = 0;
        let mut most = MOST_MESSAGES;
        loop {
            match self.trip(&mut stream, &mut buffer, handled, most).await {
                Ok(messages) => {
                    handled = messages.len();
                    most = next_size(&messages);
                    if let (true, Some(sink)) = (handled > 0, self.shared.sink()) {
                        sink.answers(messages);
                    }
                }
                Err(error) => return error,
            }
        }
    }

    async fn trip(
        &self,
        stream: &mut Box<dyn Stream>,
        buffer: &mut BytesMut,
        handled: usize,
        most: usize,
    ) -> io::Result<Vec<Bytes>> {
        let key = self.key.as_bytes();
        let mut out = BytesMut::with_capacity(256);
        if handled > 0 {
            let mut digits = itoa::Buffer::new();
            write_command(&mut out, &[b"LTRIM", key, digits.format(handled).as_bytes(), b"-1"]);
        }
        out.extend_from_slice(&self.wait);
        let mut digits = itoa::Buffer::new();
        write_command(&mut out, &[b"LRANGE", key, b"0", digits.format(most - 1).as_bytes()]);
        stream.write_all(&out).await?;
        stream.flush().await?;
        let limit = BLOCK + self.shared.options.stall;
        let replies = async {
            if handled > 0 {
                refuse_error(next_reply(stream, buffer).await?)?;
            }
            refuse_error(next_reply(stream, buffer).await?)?;
            refuse_error(next_reply(stream, buffer).await?)
        };
        match timeout(limit, replies).await {
            Ok(Ok(BytesFrame::Array(list))) => Ok(list.into_iter().filter_map(into_bytes).collect()),
            Ok(Ok(other)) => Err(io::Error::other(format!("LRANGE gave {}", text_of(&other)))),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

fn next_size(messages: &[Bytes]) -> usize {
    let bytes: usize = messages.iter().map(Bytes::len).sum();
    match messages.len() {
        0 => MOST_MESSAGES,
        count => (TRIP_BYTES / (bytes / count).max(1)).clamp(1, MOST_MESSAGES),
    }
}

async fn next_reply(stream: &mut Box<dyn Stream>, buffer: &mut BytesMut) -> io::Result<BytesFrame> {
    loop {
        if let Some(frame) = take_reply(buffer)? {
            return Ok(frame);
        }
        if buffer.capacity() - buffer.len() < 4 * 1024 {
            buffer.reserve(64 * 1024);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn refuse_error(frame: BytesFrame) -> io::Result<BytesFrame> {
    match frame {
        BytesFrame::Error(text) => Err(io::Error::other(text.to_string())),
        frame => Ok(frame),
    }
}

fn into_bytes(frame: BytesFrame) -> Option<Bytes> {
    match frame {
        BytesFrame::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}
