//! What the second connection makes of replies, and of being cut.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::keeper::Keeper;
use super::registrar::Outcome;
use super::{Due, OutletTask, REPLY_TIMEOUT, UNREAD_MESSAGES, reply};
use crate::answer::{self, Answer};
use crate::backoff::Backoff;
use crate::connection::Reply;
use crate::link::LinkEvent;
use crate::publisher::PublishError;

impl OutletTask {
    pub(super) fn on_link_events(&mut self, first: LinkEvent) {
        self.on_link(first);
        while let Some(event) = self.link.buffered() {
            self.on_link(event);
        }
        if self.due.is_empty() {
            self.link.expect_reply_by(None);
        } else if self.link.is_up() {
            self.link.expect_reply_by(Some(Instant::now() + REPLY_TIMEOUT));
        }
    }

    pub(super) fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Reply(reply) => self.on_reply(reply),
            LinkEvent::Connected => {
                let id = self.link.up().map_or(0, |connection| {
                    self.context.clock.set(connection.redis_ms());
                    connection.client_id()
                });
                self.registrar.on_connected(id, self.link.loaded());
                self.beat_due = true;
            }
            LinkEvent::Lost(error) => {
                tracing::warn!(%error, "lost the connection for answers; dialling again");
                self.take_back();
                self.registrar.on_lost(&mut self.heartbeat);
            }
        }
    }

    fn on_reply(&mut self, received: Reply) {
        match self.due.pop_front() {
            Some(Due::Answers(answers)) => {
                self.ahead_bytes -= answer::bytes(&answers);
                self.on_pushed(answers, received);
            }
            Some(Due::Acknowledged(done)) if is_forgotten_script(&received) => {
                self.backlog.put_back(answer::again(done).collect());
                let lost = self.link.renew("EVALSHA", "NOSCRIPT".into());
                self.on_link(lost);
            }
            Some(Due::Acknowledged(done)) => {
                let lost = answer::lost(&done, &received);
                if lost > 0 {
                    self.status.lost.fetch_add(lost, Ordering::Relaxed);
                    tracing::debug!(lost, "jobs had been taken away before they were acknowledged");
                }
                self.survived.extend(answer::survived(done, &received));
            }
            Some(Due::Registered) => self.on_registered(received),
            Some(Due::GaveBack(numbers)) => self.on_gave_back(numbers, received),
            Some(Due::Asked) => self.keeper.on_asked(received),
            Some(Due::Looked(asked)) => Keeper::on_looked(&asked, received),
            Some(Due::Nothing) => {}
            Some(Due::Command(command)) => reply(command, Ok(received)),
            Some(Due::Time) => {
                if let Some(redis_ms) = received.time_ms() {
                    self.context.clock.set(redis_ms);
                }
            }
            Some(Due::Beat) => self.heartbeat.on_reply(received),
            None => tracing::error!(?received, "a reply to nothing"),
        }
    }

    fn on_registered(&mut self, reply: Reply) {
        match self.registrar.on_reply(reply, &mut self.heartbeat) {
            Outcome::Lost(_) => {
                self.status.cancel_claims(self.membership.taken_away());
                self.keeper.forget(self.membership.gone());
                let membership = self.membership.clone();
                self.backlog.retain(|answer| membership.settle(answer));
            }
            Outcome::Renamed => self.beat_due = true,
            Outcome::NoScript(error) => {
                let lost = self.link.renew("EVALSHA", error);
                self.on_link(lost);
            }
            Outcome::Registered | Outcome::Refused => {}
        }
    }

    fn on_gave_back(&mut self, numbers: Vec<u64>, reply: Reply) {
        match reply {
            Reply::Error(error) if error.starts_with("NOSCRIPT") => {
                self.keeper.give_back(numbers);
                let lost = self.link.renew("EVALSHA", error);
                self.on_link(lost);
            }
            Reply::Error(error) if is_passing(&error) => {
                self.keeper.give_back(numbers);
                self.paused = Some(Instant::now() + self.backoff.wait());
            }
            Reply::Int(_) => {}
            refused => tracing::error!(?refused, jobs = numbers.len(), "Redis does not take jobs back"),
        }
    }

    fn on_pushed(&mut self, answers: Vec<Answer>, reply: Reply) {
        match reply {
            Reply::Int(unread) => {
                self.backoff = Backoff::new();
                if unread > UNREAD_MESSAGES {
                    answers.iter().for_each(Answer::close_stream);
                }
            }
            Reply::Error(error) if is_passing(&error) => {
                tracing::warn!(error, "Redis does not take answers now; trying again");
                self.backlog.put_back(answers);
                self.paused = Some(Instant::now() + self.backoff.wait());
            }
            refused => {
                let why = format!("Redis refused: {refused:?}");
                answers.iter().for_each(|answer| self.give_up(answer, &why));
            }
        }
    }

    /// What was written and not acknowledged goes to the head again, in its order.
    fn take_back(&mut self) {
        self.ahead_bytes = 0;
        for due in std::mem::take(&mut self.due).into_iter().rev() {
            match due {
                Due::Answers(answers) => self.backlog.put_back(answers),
                Due::Acknowledged(done) => self.backlog.put_back(answer::again(done).collect()),
                // What went back already is not there any more to go back twice.
                Due::GaveBack(numbers) => self.keeper.give_back(numbers),
                // A second publication could be seen twice; only the caller knows whether that would hurt.
                Due::Command(command) => reply(command, Err(PublishError::Unknown)),
                Due::Time | Due::Beat | Due::Registered | Due::Asked | Due::Looked(_) | Due::Nothing => {}
            }
        }
    }
}

/// Redis has forgotten its scripts.
fn is_forgotten_script(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(error) if error.starts_with("NOSCRIPT"))
}

/// Errors that pass by themselves: memory is short, a replica was not promoted yet, data is being loaded.
fn is_passing(error: &str) -> bool {
    ["OOM", "READONLY", "LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS"]
        .iter()
        .any(|code| error.starts_with(code))
}
