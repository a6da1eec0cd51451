//! Subscriptions to patterns of channels, over a connection of their own.
//!
//! fred does not say by which pattern a message came, and Redis sends a message once for each that matches; so these are
//! read here, by the codec that the other connections use. The connection is made when the first pattern is wanted.
//! It must not know who reads.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use super::dial::{Dialled, dial};
use super::wire::{take_reply, text_of, write_command};
use super::{Outage, Shared};
use crate::backoff::Backoff;
use crate::lifecycle::{Life, Phase};

/// Waits between tries to connect.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// How often a quiet connection is asked whether it lives, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(5);

/// A handle; clones share the connection.
#[derive(Clone)]
pub struct Patterns(Rc<Inner>);

struct Inner {
    shared: Rc<Shared>,
    wanted: RefCell<HashMap<String, Wanted>>,
    /// Something is to be said on the connection, or it is to be made.
    changed: Notify,
    up: Cell<bool>,
    outage: Outage,
}

#[derive(Default)]
struct Wanted {
    asked: bool,
    confirmed: bool,
    waiters: Vec<oneshot::Sender<()>>,
}

impl Patterns {
    pub(super) fn new(shared: Rc<Shared>) -> Self {
        let (wanted, changed) = (RefCell::default(), Notify::new());
        Self(Rc::new(Inner { shared, wanted, changed, up: Cell::new(false), outage: Outage::default() }))
    }

    pub(super) fn start(&self, mut life: Life) {
        let inner = Rc::clone(&self.0);
        tokio::task::spawn_local(async move {
            tokio::select! {
                () = inner.run() => {}
                () = life.reached(Phase::Stopping) => {}
            }
        });
    }

    /// Wants `pattern`, as Redis writes them; resolves once Redis has confirmed it.
    pub fn subscribe(&self, pattern: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut all = self.0.wanted.borrow_mut();
        let wanted = all.entry(pattern.to_owned()).or_default();
        if wanted.confirmed {
            let _ = sender.send(());
        } else {
            wanted.waiters.push(sender);
            self.0.changed.notify_one();
        }
        receiver
    }

    /// Wants `pattern` no more.
    pub fn unsubscribe(&self, pattern: &str) {
        if self.0.wanted.borrow_mut().remove(pattern).is_some() {
            self.0.changed.notify_one();
        }
    }
}

impl Inner {
    async fn run(&self) {
        let mut backoff = Backoff::new(RECONNECT.0, RECONNECT.1);
        loop {
            while self.wanted.borrow().is_empty() {
                self.changed.notified().await;
            }
            let options = &self.shared.options;
            let ended = match dial(&options.url, &format!("{}:patterns", options.name)).await {
                Ok(connection) => {
                    backoff.reset();
                    self.outage.over();
                    self.serve(connection).await.err().map(|error| error.to_string())
                }
                Err(error) => Some(error.to_string()),
            };
            self.lose();
            if let Some(error) = ended {
                if self.outage.begins() {
                    tracing::warn!("no subscriptions to patterns: {error}");
                }
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    }

    fn lose(&self) {
        self.up.set(false);
        for wanted in self.wanted.borrow_mut().values_mut() {
            (wanted.asked, wanted.confirmed) = (false, false);
        }
    }

    /// Until nothing is wanted any more, or the connection breaks.
    async fn serve(&self, connection: Dialled) -> io::Result<()> {
        let Dialled { mut stream, mut buffer, .. } = connection;
        let mut subscribed: Vec<String> = Vec::new();
        let mut heard = Instant::now();
        let mut pinged = false;
        self.up.set(true);
        loop {
            let out = self.changes(&mut subscribed);
            if !out.is_empty() {
                stream.write_all(&out).await?;
                stream.flush().await?;
            }
            if subscribed.is_empty() {
                return Ok(());
            }
            tokio::select! {
                () = self.changed.notified() => {}
                read = timeout_at(heard + PING_EVERY, stream.read_buf(&mut buffer)) => match read {
                    Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(Ok(_)) => {
                        (heard, pinged) = (Instant::now(), false);
                        while let Some(frame) = take_reply(&mut buffer)? {
                            self.heard(&frame);
                        }
                    }
                    Ok(Err(error)) => return Err(error),
                    Err(_) if pinged => return Err(io::ErrorKind::TimedOut.into()),
                    Err(_) => {
                        (heard, pinged) = (Instant::now(), true);
                        let mut ping = BytesMut::new();
                        write_command(&mut ping, &[b"PING"]);
                        stream.write_all(&ping).await?;
                        stream.flush().await?;
                    }
                },
            }
        }
    }

    /// Commands for what has been wanted, or is wanted no more, since the last time.
    fn changes(&self, subscribed: &mut Vec<String>) -> BytesMut {
        let mut out = BytesMut::new();
        let mut all = self.wanted.borrow_mut();
        subscribed.retain(|pattern| {
            // Wanted anew after it was given up, it is asked for anew, behind the end of the old one.
            let kept = all.get(pattern).is_some_and(|wanted| wanted.asked);
            if !kept {
                write_command(&mut out, &[b"PUNSUBSCRIBE", pattern.as_bytes()]);
            }
            kept
        });
        for (pattern, wanted) in all.iter_mut().filter(|(_, wanted)| !wanted.asked) {
            wanted.asked = true;
            write_command(&mut out, &[b"PSUBSCRIBE", pattern.as_bytes()]);
            subscribed.push(pattern.clone());
        }
        out
    }

    fn heard(&self, frame: &BytesFrame) {
        let BytesFrame::Array(parts) = frame else { return };
        match (&parts[..], parts.first().map(text_of).as_deref()) {
            ([_, pattern, BytesFrame::BulkString(channel), BytesFrame::BulkString(payload)], Some("pmessage")) => {
                if let (Some(sink), Ok(channel)) = (self.shared.sink(), std::str::from_utf8(channel)) {
                    sink.published_to_pattern(&text_of(pattern), channel, payload);
                }
            }
            ([_, pattern, _], Some("psubscribe")) => {
                if let Some(wanted) = self.wanted.borrow_mut().get_mut(&text_of(pattern)) {
                    wanted.confirmed = true;
                    wanted.waiters.drain(..).for_each(|waiter| {
                        // Whoever waited may have left.
                        let _ = waiter.send(());
                    });
                }
            }
            _ => {}
        }
    }
}
