//! Control: what the command line and the supervisor ask of Redis.
//!
//! A few commands a second at most, each batch awaited, over one connection that does not reconnect by itself: whoever
//! holds it makes a new one after an error. Errors are for people: they say what to do. Never on a request's path.

mod beat;
mod registry;
mod supervisors;
mod waiting;

use bytes::BytesMut;
use redis_protocol::resp2::types::BytesFrame;
use tempest_protocol::{HistoryRules, Keys};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use std::time::Duration;

use super::dial::{DialError, Dialled, dial};
use super::local_ms;
use super::publication::{By, Declined, NO_RIGHT, Publication, Published};
use super::wire::{Command, take_reply};
use crate::config::RedisUrl;

pub use beat::{Presence, stand_in};
pub use registry::{FrontState, QueueState, Registry};
pub use waiting::Waiting;

/// Time for the replies of one batch.
const REPLY_TIME: Duration = Duration::from_secs(5);

/// Why Redis did not do what was asked; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No connection.
    #[error("cannot reach Redis at {url}: {reason}\n{}", advice(reason))]
    Unreachable {
        /// Which Redis.
        url: RedisUrl,
        /// Why.
        reason: DialError,
    },
    /// The connection broke, or what came over it was no reply.
    #[error("lost the connection to Redis at {url}: {reason}. Try again")]
    Lost {
        /// Which Redis.
        url: RedisUrl,
        /// Why.
        reason: std::io::Error,
    },
    /// No reply in time.
    #[error("Redis at {url} takes commands but did not reply within {} s; look at its log and its load", REPLY_TIME.as_secs())]
    Silent {
        /// Which Redis.
        url: RedisUrl,
    },
    /// Redis refused a command; its words.
    #[error("Redis at {url} refused the command: {words}")]
    Refused {
        /// Which Redis.
        url: RedisUrl,
        /// What it said.
        words: String,
    },
}

fn advice(reason: &DialError) -> &'static str {
    match reason {
        DialError::Refused(words) if words.starts_with("NOAUTH") || words.starts_with("WRONGPASS") => {
            "Give its user and password: --redis redis://USER:PASSWORD@HOST:PORT"
        }
        DialError::Refused(words) if words.starts_with("NOPERM") => "Its user needs more rights: see ACL SETUSER",
        DialError::Refused(_) => "Is it a Redis or Valkey of version 6.2 or later?",
        DialError::Loading => "Try again in a moment",
        DialError::Timeout => "Is the address right, and does a firewall let it through?",
        DialError::Io(_) => "Start one with `tempest up`, or name one that runs: --redis redis://HOST:PORT",
    }
}

/// One connection.
pub struct Control {
    connection: Dialled,
    url: RedisUrl,
}

impl Control {
    /// Connects, authenticates and selects the database; `name` is shown in `CLIENT LIST`.
    ///
    /// # Errors
    /// [`ControlError::Unreachable`], within two seconds.
    pub async fn connect(url: &RedisUrl, name: &str) -> Result<Self, ControlError> {
        match dial(url, name).await {
            Ok(connection) => Ok(Self { connection, url: url.clone() }),
            Err(reason) => Err(ControlError::Unreachable { url: url.clone(), reason }),
        }
    }

    /// Publishes a message.
    pub async fn publish(&mut self, keys: &Keys, what: &Publication<'_>) -> Result<Published, ControlError> {
        let replies = self.batch_with_refusals(&[what.command(keys, By::Text)]).await?;
        let published = replies.first().map_or(Err(Declined::NoScript), Published::read);
        published.map_err(|declined| {
            let words = match declined {
                Declined::Refused(words) => words,
                Declined::NoScript => "it does not know the script that it was just given".to_owned(),
            };
            ControlError::Refused { url: self.url.clone(), words }
        })
    }

    /// Which channels have a history; none where no front has said so. None: this user may not read it.
    pub async fn history(&mut self, keys: &Keys) -> Result<Option<HistoryRules>, ControlError> {
        let key = keys.history();
        let refused =
            |url: &RedisUrl, why: &str| Err(ControlError::Refused { url: url.clone(), words: format!("{key}: {why}") });
        let replies = self.batch_with_refusals(&[Command::new(&[b"GET", key.as_bytes()])]).await?;
        match replies.first() {
            Some(BytesFrame::BulkString(text)) => match HistoryRules::read(text) {
                Ok(rules) => Ok(Some(rules)),
                Err(why) => refused(&self.url, &why),
            },
            Some(BytesFrame::Error(words)) if words.starts_with(NO_RIGHT) => Ok(None),
            Some(BytesFrame::Error(words)) => refused(&self.url, words),
            _ => Ok(Some(HistoryRules::default())),
        }
    }

    /// Milliseconds since the epoch by the clock of Redis.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(local_ms() + self.connection.greeting.clock_offset).unwrap_or_default()
    }

    /// Sends all of `commands` in one write and waits for all replies; the first error reply is the result.
    async fn batch(&mut self, commands: &[Command]) -> Result<Vec<BytesFrame>, ControlError> {
        let replies = self.batch_with_refusals(commands).await?;
        match replies.iter().find_map(refusal) {
            Some(words) => Err(ControlError::Refused { url: self.url.clone(), words }),
            None => Ok(replies),
        }
    }

    /// The same with each refusal in the place of its reply.
    async fn batch_with_refusals(&mut self, commands: &[Command]) -> Result<Vec<BytesFrame>, ControlError> {
        match timeout(REPLY_TIME, self.exchange(commands)).await {
            Ok(Ok(replies)) => Ok(replies),
            Ok(Err(reason)) => Err(ControlError::Lost { url: self.url.clone(), reason }),
            Err(_) => Err(ControlError::Silent { url: self.url.clone() }),
        }
    }

    async fn exchange(&mut self, commands: &[Command]) -> std::io::Result<Vec<BytesFrame>> {
        let Dialled { stream, buffer, .. } = &mut self.connection;
        let mut out = BytesMut::new();
        commands.iter().for_each(|command| out.extend_from_slice(&command.0));
        stream.write_all(&out).await?;
        let mut replies = Vec::with_capacity(commands.len());
        while replies.len() < commands.len() {
            match take_reply(buffer)? {
                Some(reply) => replies.push(reply),
                None if stream.read_buf(buffer).await? == 0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                None => {}
            }
        }
        Ok(replies)
    }
}

fn refusal(reply: &BytesFrame) -> Option<String> {
    match reply {
        BytesFrame::Error(words) => Some(words.to_string()),
        _ => None,
    }
}

fn number(reply: &BytesFrame) -> Option<u64> {
    match reply {
        BytesFrame::Integer(number) => u64::try_from(*number).ok(),
        BytesFrame::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}
