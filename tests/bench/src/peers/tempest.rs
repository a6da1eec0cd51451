//! Ourselves, as `tempest up` runs us: one front, a Redis of its own behind a unix socket, workers of an SDK.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use tempest_tests::{Front, python_with_sdk, repository, tempest_binary};

use super::{By, Missing, Place, Publish, Server, Speaks, Streams, own_server, redis, tls};

/// How a front is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// Its worker; None: there is none.
    pub(crate) language: Option<Language>,
    /// How an SDK takes jobs; None: as it does by itself.
    pub(crate) claims: Option<Claims>,
    /// Worker processes.
    pub(crate) workers: usize,
    /// Event loops of the front.
    pub(crate) reactors: usize,
    /// Redis over a unix socket; else over TCP.
    pub(crate) unix: bool,
    /// Queues, each with a route of its own before the one that the worker serves.
    pub(crate) queues: usize,
    /// Front processes; clients connect to the first of them.
    pub(crate) fronts: usize,
    /// Channels that streams read, one each, round.
    pub(crate) channels: usize,
    /// What clients speak by TLS; None: they come without it.
    pub(crate) tls: Option<Speaks>,
    /// Requests that a worker handles at a time; None: the SDK's default.
    pub(crate) concurrency: Option<usize>,
    /// The words of a command line before those of the front; none: it runs by itself.
    pub(crate) wrapper: &'static [&'static str],
    /// More top-level settings, in dotted form.
    pub(crate) settings: &'static str,
    /// Settings in tables of their own, such as routes, instead of the default ones.
    pub(crate) tables: &'static str,
}

/// What a worker is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// The SDK for Rust.
    Rust,
    /// The SDK for Python.
    Python,
    /// Python with a Redis client and no SDK.
    RawPython,
    /// The same, run by `tempest supervise`, which claims for it.
    SupervisedPython,
}

impl Language {
    fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::RawPython => "raw python",
            Self::SupervisedPython => "raw python, supervised",
        }
    }
}

/// The two ways in which a worker takes jobs, as `protocol.md` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claims {
    /// It pops them.
    Base,
    /// It claims them: they stay in Redis until they are answered.
    Reliable,
}

/// One worker in Rust.
pub(crate) const RUST: Setup = Setup {
    language: Some(Language::Rust),
    claims: None,
    workers: 1,
    reactors: 1,
    unix: true,
    queues: 1,
    fronts: 1,
    channels: 1,
    tls: None,
    concurrency: None,
    wrapper: &[],
    settings: "",
    tables: "",
};
/// One worker in Python.
pub(crate) const PYTHON: Setup = Setup { language: Some(Language::Python), ..RUST };
/// No worker: streams only.
pub(crate) const FRONT: Setup = Setup { language: None, ..RUST };

/// What the benchmark changes of the default configuration: room for its clients, and channels that anybody may read.
const SETTINGS: &str = r#"
front.listen = ["127.0.0.1:0"]
front.admin = "127.0.0.1:0"
log.format = "json"
channels.public = ["*"]
limits.connections = 19500
channels.streams = 19500
"#;

/// Starts Redis, front and workers.
pub(crate) fn start(place: &Place, setup: Setup) -> Result<Server, Missing> {
    let (redis, port, socket) = redis::start(place);
    let url = if setup.unix { format!("unix://{}", socket.display()) } else { format!("redis://127.0.0.1:{port}") };
    let routes = routes(setup.queues);
    let Setup { reactors, settings, tables, .. } = setup;
    let certificate = setup.tls.map(|speaks| (tls::certificate(place), speaks));
    let secure = certificate.as_ref().map(|(files, _)| listener(files)).unwrap_or_default();
    let config =
        format!("redis.url = \"{url}\"\n{SETTINGS}front.reactors = {reactors}\n{settings}\n{routes}{tables}{secure}");
    let fronts = (0..setup.fronts).map(|nth| {
        let front = Front::start_under(setup.wrapper, &place.dir.join(format!("front{nth}")), &place.mark, &config);
        front.wait_ready();
        front
    });
    let fronts: Vec<_> = fronts.collect();
    let address = if setup.tls.is_some() { fronts[0].tls_address() } else { fronts[0].address() };
    let mut processes = Vec::new();
    for language in (0..setup.workers).filter_map(|_| setup.language) {
        let mut command = worker(language, setup.concurrency)?;
        command.env("REDIS_URL", &url).env("TEMPEST_QUEUE", "tempest:web");
        if let Some(claims) = setup.claims {
            command.env("TEMPEST_CLAIMS", if claims == Claims::Base { "base" } else { "reliable" });
        }
        processes.push(place.start("worker", command));
    }
    processes.extend(fronts.into_iter().map(|front| front.process));
    processes.push(redis);
    let workers = match setup.language {
        Some(language) => {
            let name = language.name();
            format!(", {} worker{} ({name})", setup.workers, if setup.workers == 1 { "" } else { "s" })
        }
        None => String::new(),
    };
    let plural = |count| if count == 1 { "" } else { "s" };
    let Setup { fronts, reactors, .. } = setup;
    let tuning = format!("{fronts} front{} ({reactors} reactor{}), 1 Redis{workers}", plural(fronts), plural(reactors));
    let channels: Vec<_> = (0..setup.channels).map(|nth| format!("bench{nth}")).collect();
    let paths = channels.iter().map(|channel| format!("/sub/{channel}")).collect();
    let by = certificate.map_or(By::Plain, |((certificate, _), speaks)| By::Tls(certificate, speaks));
    let streams = Streams { paths, publish: Publish::Redis { socket, channels }, by };
    Ok(Server { processes, address, tuning, streams: Some(streams), memory: 0 })
}

/// Where clients connect, of each front.
pub(crate) fn addresses(server: &Server) -> Vec<SocketAddr> {
    // It says so in its log, and the benchmark asks nobody else.
    let said = |line: &String| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        entry["http"].as_str()?.split(',').find_map(|one| one.parse().ok())
    };
    let fronts = server.processes.iter().filter(|process| process.name() == "front");
    fronts.filter_map(|front| front.log.lines().iter().find_map(said)).collect()
}

/// A listener with TLS that shows this certificate.
fn listener((certificate, key): &(PathBuf, PathBuf)) -> String {
    let (certificate, key) = (certificate.display(), key.display());
    let pair = format!("{{ cert = \"{certificate}\", key = \"{key}\" }}");
    format!("[[front.tls]]\nlisten = \"127.0.0.1:0\"\ncertificates = [{pair}]\n")
}

/// The default routes, and before them one for each queue more.
fn routes(queues: usize) -> String {
    if queues == 1 {
        return String::new();
    }
    let more = (1..queues).map(|nth| format!("[[route]]\npath = \"/q{nth}/{{rest...}}\"\nqueue = \"q{nth}\"\n"));
    more.collect::<String>() + "[[route]]\npath = \"/{rest...}\"\nqueue = \"web\"\n"
}

fn worker(language: Language, concurrency: Option<usize>) -> Result<Command, Missing> {
    let folder = repository().join("tests/bench/python");
    let mut command = Command::new(python_with_sdk());
    match language {
        Language::Rust => {
            command = own_server(&["worker"]);
            command.args(concurrency.map(|jobs| jobs.to_string()));
        }
        Language::Python => {
            command.args(["-m", "tempest_worker", "worker:app"]).env("PYTHONPATH", folder);
            command.args(concurrency.map(|jobs| format!("--async-concurrency={jobs}")));
        }
        Language::RawPython => {
            command.arg(folder.join("raw.py"));
        }
        Language::SupervisedPython => {
            let script = [command.get_program().to_owned(), folder.join("raw.py").into_os_string()];
            command = supervise()?;
            command.arg("--").args(script);
        }
    }
    Ok(command)
}

/// `tempest supervise`, which takes the settings of its worker from the environment.
fn supervise() -> Result<Command, Missing> {
    let help = Command::new(tempest_binary()).args(["supervise", "--help"]).output();
    if !help.is_ok_and(|output| output.status.success()) {
        return Err(Missing("this tempest cannot supervise".into()));
    }
    let mut command = Command::new(tempest_binary());
    command.args(["supervise", "--queue", "web"]);
    Ok(command)
}
