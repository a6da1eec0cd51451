//! The layout of the configuration: which settings there are, what they are made of and their defaults.
//!
//! One function a table. Faults go to the collector, the default stands in, and the walk goes on.

use std::path::Path;
use std::time::Duration;

use tempest_protocol::Keys;

use super::section::Section;
use super::value::{
    Read, Value, boolean, bytes, count, list, listen, listen_or_off, one_of, path, pattern, port, prefix, redis_url,
    string, time,
};
use super::workers::{self, Given};
use super::{
    AccessLog, ChannelRule, Channels, Config, Front, History, Limits, Listen, Log, LogFormat, Pattern, Redis, routes,
    tokens,
};

const ANY: std::ops::RangeInclusive<usize> = 0..=usize::MAX;
const SOME: std::ops::RangeInclusive<usize> = 1..=usize::MAX;
/// The least of every wait that may not be nothing.
const TICK: Duration = Duration::from_millis(1);
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Reads all of it; `given` is a command line's own command, `base` is what relative paths are relative to.
pub(super) fn read(mut root: Section<'_>, given: &Given, base: &Path) -> Config {
    let prefix = root.get("prefix", prefix, "tempest".to_owned());
    let redis = read_redis(root.section("redis"), &prefix, base);
    let front = read_front(root.section("front"));
    let limits = read_limits(root.section("limits"));
    let channels = read_channels(root.section("channels"), base);
    let routes = match root.sections("route") {
        Some(all) => all.into_iter().filter_map(|one| routes::read(one, base, limits.body_memory)).collect(),
        None => routes::defaults(!channels.publish.is_empty() || !channels.tokens.keys.is_empty()),
    };
    let workers = workers::read(&mut root, given, base);
    let log = read_log(root.section("log"));
    root.finish();
    Config { redis, front, limits, channels, routes, workers, log, base: base.to_owned() }
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

fn read_front(mut section: Section<'_>) -> Front {
    let local = |port| Listen::Tcp(([127, 0, 0, 1], port).into());
    let front = Front {
        listen: section.get("listen", at_least_one(list(listen)), vec![local(1337)]),
        admin: section.get("admin", listen_or_off, Some(local(1338))),
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
    let all =
        front.listen.iter().map(|listen| ("listen", listen)).chain(front.admin.iter().map(|admin| ("admin", admin)));
    for (key, Listen::Tcp(address)) in all {
        if address.port() != 0 && seen.contains(&address) {
            section.problem(key, format!("expected an address of its own, {address} is listened on already"));
        }
        seen.push(address);
    }
}

fn at_least_one<T>(read: impl Fn(&Value<'_>) -> Read<Vec<T>>) -> impl Fn(&Value<'_>) -> Read<Vec<T>> {
    move |value| match read(value) {
        Ok(list) if list.is_empty() => Err(value.wrong("at least one address")),
        other => other,
    }
}

fn read_limits(mut section: Section<'_>) -> Limits {
    let s = &mut section;
    let limits = Limits {
        connections: s.get("connections", count(SOME), 16_384),
        // Hyper's buffer, which holds the head, cannot be made smaller.
        head_bytes: s.get("head_bytes", bytes(8 * KIB), 16 * KIB),
        headers: s.get("headers", count(1..=65_535), 100),
        head_time: s.get("head_time", time(TICK), Duration::from_secs(10)),
        idle_time: s.get("idle_time", time(TICK), Duration::from_secs(75)),
        body_time: s.get("body_time", time(TICK), Duration::from_secs(30)),
        body_memory: s.get("body_memory", bytes(0), 256 * MIB),
        pending: s.get("pending", count(SOME), 16_384),
        answer_bytes: s.get("answer_bytes", bytes(KIB), MIB),
        answer_buffer: s.get("answer_buffer", bytes(KIB), 8 * MIB),
        answer_reorder: s.get("answer_reorder", count(ANY), 64),
        queue_depth: s.get("queue_depth", count(SOME), 10_000) as u64,
        withdraw_depth: s.get("withdraw_depth", count(ANY), 200) as u64,
        outgoing_bytes: s.get("outgoing_bytes", bytes(KIB), 64 * MIB),
        attempts: s.get("attempts", count(1..=1000), 3) as u32,
        crashes: s.get("crashes", count(1..=1000), 3) as u32,
        dead_letters: s.get("dead_letters", count(SOME), 10_000),
        withdrawn: s.get("withdrawn", count(SOME), 100_000),
    };
    if limits.answer_buffer < limits.answer_bytes {
        section.problem("answer_buffer", "expected at least limits.answer_bytes, or a single message would not fit");
    }
    section.finish();
    limits
}

fn read_channels(mut section: Section<'_>, base: &Path) -> Channels {
    let s = &mut section;
    let channels = Channels {
        public: s.get("public", list(pattern), Vec::new()),
        publish: s.get("publish", list(pattern), Vec::new()),
        prefix: s.get("prefix", string, String::new()),
        cors: s.get("cors", list(origin), Vec::new()),
        rules: s.sections("rule").unwrap_or_default().into_iter().filter_map(read_rule).collect(),
        heartbeat: s.get("heartbeat", time(Duration::from_millis(100)), Duration::from_secs(15)),
        retry: s.get("retry", time(Duration::ZERO), Duration::from_secs(2)),
        buffer_bytes: s.get("buffer_bytes", bytes(KIB), MIB),
        buffer_messages: s.get("buffer_messages", count(SOME), 1024),
        streams: s.get("streams", count(SOME), 16_384),
        streams_per_address: s.get("streams_per_address", count(ANY), 0),
        streams_per_user: s.get("streams_per_user", count(ANY), 0),
        stream_life: s.optional("stream_life", time(Duration::from_secs(1))),
        goodbye: s.get("goodbye", time(Duration::ZERO), Duration::from_secs(1)),
        channels: s.get("channels", count(SOME), 16_384),
        name_bytes: s.get("name_bytes", count(1..=65_535), 1024),
        subscribe_time: s.get("subscribe_time", time(TICK), Duration::from_secs(5)),
        patterns: s.get("patterns", list(pattern), Vec::new()),
        per_stream: s.get("per_stream", count(1..=1000), 64),
        logs_per_stream: s.get("logs_per_stream", count(1..=1000), 16),
        resuming: s.get("resuming", count(1..=65_535), 256),
        publish_batch: s.get("publish_batch", count(1..=10_000), 100),
        key_time: s.get("key_time", time(TICK), Duration::from_secs(600)),
        count_time: s.get("count_time", time(TICK), Duration::from_millis(100)),
        tokens: tokens::read(s, base),
    };
    section.finish();
    channels
}

fn read_rule(mut section: Section<'_>) -> Option<ChannelRule> {
    let pattern: Option<Pattern> = section.require("pattern", pattern);
    let control = section.get("control", boolean, false);
    let array_form = section.get("payload", one_of(&[("auto", true), ("raw", false)]), true);
    let history = section.has("history").then(|| read_history(section.section("history")));
    section.ignore(&["history"]);
    let gone = section.get("gone", boolean, false);
    section.finish();
    Some(ChannelRule { pattern: pattern?, control, array_form, history, gone })
}

fn read_history(mut section: Section<'_>) -> History {
    let history = History {
        messages: section.get("messages", count(SOME), 1000),
        time: section.get("time", time(Duration::from_secs(1)), Duration::from_secs(3600)),
    };
    section.finish();
    history
}

/// An origin as browsers send it, or `*`.
fn origin(value: &Value<'_>) -> Read<String> {
    let text = string(value)?;
    let place = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let fit = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '@' | ',') && !c.is_ascii_uppercase();
    if text == "*" || place.is_some_and(|place| !place.is_empty() && place.chars().all(fit)) {
        return Ok(text);
    }
    Err(value.wrong("* or an origin like https://app.example, in lower case and without a path"))
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
fn level(value: &Value<'_>) -> Read<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = string(value)?;
    let filter = || text.contains(['=', ',']) && tracing_subscriber::EnvFilter::try_new(&text).is_ok();
    if LEVELS.contains(&text.as_str()) || filter() {
        return Ok(text);
    }
    Err(value.wrong("one of off, error, warn, info, debug, trace, or a filter like info,tempest::broker=debug"))
}
