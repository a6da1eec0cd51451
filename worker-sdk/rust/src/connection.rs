//! One pipelined Redis connection.
//!
//! A worker writes its answers and its next blocking pop in one write, and reads the replies in order; no client
//! library at hand does that without a task or a future for every command. So this is the RESP2 protocol and
//! nothing else: it must not reconnect, retry, know key names or match replies to commands.

mod pipeline;
mod transport;

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::Address;
pub use crate::connection::pipeline::Pipeline;
use crate::connection::transport::Transport;

/// Longest wait for a connection and its handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for Redis to take what is written; beyond it the connection counts as lost.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Room asked for before each read, in bytes.
const READ_ROOM: usize = 64 * 1024;

/// A reply of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing: a key that is not there, a pop that waited in vain.
    Nil,
    /// A number.
    Int(i64),
    /// A string, simple or bulk.
    Text(Bytes),
    /// A list of replies.
    List(Vec<Reply>),
    /// An error's text, its code first.
    Error(String),
}

/// Why a connection cannot be used (any more).
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The socket failed, or the server closed it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No connection, or no progress of a write, within its limit.
    #[error("no reply within {0:?}")]
    Timeout(Duration),
    /// A reply did not come when it was due.
    #[error("Redis does not reply")]
    Overdue,
    /// What came is not RESP2.
    #[error("not the Redis protocol: {0}")]
    Protocol(String),
    /// Redis refused the login, the database or a command of the handshake.
    #[error("Redis refused {command}: {error}")]
    Refused {
        /// The command.
        command: &'static str,
        /// The error's text.
        error: String,
    },
}

/// An open connection; replies come in the order of the commands.
pub struct Connection {
    transport: Transport,
    input: BytesMut,
    /// Commands that wait for [`Connection::flush`].
    pub out: Pipeline,
    client_id: i64,
    /// The clock of Redis at the handshake, in ms since the epoch.
    redis_ms: u64,
}

impl Connection {
    /// Connects, logs in, selects the database and names the connection (`CLIENT SETNAME`), all in one round trip.
    pub async fn open(address: &Address, name: &str) -> Result<Self, ConnectionError> {
        let opening = async {
            let transport = transport::connect(address).await?;
            let mut connection =
                Self { transport, input: BytesMut::new(), out: Pipeline::default(), client_id: 0, redis_ms: 0 };
            connection.handshake(address, name).await?;
            Ok(connection)
        };
        timeout(CONNECT_TIMEOUT, opening).await.unwrap_or(Err(ConnectionError::Timeout(CONNECT_TIMEOUT)))
    }

    async fn handshake(&mut self, address: &Address, name: &str) -> Result<(), ConnectionError> {
        let mut asked = Vec::with_capacity(5);
        if let Some(password) = &address.password {
            let user = address.user.as_deref().unwrap_or("default");
            self.out.command(&[b"AUTH", user.as_bytes(), password.as_bytes()]);
            asked.push("AUTH");
        }
        if address.database > 0 {
            self.out.command(&[b"SELECT", address.database.to_string().as_bytes()]);
            asked.push("SELECT");
        }
        self.out.command(&[b"TIME"]);
        self.out.command(&[b"CLIENT", b"SETNAME", name.as_bytes()]);
        self.out.command(&[b"CLIENT", b"ID"]);
        asked.extend(["TIME", "CLIENT SETNAME", "CLIENT ID"]);
        self.flush().await?;
        for command in asked {
            let reply = self.reply().await?;
            self.handshake_reply(command, reply)?;
        }
        Ok(())
    }

    /// A user whose rights leave out `CLIENT` can still work: the name is a convenience, the id only hastens a stop.
    fn handshake_reply(&mut self, command: &'static str, reply: Reply) -> Result<(), ConnectionError> {
        match (command, reply) {
            ("CLIENT SETNAME" | "CLIENT ID", Reply::Error(error)) if error.starts_with("NOPERM") => {
                tracing::warn!(command, error, "the Redis user may not do this; stopping may take longer");
            }
            (_, Reply::Error(error)) => return Err(ConnectionError::Refused { command, error }),
            ("CLIENT ID", Reply::Int(id)) => self.client_id = id,
            ("TIME", reply) => self.redis_ms = reply.time_ms().unwrap_or_default(),
            _ => {}
        }
        Ok(())
    }

    /// The connection's id in `CLIENT LIST`; 0 where Redis does not tell.
    pub fn client_id(&self) -> i64 {
        self.client_id
    }

    /// The clock of Redis at the handshake, in ms since the epoch.
    pub fn redis_ms(&self) -> u64 {
        self.redis_ms
    }

    /// Writes all waiting commands. The connection is lost when this fails or is dropped half-way.
    pub async fn flush(&mut self) -> Result<(), ConnectionError> {
        let bytes = self.out.take();
        let writing = async {
            self.transport.write_all(&bytes).await?;
            self.transport.flush().await
        };
        timeout(WRITE_TIMEOUT, writing).await.map_err(|_| ConnectionError::Timeout(WRITE_TIMEOUT))??;
        self.out.reuse(bytes);
        Ok(())
    }

    /// The next reply. May be dropped while it waits: nothing that has been read is lost.
    pub async fn reply(&mut self) -> Result<Reply, ConnectionError> {
        loop {
            if let Some(reply) = self.buffered_reply()? {
                return Ok(reply);
            }
            self.input.reserve(READ_ROOM);
            if self.transport.read_buf(&mut self.input).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "Redis closed the connection").into());
            }
        }
    }

    /// A reply that has been read already, if there is a whole one.
    pub fn buffered_reply(&mut self) -> Result<Option<Reply>, ConnectionError> {
        if self.input.is_empty() {
            return Ok(None);
        }
        match decode_bytes_mut(&mut self.input) {
            Ok(Some((frame, _, _))) => Ok(Some(frame.into())),
            Ok(None) => Ok(None),
            Err(error) => Err(ConnectionError::Protocol(error.to_string())),
        }
    }

    /// Writes one command and waits for its reply; for connections that have no other reply under way.
    pub async fn command(&mut self, parts: &[&[u8]]) -> Result<Reply, ConnectionError> {
        self.out.command(parts);
        self.flush().await?;
        self.reply().await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl From<BytesFrame> for Reply {
    fn from(frame: BytesFrame) -> Self {
        match frame {
            BytesFrame::SimpleString(text) | BytesFrame::BulkString(text) => Self::Text(text),
            BytesFrame::Error(text) => Self::Error(text.to_string()),
            BytesFrame::Integer(number) => Self::Int(number),
            BytesFrame::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            BytesFrame::Null => Self::Nil,
        }
    }
}

impl Reply {
    /// The reply to `TIME` in ms since the epoch.
    pub(crate) fn time_ms(&self) -> Option<u64> {
        let Self::List(parts) = self else { return None };
        let number = |at: usize| match parts.get(at)? {
            Self::Text(text) => std::str::from_utf8(text).ok()?.parse::<u64>().ok(),
            _ => None,
        };
        Some(number(0)? * 1000 + number(1)? / 1000)
    }
}
