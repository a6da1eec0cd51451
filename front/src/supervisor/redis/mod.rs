//! The private Redis of `tempest up`: a real server, kept running, with data that outlives it.
//!
//! It listens on loopback only, at one port for the whole run, so that plain `redis-cli` finds it, and on a unix socket
//! in a folder that only this user can enter. Its data folder is locked twice: `up.lock` is held by the supervisor, so a
//! second one is refused at once; `redis.lock` is held by the server itself, so a new server waits for one that is just
//! being ended by its guard. This module speaks to the server only to learn whether it is ready.

mod folder;
mod journal;
mod ping;
mod port;
mod server;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::{Child, Exit, Lines, Stream};
use super::keep::{Event, Keeper, Kept};
use journal::Journal;
use ping::{Pong, ping};

pub use folder::default_folder;
pub use server::{NoServer, find_server};

/// How long a server that runs may be silent before it is given up at the start; loading its data does not count.
const SILENT_TIME: Duration = Duration::from_secs(20);
/// Time between two questions whether it is ready.
const PING_EVERY: Duration = Duration::from_millis(5);
/// From SIGTERM, which makes it write what it has and end, to SIGKILL.
const STOP_TIME: Duration = Duration::from_secs(10);
/// The same where its supervisor has died.
const ORPHAN_TIME: Duration = Duration::from_secs(5);

/// What a private Redis needs.
pub struct Settings {
    /// The server's executable.
    pub server: PathBuf,
    /// Its data folder; made if missing.
    pub dir: PathBuf,
    /// Its unix socket: shorter than 100 bytes, in a folder only this user can enter.
    pub socket: PathBuf,
    /// Its port; 0: any free one; None: the usual one, so that plain `redis-cli` finds it, or the first free of others.
    pub port: Option<u16>,
    /// All that the server says is passed on, not only its warnings.
    pub verbose: bool,
    /// Takes what the server says.
    pub lines: Lines,
    /// Is told what happens to it after it was ready first.
    pub events: Box<dyn FnMut(Event) + Send>,
    /// The executable that is called as `guard …`; None: this one.
    pub guard: Option<PathBuf>,
}

/// Why there is no private Redis; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder is of no use.
    #[error("cannot use the data folder {}: {error}; set `dir` under [redis] to a folder that can be written", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What was wrong.
        error: io::Error,
    },
    /// Another supervisor keeps its Redis there.
    #[error("another `tempest up`{holder} keeps its Redis in {}; stop it, or set another `dir` under [redis]", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// ` (process N)` where it is known.
        holder: String,
    },
    /// No port is left.
    #[error("no free port for Redis: {0} taken; set `port` under [redis] to another, or to 0 for any free one")]
    NoPort(String),
    /// The server did not start.
    #[error("{} {exit}. Its last words:\n{words}", server.display())]
    Refused {
        /// The executable.
        server: PathBuf,
        /// How it ended.
        exit: Exit,
        /// The end of its log.
        words: String,
    },
    /// It runs and says nothing.
    #[error("{} runs but did not answer within {} s. Its last words:\n{words}", server.display(), SILENT_TIME.as_secs())]
    Silent {
        /// The executable.
        server: PathBuf,
        /// The end of its log.
        words: String,
    },
}

/// A running private Redis. Dropping it ends the server by way of its guard; [`PrivateRedis::stop`] waits for that.
#[derive(Debug)]
pub struct PrivateRedis {
    port: u16,
    socket: PathBuf,
    keeper: Keeper,
    _lock: File,
}

impl PrivateRedis {
    /// Starts the server and waits until it has loaded its data.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let lock = folder::prepare(&settings.dir).await?;
        let journal = Arc::new(Journal::new(Arc::clone(&settings.lines), settings.verbose));
        let ports = port::candidates(settings.port);
        for &port in &ports {
            if !port::is_free(port) {
                continue;
            }
            if let Some(child) = first_start(&settings, &journal, port).await? {
                let socket = settings.socket.clone();
                return Ok(Self { port, socket, keeper: keep(settings, journal, port, child), _lock: lock });
            }
        }
        Err(StartError::NoPort(match ports[..] {
            [] => "all are".to_owned(),
            [one] => format!("{one} is"),
            [first, ref others @ ..] => format!("{first} and {} others are", others.len()),
        }))
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Lets the server write what it has and end; waits for that, at most about fifteen seconds.
    pub async fn stop(mut self) {
        self.keeper.stop();
        self.keeper.stopped().await;
        // The server removes it itself unless it was killed.
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// None: somebody else was quicker to take the port.
async fn first_start(settings: &Settings, journal: &Arc<Journal>, port: u16) -> Result<Option<Child>, StartError> {
    let refused = |exit| StartError::Refused { server: settings.server.clone(), exit, words: journal.words() };
    let program = server::program(settings, port, ORPHAN_TIME);
    journal.begin();
    let mut child = Child::spawn(&program, journal_lines(journal))
        .map_err(|error| refused(Exit::NotStarted(format!("cannot be started: {error}"))))?;
    match ready(&mut child, &settings.socket).await {
        Ready::Yes => Ok(Some(child)),
        Ready::Ended(_) if journal.says_port_taken() => Ok(None),
        Ready::Ended(exit) => Err(refused(exit)),
        Ready::Silent => {
            child.stop(STOP_TIME, std::future::pending()).await;
            Err(StartError::Silent { server: settings.server.clone(), words: journal.words() })
        }
    }
}

fn journal_lines(journal: &Arc<Journal>) -> Lines {
    let journal = Arc::clone(journal);
    Arc::new(move |_: Stream, line: &str| journal.take(line))
}

enum Ready {
    Yes,
    Ended(Exit),
    Silent,
}

async fn ready(child: &mut Child, socket: &Path) -> Ready {
    let mut heard = Instant::now();
    loop {
        match ping(socket).await {
            Pong::Ready => return Ready::Yes,
            Pong::Loading => heard = Instant::now(),
            Pong::Nothing if heard.elapsed() > SILENT_TIME => return Ready::Silent,
            Pong::Nothing => {}
        }
        tokio::select! {
            exit = child.wait() => return Ready::Ended(exit),
            () = tokio::time::sleep(PING_EVERY) => {}
        }
    }
}

fn keep(mut settings: Settings, journal: Arc<Journal>, port: u16, child: Child) -> Keeper {
    let lines = journal_lines(&journal);
    let mut events = std::mem::replace(&mut settings.events, Box::new(|_| {}));
    let kept = Kept {
        program: Box::new(move |_| server::program(&settings, port, ORPHAN_TIME)),
        lines,
        events: Box::new(move |event| {
            if matches!(event, Event::Ended(..)) {
                journal.show_held();
            }
            events(event);
        }),
        stop_time: STOP_TIME,
    };
    Keeper::start(kept, Some(child))
}
