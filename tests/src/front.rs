//! A front process: the built binary with a configuration written for one test, on ports it chose itself.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde_json::Value as Json;

use crate::binary::tempest_binary;
use crate::http::{Http, open_connections};
use crate::process::{Process, under};
use crate::sse::Sse;
use crate::wait::wait_until;

/// A running front.
#[derive(Debug)]
pub struct Front {
    /// The process.
    pub process: Process,
    http: SocketAddr,
    https: Option<SocketAddr>,
    redirect: Option<SocketAddr>,
    admin: SocketAddr,
}

impl Front {
    /// Writes `config` into `dir` and starts `tempest front` with it; returns when it listens.
    pub fn start(dir: &Path, mark: &str, config: &str) -> Self {
        Self::start_under(&[], dir, mark, config)
    }

    /// The same under another program, given as the words of its command line before those of the front: a profiler,
    /// say, which must become the front's process and not its parent.
    pub fn start_under(wrapper: &[&str], dir: &Path, mark: &str, config: &str) -> Self {
        let file = Self::write_config(dir, config);
        let mut command = under(wrapper, Command::new(tempest_binary()));
        command.arg("front").arg("--config").arg(file).current_dir(dir);
        Self::listening(Process::start("front", mark, command))
    }

    /// Writes a configuration file and returns its path.
    pub fn write_config(dir: &Path, config: &str) -> PathBuf {
        fs::create_dir_all(dir).expect("the folder can be made");
        let file = dir.join("tempest.toml");
        fs::write(&file, config).expect("the file can be written");
        file
    }

    /// Takes a `tempest front` or `tempest up` that is about to log its addresses.
    pub fn listening(process: Process) -> Self {
        let line = process.log.wait("the address", |line| logged(line, "http", "").map(|_| line.to_owned()));
        let admin = process.log.wait("the admin address", |line| logged(line, "admin", ""));
        let at = |kind| logged(&line, "http", kind);
        let http = at("").expect("the line has it");
        Self { process, http, https: at("tls:"), redirect: at("redirect:"), admin }
    }

    /// Waits until its way to Redis is open.
    #[track_caller]
    pub fn wait_ready(&self) {
        wait_until("the front to be ready", || self.is_ready());
    }

    /// What its `/ready` says.
    pub fn is_ready(&self) -> bool {
        self.admin().get("/ready").status == 200
    }

    /// Where browsers connect.
    pub fn address(&self) -> SocketAddr {
        self.http
    }

    /// Where browsers connect by TLS.
    #[track_caller]
    pub fn tls_address(&self) -> SocketAddr {
        self.https.expect("it has a listener with TLS")
    }

    /// Where browsers are sent to TLS.
    #[track_caller]
    pub fn redirect_address(&self) -> SocketAddr {
        self.redirect.expect("it has a listener that sends to TLS")
    }

    /// Where operators connect.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// All of them where browsers connect.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        [Some(self.http), self.https, self.redirect].into_iter().flatten().collect()
    }

    /// A new connection.
    pub fn http(&self) -> Http {
        Http::connect(self.http)
    }

    /// A new connection to the admin listener.
    #[track_caller]
    pub fn admin(&self) -> Http {
        Http::connect(self.admin_address())
    }

    /// A new stream of a channel, past its opening comment: what is published from now on arrives.
    #[track_caller]
    pub fn subscribe(&self, channel: &str) -> Sse {
        let mut stream = Sse::open(self.http, &format!("/sub/{channel}"));
        stream.comment();
        stream
    }

    /// The metrics at this moment.
    pub fn metrics(&self) -> Metrics {
        let response = self.admin().get("/metrics");
        assert_eq!(response.status, 200, "{response:?}");
        Metrics::parse(&response.text())
    }

    /// Sockets open at the browsers' listener.
    pub fn open_connections(&self) -> usize {
        open_connections(self.http)
    }

    /// SIGTERM, then waits for its end.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.terminate()
    }
}

/// The first address of a kind in a field of a log line. The field decides, not the message, which differs between
/// commands.
fn logged(line: &str, field: &str, kind: &str) -> Option<SocketAddr> {
    let entry: Json = serde_json::from_str(line).ok()?;
    entry[field].as_str()?.split(',').find_map(|one| one.strip_prefix(kind)?.parse().ok())
}

/// The values of one scrape.
#[derive(Clone, Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// The sum of a metric's series whose text contains all of `labels`; panics where there is no such metric, since
    /// a misspelt name would otherwise read as nothing.
    #[track_caller]
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let of_name = |series: &str| series.split('{').next() == Some(name);
        let known: Vec<_> = self.0.iter().filter(|(series, _)| of_name(series)).collect();
        assert!(!known.is_empty(), "no metric {name}; there are {:?}", self.0.keys().collect::<Vec<_>>());
        known.iter().filter(|(series, _)| labels.iter().all(|label| series.contains(label))).map(|(_, v)| **v).sum()
    }
}
