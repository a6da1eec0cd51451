//! Ourselves, as `tempest up` runs us: one front, a Redis of its own behind a unix socket, workers of an SDK.

use std::process::Command;

use tempest_tests::{Front, free_port, python_with_sdk, repository};

use super::{Missing, Place, Publish, Server, Streams, own_server};

/// How a front is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// `rust` or `python`; None: no worker.
    pub(crate) language: Option<&'static str>,
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
    /// Requests that a worker handles at a time; None: the SDK's default.
    pub(crate) concurrency: Option<usize>,
    /// The words of a command line before those of the front; none: it runs by itself.
    pub(crate) wrapper: &'static [&'static str],
    /// More top-level settings, in dotted form.
    pub(crate) settings: &'static str,
}

/// One worker in Rust.
pub(crate) const RUST: Setup = Setup {
    language: Some("rust"),
    workers: 1,
    reactors: 1,
    unix: true,
    queues: 1,
    fronts: 1,
    channels: 1,
    concurrency: None,
    wrapper: &[],
    settings: "",
};
/// One worker in Python.
pub(crate) const PYTHON: Setup = Setup { language: Some("python"), ..RUST };
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
    let socket = place.dir.join("redis.sock");
    let port = free_port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--maxclients", "1000", "--unixsocket"]).arg(&socket);
    let redis = place.start("redis", command);
    redis.log.wait_for("Ready to accept connections");
    let url = if setup.unix { format!("unix://{}", socket.display()) } else { format!("redis://127.0.0.1:{port}") };
    let routes = routes(setup.queues);
    let Setup { reactors, settings, .. } = setup;
    let config = format!("redis.url = \"{url}\"\n{SETTINGS}front.reactors = {reactors}\n{settings}\n{routes}");
    let fronts = (0..setup.fronts).map(|nth| {
        let front = Front::start_under(setup.wrapper, &place.dir.join(format!("front{nth}")), &place.mark, &config);
        front.wait_ready();
        front
    });
    let fronts: Vec<_> = fronts.collect();
    let address = fronts[0].address();
    let mut processes: Vec<_> = (0..setup.workers)
        .filter_map(|_| setup.language)
        .map(|language| {
            let mut command = worker(language, setup.concurrency);
            command.env("REDIS_URL", &url).env("TEMPEST_QUEUE", "tempest:web");
            place.start("worker", command)
        })
        .collect();
    processes.extend(fronts.into_iter().map(|front| front.process));
    processes.push(redis);
    let workers = match setup.language {
        Some(language) => {
            format!(", {} worker{} ({language})", setup.workers, if setup.workers == 1 { "" } else { "s" })
        }
        None => String::new(),
    };
    let plural = |count| if count == 1 { "" } else { "s" };
    let Setup { fronts, reactors, .. } = setup;
    let tuning = format!("{fronts} front{} ({reactors} reactor{}), 1 Redis{workers}", plural(fronts), plural(reactors));
    let channels: Vec<_> = (0..setup.channels).map(|nth| format!("bench{nth}")).collect();
    let paths = channels.iter().map(|channel| format!("/sub/{channel}")).collect();
    let streams = Streams { paths, publish: Publish::Redis { socket, channels } };
    Ok(Server { processes, address, tuning, streams: Some(streams), memory: 0 })
}

/// The default routes, and before them one for each queue more.
fn routes(queues: usize) -> String {
    if queues == 1 {
        return String::new();
    }
    let more = (1..queues).map(|nth| format!("[[route]]\npath = \"/q{nth}/{{rest...}}\"\nqueue = \"q{nth}\"\n"));
    more.collect::<String>() + "[[route]]\npath = \"/{rest...}\"\nqueue = \"web\"\n"
}

fn worker(language: &str, concurrency: Option<usize>) -> Command {
    if language == "rust" {
        let mut command = own_server(&["worker"]);
        command.args(concurrency.map(|jobs| jobs.to_string()));
        return command;
    }
    let mut command = Command::new(python_with_sdk());
    command.args(["-m", "tempest_worker", "worker:app"]).env("PYTHONPATH", repository().join("tests/bench/python"));
    command.args(concurrency.map(|jobs| format!("--async-concurrency={jobs}")));
    command
}
