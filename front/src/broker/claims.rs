//! Claims: the scripts of reliable mode over one plain connection, for whoever looks after workers.
//!
//! What a supervisor does for workers that do not know of reliable mode: it registers them, beats for them, and takes
//! from the dead. Each call is one or two trips; nothing here retries a lost connection. It must not decide who is dead.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::types::BytesFrame;
use serde::Deserialize;
use serde_json::json;
use tempest_protocol::{Death, Keys, QueueKeys, scripts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::dial::{DialError, Dialled, dial};
use super::local_ms;
use super::wire::{Command, take_reply, text_of};
use crate::config::{Limits, RedisUrl};

/// Time for the replies of one batch.
const REPLY_TIME: Duration = Duration::from_secs(5);
/// How long a record outlives its last beat, in ms.
const RECORD_MS: &[u8] = b"3000";
/// How long a queue's set of workers outlives the last beat of any, in ms.
const SET_MS: &[u8] = b"3600000";
/// Entries of lost jobs that are handed over in one go.
const HAND_OVER: usize = 100;
/// For how long the one who looks after a queue's workers has the lease, in ms.
const LEASE_MS: &[u8] = b"300";

/// A script of reliable mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Lets a worker take claims.
    Register,
    /// Moves jobs into a worker's claims.
    Claim,
    /// Finds claims whose replies never arrived.
    Recover,
    /// Marks claims as started.
    Mark,
    /// Gives claims back that were not started.
    GiveBack,
    /// Takes everything from a dead worker.
    Reap,
    /// Takes or renews the lease.
    Lease,
    /// Removes lost jobs that have been handed over.
    Trim,
}

impl Script {
    /// All of them, in the order of their numbers.
    const ALL: [Self; 8] =
        [Self::Register, Self::Claim, Self::Recover, Self::Mark, Self::GiveBack, Self::Reap, Self::Lease, Self::Trim];

    /// What Redis is to run.
    pub fn text(self) -> &'static str {
        match self {
            Self::Register => scripts::REGISTER,
            Self::Claim => scripts::CLAIM,
            Self::Recover => scripts::RECOVER,
            Self::Mark => scripts::MARK,
            Self::GiveBack => scripts::GIVE_BACK,
            Self::Reap => scripts::REAP,
            Self::Lease => scripts::LEASE,
            Self::Trim => scripts::TRIM,
        }
    }
}

/// By which names Redis knows the scripts.
#[derive(Clone, Debug, Default)]
pub struct Shas([String; Script::ALL.len()]);

impl Shas {
    /// The name for `EVALSHA`.
    pub fn of(&self, script: Script) -> &str {
        &self.0[script as usize]
    }
}

/// What counts as too many crashes of a background job, and what is kept of those.
#[derive(Clone, Copy, Debug)]
pub struct CrashLimits {
    /// Workers that a job may crash before it is dead.
    pub crashes: u32,
    /// Dead letters kept.
    pub dead: u32,
    /// How long a count of crashes is kept.
    pub remembered: Duration,
}

impl From<&Limits> for CrashLimits {
    fn from(limits: &Limits) -> Self {
        let dead = u32::try_from(limits.dead_letters).unwrap_or(u32::MAX);
        Self { crashes: limits.crashes, dead, remembered: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// A worker, by the names of what belongs to it.
#[derive(Clone, Debug)]
pub struct Claimer {
    /// Its id.
    pub id: String,
    /// The keys of its queue.
    pub queue: QueueKeys,
    /// Its record where nobody else has written one, a JSON object.
    pub record: String,
}

/// A lost job, as `reap.lua` notes it.
#[derive(Debug, Deserialize)]
pub struct Lost {
    #[serde(flatten)]
    death: Death,
    reply_to: String,
}

impl Lost {
    /// Reads an entry of the list; None: somebody else's scribble, or a job that names another key than a front's.
    pub fn read(entry: &[u8], keys: &Keys) -> Option<Self> {
        let lost: Self = serde_json::from_slice(entry).ok()?;
        keys.is_reply_to(&lost.reply_to).then_some(lost)
    }

    /// The command that tells its front.
    pub fn tell(&self) -> Command {
        let Death { id, attempt, started, certain, worker } = &self.death;
        let message = json!({
            "id": id, "kind": "died", "attempt": attempt, "started": started, "certain": certain, "worker": worker,
        });
        Command::new(&[b"RPUSH", self.reply_to.as_bytes(), message.to_string().as_bytes()])
    }
}

/// One connection.
pub struct ClaimStore {
    connection: Dialled,
    id: u64,
    shas: Shas,
}

impl ClaimStore {
    /// Connects, and loads the scripts; `name` is shown in `CLIENT LIST`.
    pub async fn connect(url: &RedisUrl, name: &str) -> Result<Self, DialError> {
        let mut store = Self { connection: dial(url, name).await?, id: 0, shas: Shas::default() };
        let load = |script: Script| Command::new(&[b"SCRIPT", b"LOAD", script.text().as_bytes()]);
        let mut commands: Vec<Command> = Script::ALL.into_iter().map(load).collect();
        commands.push(Command::new(&[b"CLIENT", b"ID"]));
        let replies = store.batch(&commands).await?;
        if let Some(BytesFrame::Error(words)) = replies.iter().find(|reply| matches!(reply, BytesFrame::Error(_))) {
            return Err(DialError::Refused(words.to_string()));
        }
        store.shas.0.iter_mut().zip(&replies).for_each(|(sha, reply)| *sha = text_of(reply));
        store.id = replies.last().and_then(number).unwrap_or_default();
        Ok(store)
    }

    /// By which names Redis knows the scripts; the same on all servers.
    pub fn shas(&self) -> &Shas {
        &self.shas
    }

    /// The connection's own number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Which incarnation of the server this is.
    pub fn run_id(&self) -> &str {
        &self.connection.greeting.run_id
    }

    /// Waits until the connection breaks. May be dropped and called again between other calls.
    pub async fn closed(&mut self) {
        let Dialled { stream, buffer, .. } = &mut self.connection;
        while stream.read_buf(buffer).await.is_ok_and(|bytes| bytes > 0) {}
    }

    /// Writes the worker's record where it has none, and lets it take claims over the connections named by
    /// `registration`; `fresh` as in `register.lua`. False: fresh and the id is taken, or not fresh and it was declared dead.
    pub async fn register(&mut self, claimer: &Claimer, registration: &str, fresh: bool) -> io::Result<bool> {
        self.batch(&self.beats(claimer)).await?;
        let fresh: &[u8] = if fresh { b"1" } else { b"0" };
        let keys = [claimer.queue.claimers()];
        let arguments = [claimer.id.as_bytes(), registration.as_bytes(), fresh];
        match self.run(Script::Register, &keys, &arguments).await? {
            BytesFrame::Error(words) => Err(io::Error::other(words.to_string())),
            reply => Ok(number(&reply) == Some(1)),
        }
    }

    /// Says of all of them that they live.
    pub async fn beat<'c>(&mut self, claimers: impl Iterator<Item = &'c Claimer>) -> io::Result<()> {
        let commands: Vec<Command> = claimers.flat_map(|claimer| self.beats(claimer)).collect();
        if commands.is_empty() { Ok(()) } else { self.batch(&commands).await.map(drop) }
    }

    fn beats(&self, claimer: &Claimer) -> Vec<Command> {
        let (record, set) = (claimer.queue.worker(&claimer.id), claimer.queue.workers());
        let now = (local_ms() + self.connection.greeting.clock_offset).to_string();
        vec![
            // Whoever knows more of it writes the record, too; that one stays.
            Command::new(&[b"SET", record.as_bytes(), claimer.record.as_bytes(), b"NX", b"PX", RECORD_MS]),
            Command::new(&[b"PEXPIRE", record.as_bytes(), RECORD_MS]),
            Command::new(&[b"ZADD", set.as_bytes(), now.as_bytes(), claimer.id.as_bytes()]),
            Command::new(&[b"PEXPIRE", set.as_bytes(), SET_MS]),
        ]
    }

    /// Keeps the record for so long without a beat.
    pub async fn prolong(&mut self, claimer: &Claimer, time: Duration) -> io::Result<()> {
        let (record, time) = (claimer.queue.worker(&claimer.id), time.as_millis().to_string());
        self.batch(&[Command::new(&[b"PEXPIRE", record.as_bytes(), time.as_bytes()])]).await.map(drop)
    }

    /// Ends the connections that a worker has registered, where they are of this incarnation of the server.
    pub async fn end_connections(&mut self, claimer: &Claimer) -> io::Result<()> {
        let ask = Command::new(&[b"HGET", claimer.queue.claimers().as_bytes(), claimer.id.as_bytes()]);
        let registration = text_of(&self.batch(&[ask]).await?[0]);
        let Some((run_id, connections)) = registration.split_once(' ') else { return Ok(()) };
        if run_id != self.run_id() {
            return Ok(());
        }
        let kill = |id: &str| Command::new(&[b"CLIENT", b"KILL", b"ID", id.as_bytes()]);
        let commands: Vec<Command> = connections.split(' ').map(kill).collect();
        self.batch(&commands).await.map(drop)
    }

    /// Takes everything from a worker that is dead for certain and tells the fronts at once. The entries stay in the list
    /// of lost jobs until the holder of the lease has handed them over, too: a front that hears twice of one attempt
    /// ignores the second time, and one that hears nothing lets a request wait. Claims in `finished` are acknowledged first.
    pub async fn reap(
        &mut self,
        keys: &Keys,
        claimer: &Claimer,
        finished: &[u64],
        limits: &CrashLimits,
    ) -> io::Result<usize> {
        let Claimer { id, queue, .. } = claimer;
        if !finished.is_empty() {
            let claimed = queue.claimed(id);
            let numbers: Vec<String> = finished.iter().map(u64::to_string).collect();
            let mut words: Vec<&[u8]> = vec![b"HDEL", claimed.as_bytes()];
            words.extend(numbers.iter().map(String::as_bytes));
            self.batch(&[Command::new(&words)]).await?;
        }
        let names = queue.of_reap(id);
        let numbers = [limits.crashes.to_string(), limits.dead.to_string(), limits.remembered.as_millis().to_string()];
        let [crashes, dead, remembered] = numbers.each_ref().map(String::as_bytes);
        let reap = self.call(Script::Reap, &names, &[id.as_bytes(), b"", b"1", crashes, dead, remembered]);
        let lost = queue.lost();
        let latest = |count: i64| Command::new(&[b"LRANGE", lost.as_bytes(), (-count).to_string().as_bytes(), b"-1"]);
        let mut replies = self.batch(&[reap, latest(HAND_OVER as i64)]).await?;
        if is_unknown_script(&replies[0]) {
            let reply = self.run(Script::Reap, &names, &[id.as_bytes(), b"", b"1", crashes, dead, remembered]).await?;
            replies = vec![reply, self.batch(&[latest(HAND_OVER as i64)]).await?.remove(0)];
        }
        let handed = match &replies[0] {
            BytesFrame::Error(words) => return Err(io::Error::other(words.to_string())),
            BytesFrame::Array(counts) => counts.first().and_then(number).unwrap_or_default(),
            _ => 0,
        };
        if handed > HAND_OVER as u64 {
            replies = self.batch(&[latest(i64::try_from(handed).unwrap_or(i64::MAX))]).await?;
        }
        let entries = replies.pop().map(entries).unwrap_or_default();
        let of_this = |lost: &Lost| lost.death.worker == *id;
        self.tell(entries.iter().filter_map(|entry| Lost::read(entry, keys)).filter(of_this)).await
    }

    /// Hands over what is in the list of lost jobs, unless somebody else has the lease. What `told` was taken from has
    /// been told already. False: there is something left, and somebody else may not care for it.
    pub async fn drain(&mut self, keys: &Keys, queue: &QueueKeys, who: &str, told: &str) -> io::Result<bool> {
        let (lease, lost) = ([queue.lease()], queue.lost());
        loop {
            let length = Command::new(&[b"LLEN", lost.as_bytes()]);
            if number(&self.batch(&[length]).await?[0]) == Some(0) {
                return Ok(true);
            }
            if number(&self.run(Script::Lease, &lease, &[who.as_bytes(), LEASE_MS]).await?) != Some(1) {
                return Ok(false);
            }
            let last = (HAND_OVER - 1).to_string();
            let range = Command::new(&[b"LRANGE", lost.as_bytes(), b"0", last.as_bytes()]);
            let entries = self.batch(&[range]).await?.pop().map(entries).unwrap_or_default();
            let read = entries.iter().filter_map(|entry| Lost::read(entry, keys));
            self.tell(read.filter(|lost| lost.death.worker != told)).await?;
            let names = [queue.lease(), queue.lost()];
            let count = entries.len().to_string();
            if number(&self.run(Script::Trim, &names, &[who.as_bytes(), count.as_bytes()]).await?) != Some(1) {
                return Ok(false);
            }
            // Given back at once: who looks after the other workers must not wait for it to expire.
            self.run(Script::Lease, &lease, &[who.as_bytes(), b"1"]).await?;
        }
    }

    /// Tells fronts of lost jobs; gives how many.
    async fn tell(&mut self, lost: impl Iterator<Item = Lost>) -> io::Result<usize> {
        let commands: Vec<Command> = lost.map(|lost| lost.tell()).collect();
        if !commands.is_empty() {
            self.batch(&commands).await?;
        }
        Ok(commands.len())
    }

    /// Runs a script; a server that has forgotten it is told it again.
    async fn run(&mut self, script: Script, keys: &[String], arguments: &[&[u8]]) -> io::Result<BytesFrame> {
        let call = self.call(script, keys, arguments);
        let reply = self.batch(std::slice::from_ref(&call)).await?.remove(0);
        if !is_unknown_script(&reply) {
            return Ok(reply);
        }
        let load = Command::new(&[b"SCRIPT", b"LOAD", script.text().as_bytes()]);
        Ok(self.batch(&[load, call]).await?.remove(1))
    }

    fn call(&self, script: Script, keys: &[String], arguments: &[&[u8]]) -> Command {
        let count = keys.len().to_string();
        let mut words: Vec<&[u8]> = vec![b"EVALSHA", self.shas.of(script).as_bytes(), count.as_bytes()];
        words.extend(keys.iter().map(String::as_bytes));
        words.extend(arguments);
        Command::new(&words)
    }

    /// Sends all of `commands` in one write and waits for all replies, errors among them.
    async fn batch(&mut self, commands: &[Command]) -> io::Result<Vec<BytesFrame>> {
        let Dialled { stream, buffer, .. } = &mut self.connection;
        let work = async {
            let mut out = BytesMut::new();
            commands.iter().for_each(|command| out.extend_from_slice(&command.0));
            stream.write_all(&out).await?;
            stream.flush().await?;
            let mut replies = Vec::with_capacity(commands.len());
            while replies.len() < commands.len() {
                match take_reply(buffer)? {
                    Some(reply) => replies.push(reply),
                    None if stream.read_buf(buffer).await? == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    None => {}
                }
            }
            Ok(replies)
        };
        timeout(REPLY_TIME, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

fn is_unknown_script(reply: &BytesFrame) -> bool {
    matches!(reply, BytesFrame::Error(words) if words.starts_with("NOSCRIPT"))
}

fn number(reply: &BytesFrame) -> Option<u64> {
    match reply {
        BytesFrame::Integer(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn entries(reply: BytesFrame) -> Vec<Bytes> {
    let BytesFrame::Array(entries) = reply else { return Vec::new() };
    let text = |entry| if let BytesFrame::BulkString(text) = entry { Some(text) } else { None };
    entries.into_iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_job_is_told_to_its_front_and_to_nobody_else() {
        let keys = Keys::new("tempest");
        let entry = |reply_to: &str| {
            json!({"id": "a.0-1", "attempt": 2, "reply_to": reply_to, "started": true, "certain": false, "worker": "w"})
                .to_string()
        };
        let lost = Lost::read(entry("tempest:@a.0").as_bytes(), &keys).expect("an entry as reap.lua writes it");
        let told = String::from_utf8(lost.tell().0.to_vec()).expect("text");
        assert!(told.starts_with("*3\r\n$5\r\nRPUSH\r\n$12\r\ntempest:@a.0\r\n"), "{told}");
        let message = Bytes::from(told.lines().last().expect("a message").to_owned());
        assert_eq!(tempest_protocol::decode_answer(&message, 1024, false), tempest_protocol::Decoded::Died(lost.death));
        assert!(Lost::read(entry("tempest:web").as_bytes(), &keys).is_none(), "a forged job names any key");
        assert!(Lost::read(b"scribble", &keys).is_none());
    }
}
