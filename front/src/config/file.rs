//! The layout of the configuration: which settings there are, what they are made of and their defaults.
//!
//! One function a table. Faults go to the collector, the default stands in, and the walk goes on.

use std::path::Path;
use std::time::Duration;

use tempest_protocol::Keys;

use super::section::Section;
use super::value::{
    Read, Value, address_or_off, count, list, listen, one_of, path, port, prefix, redis_url, string, time,
};
use super::workers::{self, Given};
use super::{
    AccessLog, Config, Front, Listen, Log, LogFormat, Redis, TICK, channels, compress, errors, headers, limits,
    proxies, routes, session, telemetry, tls,
};

/// Reads all of it; `given` is a command line's own command, `base` is what relative paths are relative to.
pub(super) fn read(mut root: Section<'_>, given: &Given, base: &Path) -> Config {
    let prefix = root.get("prefix", prefix, "tempest".to_owned());
    let redis = read_redis(root.section("redis"), &prefix, base);
    let front = read_front(root.section("front"), base);
    let limits = limits::read(root.section("limits"));
    let channels = channels::read(root.section("channels"), base);
    let session = root.has("session").then(|| session::read(root.section("session"), base));
    root.ignore(&["session"]);
    let compress = compress::read(root.section("compress"));
    let headers = headers::read(root.section("headers"));
    let errors = errors::read(root.section("errors"), base);
    let routes = match root.sections("route") {
        Some(all) => all.into_iter().filter_map(|one| routes::read(one, base, limits.body_memory)).collect(),
        None => routes::defaults(!channels.publish.is_empty() || !channels.tokens.keys.is_empty()),
    };
    let workers = workers::read(&mut root, given, base);
    let log = read_log(root.section("log"));
    let telemetry = telemetry::read(root.section("telemetry"));
    root.finish();
    let base = base.to_owned();
    Config { redis, front, limits, channels, session, headers, errors, compress, routes, workers, log, telemetry, base }
}

fn read_redis(mut section: Section<'_>, prefix: &str, base: &Path) -> Redis {
    let redis = Redis {
        url: section.optional("url", redis_url),
        keys: Keys::new(prefix),
        stall: section.get("stall", time(TICK), Duration::from_secs(1)),
        patience: section.get("patience", time(Duration::ZERO), Duration::from_millis(50)),
        server: section.optional("server", path),
        port: section.optional("port", port),
        dir: section.optional("dir", path).map(|dir| base.join(dir)),
    };
    section.finish();
    redis
}

fn read_front(mut section: Section<'_>, base: &Path) -> Front {
    let local = |port| ([127, 0, 0, 1], port).into();
    let tls = tls::read(&mut section, base);
    let redirect = section.get("redirect", list(listen), Vec::new());
    let usual = vec![Listen::Tcp(local(1337))];
    let listen = match tls.is_empty() {
        true => section.get("listen", at_least_one(list(listen)), usual),
        false => section.get("listen", list(listen), usual),
    };
    let all: Vec<Listen> = listen.iter().chain(tls.iter().flat_map(|tls| &tls.listen)).cloned().collect();
    let front = Front {
        proxies: proxies::read(&mut section, &all),
        listen,
        redirect_port: tls::redirect_port(&mut section, &tls, !redirect.is_empty()),
        redirect,
        tls,
        unix_mode: section.get("unix_mode", tls::mode, 0o660),
        admin: section.get("admin", address_or_off, Some(local(1338))),
        reactors: section.get("reactors", count(1..=256), 1),
        grace: section.get("grace", time(Duration::ZERO), Duration::from_secs(10)),
        drain_idle: section.get("drain_idle", time(Duration::ZERO), Duration::from_secs(1)),
        processes: section.get("processes", count(0..=256), 0),
        ready_time: section.get("ready_time", time(TICK), Duration::from_secs(30)),
    };
    check_listeners(&section, &front);
    section.finish();
    front
}

/// Two listeners on one address would fail later and elsewhere.
fn check_listeners(section: &Section<'_>, front: &Front) {
    let mut seen = Vec::new();
    let all = front.listen.iter().map(|listen| ("listen", listen.clone()));
    let all = all.chain(front.tls.iter().flat_map(|tls| &tls.listen).map(|listen| ("tls", listen.clone())));
    let all = all.chain(front.redirect.iter().map(|listen| ("redirect", listen.clone())));
    let all = all.chain(front.admin.iter().map(|admin| ("admin", Listen::Tcp(*admin))));
    for (key, listen) in all {
        let any = matches!(&listen, Listen::Tcp(address) if address.port() == 0);
        if !any && seen.contains(&listen) {
            section.problem(key, format!("expected an address of its own, {listen} is listened on already"));
        }
        seen.push(listen);
    }
}

pub(super) fn at_least_one<T>(read: impl Fn(&Value<'_>) -> Read<Vec<T>>) -> impl Fn(&Value<'_>) -> Read<Vec<T>> {
    move |value| match read(value) {
        Ok(list) if list.is_empty() => Err(value.wrong("at least one address")),
        other => other,
    }
}

fn read_log(mut section: Section<'_>) -> Log {
    const ACCESS: &[(&str, AccessLog)] =
        &[("off", AccessLog::Off), ("combined", AccessLog::Combined), ("json", AccessLog::Json)];
    const FORMAT: &[(&str, LogFormat)] =
        &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let log = Log {
        access: section.get("access", one_of(ACCESS), AccessLog::Off),
        format: section.get("format", one_of(FORMAT), LogFormat::Auto),
        level: section.get("level", level, "info".to_owned()),
    };
    section.finish();
    log
}

/// A level, or a filter. A single word that is no level would be read as the name of a module and silence everything.
pub fn is_log_level(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let filter = || text.contains(['=', ',']) && tracing_subscriber::EnvFilter::try_new(text).is_ok();
    LEVELS.contains(&text) || filter()
}

fn level(value: &Value<'_>) -> Read<String> {
    let text = string(value)?;
    if is_log_level(&text) {
        return Ok(text);
    }
    Err(value.wrong("one of off, error, warn, info, debug, trace, or a filter like info,tempest::broker=debug"))
}
