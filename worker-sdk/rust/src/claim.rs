//! How jobs are taken from the queue.
//!
//! Base mode pops them: whoever took a job is the only one who has it, and a worker that dies takes its jobs along.
//! Reliable mode belongs here as a second [`Claim`]: it moves jobs into a list of the worker's own and will want two
//! more methods, one that acknowledges a job behind its answer in the same pipeline and one that gives back what
//! was not started. The loop must not know which of them it has.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::connection::{Pipeline, Reply};

/// Takes jobs over a connection; one request at a time.
pub(crate) trait Claim: Send {
    /// Appends commands that wait for a job and bring up to `count`; returns how many replies are due.
    fn request(&mut self, out: &mut Pipeline, count: usize) -> usize;
    /// Reads the next of these replies: the messages in it.
    fn reply(&mut self, reply: Reply) -> Result<Vec<Bytes>, ClaimError>;
    /// Forgets the replies that were due: their connection is gone.
    fn reset(&mut self);
}

/// Why a claim brought nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimError {
    /// This Redis needs other commands; the next request uses them.
    #[error("this Redis has no BLMPOP")]
    Unsupported,
    #[error("{0}")]
    Refused(String),
    #[error("a reply of an unexpected shape")]
    Shape,
}

/// The commands that take jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClaimCommand {
    /// `BLMPOP` where Redis has it, else the others.
    #[default]
    Auto,
    /// `BLMPOP … COUNT` (Redis 7.0, Valkey).
    Blmpop,
    /// `BLPOP`, then `LPOP … COUNT` in the same write (Redis 6.2).
    BlpopLpop,
}

/// Base mode.
#[derive(Debug)]
pub(crate) struct BaseClaim {
    queue: String,
    /// Seconds, as Redis reads them.
    wait: String,
    command: ClaimCommand,
    due: VecDeque<Shape>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `[key, [job, …]]`
    KeyAndJobs,
    /// `[key, job]`
    KeyAndJob,
    /// `[job, …]`
    Jobs,
}

impl BaseClaim {
    /// `queue` is the list's whole key; `wait` is how long a pop waits in vain.
    pub(crate) fn new(queue: String, wait: Duration, command: ClaimCommand) -> Self {
        Self { queue, wait: wait.as_secs_f64().to_string(), command, due: VecDeque::new() }
    }
}

impl Claim for BaseClaim {
    fn request(&mut self, out: &mut Pipeline, count: usize) -> usize {
        let (queue, wait) = (self.queue.as_bytes(), self.wait.as_bytes());
        if self.command != ClaimCommand::BlpopLpop {
            out.command(&[b"BLMPOP", wait, b"1", queue, b"LEFT", b"COUNT", count.to_string().as_bytes()]);
            self.due.push_back(Shape::KeyAndJobs);
            return 1;
        }
        out.command(&[b"BLPOP", queue, wait]);
        self.due.push_back(Shape::KeyAndJob);
        if count > 1 {
            out.command(&[b"LPOP", queue, (count - 1).to_string().as_bytes()]);
            self.due.push_back(Shape::Jobs);
        }
        self.due.len()
    }

    fn reply(&mut self, reply: Reply) -> Result<Vec<Bytes>, ClaimError> {
        let shape = self.due.pop_front().ok_or(ClaimError::Shape)?;
        match reply {
            Reply::Nil => Ok(Vec::new()),
            Reply::List(parts) => read_jobs(parts, shape).ok_or(ClaimError::Shape),
            Reply::Error(error) if self.command == ClaimCommand::Auto && is_unsupported(&error) => {
                self.command = ClaimCommand::BlpopLpop;
                Err(ClaimError::Unsupported)
            }
            Reply::Error(error) => Err(ClaimError::Refused(error)),
            Reply::Int(_) | Reply::Text(_) => Err(ClaimError::Shape),
        }
    }

    fn reset(&mut self) {
        self.due.clear();
    }
}

/// A Redis before 7.0, or a user without the right to this command.
fn is_unsupported(error: &str) -> bool {
    error.starts_with("ERR unknown command") || error.starts_with("NOPERM")
}

fn read_jobs(mut parts: Vec<Reply>, shape: Shape) -> Option<Vec<Bytes>> {
    let jobs = match shape {
        Shape::Jobs => parts,
        Shape::KeyAndJob if parts.len() == 2 => parts.split_off(1),
        Shape::KeyAndJobs if parts.len() == 2 => match parts.pop()? {
            Reply::List(jobs) => jobs,
            _ => return None,
        },
        _ => return None,
    };
    jobs.into_iter().map(|job| if let Reply::Text(message) = job { Some(message) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Reply {
        Reply::Text(Bytes::from_static(text.as_bytes()))
    }

    fn claim(command: ClaimCommand) -> BaseClaim {
        BaseClaim::new("tempest:web".into(), Duration::from_millis(2500), command)
    }

    #[test]
    fn blmpop_brings_all_in_one_reply() {
        let mut claim = claim(ClaimCommand::Auto);
        assert_eq!(claim.request(&mut Pipeline::default(), 5), 1);
        let reply = Reply::List(vec![text("tempest:web"), Reply::List(vec![text("a"), text("b")])]);
        assert_eq!(claim.reply(reply).expect("jobs"), ["a", "b"]);
        claim.request(&mut Pipeline::default(), 5);
        assert!(claim.reply(Reply::Nil).expect("no jobs").is_empty());
    }

    #[test]
    fn an_older_redis_gets_the_older_commands() {
        let mut claim = claim(ClaimCommand::Auto);
        claim.request(&mut Pipeline::default(), 5);
        let unknown = Reply::Error("ERR unknown command 'BLMPOP', with args beginning with: ".into());
        assert_eq!(claim.reply(unknown), Err(ClaimError::Unsupported));
        assert_eq!(claim.request(&mut Pipeline::default(), 3), 2);
        assert_eq!(claim.reply(Reply::List(vec![text("tempest:web"), text("a")])).expect("a job"), ["a"]);
        assert_eq!(claim.reply(Reply::List(vec![text("b"), text("c")])).expect("jobs"), ["b", "c"]);
        assert_eq!(claim.request(&mut Pipeline::default(), 1), 1);
    }

    #[test]
    fn other_errors_do_not_change_the_command() {
        let mut claim = claim(ClaimCommand::Auto);
        claim.request(&mut Pipeline::default(), 1);
        let wrong = Reply::Error("WRONGTYPE Operation against a key".into());
        assert!(matches!(claim.reply(wrong), Err(ClaimError::Refused(_))));
        assert_eq!(claim.command, ClaimCommand::Auto);
    }
}
