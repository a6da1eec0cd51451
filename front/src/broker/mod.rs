//! Everything that speaks to Redis.
//!
//! Three ways, by what they must do. The hot ways, pushing jobs and reading answers, are small pipelined
//! connections of our own ([`link`], [`answers`]): a batch a turn, acknowledgements matched in order, and the exact
//! knowledge of what was written when a connection breaks, which decides between «safe to refuse» and «unknown».
//! Subscriptions ([`subscriptions`]) go through fred; no other module names it. Those to [`patterns`] do not. The command line and the supervisor
//! ask over a plain connection ([`control`]), and so does whoever looks after workers that claim ([`claims`]). This folder must not know HTTP, what a job means, or who waits for an
//! answer.

mod answers;
pub mod claims;
pub mod control;
mod dial;
#[doc(hidden)]
pub mod fuzz;
mod link;
pub mod log;
mod outgoing;
mod patterns;
mod publication;
mod subscriptions;
mod wire;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use redis_protocol::resp2::types::BytesFrame;
use tempest_protocol::scripts;
use tokio::sync::oneshot;

use crate::config::RedisUrl;
use crate::lifecycle::Life;
use crate::telemetry::Metrics;

pub use dial::DialError;
pub(crate) use dial::{Stream, open};
pub use patterns::Patterns;
pub use publication::{By, Declined, Publication, Published};
pub use subscriptions::Subscriptions;
pub(crate) use wire::write_command;
pub use wire::{Command, text_of};

use link::Link;

/// Commands with a larger payload travel on a second connection, so that they do not hold up the others.
const BULK_BYTES: usize = 64 * 1024;

/// What a reactor's broker needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which Redis.
    pub url: RedisUrl,
    /// The name of the connections in `CLIENT LIST`.
    pub name: String,
    /// The list, and the channel, on which answers come.
    pub answers_key: String,
    /// A server that leaves a command unanswered this long is taken for stalled.
    pub stall: Duration,
    /// How long a push waits for a lost connection to come back.
    pub patience: Duration,
    /// Bytes that may wait to be written.
    pub outgoing_bytes: usize,
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the list, which now has this many entries.
    Depth(u64),
    /// Redis refused it; its words.
    Refused(String),
    /// It never left this process.
    Unwritten,
    /// It left, and the connection broke before Redis said anything.
    Unknown,
    /// What [`Broker::take_back`] came to: true, it is out of the list again; false, somebody has it.
    TakenBack(bool),
}

/// Who is told what Redis says. Called from the reactor's own tasks, never from inside a call to [`Broker`].
pub trait Sink {
    /// What became of pushes, in the order of their writing.
    fn pushed(&self, results: &mut Vec<(u64, Pushed)>);
    /// Messages from the answer list or channel, in order.
    fn answers(&self, messages: Vec<Bytes>);
    /// A connection to Redis is there again; `forgot` says that it is another incarnation of the server.
    fn connected(&self, forgot: bool);
    /// A message was published on a subscribed channel.
    fn published(&self, channel: &str, payload: &[u8]);
    /// A message was published on a channel that a subscribed pattern matches.
    fn published_to_pattern(&self, pattern: &str, channel: &str, payload: &[u8]);
    /// Subscriptions are gone (false), or all there again (true).
    fn subscribed(&self, up: bool);
    /// This many published messages were dropped before they could be read.
    fn lagged(&self, messages: u64);
}

/// One reactor's way to Redis.
pub struct Broker {
    shared: Rc<Shared>,
    push: Link,
    bulk: Link,
    subscriptions: Subscriptions,
    patterns: Patterns,
}

/// What the connections of one reactor share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) metrics: Arc<Metrics>,
    sink: RefCell<Option<Rc<dyn Sink>>>,
    /// Milliseconds to add to this machine's clock to get that of Redis.
    clock_offset: Cell<i64>,
    run_id: RefCell<String>,
    /// Connections made so far.
    greetings: Cell<u64>,
}

impl Shared {
    pub(crate) fn sink(&self) -> Option<Rc<dyn Sink>> {
        self.sink.borrow().clone()
    }

    /// Notes what a fresh connection said of the server; true if it is another incarnation than before.
    pub(crate) fn greeted(&self, greeting: &dial::Greeting) -> bool {
        self.clock_offset.set(greeting.clock_offset);
        self.greetings.set(self.greetings.get() + 1);
        let mut known = self.run_id.borrow_mut();
        let forgot = !known.is_empty() && *known != greeting.run_id;
        known.clone_from(&greeting.run_id);
        forgot
    }
}

/// A job that nobody wants any more.
#[derive(Clone, Copy, Debug)]
pub struct Withdraw<'a> {
    /// The lists of its queue: normal, high, low.
    pub lists: [&'a str; 3],
    /// The set in which it is noted where it is in none of them.
    pub withdrawn: &'a str,
    /// The job.
    pub job: &'a Bytes,
    /// Its id.
    pub id: &'a str,
    /// Until when it is noted, in ms by the clock of Redis; 0: not at all.
    pub until: u64,
    /// Lists with more entries are not searched; None: it is in no list.
    pub depth: Option<u64>,
    /// They are searched from the head, not the tail.
    pub from_head: bool,
    /// Now, in ms by the clock of Redis.
    pub now: u64,
    /// Ids noted at most.
    pub noted: usize,
}

/// The command that runs a script. Its text goes along: on these ways it is rare, and Redis may forget scripts.
pub fn eval(script: &str, keys: &[&str], values: &[&[u8]]) -> Command {
    let count = keys.len().to_string();
    let mut parts: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), count.as_bytes()];
    parts.extend(keys.iter().map(|key| key.as_bytes()));
    parts.extend(values);
    Command::new(&parts)
}

/// Why a push was not even taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Redis is away, or stalled.
    Down,
    /// Too many bytes wait to be written already.
    Full,
}

/// Why there is no reply to a command that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The command never left this process.
    Unwritten,
    /// It left, and the connection broke before Redis said anything.
    Unknown,
}

impl Broker {
    /// A broker that connects once [`Broker::start`] is called.
    pub fn new(options: Options, metrics: Arc<Metrics>) -> Rc<Self> {
        let shared = Rc::new(Shared {
            metrics,
            sink: RefCell::new(None),
            clock_offset: Cell::new(0),
            run_id: RefCell::new(String::new()),
            greetings: Cell::new(0),
            options,
        });
        Rc::new(Self {
            push: Link::new(Rc::clone(&shared), "push"),
            bulk: Link::new(Rc::clone(&shared), "bulk"),
            subscriptions: Subscriptions::new(Rc::clone(&shared)),
            patterns: Patterns::new(Rc::clone(&shared)),
            shared,
        })
    }

    /// Starts the connections; they end with `life`'s last phase.
    pub fn start(&self, sink: Rc<dyn Sink>, life: &Life) {
        *self.shared.sink.borrow_mut() = Some(sink);
        self.push.start(life.clone());
        self.bulk.start(life.clone());
        answers::start(Rc::clone(&self.shared), life.clone());
        self.subscriptions.start(life.clone());
        self.patterns.start(life.clone());
    }

    /// Appends `payload` to the list `key`; [`Sink::pushed`] tells `token`'s fate.
    pub fn push(&self, key: &[u8], payload: &Bytes, token: u64) -> Result<(), NotTaken> {
        self.link(payload).push(key, payload, token)
    }

    /// Appends `payload` to a queue of `lists` normal, high and low with the priority `class`, `high` or `low`.
    pub fn push_class(&self, lists: &[String; 3], class: &str, payload: &Bytes, token: u64) -> Result<(), NotTaken> {
        let keys: Vec<&str> = lists.iter().map(String::as_str).collect();
        self.link(payload).push_command(&eval(scripts::PUSH, &keys, &[payload, class.as_bytes()]), token)
    }

    /// Takes a `payload` that was just pushed off the tail of the lists again; [`Sink::pushed`] tells `token` whether it
    /// was still there. Without a connection nothing happens.
    pub fn take_back(&self, lists: &[String], payload: &Bytes, token: u64) {
        let command = match lists {
            [list] => Command::new(&[b"LREM", list.as_bytes(), b"-1", payload]),
            _ => {
                let keys: Vec<&str> = lists.iter().map(String::as_str).chain([""]).collect();
                eval(scripts::WITHDRAW, &keys, &[payload, b"", b"0", b"inf", b"-1", b"0", b"0"])
            }
        };
        self.link(payload).take_back(command, token);
    }

    /// Takes a job out of its queue again. Nobody waits for the outcome; without a connection nothing happens.
    pub fn withdraw(&self, what: &Withdraw<'_>) {
        let [normal, high, low] = what.lists;
        let depth = what.depth.map_or("-1".to_owned(), |depth| depth.to_string());
        let numbers = [what.until, what.now, what.noted as u64].map(|number| number.to_string());
        let [until, now, noted] = numbers.each_ref().map(String::as_bytes);
        let end: &[u8] = if what.from_head { b"1" } else { b"-1" };
        let values = [&what.job[..], what.id.as_bytes(), until, depth.as_bytes(), end, now, noted];
        self.link(what.job).withdraw(eval(scripts::WITHDRAW, &[normal, high, low, what.withdrawn], &values));
    }

    fn link(&self, payload: &Bytes) -> &Link {
        if payload.len() > BULK_BYTES { &self.bulk } else { &self.push }
    }

    /// Sends a command nobody waits for; without a connection nothing happens.
    pub fn forget(&self, command: Command) {
        self.push.forget(command);
    }

    /// Sends a command and gives its reply; an error means that it was not sent or that no reply came.
    pub fn call(&self, command: Command) -> oneshot::Receiver<BytesFrame> {
        self.push.call(command)
    }

    /// The same over the second connection, for what may be long.
    pub fn call_bulk(&self, command: Command) -> oneshot::Receiver<BytesFrame> {
        self.bulk.call(command)
    }

    /// Sends commands in this order and gives their replies, or what is known of one that has none. Their size decides
    /// on which connection; commands asked together stay together. The error says why a command was not even taken;
    /// those before it are under way then.
    pub fn ask(&self, commands: &[Command]) -> Vec<Result<oneshot::Receiver<Result<BytesFrame, Lost>>, NotTaken>> {
        let bytes: usize = commands.iter().map(|command| command.0.len()).sum();
        let link = if bytes > BULK_BYTES { &self.bulk } else { &self.push };
        commands.iter().map(|command| link.ask(command)).collect()
    }

    /// Looks for a server that has gone silent; to be called a few times in every stall limit while pushes are open.
    pub fn tick(&self, now: Instant) {
        self.push.tick(now);
        self.bulk.tick(now);
    }

    /// The incarnation of Redis that is connected, or was last.
    pub fn run_id(&self) -> String {
        self.shared.run_id.borrow().clone()
    }

    /// Another number after each connection that was made anew.
    pub fn incarnation(&self) -> u64 {
        self.shared.greetings.get()
    }

    /// The list, and the channel, on which answers come.
    pub fn answers_key(&self) -> &str {
        &self.shared.options.answers_key
    }

    /// Channel subscriptions.
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// Subscriptions to patterns.
    pub fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// True while Redis takes pushes and answers.
    pub fn is_up(&self) -> bool {
        self.push.is_up() && self.bulk.is_up()
    }

    /// Milliseconds since the epoch by the clock of Redis.
    pub fn now_ms(&self) -> u64 {
        (local_ms() + self.shared.clock_offset.get()).max(0) as u64
    }
}

/// Milliseconds since the epoch by this machine's clock.
fn local_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// A rate limit for log lines about one subject: once an outage, not once a try.
#[derive(Debug, Default)]
pub(crate) struct Outage(Cell<Option<Instant>>);

impl Outage {
    /// True the first time since the last [`Outage::over`].
    pub(crate) fn begins(&self) -> bool {
        let first = self.0.get().is_none();
        if first {
            self.0.set(Some(Instant::now()));
        }
        first
    }

    /// How long it lasted, if there was one.
    pub(crate) fn over(&self) -> Option<Duration> {
        self.0.take().map(|since| since.elapsed())
    }
}
