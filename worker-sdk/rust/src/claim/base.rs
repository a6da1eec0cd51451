//! Base mode: jobs are popped. Whoever took one is the only one who has it, and a worker that dies takes its jobs
//! along.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Claim, ClaimError, Wanted};
use crate::connection::{Pipeline, Reply};
use crate::waiting::Claimed;

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
    fn request(&mut self, out: &mut Pipeline, wanted: Wanted) -> usize {
        let count = wanted.count;
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

    fn reply(&mut self, reply: Reply) -> Result<Vec<Claimed>, ClaimError> {
        let shape = self.due.pop_front().ok_or(ClaimError::Shape)?;
        match reply {
            Reply::Nil => Ok(Vec::new()),
            Reply::List(parts) => Ok(popped(read_jobs(parts, shape).ok_or(ClaimError::Shape)?)),
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

fn popped(jobs: Vec<Bytes>) -> Vec<Claimed> {
    let since = Instant::now();
    jobs.into_iter()
        .map(|message| Claimed { message, number: 0, batch: 0, crashes: Some(0), marked: true, since })
        .collect()
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

    fn wanted(count: usize) -> Wanted {
        Wanted { count, start_at_once: 0, alone: false }
    }

    fn messages(reply: Result<Vec<Claimed>, ClaimError>) -> Vec<Bytes> {
        reply.expect("jobs").into_iter().map(|claimed| claimed.message).collect()
    }

    #[test]
    fn blmpop_brings_all_in_one_reply() {
        let mut claim = claim(ClaimCommand::Auto);
        assert_eq!(claim.request(&mut Pipeline::default(), wanted(5)), 1);
        let reply = Reply::List(vec![text("tempest:web"), Reply::List(vec![text("a"), text("b")])]);
        assert_eq!(messages(claim.reply(reply)), ["a", "b"]);
        claim.request(&mut Pipeline::default(), wanted(5));
        assert!(claim.reply(Reply::Nil).expect("no jobs").is_empty());
    }

    #[test]
    fn an_older_redis_gets_the_older_commands() {
        let mut claim = claim(ClaimCommand::Auto);
        claim.request(&mut Pipeline::default(), wanted(5));
        let unknown = Reply::Error("ERR unknown command 'BLMPOP', with args beginning with: ".into());
        assert_eq!(claim.reply(unknown), Err(ClaimError::Unsupported));
        assert_eq!(claim.request(&mut Pipeline::default(), wanted(3)), 2);
        assert_eq!(messages(claim.reply(Reply::List(vec![text("tempest:web"), text("a")]))), ["a"]);
        assert_eq!(messages(claim.reply(Reply::List(vec![text("b"), text("c")]))), ["b", "c"]);
        assert_eq!(claim.request(&mut Pipeline::default(), wanted(1)), 1);
    }

    #[test]
    fn other_errors_do_not_change_the_command() {
        let mut claim = claim(ClaimCommand::Auto);
        claim.request(&mut Pipeline::default(), wanted(1));
        let wrong = Reply::Error("WRONGTYPE Operation against a key".into());
        assert!(matches!(claim.reply(wrong), Err(ClaimError::Refused(_))));
        assert_eq!(claim.command, ClaimCommand::Auto);
    }
}
