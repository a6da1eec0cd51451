//! Answers that wait for Redis: a queue with a limit in bytes.

use std::collections::VecDeque;

use crate::answer::{self, Answer};

/// Bytes of undelivered answers to hold; beyond it the oldest go, whose clients have waited longest.
pub(crate) const HELD_BYTES: usize = 64 * 1024 * 1024;

/// In the order in which they are to be written.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    answers: VecDeque<Answer>,
    bytes: usize,
}

impl Backlog {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }

    /// Takes an answer in; returns those that had to go for it.
    pub(crate) fn push(&mut self, answer: Answer) -> Vec<Answer> {
        self.bytes += answer.message.len();
        self.answers.push_back(answer);
        let mut dropped = Vec::new();
        while self.bytes > HELD_BYTES && self.answers.len() > 1 {
            dropped.extend(self.pop());
        }
        dropped
    }

    pub(crate) fn pop(&mut self) -> Option<Answer> {
        let answer = self.answers.pop_front()?;
        self.bytes -= answer.message.len();
        Some(answer)
    }

    /// Puts answers back at the head, in their order.
    pub(crate) fn put_back(&mut self, answers: Vec<Answer>) {
        self.bytes += answer::bytes(&answers);
        for answer in answers.into_iter().rev() {
            self.answers.push_front(answer);
        }
    }

    /// Keeps those that are to be kept.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut Answer) -> bool) {
        self.answers.retain_mut(&mut keep);
        self.bytes = answer::bytes(&self.answers);
    }

    /// Takes out those of no use any more.
    pub(crate) fn take_expired(&mut self, now_ms: u64) -> Vec<Answer> {
        let (late, waiting) = self.answers.drain(..).partition::<Vec<_>, _>(|answer| answer.expires_ms <= now_ms);
        self.answers = waiting.into();
        self.bytes -= answer::bytes(&late);
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: usize, expires_ms: u64) -> Answer {
        Answer {
            reply_to: "a".into(),
            message: vec![b'x'; bytes],
            expires_ms,
            stream: None,
            claim: 0,
            acknowledges: None,
        }
    }

    fn sizes(mut backlog: Backlog) -> Vec<usize> {
        std::iter::from_fn(|| backlog.pop()).map(|answer| answer.message.len()).collect()
    }

    #[test]
    fn at_the_limit_the_oldest_go() {
        let mut backlog = Backlog::default();
        assert!(backlog.push(answer(HELD_BYTES - 1, 0)).is_empty());
        assert_eq!(backlog.push(answer(2, 0)).len(), 1);
        assert_eq!(backlog.bytes(), 2);
        assert_eq!(backlog.push(answer(HELD_BYTES + 1, 0)).len(), 1, "one answer is always held");
    }

    #[test]
    fn what_comes_back_goes_first() {
        let mut backlog = Backlog::default();
        backlog.push(answer(3, 0));
        backlog.put_back(vec![answer(1, 0), answer(2, 0)]);
        assert_eq!(sizes(backlog), [1, 2, 3]);
    }

    #[test]
    fn expired_answers_are_taken_out() {
        let mut backlog = Backlog::default();
        for expires_ms in [5, 20, 10, 11] {
            backlog.push(answer(expires_ms as usize, expires_ms));
        }
        assert_eq!(backlog.take_expired(10).len(), 2);
        assert_eq!((backlog.bytes(), backlog.len()), (31, 2));
        assert_eq!(sizes(backlog), [20, 11]);
    }
}
