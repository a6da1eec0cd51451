//! One connection of a worker: bytes both ways as they are, commands looked at in passing, pops taken over.
//!
//! One task, four bounded buffers; a side that does not read is not read from. What cannot be told apart (a stream that is
//! no RESP, a subscription, a monitor) passes unseen from there on, and Redis judges it. How a pop is served is elsewhere.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, join};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::pop::Pop;
use super::scan::{Replies, Requests, words};
use super::worker::{Shared, Worker};
use crate::broker::{Stream, open};

/// Bytes that one read may bring.
pub(super) const READ_BYTES: usize = 16 * 1024;
/// Bytes held for one direction before no more are read.
pub(super) const HELD_BYTES: usize = 64 * 1024;
/// Time to reach Redis.
const OPEN_TIME: Duration = Duration::from_secs(2);
/// Time for the last words of a Redis that has closed the connection.
const LAST_WORDS_TIME: Duration = Duration::from_secs(1);

/// A connection and what is known of it.
pub(super) struct Connection {
    pub(super) worker: Rc<Worker>,
    pub(super) shared: Rc<Shared>,
    pub(super) child_read: OwnedReadHalf,
    pub(super) child_write: OwnedWriteHalf,
    pub(super) redis_read: ReadHalf<Box<dyn Stream>>,
    pub(super) redis_write: WriteHalf<Box<dyn Stream>>,
    /// From the child, not yet looked at.
    pub(super) inbound: BytesMut,
    /// From the child, on its way to Redis.
    forward: BytesMut,
    /// From Redis, not yet looked at.
    pub(super) fresh: BytesMut,
    /// From Redis or from here, on its way to the child.
    pub(super) back: BytesMut,
    requests: Requests,
    pub(super) replies: Replies,
    /// Commands that passed and have no reply yet.
    open: u64,
    /// The first byte of the last reply.
    last: u8,
    /// Of the Redis protocol, as the child asked for.
    pub(super) version: u8,
    database: u32,
    /// Between MULTI and EXEC.
    multi: bool,
    /// The version that was asked for in the command whose reply is awaited.
    hello: Option<u8>,
    /// What waits until all before it has its reply, and how many bytes of `inbound` it is.
    next: Option<(Next, usize)>,
    /// Claims that this connection took and has not acknowledged.
    pub(super) taken: Vec<u64>,
    /// The child has closed it.
    pub(super) gone: bool,
}

enum Next {
    Pop(Pop),
    /// The version of the protocol.
    Hello(u8),
}

/// What a command is to the connection.
enum Judged {
    Passes,
    Waits(Next),
    /// From here on nothing can be told.
    Blinds,
}

impl Connection {
    /// Serves a connection of the worker's until either side ends it.
    pub(super) async fn serve(worker: Rc<Worker>, shared: Rc<Shared>, child: TcpStream) {
        // Fails only where the child is gone already.
        let _ = child.set_nodelay(true);
        let redis = match timeout(OPEN_TIME, open(&shared.url)).await {
            Ok(Ok(redis)) => redis,
            // The child sees its connection closed, and that is what it would see of a Redis that goes away.
            Ok(Err(error)) => return tracing::debug!(worker = worker.claimer.id, "no connection to Redis: {error}"),
            Err(_) => return tracing::debug!(worker = worker.claimer.id, "no connection to Redis in time"),
        };
        let (redis_read, redis_write) = tokio::io::split(redis);
        let (child_read, child_write) = child.into_split();
        let mut connection = Self {
            worker,
            shared,
            child_read,
            child_write,
            redis_read,
            redis_write,
            inbound: BytesMut::new(),
            forward: BytesMut::new(),
            fresh: BytesMut::new(),
            back: BytesMut::new(),
            requests: Requests::default(),
            replies: Replies::default(),
            open: 0,
            last: 0,
            version: 2,
            database: 0,
            multi: false,
            hello: None,
            next: None,
            taken: Vec::new(),
            gone: false,
        };
        if let Err(error) = connection.relay().await {
            tracing::trace!(worker = connection.worker.claimer.id, "connection ended: {error}");
        }
    }

    async fn relay(&mut self) -> io::Result<()> {
        let worker = Rc::clone(&self.worker);
        let mut died = pin!(worker.died());
        loop {
            if !self.look() {
                tokio::select! {
                    ended = self.pass_unseen() => return ended,
                    () = &mut died => return Ok(()),
                }
            }
            if self.is_quiet()
                && let Some((next, length)) = self.next.take()
            {
                self.come_to(next, length).await?;
                continue;
            }
            // What was sent before the end is still meant.
            if self.gone && self.forward.is_empty() {
                return Ok(());
            }
            let room = self.inbound.len() < HELD_BYTES && self.forward.len() < HELD_BYTES;
            self.inbound.reserve(if room { READ_BYTES } else { 0 });
            self.fresh.reserve(READ_BYTES);
            tokio::select! {
                biased;
                () = &mut died => return Ok(()),
                read = self.redis_read.read_buf(&mut self.fresh), if self.back.len() < HELD_BYTES => {
                    let bytes = read?;
                    self.pass_fresh();
                    if bytes == 0 {
                        let _ = timeout(LAST_WORDS_TIME, self.child_write.write_all(&self.back)).await;
                        return Ok(());
                    }
                }
                written = self.child_write.write(&self.back), if !self.back.is_empty() => self.back.advance(written?),
                written = self.redis_write.write(&self.forward), if !self.forward.is_empty() => {
                    self.forward.advance(written?);
                    if self.forward.is_empty() {
                        self.redis_write.flush().await?;
                    }
                }
                read = self.child_read.read_buf(&mut self.inbound), if room && !self.gone => self.gone = read? == 0,
            }
        }
    }

    /// Looks at what the child has sent, up to a command that has to wait; false: from here on nothing can be told.
    fn look(&mut self) -> bool {
        while self.next.is_none() && self.hello.is_none() {
            let Ok(look) = self.requests.look(&self.inbound, is_of_interest) else { return false };
            self.open += look.commands;
            self.forward.unsplit(self.inbound.split_to(look.pass));
            let Some(length) = look.command else { break };
            match self.judge(length) {
                Judged::Passes => self.pass_command(length),
                Judged::Waits(next) => self.next = Some((next, length)),
                Judged::Blinds => return false,
            }
        }
        true
    }

    pub(super) fn pass_command(&mut self, length: usize) {
        self.open += 1;
        self.forward.unsplit(self.inbound.split_to(length));
    }

    fn judge(&mut self, length: usize) -> Judged {
        let Some(words) = words(&self.inbound[..length]) else { return Judged::Passes };
        let Some((name, rest)) = words.split_first() else { return Judged::Passes };
        match name.to_ascii_uppercase().as_slice() {
            b"HELLO" => match rest.first() {
                Some(&b"2") => return Judged::Waits(Next::Hello(2)),
                Some(&b"3") => return Judged::Waits(Next::Hello(3)),
                _ => {}
            },
            b"SELECT" => {
                // One that Redis refuses leaves pops of the queue to be refused, too, or to pass.
                let number = rest.first().and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
                self.database = number.unwrap_or(self.database);
            }
            b"MULTI" => self.multi = true,
            b"EXEC" | b"DISCARD" => self.multi = false,
            b"RESET" => (self.multi, self.version, self.database) = (false, 2, 0),
            b"CLIENT" if !rest.first().is_some_and(|word| word.eq_ignore_ascii_case(b"REPLY")) => {}
            b"CLIENT" | b"SUBSCRIBE" | b"PSUBSCRIBE" | b"SSUBSCRIBE" | b"MONITOR" | b"SYNC" | b"PSYNC" => {
                return Judged::Blinds;
            }
            // In a transaction nothing is popped before its end, and in another database there is no queue.
            _ if self.multi || self.database != self.shared.url.db || self.worker.base.get() => {}
            _ => {
                if let Some(pop) = Pop::read(&words, &self.worker.names) {
                    return Judged::Waits(Next::Pop(pop));
                }
            }
        }
        Judged::Passes
    }

    /// All that passed has its reply, and the child has it.
    fn is_quiet(&self) -> bool {
        self.open == 0
            && self.forward.is_empty()
            && self.back.is_empty()
            && self.fresh.is_empty()
            && self.replies.is_between()
    }

    async fn come_to(&mut self, next: Next, length: usize) -> io::Result<()> {
        match next {
            Next::Hello(version) => {
                self.hello = Some(version);
                self.pass_command(length);
                Ok(())
            }
            Next::Pop(pop) => self.take_over(&pop, length).await,
        }
    }

    /// Counts the replies in what Redis has sent, and lets it pass.
    pub(super) fn pass_fresh(&mut self) {
        let mut at = 0;
        // What cannot be read leaves replies open, so nothing is taken over any more.
        while let Ok(Some(item)) = self.replies.next(&self.fresh[at..]) {
            at += item.bytes;
            if !item.is_push() {
                self.last = item.mark;
                self.open = self.open.saturating_sub(1);
            }
        }
        if self.open == 0
            && let Some(version) = self.hello.take()
            && self.last != b'-'
        {
            self.version = version;
        }
        self.back.unsplit(self.fresh.split());
    }

    async fn pass_unseen(&mut self) -> io::Result<()> {
        self.redis_write.write_all(&self.forward).await?;
        self.redis_write.write_all(&self.inbound).await?;
        self.redis_write.flush().await?;
        self.child_write.write_all(&self.back).await?;
        let mut child = join(&mut self.child_read, &mut self.child_write);
        let mut redis = join(&mut self.redis_read, &mut self.redis_write);
        tokio::io::copy_bidirectional(&mut child, &mut redis).await.map(drop)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.orphan(&mut self.taken);
    }
}

/// Commands whose words matter here.
fn is_of_interest(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 17] = [
        b"BLPOP",
        b"LPOP",
        b"BLMPOP",
        b"LMPOP",
        b"HELLO",
        b"SELECT",
        b"MULTI",
        b"EXEC",
        b"DISCARD",
        b"RESET",
        b"CLIENT",
        b"SUBSCRIBE",
        b"PSUBSCRIBE",
        b"SSUBSCRIBE",
        b"MONITOR",
        b"SYNC",
        b"PSYNC",
    ];
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}
