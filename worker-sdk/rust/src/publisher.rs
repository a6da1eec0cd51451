//! Publishing to browser channels, from handlers and from anywhere else in the application.
//!
//! Messages always travel in the array form of the contract, so that no text can pass for an event's name or for a
//! command to the front. Delivery is as Redis publishes: to whoever listens now.

use std::time::Duration;

use tempest_protocol::encode_payload;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::connection::Reply;

/// Publications that may wait for the connection.
pub(crate) const WAITING: usize = 1024;
/// How long a command waits for a connection; looked at once a second.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Publishes to browser channels; cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Publisher {
    commands: mpsc::Sender<Command>,
}

/// A command for the worker's second connection, and where its reply goes.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) parts: Vec<Vec<u8>>,
    pub(crate) reply: oneshot::Sender<Result<Reply, PublishError>>,
    /// Given up if it has not been written by then.
    pub(crate) write_by: Instant,
}

impl Command {
    pub(crate) fn new(parts: Vec<Vec<u8>>) -> (Self, Replied) {
        let (reply, replied) = oneshot::channel();
        (Self { parts, reply, write_by: Instant::now() + LONGEST_WAIT }, replied)
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
    /// Redis refused.
    #[error("Redis refused to publish: {0}")]
    Refused(String),
}

impl Publisher {
    pub(crate) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    pub(crate) fn sender(&self) -> mpsc::Sender<Command> {
        self.commands.clone()
    }

    /// A publisher without a worker.
    pub(crate) fn detached() -> Self {
        Self { commands: mpsc::channel(1).0 }
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
        let (command, reply) = publication(channel, event.into(), data);
        self.commands.send(command).await.map_err(|_| PublishError::Stopped)?;
        receivers(reply.await.map_err(|_| PublishError::Unknown)??)
    }

    /// The same for threads; it must not be called in async code.
    pub fn publish_blocking<'e>(
        &self,
        channel: &str,
        event: impl Into<Option<&'e str>>,
        data: &str,
    ) -> Result<u64, PublishError> {
        let (command, reply) = publication(channel, event.into(), data);
        self.commands.blocking_send(command).map_err(|_| PublishError::Stopped)?;
        receivers(reply.blocking_recv().map_err(|_| PublishError::Unknown)??)
    }
}

type Replied = oneshot::Receiver<Result<Reply, PublishError>>;

fn publication(channel: &str, event: Option<&str>, data: &str) -> (Command, Replied) {
    Command::new(vec![b"PUBLISH".to_vec(), channel.as_bytes().to_vec(), encode_payload(event, data)])
}

fn receivers(reply: Reply) -> Result<u64, PublishError> {
    match reply {
        Reply::Int(number) => Ok(u64::try_from(number).unwrap_or(0)),
        Reply::Error(error) => Err(PublishError::Refused(error)),
        other => Err(PublishError::Refused(format!("{other:?}"))),
    }
}
