//! The ledger: what clients, workers, pushers and the monkey did, written by themselves, one line of JSON an event.
//!
//! A process has a file of its own, opened to append, and an event is one write: so a line of a process that is killed
//! stands whole or not at all, and nothing that it did before is missing. What is about to be done is written before
//! the deed, what was done behind it. It must not interpret: that is the checker's affair.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock;

/// What a request is, as its client sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// GET, answered at once.
    GetQuick,
    /// GET whose worker takes 0.2 to 3 s.
    GetSlow,
    /// GET answered in several parts.
    Stream,
    /// POST, answered at once.
    PostQuick,
    /// POST whose worker takes 0.2 to 3 s.
    PostSlow,
    /// POST with an `Idempotency-Key`.
    PostKeyed,
    /// GET whose client leaves before the answer.
    GetLeft,
    /// POST whose client leaves before the answer.
    PostLeft,
}

impl Kind {
    /// The method on the wire.
    pub fn method(self) -> &'static str {
        match self {
            Self::GetQuick | Self::GetSlow | Self::Stream | Self::GetLeft => "GET",
            Self::PostQuick | Self::PostSlow | Self::PostKeyed | Self::PostLeft => "POST",
        }
    }

    /// True where it must never be started twice.
    pub fn once(self) -> bool {
        matches!(self, Self::PostQuick | Self::PostSlow | Self::PostLeft)
    }
}

/// How a request ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A response, whole.
    Whole,
    /// The head of a response, and a body that ended before its end.
    Cut,
    /// The connection ended before a response.
    Lost,
    /// Nothing at all within the time that any outcome must come in.
    Silent,
    /// The client left by its own choice.
    Left,
}

/// How Redis keeps what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Persistence {
    /// `appendfsync always`.
    Always,
    /// `appendfsync everysec`.
    Everysec,
    /// In memory alone.
    None,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "e", rename_all = "kebab-case")]
pub enum Event {
    /// A client is about to write a request to this front.
    Sent {
        /// The client's own id of it.
        id: String,
        /// What it is.
        kind: Kind,
        /// Which front.
        front: usize,
    },
    /// A client has the outcome of a request.
    Got {
        /// The request.
        id: String,
        /// How it ended.
        outcome: Outcome,
        /// The status code; 0 where there was none.
        status: u16,
        /// As much of the body as came.
        body: String,
    },
    /// A worker's process runs.
    Up {
        /// Its process.
        pid: u32,
        /// What kind of worker, and who restarts it.
        class: String,
    },
    /// A worker is about to begin a job.
    Start {
        /// The client's or pusher's id.
        id: String,
        /// The id of the job.
        job: String,
        /// Which try, as the worker was told.
        attempt: u32,
        /// Its process.
        pid: u32,
    },
    /// A worker has done a job; its answer is not sent yet.
    End {
        /// The client's or pusher's id.
        id: String,
        /// Which try.
        attempt: u32,
        /// Its process.
        pid: u32,
    },
    /// A worker was given a job whose parts contradict each other.
    Mixed {
        /// What did.
        what: String,
    },
    /// A background job is about to be pushed.
    Push {
        /// The pusher's own id.
        id: String,
    },
    /// Redis has acknowledged it.
    Pushed {
        /// The job.
        id: String,
    },
    /// Redis has not, so it may be there or not.
    Unpushed {
        /// The job.
        id: String,
    },
    /// What comes now is a phase of the run.
    Phase {
        /// Its name.
        name: String,
    },
    /// The monkey has killed a process.
    Kill {
        /// Its id.
        pid: u32,
        /// A worker's class.
        class: String,
    },
    /// It has stopped a process.
    Stop {
        /// Its id.
        pid: u32,
        /// A worker's class.
        class: String,
    },
    /// The stopped process is about to go on.
    Cont {
        /// Its id.
        pid: u32,
    },
    /// A front is about to be killed.
    FrontDown {
        /// Which.
        front: usize,
    },
    /// A front listens in its place.
    FrontUp {
        /// Which.
        front: usize,
    },
    /// Redis is about to be ended.
    RedisDown {
        /// Killed, and not told to shut down.
        killed: bool,
        /// What it keeps.
        keeps: Persistence,
    },
    /// Redis accepts connections again.
    RedisUp {
        /// What it keeps from now on.
        keeps: Persistence,
    },
    /// Connections to Redis are about to be disturbed.
    Disturb {
        /// How.
        what: String,
    },
    /// They no longer are.
    Calm,
}

impl Event {
    /// The request or job that it speaks of.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Sent { id, .. } | Self::Got { id, .. } | Self::Start { id, .. } | Self::End { id, .. } => Some(id),
            Self::Push { id } | Self::Pushed { id } | Self::Unpushed { id } => Some(id),
            _ => None,
        }
    }

    /// The process that it speaks of.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Up { pid, .. } | Self::Start { pid, .. } | Self::End { pid, .. } => Some(*pid),
            Self::Kill { pid, .. } | Self::Stop { pid, .. } | Self::Cont { pid } => Some(*pid),
            _ => None,
        }
    }

    /// The name of what the monkey has done, empty where it has put back something; None: it is no line of the monkey's.
    pub fn deed(&self) -> Option<String> {
        Some(match self {
            Self::Kill { class, .. } => format!("kill {class}"),
            Self::Stop { class, .. } => format!("stop {class}"),
            Self::FrontDown { .. } => "kill front".to_owned(),
            Self::RedisDown { killed, keeps } => {
                format!("{} redis, {keeps:?}", if *killed { "kill" } else { "shut down" }).to_lowercase()
            }
            Self::Disturb { what } => format!("disturb: {what}"),
            Self::Cont { .. } | Self::FrontUp { .. } | Self::RedisUp { .. } | Self::Calm | Self::Phase { .. } => {
                String::new()
            }
            _ => return None,
        })
    }
}

/// An event and when it was, in nanoseconds by [`clock::now`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When.
    pub t: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// Appends to one file.
#[derive(Debug)]
pub struct Writer(File);

impl Writer {
    /// Opens a file to append to.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(Self)
    }

    /// Writes one event, dated now. A ledger that cannot be written proves nothing, so that ends the process.
    pub fn note(&self, event: Event) -> u64 {
        let t = clock::now();
        let mut line = serde_json::to_string(&Line { t, event }).expect("an event is JSON");
        line.push('\n');
        (&self.0).write_all(line.as_bytes()).expect("the ledger can be written");
        t
    }
}

/// The ledgers in a folder, by name.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    let mut files: Vec<PathBuf> = entries.unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files
}

/// Every line of every ledger in a folder, in the order of time. The last line of a process that was killed may be
/// torn; every other line must be readable.
pub fn read(folder: &Path) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for path in files(folder) {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for (number, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| line.ends_with('\n')) {
            let read = serde_json::from_str(line);
            lines.push(read.map_err(|error| format!("{}:{}: {error}", path.display(), number + 1))?);
        }
    }
    lines.sort_by_key(|line: &Line| line.t);
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_in_the_order_of_time_without_a_torn_end() {
        let folder = tempest_tests::Folder::new();
        let (one, two) = (folder.join("a.jsonl"), folder.join("b.jsonl"));
        let push = |id: &str| Event::Push { id: id.into() };
        let (a, b) = (Writer::open(&one).expect("it opens"), Writer::open(&two).expect("it opens"));
        a.note(push("1"));
        b.note(push("2"));
        a.note(Event::Start { id: "2".into(), job: "j".into(), attempt: 1, pid: 7 });
        (&b.0).write_all(b"{\"t\":1,\"e\":\"pu").expect("it writes");
        let lines = read(&folder).expect("it is readable");
        let ids: Vec<_> = lines.iter().map(|line| serde_json::to_value(line).expect("JSON")["id"].clone()).collect();
        assert_eq!(ids, ["1", "2", "2"]);
        fs::write(&two, "{\"t\":1}\n").expect("it writes");
        assert!(read(&folder).expect_err("no event").contains("b.jsonl:1"));
    }
}
