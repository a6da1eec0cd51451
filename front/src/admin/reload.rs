//! Asking for the configuration to be read anew, over the admin listener, and what became of it.
//!
//! Whoever runs everything answers, one after the other; nothing is read here.

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// Questions that wait; more than that is somebody's mistake, and waits as well.
const WAITING: usize = 16;

/// What became of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The configuration as it is now holds; false: the one before still does.
    pub reloaded: bool,
    /// What changed, a line each; nothing of it where it was refused.
    pub changes: Vec<String>,
    /// Why it was refused, a line each.
    pub problems: Vec<String>,
}

impl Report {
    /// It was not done.
    pub fn refused(problems: Vec<String>) -> Self {
        Self { reloaded: false, changes: Vec::new(), problems }
    }
}

/// Asks; clones ask the same.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<oneshot::Sender<Report>>);

/// Who is asked.
#[derive(Debug)]
pub struct Asks(mpsc::Receiver<oneshot::Sender<Report>>);

/// One who asks and one who is asked.
pub fn reloads() -> (Reloads, Asks) {
    let (ask, asked) = mpsc::channel(WAITING);
    (Reloads(ask), Asks(asked))
}

impl Reloads {
    /// Asks, and waits for what becomes of it.
    pub(super) async fn ask(&self) -> Report {
        let (told, report) = oneshot::channel();
        let ending = || Report::refused(vec!["it is ending, and reads no configuration any more".to_owned()]);
        match self.0.send(told).await {
            Ok(()) => report.await.unwrap_or_else(|_| ending()),
            Err(_) => ending(),
        }
    }
}

impl Asks {
    /// The next one who asks; to be answered, or dropped where everything is ending.
    pub async fn next(&mut self) -> oneshot::Sender<Report> {
        match self.0.recv().await {
            Some(ask) => ask,
            // Nobody can ask any more.
            None => std::future::pending().await,
        }
    }
}
