//! Puts a configuration together: finds the file, takes flags and environment over it, and says what was assumed.
//!
//! The only place that opens the file. The environment comes in as a function, so that nothing here depends on the
//! process it runs in.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::held::Held;
use super::options::{ALL, CONFIG, Setting};
use super::problem::{Collector, Problem, Problems};
use super::section::{Override, Section, Source};
use super::workers::Given;
use super::{Config, Pattern, RedisUrl, RedisUrlError, RouteKind, file, routes};

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "tempest.toml";
/// Where workers find the address of their Redis.
const WORKER_URL: &str = "REDIS_URL";

/// For which command a configuration is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything on one machine: no URL means a private Redis; without a file, on loopback, all channels are public.
    Up,
    /// The front alone: no URL means the usual local one, and nothing is public unless it is said to be.
    Front,
    /// Workers alone: no URL means `REDIS_URL`, so that it works unchanged where workers run, else the usual local one.
    Supervise,
    /// A command that talks to a running front through its Redis: no URL means `REDIS_URL`, so that it works
    /// unchanged where workers run; without that the command has to look for a run on this machine.
    Client,
}

/// What the command line gave.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Each setting that was given, with its text; several values are joined by commas.
    pub settings: Vec<(&'static Setting, String)>,
    /// A program to run and its arguments; empty: none was given.
    pub command: Vec<String>,
}

/// A configuration and how it came to be.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What was assumed and should be known, a sentence each.
    pub notices: Vec<String>,
    /// Every setting, in the order in which they are read.
    pub held: Vec<Held>,
    /// What the command line gave.
    pub flags: Flags,
}

/// Reads the configuration of one command. `env` looks an environment variable up; `folder` is the working folder.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn load(
    mode: Mode,
    flags: &Flags,
    env: &dyn Fn(&str) -> Option<String>,
    folder: &Path,
) -> Result<Loaded, Problems> {
    let overrides = overrides(flags, env);
    let file = find_file(&overrides, folder).map_err(|problem| Problems(vec![problem]))?;
    let (name, text) = match &file {
        Some((name, path)) => (name.clone(), read_text(name, path)?),
        None => (DEFAULT_FILE.to_owned(), String::new()),
    };
    let path = file.map(|(_, path)| path);
    let base = path.as_deref().and_then(Path::parent).unwrap_or(folder);
    let given = Given { command: flags.command.clone(), folder: folder.to_owned() };
    let Parsed { mut config, mut held, .. } = parse(&name, &text, overrides, &given, base)?;
    if matches!(mode, Mode::Client | Mode::Supervise) && config.redis.url.is_none() {
        config.redis.url = worker_url(env)?;
    }
    if mode == Mode::Supervise && config.workers.is_empty() {
        let (place, setting) = (if path.is_some() { name } else { "tempest supervise".to_owned() }, String::new());
        let message = "nothing to run: give a COMMAND after `--`, or a configuration with [workers.NAME] tables";
        return Err(Problems(vec![Problem { place, setting, message: message.to_owned() }]));
    }
    let notices = assume(mode, &mut config, &mut held, path.is_some());
    Ok(Loaded { config, file: path, notices, held, flags: flags.clone() })
}

/// Where a run is, as far as it can be said without a good configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// Where operators connect, by flag or variable.
    pub admin: Option<SocketAddr>,
    /// The same by the file or by default; None: there is no such listener, or the file is wrong.
    pub usual_admin: Option<SocketAddr>,
}

/// Finds the file and the admin listener of a run of this configuration, also where that is wrong by now.
///
/// # Errors
/// A flag or a variable is wrong.
pub fn whereabouts(
    flags: &Flags,
    env: &dyn Fn(&str) -> Option<String>,
    folder: &Path,
) -> Result<Whereabouts, Problems> {
    let overrides = overrides(flags, env);
    let file = find_file(&overrides, folder).map_err(|problem| Problems(vec![problem]))?.map(|(_, path)| path);
    let usual_admin = load(Mode::Client, flags, env, folder).ok().and_then(|loaded| loaded.config.front.admin);
    let admin = match overrides.get("front.admin") {
        None => None,
        Some(given) => {
            let given = HashMap::from([("front.admin", given.clone())]);
            parse("", "", given, &Given::default(), folder)?.config.front.admin
        }
    };
    Ok(Whereabouts { file, admin, usual_admin })
}

impl Config {
    /// Reads the text of a configuration file; `base` is what its relative paths are relative to.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn from_toml(text: &str, base: &Path) -> Result<Self, Problems> {
        parse_text(DEFAULT_FILE, text, base).map(|parsed| parsed.config)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::from_toml("", Path::new(".")).expect("an empty configuration has no faults")
    }
}

/// A configuration, and all that was read for it.
pub(super) struct Parsed {
    pub(super) config: Config,
    pub(super) held: Vec<Held>,
    /// Keys that were looked for, and whether they were there.
    #[cfg_attr(not(test), allow(dead_code, reason = "the tests of the reference ask for it"))]
    pub(super) looked: Vec<(String, bool)>,
}

/// Reads a text with nothing over it.
pub(super) fn parse_text(name: &str, text: &str, base: &Path) -> Result<Parsed, Problems> {
    parse(name, text, HashMap::new(), &Given::default(), base)
}

fn parse(
    name: &str,
    text: &str,
    overrides: HashMap<&'static str, Override>,
    given: &Given,
    base: &Path,
) -> Result<Parsed, Problems> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let problems = Collector::default();
    let broken = !errors.is_empty();
    let source = Source {
        name: name.to_owned(),
        text,
        overrides,
        problems,
        broken,
        held: RefCell::default(),
        looked: RefCell::default(),
    };
    let config = file::read(Section::root(&source, table.get_ref()), given, base);
    for error in &errors {
        source.syntax(error.span().map_or(0, |span| span.start), error.message());
    }
    match source.problems.into_problems() {
        problems if problems.is_empty() => {
            Ok(Parsed { config, held: source.held.into_inner(), looked: source.looked.into_inner() })
        }
        problems => Err(Problems(problems)),
    }
}

fn overrides(flags: &Flags, env: &dyn Fn(&str) -> Option<String>) -> HashMap<&'static str, Override> {
    let mut all = HashMap::new();
    for setting in ALL {
        let variable = setting.env();
        if let Some(text) = env(&variable).filter(|text| !text.is_empty()) {
            all.insert(setting.key, Override { place: variable, text });
        }
    }
    for (setting, text) in &flags.settings {
        all.insert(setting.key, Override { place: format!("--{}", setting.flag), text: text.clone() });
    }
    all
}

/// The file to read, as shown and as found. One that was named has to be there.
fn find_file(overrides: &HashMap<&'static str, Override>, folder: &Path) -> Result<Option<(String, PathBuf)>, Problem> {
    if let Some(Override { place, text }) = overrides.get(CONFIG.key) {
        let path = folder.join(text);
        if path.is_file() {
            return Ok(Some((text.clone(), path)));
        }
        let message = format!("expected a configuration file, but there is no file {text:?}");
        return Err(Problem { place: place.clone(), setting: String::new(), message });
    }
    let path = folder.join(DEFAULT_FILE);
    Ok(path.is_file().then(|| (DEFAULT_FILE.to_owned(), path)))
}

fn read_text(name: &str, path: &Path) -> Result<String, Problems> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot be read: {error}");
        Problems(vec![Problem { place: name.to_owned(), setting: String::new(), message }])
    })
}

fn worker_url(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<RedisUrl>, Problems> {
    let Some(text) = env(WORKER_URL).filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|error: RedisUrlError| {
        let (place, message) = (WORKER_URL.to_owned(), error.to_string());
        Problems(vec![Problem { place, setting: String::new(), message }])
    })
}

/// Fills in what depends on the command, and says so.
fn assume(mode: Mode, config: &mut Config, held: &mut [Held], has_file: bool) -> Vec<String> {
    let mut note = |key: &str, value: &dyn Debug, why| {
        held.iter_mut().filter(|held| held.setting() == key).for_each(|held| held.assume(value, why));
    };
    let mut notices = Vec::new();
    if mode == Mode::Client {
        return notices;
    }
    if matches!(mode, Mode::Front | Mode::Supervise) && config.redis.url.is_none() {
        let usual = RedisUrl::usual();
        note("redis.url", &usual, "assumed without a private server");
        config.redis.url = Some(usual);
    }
    if mode == Mode::Supervise {
        return notices;
    }
    let serves_channels = config.routes.iter().any(|route| matches!(route.kind, RouteKind::Subscribe));
    let by_right = !config.channels.tokens.keys.is_empty() || config.session.is_some();
    let some_open = !config.channels.public.is_empty() || by_right;
    if some_open || !serves_channels {
        return notices;
    }
    let loopback = config.front.is_local();
    if mode == Mode::Up && !has_file && loopback {
        const WHY: &str = "assumed on loopback without a file";
        config.channels.public = vec![Pattern::new("*")];
        note("channels.public", &["*"], WHY);
        let mut may = "read";
        if config.channels.publish.is_empty() {
            config.channels.publish = vec![Pattern::new("*")];
            note("channels.publish", &["*"], WHY);
            // Without a file they are the default ones.
            config.routes = routes::defaults(true);
            may = "read, and published on,";
        }
        notices.push(format!(
            "every channel may be {may} by anybody on this machine (--public-channels and --publish-channels narrow it)"
        ));
    } else {
        notices.push("no channel may be read: name some in channels.public or --public-channels".to_owned());
    }
    notices
}
