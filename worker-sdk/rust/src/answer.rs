//! Answer messages on their way to Redis.
//!
//! An answer is kept until Redis has acknowledged it, so that a lost connection costs a repetition and not an
//! answer; the front drops what it has seen before. This module spells the pushes and must not decide when they go.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use tempest_protocol::JobText;

use crate::answer_lists::AnswerList;
use crate::connection::{Pipeline, Reply};
use crate::membership::WorkerKeys;
use crate::scripts::{Loaded, Script};

/// Messages of one stream that may be unacknowledged at a time; with the cut at 64 KiB that is 256 KiB.
const STREAM_WINDOW: usize = 4;
/// Answers in one push, so that one huge command does not hold up Redis for its other clients.
const PUSH_ANSWERS: usize = 256;
/// Bytes in one push, one answer at least.
const PUSH_BYTES: usize = 1024 * 1024;

/// One message for one answer list.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) reply_to: AnswerList,
    pub(crate) message: Vec<u8>,
    /// When it is of no use any more, in ms by the clock of Redis.
    pub(crate) expires_ms: u64,
    /// Set for parts of a stream.
    pub(crate) stream: Option<StreamPart>,
    /// Number of the job's claim; 0: it was popped.
    pub(crate) claim: u64,
    /// Set on the last message of an answer to a claimed job.
    pub(crate) acknowledges: Option<Acknowledgement>,
}

/// Says that a claim is done with.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledgement {
    pub(crate) claim: u64,
    /// Number of the first claim of its batch; 0: it lies among the claims by itself.
    pub(crate) batch: u64,
    /// Id of a background job that had crashed workers before: its count goes, too, as soon as Redis has said that the
    /// claim was still this worker's.
    pub(crate) crashed: Option<JobText>,
    /// It has been sent before, so the claim may be gone by it.
    pub(crate) again: bool,
}

/// What a message holds of its stream while it is under way.
#[derive(Debug)]
pub(crate) struct StreamPart {
    gate: Arc<Gate>,
    _permit: OwnedSemaphorePermit,
}

/// Bounds what a stream has under way, and ends it.
#[derive(Debug)]
pub(crate) struct Gate {
    window: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { window: Arc::new(Semaphore::new(STREAM_WINDOW)) })
    }

    /// Waits for room for one more message; None: the stream has been given up.
    pub(crate) async fn enter(self: &Arc<Self>) -> Option<StreamPart> {
        let permit = self.window.clone().acquire_owned().await.ok()?;
        Some(StreamPart { gate: self.clone(), _permit: permit })
    }

    pub(crate) fn close(&self) {
        self.window.close();
    }
}

impl Answer {
    /// No answer but the end of a claim, behind everything that has been sent before it.
    pub(crate) fn none(acknowledgement: Acknowledgement) -> Self {
        Self {
            reply_to: AnswerList::default(),
            message: Vec::new(),
            expires_ms: u64::MAX,
            stream: None,
            claim: acknowledgement.claim,
            acknowledges: Some(acknowledgement),
        }
    }

    /// Nothing to be pushed.
    pub(crate) fn is_none(&self) -> bool {
        self.message.is_empty()
    }

    /// Ends the stream this belongs to: with a message missing, the rest is of no use.
    pub(crate) fn close_stream(&self) {
        if let Some(part) = &self.stream {
            part.gate.close();
        }
    }
}

/// What was written, in the order of the replies that are due.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// One reply each.
    pub(crate) pushes: Vec<Vec<Answer>>,
    /// One reply each, behind those.
    pub(crate) acknowledged: Vec<Acknowledged>,
}

/// What one command acknowledges.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    done: Vec<Acknowledgement>,
    /// It removes them together, or none of them; else it says how many were there.
    whole: bool,
}

/// Where claims are acknowledged.
pub(crate) struct Claims<'a> {
    pub(crate) keys: &'a WorkerKeys,
    pub(crate) loaded: &'a Loaded,
    /// First number and size of the batch that this connection has claimed last. Only there is it certain that what removes
    /// it meets no later one.
    pub(crate) batch: Option<(u64, usize)>,
}

/// Appends answers to `out`, and behind them what they acknowledge, where the worker makes claims.
pub(crate) fn write_all(out: &mut Pipeline, mut answers: Vec<Answer>, claims: Option<&Claims<'_>>) -> Written {
    let acknowledged: Vec<_> = answers.iter_mut().filter_map(|answer| answer.acknowledges.take()).collect();
    if !acknowledged.is_empty() {
        answers.retain(|answer| !answer.is_none());
    }
    let pushes = push_all(out, answers);
    let Some(claims) = claims else { return Written { pushes, acknowledged: Vec::new() } };
    Written { pushes, acknowledged: acknowledge_all(out, acknowledged, claims) }
}

fn acknowledge_all(out: &mut Pipeline, done: Vec<Acknowledgement>, claims: &Claims<'_>) -> Vec<Acknowledged> {
    let (mut of_batches, single): (Vec<_>, Vec<_>) = done.into_iter().partition(|done| done.batch > 0);
    let mut written = acknowledge_single(out, single, claims.keys);
    while let Some(first) = of_batches.pop() {
        let batch = first.batch;
        let mut done = vec![first];
        if done[0].crashed.is_none() {
            let with_it = |other: &Acknowledgement| other.batch == batch && other.crashed.is_none();
            let (same, others) = of_batches.into_iter().partition::<Vec<_>, _>(with_it);
            done.extend(same);
            of_batches = others;
        }
        let whole = claims.batch == Some((batch, done.len())) && done.iter().all(|done| !done.again);
        if whole {
            out.command(&[b"DEL", claims.keys.batch.as_bytes()]);
        } else {
            let numbers: Vec<String> = std::iter::once(batch)
                .chain(done.iter().map(|done| done.claim))
                .map(|number| number.to_string())
                .collect();
            let numbers: Vec<&[u8]> = numbers.iter().map(String::as_bytes).collect();
            claims.loaded.call(out, Script::Acknowledge, &[&claims.keys.batch], &numbers);
        }
        written.push(Acknowledged { done, whole });
    }
    written
}

fn acknowledge_single(out: &mut Pipeline, done: Vec<Acknowledgement>, keys: &WorkerKeys) -> Vec<Acknowledged> {
    // Of one that has crashed workers before it matters whether the claim was there, so it gets a reply of its own.
    let (crashed, plain): (Vec<_>, Vec<_>) = done.into_iter().partition(|done| done.crashed.is_some());
    let groups =
        std::iter::once(plain).filter(|plain| !plain.is_empty()).chain(crashed.into_iter().map(|one| vec![one]));
    let groups: Vec<_> = groups.collect();
    for group in &groups {
        out.begin(group.len() + 2);
        out.part(b"HDEL");
        out.part(keys.claimed.as_bytes());
        group.iter().for_each(|done| out.part(done.claim.to_string().as_bytes()));
    }
    groups.into_iter().map(|done| Acknowledged { done, whole: false }).collect()
}

/// The id of the job that has crashed workers before and not this one, by the reply to its acknowledgement.
pub(crate) fn survived(acknowledged: Acknowledged, reply: &Reply) -> Option<JobText> {
    let [done] = <[_; 1]>::try_from(acknowledged.done).ok()?;
    done.crashed.filter(|_| *reply == Reply::Int(1))
}

/// Claims that were gone before they were acknowledged, by the reply to it: they had been taken away.
pub(crate) fn lost(acknowledged: &Acknowledged, reply: &Reply) -> u64 {
    let Reply::Int(removed) = reply else { return 0 };
    let due = acknowledged.done.iter().filter(|done| !done.again).count() as u64;
    match u64::try_from(*removed).unwrap_or(0) {
        removed if acknowledged.whole && removed > 0 => 0,
        removed => due.saturating_sub(removed),
    }
}

/// The same once more, after a connection that took no reply along.
pub(crate) fn again(acknowledged: Acknowledged) -> impl Iterator<Item = Answer> {
    acknowledged.done.into_iter().map(|done| Answer::none(Acknowledgement { again: true, ..done }))
}

/// Appends answers to `out`, one `RPUSH` for neighbours of one list, and returns them by command: as many
/// replies are due, in this order.
fn push_all(out: &mut Pipeline, answers: Vec<Answer>) -> Vec<Vec<Answer>> {
    let pushes = grouped(answers);
    for push in &pushes {
        out.begin(push.len() + 2);
        out.part(b"RPUSH");
        out.part(push[0].reply_to.as_bytes());
        for answer in push {
            out.part(&answer.message);
        }
    }
    pushes
}

fn grouped(answers: Vec<Answer>) -> Vec<Vec<Answer>> {
    let Some(first) = answers.first() else { return Vec::new() };
    // Nearly always they are for one front and few: then they stay where they are.
    let one_list = answers.iter().all(|answer| answer.reply_to == first.reply_to);
    if one_list && answers.len() <= PUSH_ANSWERS && bytes(&answers) <= PUSH_BYTES {
        return vec![answers];
    }
    let mut pushes: Vec<Vec<Answer>> = Vec::new();
    for answer in answers {
        match pushes.iter_mut().rev().find(|push| push[0].reply_to == answer.reply_to) {
            Some(push) if has_room(push, &answer) => push.push(answer),
            _ => pushes.push(vec![answer]),
        }
    }
    pushes
}

fn has_room(push: &[Answer], answer: &Answer) -> bool {
    // Only parts of streams and large answers come near the limit, so the sum is rarely a long one.
    push.len() < PUSH_ANSWERS && bytes(push) + answer.message.len() <= PUSH_BYTES
}

/// Bytes of some messages.
pub(crate) fn bytes<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> usize {
    answers.into_iter().map(|answer| answer.message.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(reply_to: &str, bytes: usize) -> Answer {
        Answer {
            reply_to: reply_to.into(),
            message: vec![b'x'; bytes],
            expires_ms: 0,
            stream: None,
            claim: 0,
            acknowledges: None,
        }
    }

    fn sizes(answers: Vec<Answer>) -> Vec<(String, usize)> {
        let pushes = push_all(&mut Pipeline::default(), answers);
        pushes.into_iter().map(|push| (push[0].reply_to.to_string(), push.len())).collect()
    }

    #[test]
    fn answers_for_one_list_share_a_push() {
        let answers = vec![answer("a", 1), answer("b", 1), answer("a", 1), answer("a", 1)];
        assert_eq!(sizes(answers), [("a".to_owned(), 3), ("b".to_owned(), 1)]);
    }

    #[test]
    fn a_push_is_bounded_by_count_and_bytes() {
        let many = (0..PUSH_ANSWERS + 1).map(|_| answer("a", 1)).collect();
        assert_eq!(sizes(many), [("a".to_owned(), PUSH_ANSWERS), ("a".to_owned(), 1)]);
        let large = (0..3).map(|_| answer("a", PUSH_BYTES / 2)).collect();
        assert_eq!(sizes(large), [("a".to_owned(), 2), ("a".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn a_stream_waits_for_its_messages_to_be_taken() {
        let gate = Gate::new();
        let mut parts = Vec::new();
        for _ in 0..STREAM_WINDOW {
            parts.push(gate.enter().await.expect("room"));
        }
        assert_eq!(gate.window.available_permits(), 0);
        parts.pop();
        parts.push(gate.enter().await.expect("room again"));
        gate.close();
        assert!(gate.enter().await.is_none(), "a closed gate lets nobody in");
    }
}
