//! Publishing to browser channels, from handlers and from anywhere else in the application.
//!
//! Messages always travel in the array form of the contract, so that no text can pass for an event's name or for a
//! command to the front. Whether a channel has a history the fronts say, in Redis; what they say is read again every
//! ten seconds. Without a history delivery is as Redis publishes: to whoever listens now.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tempest_protocol::{HistoryRules, Keep, Keys};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::connection::Reply;
use crate::publication::{self, Publication, Published};
use crate::scripts::is_unable;

/// Publications that may wait for the connection.
pub(crate) const WAITING: usize = 1024;
/// How long a command waits for a connection; looked at once a second.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long what the fronts say of histories is taken for true.
const RULES_TIME: Duration = Duration::from_secs(10);

/// Publishes to browser channels; cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Publisher {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Known when the worker runs, before anything is written.
    keys: OnceLock<Keys>,
    rules: Mutex<Option<(Instant, Arc<HistoryRules>)>>,
    /// It was said that the rules may not be read.
    warned: AtomicBool,
}

/// A command for the worker's second connection, and where its reply goes.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) asked: Asked,
    pub(crate) reply: oneshot::Sender<Result<Reply, PublishError>>,
    /// Given up if it has not been written by then.
    pub(crate) write_by: Instant,
}

/// What a command is.
#[derive(Debug)]
pub(crate) enum Asked {
    /// These parts.
    Parts(Vec<Vec<u8>>),
    /// `GET` of the rules of histories, whose key is known when the worker runs.
    Rules,
}

type Replied = oneshot::Receiver<Result<Reply, PublishError>>;

impl Command {
    pub(crate) fn new(parts: Vec<Vec<u8>>) -> (Self, Replied) {
        Self::asking(Asked::Parts(parts))
    }

    fn asking(asked: Asked) -> (Self, Replied) {
        let (reply, replied) = oneshot::channel();
        (Self { asked, reply, write_by: Instant::now() + LONGEST_WAIT }, replied)
    }
}

/// Why a message may not have been published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The worker that this publisher belongs to is not running (any more).
    #[error("the worker is not running")]
    Stopped,
    /// No connection to Redis within 5 s.
    #[error("Redis is not reachable")]
    Unavailable,
    /// The connection broke between the command and its reply: it may have been published or not.
    #[error("the connection to Redis broke; the message may have been published")]
    Unknown,
    /// What was to be published is wrong; nothing was sent.
    #[error("{0}")]
    Invalid(&'static str),
    /// Redis refused; nothing was published.
    #[error("Redis refused to publish: {0}")]
    Refused(String),
}

impl Publisher {
    pub(crate) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands, shared: Arc::default() }
    }

    pub(crate) fn sender(&self) -> mpsc::Sender<Command> {
        self.commands.clone()
    }

    /// A publisher without a worker.
    pub(crate) fn detached() -> Self {
        Self::new(mpsc::channel(1).0)
    }

    /// Says which names Redis uses; to be called before any command is written.
    pub(crate) fn settle(&self, keys: &Keys) {
        // One worker runs once.
        let _ = self.shared.keys.set(keys.clone());
    }

    /// The key of the rules of histories.
    pub(crate) fn rules_key(&self) -> String {
        self.shared.keys.get().map(Keys::history).unwrap_or_default()
    }

    /// Publishes `data` on a channel, as an event of this name or, with `None`, as a plain message. Returns how
    /// many fronts and other subscribers Redis handed it to: not how many browsers.
    ///
    /// ```
    /// # async fn example(publisher: tempest_worker::Publisher) -> Result<(), tempest_worker::PublishError> {
    /// publisher.publish("news", None, "hello").await?;
    /// publisher.publish("news", "price", "42").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn publish<'e>(
        &self,
        channel: &str,
        event: impl Into<Option<&'e str>>,
        data: &str,
    ) -> Result<u64, PublishError> {
        Ok(self.send(&message(channel, event.into(), data)).await?.told)
    }

    /// The same for threads; it must not be called in async code.
    pub fn publish_blocking<'e>(
        &self,
        channel: &str,
        event: impl Into<Option<&'e str>>,
        data: &str,
    ) -> Result<u64, PublishError> {
        Ok(self.send_blocking(&message(channel, event.into(), data))?.told)
    }

    /// Publishes a message with all that can be said of it, and tells what became of it.
    pub async fn send(&self, publication: &Publication) -> Result<Published, PublishError> {
        let forced = publication.check()?;
        let keep = match forced {
            Some(keep) => Some(keep),
            None => self.keep(publication.channel()).await?,
        };
        // Without the rules the names may not be known yet.
        if self.shared.keys.get().is_none() {
            self.rules().await?;
        }
        let keys = self.shared.keys.get().ok_or(PublishError::Stopped)?;
        let mut reply = self.ask(Asked::Parts(publication.command(keys, keep, false))).await?;
        if publication::is_unknown_script(&reply) {
            reply = self.ask(Asked::Parts(publication.command(keys, keep, true))).await?;
        }
        publication::read(reply)
    }

    /// The same for threads; it must not be called in async code.
    pub fn send_blocking(&self, publication: &Publication) -> Result<Published, PublishError> {
        wait_for(self.send(publication))
    }

    async fn ask(&self, asked: Asked) -> Result<Reply, PublishError> {
        let (command, reply) = Command::asking(asked);
        self.commands.send(command).await.map_err(|_| PublishError::Stopped)?;
        reply.await.map_err(|_| PublishError::Unknown)?
    }

    async fn keep(&self, channel: &str) -> Result<Option<Keep>, PublishError> {
        let known = self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fresh = known.filter(|(read, _)| read.elapsed() < RULES_TIME).map(|(_, rules)| rules);
        let rules = match fresh {
            Some(rules) => rules,
            None => self.rules().await?,
        };
        Ok(rules.keep(channel))
    }

    async fn rules(&self) -> Result<Arc<HistoryRules>, PublishError> {
        let asked = Instant::now();
        let reply = self.ask(Asked::Rules).await.map_err(|error| match error {
            // Nothing but the question can have been lost.
            PublishError::Unknown => PublishError::Unavailable,
            other => other,
        })?;
        let rules = Arc::new(self.read_rules(reply)?);
        *self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, rules.clone()));
        Ok(rules)
    }

    fn read_rules(&self, reply: Reply) -> Result<HistoryRules, PublishError> {
        let refused = |why: String| PublishError::Refused(format!("{}: {why}", self.rules_key()));
        match reply {
            Reply::Nil => Ok(HistoryRules::default()),
            Reply::Text(text) => HistoryRules::read(&text).map_err(refused),
            // A user from before there were histories: what it publishes arrives as before.
            Reply::Error(error) if is_unable(&error) => {
                if !self.shared.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "this user may not read {} (+get): nothing that it publishes is kept: {error}",
                        self.rules_key()
                    );
                }
                Ok(HistoryRules::default())
            }
            Reply::Error(error) => Err(PublishError::Refused(error)),
            other => Err(refused(format!("{other:?}"))),
        }
    }
}

fn message(channel: &str, event: Option<&str>, data: &str) -> Publication {
    let message = Publication::new(channel, data);
    match event {
        Some(name) => message.event(name),
        None => message,
    }
}

/// Runs a future that waits for channels alone on a thread that may block.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut future, mut context) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}
