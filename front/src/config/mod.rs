//! Configuration as plain data, one small struct a concern.
//!
//! Everything else in the front takes its settings from here and never from the environment, a file or a flag. The
//! readers (file, environment, flags) live beside this file and report every error at once; nothing here opens a
//! connection or a file.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tempest_protocol::{Keys, matches_pattern};

mod around;
mod changes;
mod channels;
mod compress;
mod cors;
mod errors;
mod file;
mod files;
mod headers;
mod held;
mod limits;
mod load;
pub mod options;
mod path;
mod problem;
mod proxies;
mod proxy;
mod redis_url;
mod reference;
mod route;
mod routes;
mod section;
mod session;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;
mod units;
mod value;
mod words;
mod worker;
mod workers;

pub use around::RouteAround;
pub use changes::{Change, Changes};
pub use channels::{ChannelRule, Channels, History};
pub use compress::{Coding, Compress};
pub use cors::Cors;
pub use errors::{ErrorPage, PageOf};
pub use file::is_log_level;
pub use files::FilesRoute;
pub use headers::HeaderRules;
pub use held::{Held, Origin};
pub use limits::Limits;
pub use load::{Flags, Loaded, Mode, Whereabouts, load, whereabouts};
pub use path::{PathPattern, Segment};
pub use problem::{Problem, Problems};
pub use proxies::{Forwarded, Proxies, ProxyProtocol};
pub use proxy::{HostTold, ProxyRoute, Upstream, UpstreamAddress};
pub use redis_url::{RedisAddress, RedisUrl, RedisUrlError, Secret};
pub use reference::REFERENCE;
pub use route::{ClientGone, Priority, PublishRoute, QueueRoute, Retry, Route, RouteKind, WhenNoWorker};
pub use session::{SameSite, SecureCookie, SessionStore, Sessions};
pub use telemetry::{Telemetry, Tracing};
pub use tls::{Certificate, Tls};
pub(crate) use tokens::LEAST_SECRET;
pub use tokens::{KeySource, TokenAlg, TokenKey, Tokens};
pub use units::duration;
pub use worker::{Claims, Processes, Waits, Worker};

const ANY: std::ops::RangeInclusive<usize> = 0..=usize::MAX;
const SOME: std::ops::RangeInclusive<usize> = 1..=usize::MAX;
/// The least of every wait that may not be nothing.
const TICK: Duration = Duration::from_millis(1);
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// All settings of one process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Redis and the names used in it.
    pub redis: Redis,
    /// The listeners.
    pub front: Front,
    /// Every limit of the request path.
    pub limits: Limits,
    /// Browser channels.
    pub channels: Channels,
    /// Sessions; None: there are none.
    pub session: Option<Sessions>,
    /// Headers of all answers.
    pub headers: HeaderRules,
    /// Pages for failures.
    pub errors: Vec<ErrorPage>,
    /// Compression of answers.
    pub compress: Compress,
    /// Routes; the first that matches wins.
    pub routes: Vec<Route>,
    /// Workers that `tempest up` and `tempest supervise` run.
    pub workers: Vec<Worker>,
    /// Logs.
    pub log: Log,
    /// Traces.
    pub telemetry: Telemetry,
    /// The folder of the configuration file, or the working folder: what relative paths are relative to.
    pub base: PathBuf,
}

/// Redis and the names used in it.
#[derive(Clone, Debug)]
pub struct Redis {
    /// None: `tempest up` starts a private server, `tempest front` uses `redis://127.0.0.1:6379`.
    pub url: Option<RedisUrl>,
    /// What every key begins with.
    pub keys: Keys,
    /// A server that leaves a PING or a command unanswered this long is taken for stalled.
    pub stall: Duration,
    /// How long a request waits for a lost connection to come back before it is refused.
    pub patience: Duration,
    /// The executable of the private Redis: a name, or a path relative to the configuration; None: one on PATH.
    pub server: Option<PathBuf>,
    /// The port of the private Redis on 127.0.0.1, 0 for any free one; None: 6379 if it is free, else 1379 and up.
    pub port: Option<u16>,
    /// Where the private Redis keeps its data; None: a folder of the user's for this configuration.
    pub dir: Option<PathBuf>,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// What the address of a Unix socket begins with.
const UNIX: &str = "unix:";

/// The listeners and the reactors behind them.
#[derive(Clone, Debug)]
pub struct Front {
    /// For browsers, without TLS; none only where `tls` has some.
    pub listen: Vec<Listen>,
    /// For browsers, with TLS.
    pub tls: Vec<Tls>,
    /// Where plain HTTP is answered with 308 to `https`.
    pub redirect: Vec<Listen>,
    /// The port it is sent to; None: that of the first listener with TLS.
    pub redirect_port: Option<u16>,
    /// Permissions of the files of Unix sockets.
    pub unix_mode: u32,
    /// For operators; None: no admin listener.
    pub admin: Option<SocketAddr>,
    /// The proxies in front.
    pub proxies: Proxies,
    /// Event loops, each on a thread of its own.
    pub reactors: usize,
    /// How long a drain waits for requests in flight.
    pub grace: Duration,
    /// How long a drain keeps an idle connection: its next request gets an answer that says «close».
    pub drain_idle: Duration,
    /// Processes that `tempest up` keeps; 0: the front runs in its own.
    pub processes: usize,
    /// How long `tempest up` waits for a new process to be ready before it keeps the old one.
    pub ready_time: Duration,
}

impl Front {
    /// True where nobody on another machine can connect.
    pub fn is_local(&self) -> bool {
        let tls = self.tls.iter().flat_map(|tls| &tls.listen);
        self.listen.iter().chain(tls).all(|listen| match listen {
            Listen::Tcp(address) => address.ip().is_loopback(),
            Listen::Unix(_) => true,
        })
    }
}

/// A pattern over names: `*` is any text, `?` one character, everything else itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Takes the pattern as written.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True where the whole of `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        matches_pattern(&self.0, name)
    }
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The access log.
    pub access: AccessLog,
    /// The format of everything else.
    pub format: LogFormat,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter of tracing-subscriber.
    pub level: String,
}

/// The access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// None.
    Off,
    /// Apache's combined format.
    Combined,
    /// A JSON object a line.
    Json,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON lines elsewhere.
    Auto,
    /// Text.
    Text,
    /// JSON lines.
    Json,
}
