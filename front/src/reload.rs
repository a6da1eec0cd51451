//! The configuration is read anew while everything runs: by SIGHUP, or because `tempest reload` asks.
//!
//! It is taken as a whole or not at all. What is wrong with it, and what cannot change while the process runs, goes into
//! the log, to whoever asked and into `tempest status`, and the configuration before goes on. Here is what all commands
//! share; to whom the new one is given is theirs.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use crate::admin::Report;
use crate::config::{self, Changes, Loaded, Mode, Problem, Problems};
use crate::registry::wall_ms;
use crate::telemetry;
use crate::telemetry::logging::Logging;

/// A file that was written this short a while ago may not have been written to its end.
const SETTLE: Duration = Duration::from_millis(100);
/// How often it is looked again whether it has been.
const LOOKS: u32 = 50;
/// What stands in `tempest status`.
const REFUSED: &str = "reload-refused";

/// What a command goes by.
pub(crate) struct Reloading {
    mode: Mode,
    loaded: Loaded,
}

/// A configuration that may hold, and what it changes.
pub(crate) struct Next {
    pub(crate) loaded: Loaded,
    pub(crate) changes: Changes,
}

impl Reloading {
    pub(crate) fn new(mode: Mode, loaded: Loaded) -> Self {
        Self { mode, loaded }
    }

    /// Reads it anew. Nothing holds of it before [`Reloading::taken`].
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) async fn read(&self) -> Result<Next, Vec<String>> {
        let lines = |problems: Problems| problems.0.iter().map(ToString::to_string).collect::<Vec<_>>();
        let loaded = self.read_settled().await.map_err(lines)?;
        let changes = Changes::between(&self.loaded, &loaded, self.mode);
        match changes.fixed() {
            fixed if fixed.is_empty() => Ok(Next { loaded, changes }),
            fixed => Err(fixed.iter().map(|setting| format!("restart needed for {setting}")).collect()),
        }
    }

    /// Reads a file that nobody has written to for a moment: half of one may be a good one.
    async fn read_settled(&self) -> Result<Loaded, Problems> {
        let Some(file) = &self.loaded.file else { return self.load().await };
        for _ in 0..LOOKS {
            let before = Stamp::of(file);
            if before.as_ref().is_some_and(Stamp::is_fresh) {
                sleep(SETTLE).await;
            }
            let loaded = self.load().await;
            if Stamp::of(file) == before {
                return loaded;
            }
        }
        Err(problem(file, "is written to again and again while it is read"))
    }

    async fn load(&self) -> Result<Loaded, Problems> {
        let (mode, flags, before) = (self.mode, self.loaded.flags.clone(), self.loaded.file.clone());
        let read = move || {
            let folder = std::env::current_dir();
            let folder = folder.map_err(|error| problem(Path::new("."), &format!("cannot be found: {error}")))?;
            let env = |name: &str| std::env::var_os(name).map(|text| text.to_string_lossy().into_owned());
            let loaded = config::load(mode, &flags, &env, &folder)?;
            match before {
                Some(file) if loaded.file.is_none() => Err(problem(&file, "is gone")),
                _ => Ok(loaded),
            }
        };
        tokio::task::spawn_blocking(read).await.expect("reading a configuration does not panic")
    }

    /// The next one holds now: says so in the log, and tells what to report.
    pub(crate) fn taken(&mut self, next: Next, logging: &Logging) -> Report {
        let Next { loaded, changes } = next;
        if loaded.config.log.level != self.loaded.config.log.level {
            logging.set_level(&loaded.config.log.level);
        }
        self.loaded = loaded;
        let changes: Vec<String> = changes.0.iter().map(ToString::to_string).collect();
        for change in &changes {
            tracing::info!("{change}");
        }
        tracing::info!(changes = changes.len(), "the configuration was read anew and holds");
        for notice in &self.loaded.notices {
            tracing::warn!("{notice}");
        }
        Report { reloaded: true, changes, problems: Vec::new() }
    }

    /// It is refused: says so in the log, and tells what to report, and what is to stand in `tempest status`.
    pub(crate) fn refused(problems: Vec<String>) -> (Report, telemetry::Problem) {
        for problem in &problems {
            tracing::error!("{problem}");
        }
        tracing::error!(problems = problems.len(), "the configuration is refused; the one before still holds");
        let none = String::new;
        let detail = problems.join("; ");
        let problem = telemetry::Problem { at: wall_ms(), what: REFUSED, queue: none(), request: none(), detail };
        (Report::refused(problems), problem)
    }
}

/// What shows that a file is another one, or was written to.
#[derive(PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Stamp {
    /// None where there is no such file.
    fn of(file: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let about = std::fs::metadata(file).ok()?;
        Some(Self { modified: about.modified().ok(), length: about.len(), inode: about.ino() })
    }

    fn is_fresh(&self) -> bool {
        let age = self.modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        age.is_some_and(|age| age < SETTLE)
    }
}

fn problem(file: &Path, message: &str) -> Problems {
    let (place, setting) = (file.display().to_string(), String::new());
    Problems(vec![Problem { place, setting, message: message.to_owned() }])
}
