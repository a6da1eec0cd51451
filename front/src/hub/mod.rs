//! Browser channels of one reactor: who reads what, and what was published.
//!
//! One subscription a channel however many readers it has. A message is framed once and kept in its channel's ring
//! until every reader has passed it; a reader is a cursor and nothing more, so a message to ten thousand readers is
//! one buffer. A reader that the ring has left behind is disconnected: it slows nobody. This module must not know
//! HTTP beyond the framing of a chunk, nor where connections come from.

mod catch_up;
mod census;
mod channel;
mod frame;
#[doc(hidden)]
pub mod fuzz;
mod lag;
mod life;
mod log;
mod opening;
mod pipe;
mod reader;
mod reload;
mod several;
mod stream;
mod tap;
mod wire;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempest_protocol::{Announcement, Keys, Payload, decode_payload};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::interval;

use crate::backoff::random_unit;
use crate::broker::Broker;
use crate::config::Channels;
use crate::places::{Holder, Place, Places};
use crate::telemetry::{Metrics, PublicationKind};

pub use census::{Busy, Census};
use channel::{Channel, Kind, Message};
use frame::Frame;
use log::ChannelLog;
pub use opening::{Opened, Start, Wanted};
pub use pipe::{PipeReader, pipe};
pub use stream::{Opening, start};
use tap::Taps;
pub use tap::{Cut, Tap};
pub use wire::Wire;

/// Readers woken in one go. Enough that walking costs little beside writing to them, few enough that a message which
/// comes while thousands are served is not behind them all: it passes several tasks of the reactor, each behind a slice.
/// With 128 some 9 % of 10,000 readers were written to twice for each four messages, with 32 it is 5 %.
const SLICE: usize = 32;
/// How often quiet streams, and those whose time is over, are looked for: a walk over all readers. It was measured
/// against a wheel of timers: at 19,000 streams the walk takes 0.2 ms when they share a channel and 0.8 ms when each has
/// its own, less than a thousandth of the second between two. A wheel takes 0.04 ms, and costs every stream its place
/// in it.
const SWEEP: Duration = Duration::from_secs(1);

/// Counts that all reactors of a process share, for their limits.
#[derive(Debug, Default)]
pub struct Totals {
    streams: AtomicUsize,
    channels: AtomicUsize,
    /// Whose they are, and whatever else is limited by whose it is.
    pub places: Arc<Places>,
}

/// The channels of one reactor.
pub struct Hub {
    broker: Rc<Broker>,
    /// A reload changes it.
    config: RefCell<Rc<Channels>>,
    keys: Keys,
    /// What the keys of logs begin with.
    log_prefix: String,
    /// Places for streams that read what they have missed.
    resuming: RefCell<Arc<Semaphore>>,
    totals: Arc<Totals>,
    metrics: Arc<Metrics>,
    channels: RefCell<HashMap<String, Rc<Channel>>>,
    taps: Taps,
    /// Channels with readers that have yet to be woken.
    walked: RefCell<VecDeque<Rc<Channel>>>,
    to_walk: Notify,
    /// Where what waits for a stream is joined, while it is written.
    joined: RefCell<Vec<u8>>,
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
    /// As many streams of the client's address are open as may be.
    Address,
    /// As many streams of the client's user are open as may be.
    User,
    /// Redis did not confirm the subscription in time.
    Away,
    /// The front is being shut down.
    Draining,
    /// What holds for the channel has changed, and its streams have yet to end.
    Changing,
}

impl Hub {
    /// A hub without channels.
    pub fn new(
        broker: Rc<Broker>,
        config: Rc<Channels>,
        keys: Keys,
        totals: Arc<Totals>,
        metrics: Arc<Metrics>,
    ) -> Rc<Self> {
        Rc::new(Self {
            broker,
            log_prefix: keys.log(""),
            keys,
            resuming: RefCell::new(Arc::new(Semaphore::new(config.resuming))),
            config: RefCell::new(config),
            totals,
            metrics,
            channels: RefCell::default(),
            taps: Taps::default(),
            walked: RefCell::default(),
            to_walk: Notify::new(),
            joined: RefCell::default(),
            clock: Cell::new(0),
            draining: Cell::new(false),
        })
    }

    /// A place for one more stream of a client: of its address, and of its user where one is known.
    ///
    /// # Errors
    /// [`Refused::Address`] or [`Refused::User`]: as many are open as may be. While the front drains nobody is refused
    /// for that: an EventSource would not come back.
    pub fn place(&self, address: IpAddr, user: Option<&str>) -> Result<Place, Refused> {
        if self.draining.get() {
            return Err(Refused::Draining);
        }
        let (places, config) = (&self.totals.places, self.config());
        let of_address = places.take(Holder::Streams(address), config.streams_per_address).ok_or(Refused::Address)?;
        let Some(user) = user else { return Ok(of_address) };
        // Refused here, the address gets back what was taken above.
        let of_user = places.take(Holder::UserStreams(user), config.streams_per_user).ok_or(Refused::User)?;
        Ok(of_address.and(of_user))
    }

    fn enter(&self, wanted: &Wanted) -> Result<Rc<Channel>, Refused> {
        let (name, config) = (&wanted.name, self.config());
        let key = match wanted.pattern {
            false => format!("{}{name}", config.prefix),
            true => format!("{PATTERN}{}{}", escape(&config.prefix, ALL_SPECIAL), escape(name, NOT_OURS)),
        };
        let mut channels = self.channels.borrow_mut();
        if let Some(channel) = channels.get(&key) {
            if channel.outdated.get() {
                return Err(Refused::Changing);
            }
            channel.seats.set(channel.seats.get() + 1);
            return Ok(Rc::clone(channel));
        }
        if self.totals.channels.load(Ordering::Relaxed) >= config.channels {
            return Err(Refused::Channels);
        }
        self.totals.channels.fetch_add(1, Ordering::Relaxed);
        self.metrics.channels.inc();
        let rule = config.rule(name).filter(|_| !wanted.pattern);
        let history = rule.and_then(|rule| rule.history);
        let kind = Kind {
            name: name.clone(),
            array_form: rule.is_none_or(|rule| rule.array_form),
            control: rule.is_some_and(|rule| rule.control),
            log: history.map(|history| ChannelLog::new(self.keys.log(&key), history)),
        };
        let channel = Channel::new(&key, kind, config.buffer_messages, config.buffer_bytes);
        let channel = Rc::new(channel);
        channels.insert(key, Rc::clone(&channel));
        Ok(channel)
    }

    /// Asks for what a channel needs; each resolves when Redis has confirmed it.
    fn subscribe(&self, channel: &Channel) -> Vec<oneshot::Receiver<()>> {
        if let Some(pattern) = channel.key.strip_prefix(PATTERN) {
            return self.both(pattern).iter().map(|pattern| self.broker.patterns().subscribe(pattern)).collect();
        }
        let names = [Some(&channel.key), channel.kind.log.as_ref().map(|log| &log.key)];
        names.into_iter().flatten().map(|name| self.broker.subscriptions().subscribe(name)).collect()
    }

    /// A pattern as it is asked of Redis: for channels, and for the announcements of those with history.
    fn both(&self, pattern: &str) -> [String; 2] {
        [pattern.to_owned(), format!("{}{pattern}", escape(&self.log_prefix, ALL_SPECIAL))]
    }

    /// Streams open, or being opened, of a channel by the name that browsers use.
    pub fn streams_on(&self, name: &str) -> usize {
        let key = format!("{}{name}", self.config().prefix);
        self.channels.borrow().get(&key).map_or(0, |channel| channel.seats.get())
    }

    fn leave(&self, channel: &Rc<Channel>) {
        channel.seats.set(channel.seats.get() - 1);
        if channel.seats.get() > 0 {
            return;
        }
        self.channels.borrow_mut().remove(&channel.key);
        self.totals.channels.fetch_sub(1, Ordering::Relaxed);
        self.metrics.channels.dec();
        match channel.key.strip_prefix(PATTERN) {
            Some(pattern) => {
                self.both(pattern).iter().for_each(|pattern| self.broker.patterns().unsubscribe(pattern));
            }
            None => self.broker.subscriptions().unsubscribe(&channel.key),
        }
        if let Some(log) = &channel.kind.log {
            self.broker.subscriptions().unsubscribe(&log.key);
        }
    }

    /// True for the names of the system's own channels, which nobody may read or publish to.
    pub fn is_reserved(&self, name: &str) -> bool {
        self.keys.is_reserved(name) || self.keys.is_reserved(&format!("{}{name}", self.config().prefix))
    }

    /// A message came from Redis.
    pub fn published(self: &Rc<Self>, key: &str, payload: &[u8]) {
        let found = self.channels.borrow().get(key).cloned();
        if let Some(channel) = found {
            self.metrics.publications.inc(PublicationKind::Plain);
            let payload = decode_payload(payload, channel.kind.array_form, channel.kind.control);
            self.taps.hear(key, &payload);
            let frame = Frame::of(&payload, None);
            channel.published.set(channel.published.get() + 1);
            self.deliver(&channel, Message { frame, id: None, channel: None, ours: false, hole: false });
            // When it was published is not known, only when it came.
            channel.time_latest(Duration::ZERO);
            if payload == Payload::End {
                channel.end();
            }
            return;
        }
        let logged = key.strip_prefix(&*self.log_prefix).and_then(|name| self.channels.borrow().get(name).cloned());
        if let Some(channel) = logged {
            self.announced(&channel, payload);
        }
    }

    /// A message came on a channel that a pattern matches.
    pub fn published_to_pattern(self: &Rc<Self>, pattern: &str, key: &str, payload: &[u8]) {
        // What is announced of a log is a message of its channel.
        let logs = escape(&self.log_prefix, ALL_SPECIAL);
        let (pattern, key, payload) = match (pattern.strip_prefix(&*logs), key.strip_prefix(&*self.log_prefix)) {
            (Some(pattern), Some(key)) => match Announcement::read(payload) {
                Some(announced) => (pattern, key, announced.payload),
                None => return,
            },
            _ => (pattern, key, payload),
        };
        let config = self.config();
        let Some(name) = key.strip_prefix(&*config.prefix).filter(|name| !self.is_reserved(name)) else { return };
        let Some(channel) = self.channels.borrow().get(&format!("{PATTERN}{pattern}")).cloned() else { return };
        self.metrics.publications.inc(PublicationKind::Plain);
        // A command to end is for those who asked for this channel by its name.
        let array_form = config.rule(name).is_none_or(|rule| rule.array_form);
        let frame = Frame::of(&decode_payload(payload, array_form, false), None);
        channel.published.set(channel.published.get() + 1);
        self.deliver(&channel, Message { frame, id: None, channel: Some(name.into()), ours: false, hole: false });
    }

    /// Subscriptions are gone, or all there again; the readers are told by a comment.
    pub fn subscribed(self: &Rc<Self>, up: bool) {
        self.comment(if up { "redis is back" } else { "redis is away" });
        if up {
            self.catch_up_with_all();
        }
    }

    /// Nobody knows what was announced and not heard.
    fn catch_up_with_all(self: &Rc<Self>) {
        let logged: Vec<_> =
            self.channels.borrow().values().filter(|channel| channel.kind.log.is_some()).cloned().collect();
        logged.iter().for_each(|channel| self.catch_up_with(channel));
    }

    /// Messages were dropped before anybody could read them.
    pub fn lagged(self: &Rc<Self>, messages: u64) {
        tracing::warn!(messages, "published messages were dropped: they came faster than they could be read");
        self.comment(&format!("{messages} messages of this front were lost"));
        self.catch_up_with_all();
    }

    fn comment(&self, text: &str) {
        let frame = Frame::comment(text);
        for channel in self.channels.borrow().values() {
            self.deliver(channel, Message::ours(frame.clone()));
        }
    }

    /// Wakes the first readers of a message at once, and has the others woken by [`Hub::fan_out`].
    fn deliver(&self, channel: &Rc<Channel>, message: Message) {
        if channel.publish(message) && channel.wake_some(SLICE) {
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

    /// Marks the streams that have been quiet for too long, and those that have lasted long enough, until dropped.
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
        let seconds = self.config().heartbeat.as_secs_f64() * (1.0 - random_unit() / 5.0);
        (seconds / SWEEP.as_secs_f64()).max(1.0) as u32
    }
}

/// What the key of a pattern's channel begins with; no channel's name has a control character.
const PATTERN: &str = "\u{1}";

/// Characters that mean something in a pattern of Redis, and those of them that mean nothing in one of ours.
const ALL_SPECIAL: &str = "*?[]\\^-";
const NOT_OURS: &str = "[]\\^-";

fn escape(text: &str, special: &str) -> String {
    text.chars().flat_map(|c| [Some('\\').filter(|_| special.contains(c)), Some(c)]).flatten().collect()
}
