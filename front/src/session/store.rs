//! Sessions in Redis: a hash each, read before a request becomes a job, and changed by a script.
//!
//! What is done is done in one piece by Redis, so patches of several requests, fronts and processes do not lose each
//! other. It must not know cookies.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use redis_protocol::resp2::types::BytesFrame;
use tempest_protocol::{Keys, Session};

use super::flat::{self, Step};
use super::id::Id;
use crate::broker::{Broker, Command, eval};

const CHANGE: &str = include_str!("change.lua");
const END: &str = include_str!("end.lua");

/// How long the name of a session that has ended, or got another name, cannot begin one anew: a request that was on its
/// way then may take as long.
const BARRED: Duration = Duration::from_secs(300);

/// A longer change takes the way of what is long.
const BULK_BYTES: usize = 16 * 1024;

/// Redis did not say.
#[derive(Debug)]
pub(super) struct Away;

/// What Redis has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// A session.
    Session(Session),
    /// Nothing of this name.
    Nothing,
    /// It had a session of this name.
    Barred,
}

/// What became of a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// It is in Redis.
    Done,
    /// It left nothing of the session.
    Empty,
    /// The session is not there any more.
    Gone,
    /// It would have had so many bytes.
    TooLarge(usize),
}

/// The sessions of one Redis.
pub(super) struct Store {
    pub(super) broker: Rc<Broker>,
    pub(super) keys: Keys,
    pub(super) lifetime: Duration,
    pub(super) max_bytes: usize,
}

impl Store {
    fn key(&self, id: &Id) -> String {
        self.keys.session(&id.root, &id.name)
    }

    fn lasts(&self) -> String {
        self.lifetime.as_millis().to_string()
    }

    /// Reads a session, and prolongs it.
    pub(super) async fn read(&self, id: &Id) -> Result<Kept, Away> {
        let (key, lasts) = (self.key(id), self.lasts());
        let read = self.broker.call(Command::new(&[b"HGETALL", key.as_bytes()]));
        let reply = read.await.map_err(|_| Away)?;
        let fields = pairs(&reply).ok_or(Away)?;
        if fields.iter().any(|(path, _)| path.is_empty()) {
            return Ok(Kept::Barred);
        }
        if fields.is_empty() {
            return Ok(Kept::Nothing);
        }
        self.broker.forget(Command::new(&[b"PEXPIRE", key.as_bytes(), lasts.as_bytes()]));
        Ok(Kept::Session(flat::session(fields.into_iter())))
    }

    /// Changes a session; `to` is its name from here on, `known` says that it must be there.
    pub(super) async fn change(&self, id: &Id, to: &Id, known: bool, steps: &[Step]) -> Result<Changed, Away> {
        let (lasts, most, barred) = (self.lasts(), self.max_bytes.to_string(), BARRED.as_millis().to_string());
        let known: &[u8] = if known { b"1" } else { b"0" };
        let mut values: Vec<&[u8]> = vec![known, lasts.as_bytes(), most.as_bytes(), barred.as_bytes()];
        for step in steps {
            values.extend(match step {
                Step::Remove(path) => [b"r".as_slice(), path.as_bytes(), b""],
                Step::Put(path, value) => [b"p", path.as_bytes(), value.as_bytes()],
                Step::Object(path) => [b"o", path.as_bytes(), b""],
            });
        }
        let command = eval(CHANGE, &[&self.key(id), &self.key(to)], &values);
        let long = values.iter().map(|value| value.len()).sum::<usize>() > BULK_BYTES;
        let reply = if long { self.broker.call_bulk(command) } else { self.broker.call(command) };
        let reply = reply.await.map_err(|_| Away)?;
        let BytesFrame::Array(parts) = &reply else {
            tracing::warn!("a session was not changed: Redis says {reply:?}");
            return Err(Away);
        };
        match (text(parts.first()), parts.get(1)) {
            (Some("ok"), _) => Ok(Changed::Done),
            (Some("empty"), _) => Ok(Changed::Empty),
            (Some("gone"), _) => Ok(Changed::Gone),
            (Some("large"), Some(BytesFrame::Integer(bytes))) => {
                Ok(Changed::TooLarge(usize::try_from(*bytes).unwrap_or(0)))
            }
            _ => Err(Away),
        }
    }

    /// Ends a session.
    pub(super) async fn end(&self, id: &Id) -> Result<(), Away> {
        let barred = BARRED.as_millis().to_string();
        match self.broker.call(eval(END, &[&self.key(id)], &[barred.as_bytes()])).await {
            Ok(BytesFrame::Integer(_)) => Ok(()),
            _ => Err(Away),
        }
    }
}

/// The fields of a hash; None: the reply is no hash.
fn pairs(reply: &BytesFrame) -> Option<Vec<(&str, &str)>> {
    let BytesFrame::Array(parts) = reply else { return None };
    parts.chunks(2).map(|pair| Some((text(pair.first())?, text(pair.get(1))?))).collect()
}

fn text(frame: Option<&BytesFrame>) -> Option<&str> {
    let text: fn(&Bytes) -> Option<&str> = |bytes| std::str::from_utf8(bytes).ok();
    match frame {
        Some(BytesFrame::BulkString(bytes) | BytesFrame::SimpleString(bytes)) => text(bytes),
        _ => None,
    }
}
