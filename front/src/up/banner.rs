//! What a person wants to see when everything runs: where to look and what to type.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::config::{LogFormat, Processes, RedisUrl};
use crate::listener::{Address, Entrance, Way, addresses};
use crate::supervisor::which::which;
use crate::workers::Workers;

/// All that is shown.
pub(super) struct Banner<'a> {
    pub(super) http: &'a [Arc<Entrance>],
    pub(super) admin: Option<SocketAddr>,
    pub(super) redis: &'a RedisUrl,
    pub(super) workers: &'a Workers,
}

/// Shows it where a person may look; a program that reads JSON lines gets one.
pub(super) fn show(banner: &Banner<'_>, format: LogFormat) {
    let people = match format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => io::stderr().is_terminal(),
    };
    if people {
        // One write, so that no log line gets in between.
        let _ = io::Write::write_all(&mut io::stderr(), banner.text(&called_as(), client()).as_bytes());
    } else {
        let admin = banner.admin.map(|address| address.to_string());
        let page = banner.http.iter().find_map(|entrance| page(entrance)).unwrap_or_default();
        let publish = format!("{} -u {} publish test hello", client(), banner.redis);
        tracing::info!(http = addresses(banner.http), admin, redis = %banner.redis, page, publish, "ready");
    }
}

impl Banner<'_> {
    fn text(&self, called: &str, client: &str) -> String {
        let mut text = String::from("\n");
        let mut line = |title: &str, what: &str| {
            writeln!(text, "  {title:<9} {what}").expect("writing to a String cannot fail");
        };
        let pages = self.http.iter().filter_map(|entrance| page(entrance));
        pages.for_each(|page| line("page", &format!("{page}/")));
        self.admin.iter().for_each(|address| line("admin", &format!("http://{}/metrics", reachable(*address))));
        line("redis", &format!("{client} -u {}", self.redis));
        line("try", &format!("{client} -u {} publish test hello", self.redis));
        line("", &format!("{called} publish test hello"));
        line("", &format!("{called} status"));
        line("workers", &self.running());
        for (name, needs) in &self.workers.left_out {
            line("left out", &format!("{name}: it needs `{needs}`, which is not here"));
        }
        text.push('\n');
        text
    }

    fn running(&self) -> String {
        let one = |(name, processes): &(String, Processes)| match processes {
            Processes { least: 1, most: 1 } => name.clone(),
            Processes { least, most } if least == most => format!("{name} ×{most}"),
            Processes { least, most } => format!("{name} ×{least}..{most}"),
        };
        let all: Vec<String> = self.workers.running.iter().map(one).collect();
        if all.is_empty() { "none; requests wait in the queue until one comes".to_owned() } else { all.join(", ") }
    }
}

/// What a person typed to get here: a script that calls this program may set its first argument to its own name.
fn called_as() -> String {
    std::env::args().next().filter(|name| name.contains('/')).unwrap_or_else(|| "tempest".to_owned())
}

/// The command line client of Redis that is there; they do the same.
fn client() -> &'static str {
    let path = std::env::var_os("PATH");
    let is_there = |name: &str| which(name.as_ref(), "/".as_ref(), path.as_deref()).is_some();
    if !is_there("redis-cli") && is_there("valkey-cli") { "valkey-cli" } else { "redis-cli" }
}

/// A URL that works on this machine; None where there is none for a browser.
fn page(entrance: &Entrance) -> Option<String> {
    match (&entrance.address, &entrance.way) {
        (Address::Unix(_) | Address::Application, _) | (_, Way::Redirect(_)) => None,
        (Address::Tcp(address), _) => Some(format!("{}://{}", entrance.scheme(), reachable(*address))),
    }
}

/// `0.0.0.0` is no address to connect to.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)),
        _ => {}
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where_to_look_and_what_to_type() {
        let mut workers = Workers::default();
        workers.running = [("ruby", 1, 1), ("python", 3, 3), ("php", 2, 8)]
            .map(|(name, least, most)| (name.to_owned(), Processes { least, most }))
            .to_vec();
        workers.left_out = vec![("go".into(), "go".into())];
        let redis = RedisUrl::tcp("127.0.0.1", 6379);
        let address = Address::Tcp("0.0.0.0:1337".parse().expect("an address"));
        let http = [Arc::new(Entrance { address, way: Way::Plain })];
        let text =
            Banner { http: &http, admin: None, redis: &redis, workers: &workers }.text("./dev tempest", "redis-cli");
        for part in [
            "page      http://127.0.0.1:1337/\n",
            "redis-cli -u redis://127.0.0.1:6379/0 publish test hello\n",
            "./dev tempest publish test hello\n",
            "workers   ruby, python ×3, php ×2..8\n",
            "left out  go: it needs `go`, which is not here\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("admin"));
    }
}
