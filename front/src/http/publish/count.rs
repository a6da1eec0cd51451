//! How many streams a channel has on all fronts together: one reactor asks, those that have the channel answer.
//!
//! A question is a publication that every reactor hears; the answers come the way of workers' answers. Nobody waits for
//! long: what is not answered in time is not counted, and that is said. It must not be asked unless somebody wants to
//! know, since every reactor hears it.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempest_protocol::Keys;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::broker::{Broker, Command};
use crate::hub::Hub;

/// The kind of a message that answers.
const KIND: &str = "streams";

/// One reactor's questions, and its answers to those of others.
pub struct Counts {
    broker: Rc<Broker>,
    hub: Rc<Hub>,
    keys: Keys,
    channel: String,
    /// What browsers' names of channels are prefixed with in Redis.
    prefix: String,
    time: Cell<Duration>,
    next: Cell<u64>,
    open: RefCell<HashMap<u64, Open>>,
}

/// A question that waits for answers.
struct Open {
    missing: u64,
    streams: u64,
    all: Option<oneshot::Sender<()>>,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// None: it could not be asked.
    pub(super) streams: Option<u64>,
    /// Everybody has answered who was told of the message.
    pub(super) complete: bool,
}

/// Removes its question when it is dropped.
pub(super) struct Question {
    counts: Rc<Counts>,
    id: u64,
    until: Instant,
    all: oneshot::Receiver<()>,
}

#[derive(Serialize, Deserialize)]
struct Asked<'a> {
    channel: Cow<'a, str>,
    reply_to: Cow<'a, str>,
    id: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct Told {
    id: String,
    kind: Cow<'static, str>,
    count: u64,
}

impl Counts {
    /// For one reactor; `prefix` stands before browsers' names of channels in Redis, `time` is how long others are
    /// waited for.
    pub fn new(broker: Rc<Broker>, hub: Rc<Hub>, keys: Keys, prefix: &str, time: Duration) -> Rc<Self> {
        let (channel, prefix) = (keys.count(), prefix.to_owned());
        Rc::new(Self {
            broker,
            hub,
            keys,
            channel,
            prefix,
            time: Cell::new(time),
            next: Cell::new(0),
            open: RefCell::default(),
        })
    }

    /// Waits so long for others from the next question on.
    pub fn apply(&self, time: Duration) {
        self.time.set(time);
    }

    /// Hears questions from now on.
    pub fn listen(&self) {
        // Whether it is confirmed shows in the answers alone.
        drop(self.broker.subscriptions().subscribe(&self.channel));
    }

    /// Takes a publication; false: it is no question.
    pub fn heard(&self, channel: &str, payload: &[u8]) -> bool {
        if channel != self.channel {
            return false;
        }
        if let Ok(asked) = serde_json::from_slice::<Asked<'_>>(payload) {
            self.answer(&asked);
        }
        true
    }

    fn answer(&self, asked: &Asked<'_>) {
        let Some(name) = asked.channel.strip_prefix(self.prefix.as_str()) else { return };
        let streams = self.hub.streams_on(name);
        // As of workers' answers: nobody can make a front write to any key.
        if streams == 0 || !self.keys.is_reply_to(&asked.reply_to) {
            return;
        }
        let told = Told { id: asked.id.clone().into_owned(), kind: KIND.into(), count: streams as u64 };
        let told = serde_json::to_vec(&told).expect("plain data");
        // Published and not pushed: an answer for somebody who has left leaves nothing behind.
        self.broker.forget(Command::new(&[b"PUBLISH", asked.reply_to.as_bytes(), &told]));
    }

    /// Takes a message that came with workers' answers and is none; false: it is no answer to a question either.
    pub fn told(&self, message: &[u8]) -> bool {
        let Ok(told) = serde_json::from_slice::<Told>(message) else { return false };
        if told.kind != KIND {
            return false;
        }
        let mut all_open = self.open.borrow_mut();
        if let Some(open) = told.id.parse().ok().and_then(|id: u64| all_open.get_mut(&id)) {
            open.streams += told.count;
            open.missing = open.missing.saturating_sub(1);
            if open.missing == 0
                && let Some(all) = open.all.take()
            {
                let _ = all.send(());
            }
        }
        true
    }

    /// Asks who has streams of a channel, by its name in Redis, after a message that so many were told of.
    pub(super) fn ask(self: &Rc<Self>, channel: &str, told: u64) -> Question {
        let id = self.next.get();
        self.next.set(id + 1);
        let (sender, all) = oneshot::channel();
        let mut open = Open { missing: told, streams: 0, all: None };
        if told == 0 {
            // Nobody was told, so there is nobody to ask.
            let _ = sender.send(());
        } else {
            open.all = Some(sender);
            let (reply_to, id) = (self.broker.answers_key().into(), id.to_string().into());
            let asked = Asked { channel: channel.into(), reply_to, id };
            let asked = serde_json::to_vec(&asked).expect("plain data");
            self.broker.forget(Command::new(&[b"PUBLISH", self.channel.as_bytes(), &asked]));
        }
        self.open.borrow_mut().insert(id, open);
        Question { counts: Rc::clone(self), id, until: Instant::now() + self.time.get(), all }
    }
}

impl Question {
    /// What has been answered when all have, or the time is over.
    pub(super) async fn answered(mut self) -> Count {
        let complete = matches!(timeout_at(self.until, &mut self.all).await, Ok(Ok(())));
        let streams = self.counts.open.borrow().get(&self.id).map(|open| open.streams);
        Count { streams, complete }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.counts.open.borrow_mut().remove(&self.id);
    }
}
