//! Reliable mode: jobs are moved into claims under the worker's name.
//!
//! While there is work a claim is one script. When the lists were empty, a `BLMOVE` waits before it, in the same
//! write. This module numbers the claims and spells the commands; it must not register the worker or run jobs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Claim, ClaimError, Wanted};
use crate::answer::Claims;
use crate::connection::{Pipeline, Reply};
use crate::membership::{Membership, WorkerKeys};
use crate::scripts::{Loaded, Script, is_unable};
use crate::waiting::Claimed;

/// Jobs in one claim, at most: a script can put no more than some thousand values into one command.
pub(crate) const MOST_CLAIMS: usize = 1000;
/// Fewer jobs than this are not worth a batch of their own.
const LEAST_BATCH: usize = 4;
/// Longest wait for a job: whatever strangers push to a list of another priority is found after it.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A claim that was under way when its connection broke may still be made by Redis, afterwards; the numbers that it
/// would give are left out.
const SKIPPED: u64 = 2 * MOST_CLAIMS as u64;

/// What a registered worker claims with.
pub(crate) struct Registered {
    pub(crate) keys: Arc<WorkerKeys>,
    pub(crate) loaded: Loaded,
}

/// Claims over one connection after another.
pub(crate) struct ReliableClaim {
    membership: Arc<Membership>,
    registered: Option<Registered>,
    /// Seconds, as Redis reads them.
    wait: String,
    /// Number of the next claim; never given twice, not even by different registrations.
    next: u64,
    /// The lists may hold jobs: no need to wait.
    more: bool,
    /// What `BLMOVE` has brought, until the script says that it is claimed.
    landed: Option<Bytes>,
    due: VecDeque<Due>,
    asked: Instant,
    /// How many of the claims that were asked for count as started.
    marks: usize,
    /// A reply was lost with its connection.
    reply_lost: bool,
    /// Whether the user of this connection may read lists, once that is known.
    may_read_lists: Option<bool>,
    /// Jobs that the last claim brought.
    latest: usize,
    /// First number and size of the batch that was claimed last, over the connection of now.
    batch: Option<(u64, usize)>,
    /// Jobs of a batch that is claimed and on its way.
    coming: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Wait,
    Claim,
    /// The list of a batch.
    Batch,
    Recover,
}

impl ReliableClaim {
    /// `wait`: how long to wait for a job in vain.
    pub(crate) fn new(membership: Arc<Membership>, wait: Duration) -> Self {
        Self {
            membership,
            registered: None,
            wait: wait.min(LONGEST_WAIT).as_secs_f64().to_string(),
            next: 1,
            more: true,
            landed: None,
            due: VecDeque::new(),
            asked: Instant::now(),
            marks: 0,
            reply_lost: false,
            may_read_lists: None,
            latest: 0,
            batch: None,
            coming: None,
        }
    }

    /// The worker has been registered (again), with the connection that is used from now on.
    pub(crate) fn register(&mut self, registered: Registered) {
        self.registered = Some(registered);
        self.more = true;
    }

    /// What answers to claims are acknowledged with.
    pub(crate) fn to_acknowledge(&self) -> Option<Claims<'_>> {
        let Registered { keys, loaded } = self.registered.as_ref()?;
        Some(Claims { keys, loaded, batch: self.batch })
    }

    /// True: claims may have been made of which this worker does not know.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.reply_lost
    }

    /// Appends the question for claims whose replies never arrived; returns how many replies are due.
    pub(crate) fn request_recovery(&mut self, out: &mut Pipeline) -> usize {
        let Some(Registered { keys, loaded }) = &self.registered else { return 0 };
        let names = [keys.claimers.as_str(), &keys.claimed, &keys.landing, &keys.batch];
        let arguments = [keys.worker.as_bytes(), &decimal(self.next)];
        loaded.call(out, Script::Recover, &names, &arguments);
        self.asked = Instant::now();
        self.due.push_back(Due::Recover);
        1
    }

    /// Appends a mark that all claims up to this one count as started; one reply is due.
    pub(crate) fn mark(&self, out: &mut Pipeline, number: u64) -> usize {
        let Some(Registered { keys, loaded }) = &self.registered else { return 0 };
        loaded.call(out, Script::Mark, &[&keys.claimed, &keys.batch], &[&decimal(number)]);
        1
    }

    fn on_claim(&mut self, parts: Vec<Reply>) -> Result<Vec<Claimed>, ClaimError> {
        let mut parts = parts.into_iter();
        let (Some(Reply::Int(landed)), Some(Reply::Int(more)), Some(rest)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(ClaimError::Shape);
        };
        self.more = more > 0;
        let crashes = match rest {
            Reply::List(crashes) => crashes,
            // The list itself, with the job that landed, is the next reply.
            Reply::Int(jobs) => {
                self.landed = None;
                self.coming = usize::try_from(jobs).ok();
                return Ok(Vec::new());
            }
            _ => return Err(ClaimError::Shape),
        };
        let mut messages = Vec::with_capacity(parts.len() + 1);
        if landed > 0 {
            match self.landed.take() {
                Some(message) => messages.push(message),
                None => {
                    self.reply_lost = true;
                    return Err(ClaimError::Lost);
                }
            }
        }
        for part in parts {
            let Reply::Text(message) = part else { return Err(ClaimError::Shape) };
            messages.push(message);
        }
        let mut crashes = crashes.into_iter().map(|crashes| match crashes {
            Reply::Int(crashes) => u32::try_from(crashes).unwrap_or(0),
            _ => 0,
        });
        Ok(self.number(messages, 0, || crashes.next().unwrap_or(0)))
    }

    /// Numbers what was claimed, as the script has done.
    fn number(&mut self, messages: Vec<Bytes>, batch: u64, mut crashes: impl FnMut() -> u32) -> Vec<Claimed> {
        let first = self.next;
        self.latest = messages.len();
        self.next += messages.len() as u64;
        let (marks, since) = (self.marks as u64, self.asked);
        let numbered = (first..).zip(messages).map(|(number, message)| Claimed {
            message,
            number,
            batch,
            crashes: Some(crashes()),
            marked: number - first < marks,
            since,
        });
        let claimed = numbered.collect();
        self.membership.claimed(self.next - 1);
        claimed
    }

    /// What lies in the list of the batch; `None` where the claim made no batch, and this only tells whether it may be read.
    fn on_batch(&mut self, parts: Vec<Reply>) -> Result<Vec<Claimed>, ClaimError> {
        self.may_read_lists = Some(true);
        let Some(jobs) = self.coming.take() else { return Ok(Vec::new()) };
        if parts.len() != jobs {
            // Between the script and this it was taken away.
            return Err(ClaimError::Unregistered);
        }
        let text = |part| if let Reply::Text(message) = part { Some(message) } else { None };
        let messages = parts.into_iter().map(text).collect::<Option<Vec<_>>>().ok_or(ClaimError::Shape)?;
        self.batch = Some((self.next, jobs));
        Ok(self.number(messages, self.next, || 0))
    }

    fn on_recovered(&mut self, parts: Vec<Reply>) -> Result<Vec<Claimed>, ClaimError> {
        let mut parts = parts.into_iter();
        let (Some(Reply::Int(_)), Some(Reply::Int(first)), Some(Reply::Int(last))) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(ClaimError::Shape);
        };
        let (first, last) = (u64::try_from(first).unwrap_or(0), u64::try_from(last).unwrap_or(0));
        let mut found = Vec::new();
        while let (Some(number), Some(message)) = (parts.next(), parts.next()) {
            let (Reply::Int(number), Reply::Text(message)) = (number, message) else { return Err(ClaimError::Shape) };
            let number = u64::try_from(number).map_err(|_| ClaimError::Shape)?;
            // How often a job has crashed workers is not told again.
            let batch = if (first..=last).contains(&number) { first } else { 0 };
            found.push(Claimed { message, number, batch, crashes: None, marked: false, since: self.asked });
            self.next = self.next.max(number + 1);
        }
        self.reply_lost = false;
        self.landed = None;
        self.more = true;
        self.next += SKIPPED;
        self.membership.claimed(self.next - 1);
        if !found.is_empty() {
            tracing::debug!(claims = found.len(), "found claims whose replies never arrived");
        }
        Ok(found)
    }
}

impl Claim for ReliableClaim {
    fn request(&mut self, out: &mut Pipeline, wanted: Wanted) -> usize {
        let Some(Registered { keys, loaded }) = &self.registered else { return 0 };
        self.asked = Instant::now();
        let waits = !self.more && self.landed.is_none();
        if waits {
            let (normal, landing) = (keys.normal.as_bytes(), keys.landing.as_bytes());
            out.command(&[b"BLMOVE", normal, landing, b"LEFT", b"RIGHT", self.wait.as_bytes()]);
            self.due.push_back(Due::Wait);
        }
        // One of them is the job that has been waited for.
        let from_lists = wanted.count - usize::from(waits || self.landed.is_some());
        let names = [
            keys.claimers.as_str(),
            &keys.claimed,
            &keys.landing,
            &keys.normal,
            &keys.high,
            &keys.low,
            &keys.withdrawn,
            &keys.attempts,
            &keys.stats,
            &keys.batch,
        ];
        let may_batch = wanted.alone && self.latest >= LEAST_BATCH;
        let batch = may_batch && self.may_read_lists == Some(true);
        let names = &names[..names.len() - usize::from(!batch)];
        let (first, count) = (decimal(self.next), decimal(from_lists as u64));
        self.marks = wanted.start_at_once;
        let marks = decimal(wanted.start_at_once as u64);
        loaded.call(out, Script::Claim, names, &[keys.worker.as_bytes(), &first, &count, &marks]);
        self.due.push_back(Due::Claim);
        // Where it is not known yet whether this may be read, it is asked for in vain once.
        let reads = may_batch && self.may_read_lists != Some(false);
        if reads {
            out.command(&[b"LRANGE", keys.batch.as_bytes(), b"1", b"-1"]);
            self.due.push_back(Due::Batch);
        }
        1 + usize::from(waits) + usize::from(reads)
    }

    fn reply(&mut self, reply: Reply) -> Result<Vec<Claimed>, ClaimError> {
        let due = self.due.pop_front().ok_or(ClaimError::Shape)?;
        match (due, reply) {
            (Due::Batch, Reply::Error(error)) if self.coming.is_none() => {
                if is_unable(&error) {
                    self.may_read_lists = Some(false);
                }
                Ok(Vec::new())
            }
            (_, Reply::Error(error)) => {
                // What `BLMOVE` has brought before is claimed by the next request.
                Err(if error.starts_with("NOSCRIPT") {
                    ClaimError::NoScript
                } else if error.contains("UNREGISTERED") {
                    self.landed = None;
                    ClaimError::Unregistered
                } else if is_unable(&error) {
                    ClaimError::Unable(error)
                } else {
                    ClaimError::Refused(error)
                })
            }
            (Due::Wait, Reply::Nil) => Ok(Vec::new()),
            (Due::Wait, Reply::Text(message)) => {
                self.landed = Some(message);
                Ok(Vec::new())
            }
            (Due::Claim, Reply::List(parts)) => self.on_claim(parts),
            (Due::Batch, Reply::List(parts)) => self.on_batch(parts),
            (Due::Recover, Reply::List(parts)) => self.on_recovered(parts),
            _ => Err(ClaimError::Shape),
        }
    }

    fn reset(&mut self) {
        // Recovery looks from the number that was under way, so nothing must be claimed before it.
        self.reply_lost |= !self.due.is_empty() || self.landed.is_some();
        self.due.clear();
        self.landed = None;
        self.registered = None;
        self.may_read_lists = None;
        self.batch = None;
        self.coming = None;
    }

    fn reliable(&mut self) -> Option<&mut ReliableClaim> {
        Some(self)
    }
}

fn decimal(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}
