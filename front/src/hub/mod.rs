//! Browser channels of one reactor: who reads what, and what was published.
//!
//! One subscription a channel however many readers it has. A message is framed once and kept in its channel's ring
//! until every reader has passed it; a reader is a cursor and nothing more, so a message to ten thousand readers is
//! one buffer. A reader that the ring has left behind is disconnected: it slows nobody. This module must not know
//! HTTP beyond the framing of a chunk, nor where connections come from.

mod channel;
mod stream;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempest_protocol::Payload;
use tokio::sync::Notify;
use tokio::time::{interval, timeout};

use crate::backoff::random_unit;
use crate::broker::Broker;
use crate::config::Channels;
use crate::telemetry::Metrics;

use channel::{Channel, Frame};
pub use stream::{Opening, Stream};

/// Readers woken in one go. Enough that walking costs little beside writing to them, few enough that a message which
/// comes while thousands are served is not behind them all.
const SLICE: usize = 128;
/// How often quiet streams are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// Counts that all reactors of a process share, for their limits.
#[derive(Debug, Default)]
pub struct Totals {
    streams: AtomicUsize,
    channels: AtomicUsize,
}

/// The channels of one reactor.
pub struct Hub {
    broker: Rc<Broker>,
    config: Channels,
    totals: Arc<Totals>,
    metrics: Arc<Metrics>,
    channels: RefCell<HashMap<String, Rc<Channel>>>,
    /// Channels with readers that have yet to be woken.
    walked: RefCell<VecDeque<Rc<Channel>>>,
    to_walk: Notify,
    /// Seconds since the start, as the sweep counts them.
    clock: Cell<u32>,
    draining: Cell<bool>,
}

/// Why a stream cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many streams are open as may be.
    Streams,
    /// As many channels are subscribed as may be.
    Channels,
    /// Redis did not confirm the subscription in time.
    Away,
    /// The front is being shut down.
    Draining,
}

/// A place among a channel's readers-to-be; keeps the subscription while it lives.
pub struct Seat {
    hub: Rc<Hub>,
    channel: Rc<Channel>,
}

impl Hub {
    /// A hub without channels.
    pub fn new(broker: Rc<Broker>, config: Channels, totals: Arc<Totals>, metrics: Arc<Metrics>) -> Rc<Self> {
        Rc::new(Self {
            broker,
            config,
            totals,
            metrics,
            channels: RefCell::default(),
            walked: RefCell::default(),
            to_walk: Notify::new(),
            clock: Cell::new(0),
            draining: Cell::new(false),
        })
    }

    /// Subscribes the channel `name` (as the browser names it) and gives a seat once Redis has confirmed.
    pub async fn seat(self: &Rc<Self>, name: &str) -> Result<Seat, Refused> {
        if self.draining.get() {
            return Err(Refused::Draining);
        }
        if self.totals.streams.load(Ordering::Relaxed) >= self.config.streams {
            return Err(Refused::Streams);
        }
        let key = format!("{}{name}", self.config.prefix);
        let channel = self.enter(name, &key)?;
        self.totals.streams.fetch_add(1, Ordering::Relaxed);
        let seat = Seat { hub: Rc::clone(self), channel };
        let confirmed = self.broker.subscriptions().subscribe(&key);
        match timeout(self.config.subscribe_time, confirmed).await {
            Ok(Ok(())) => Ok(seat),
            _ => Err(Refused::Away),
        }
    }

    fn enter(&self, name: &str, key: &str) -> Result<Rc<Channel>, Refused> {
        let mut channels = self.channels.borrow_mut();
        if let Some(channel) = channels.get(key) {
            channel.seats.set(channel.seats.get() + 1);
            return Ok(Rc::clone(channel));
        }
        if self.totals.channels.load(Ordering::Relaxed) >= self.config.channels {
            return Err(Refused::Channels);
        }
        self.totals.channels.fetch_add(1, Ordering::Relaxed);
        self.metrics.channels.inc();
        let rule = self.config.rules.iter().find(|rule| rule.pattern.matches(name));
        let channel = Rc::new(Channel::new(
            key,
            rule.is_none_or(|rule| rule.array_form),
            rule.is_some_and(|rule| rule.control),
            self.config.buffer_messages,
            self.config.buffer_bytes,
        ));
        channels.insert(key.to_owned(), Rc::clone(&channel));
        Ok(channel)
    }

    fn leave(&self, channel: &Rc<Channel>) {
        self.totals.streams.fetch_sub(1, Ordering::Relaxed);
        channel.seats.set(channel.seats.get() - 1);
        if channel.seats.get() > 0 {
            return;
        }
        self.channels.borrow_mut().remove(&channel.key);
        self.totals.channels.fetch_sub(1, Ordering::Relaxed);
        self.metrics.channels.dec();
        self.broker.subscriptions().unsubscribe(&channel.key);
    }

    /// A message came from Redis.
    pub fn published(&self, key: &str, payload: &[u8]) {
        let Some(channel) = self.channels.borrow().get(key).cloned() else { return };
        self.metrics.publications.inc();
        let payload = tempest_protocol::decode_payload(payload, channel.array_form, channel.control);
        self.deliver(&channel, Frame::of(&payload));
        if payload == Payload::End {
            channel.end();
        }
    }

    /// Subscriptions are gone, or all there again; the readers are told by a comment.
    pub fn subscribed(&self, up: bool) {
        self.comment(if up { "redis is back" } else { "redis is away" });
    }

    /// Messages were dropped before anybody could read them.
    pub fn lagged(&self, messages: u64) {
        tracing::warn!(messages, "published messages were dropped: they came faster than they could be read");
        self.comment(&format!("{messages} messages of this front were lost"));
    }

    fn comment(&self, text: &str) {
        let frame = Frame::comment(text);
        for channel in self.channels.borrow().values() {
            self.deliver(channel, frame.clone());
        }
    }

    /// Wakes the first readers of a message at once, and has the others woken by [`Hub::fan_out`].
    fn deliver(&self, channel: &Rc<Channel>, frame: Frame) {
        if channel.publish(frame) && channel.wake_some(SLICE) {
            let mut walked = self.walked.borrow_mut();
            if !walked.iter().any(|known| Rc::ptr_eq(known, channel)) {
                walked.push_back(Rc::clone(channel));
                self.to_walk.notify_one();
            }
        }
    }

    /// Wakes the readers of large channels, a slice of each channel in turn, until dropped. Between two slices the
    /// reactor sees to everything else, and what is published meanwhile is joined with what the rest has yet to get.
    pub async fn fan_out(self: Rc<Self>) {
        loop {
            let next = self.walked.borrow_mut().pop_front();
            match next {
                Some(channel) => {
                    if channel.wake_some(SLICE) {
                        self.walked.borrow_mut().push_back(channel);
                    }
                    tokio::task::yield_now().await;
                }
                None => self.to_walk.notified().await,
            }
        }
    }

    /// Sends every reader away with a hint when to come back, spread so that they do not come all at once.
    pub fn drain(&self) {
        self.draining.set(true);
        for channel in self.channels.borrow().values() {
            channel.drain();
        }
    }

    /// Marks the streams that have been quiet for too long, until dropped.
    pub async fn keep_alive(self: Rc<Self>) {
        let mut sweeps = interval(SWEEP);
        loop {
            sweeps.tick().await;
            let now = self.clock.get() + 1;
            self.clock.set(now);
            for channel in self.channels.borrow().values() {
                channel.sweep(now);
            }
        }
    }

    /// The first sweep that is certainly not before a moment: the next one may come at once.
    fn sweep_at(&self, moment: Instant) -> u32 {
        let left = moment.saturating_duration_since(Instant::now()).as_secs_f64() / SWEEP.as_secs_f64();
        self.clock.get().saturating_add(1).saturating_add(left.ceil() as u32)
    }

    /// Sweeps between two signs of life of a stream that begins now: the interval, less up to a fifth of it.
    fn beat_every(&self) -> u32 {
        let seconds = self.config.heartbeat.as_secs_f64() * (1.0 - random_unit() / 5.0);
        (seconds / SWEEP.as_secs_f64()).max(1.0) as u32
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.leave(&self.channel);
    }
}
