//! Reads routes.
//!
//! What they match is decided by the router; here is only how they are written.

use std::path::Path;
use std::time::Duration;

use http::Method;
use tempest_protocol::{Codec, QueueName};

use super::section::Section;
use super::value::{Read, Value, Wrong, boolean, bytes, count, list, one_of, queue, string, time};
use super::{
    ClientGone, PathPattern, Priority, PublishRoute, QueueRoute, Retry, Route, RouteAround, RouteKind, Segment,
    WhenNoWorker, around, files, proxy,
};

/// The settings that not every kind of route has.
const OF_SOME: [&str; 11] = [
    "timeout",
    "body_limit",
    "priority",
    "codec",
    "retry",
    "client_gone",
    "when_no_worker",
    "queue_depth",
    "max_wait",
    "session",
    "max_requests",
];

const PRIORITIES: &[(&str, Priority)] =
    &[("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)];
const CODECS: &[(&str, Codec)] = &[("json", Codec::Json), ("msgpack", Codec::MsgPack)];
const RETRIES: &[(&str, Retry)] = &[("auto", Retry::Auto), ("always", Retry::Always), ("never", Retry::Never)];
const CLIENT_GONE: &[(&str, ClientGone)] = &[("cancel", ClientGone::Cancel), ("finish", ClientGone::Finish)];
const WHEN_NO_WORKER: &[(&str, WhenNoWorker)] = &[("wait", WhenNoWorker::Wait), ("fail", WhenNoWorker::Fail)];

/// The kinds of route by their names in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Queue,
    Subscribe,
    Publish,
    Files,
    Proxy,
}

const KINDS: &[(&str, Named)] = &[
    ("queue", Named::Queue),
    ("subscribe", Named::Subscribe),
    ("publish", Named::Publish),
    ("files", Named::Files),
    ("proxy", Named::Proxy),
];

/// The names of all kinds.
#[cfg(test)]
pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(name, _)| *name)
}

/// Bytes of a body that publishes: far below what waits for one reader at most.
const PUBLISH_BYTES: usize = 256 * 1024;
/// How long a publication waits for Redis.
const PUBLISH_TIME: Duration = Duration::from_secs(5);

/// The routes of a configuration that has none: channels under `/sub/`, and where somebody may publish under `/pub`;
/// everything else to the queue `web`.
pub(super) fn defaults(publishing: bool) -> Vec<Route> {
    let pattern = |text: &str| text.parse().expect("the default patterns are well formed");
    let queue = QueueName::new("web").expect("`web` is a queue name");
    let publish = |batch| RouteKind::Publish(PublishRoute { batch, body_limit: PUBLISH_BYTES, timeout: PUBLISH_TIME });
    let mut kinds = vec![("/sub", RouteKind::Subscribe), ("/sub/{channel...}", RouteKind::Subscribe)];
    if publishing {
        kinds.extend([("/pub/{channel...}", publish(false)), ("/pub", publish(true))]);
    }
    kinds.push(("/{rest...}", RouteKind::Queue(QueueRoute::new(queue))));
    kinds
        .into_iter()
        .map(|(text, kind)| Route {
            path: pattern(text),
            methods: None,
            host: None,
            kind,
            around: RouteAround::default(),
        })
        .collect()
}

/// Reads one `[[route]]`; `None` where it is too broken to be one.
pub(super) fn read(mut section: Section<'_>, base: &Path, body_memory: usize) -> Option<Route> {
    let path = section.require("path", path_pattern);
    let methods = section.optional("methods", list(method));
    let host = section.optional("host", host);
    let kind = kind_of(&mut section).and_then(|kind| match kind {
        Named::Queue => read_queue(&mut section, body_memory),
        Named::Subscribe => read_subscribe(&section, path.as_ref()),
        Named::Publish => Some(read_publish(&mut section, path.as_ref(), body_memory)),
        Named::Proxy => proxy::read(&mut section, path.as_ref()).map(RouteKind::Proxy),
        Named::Files => files::read(&mut section, base, path.as_ref()).map(RouteKind::Files),
    });
    let channels = matches!(kind, Some(RouteKind::Subscribe | RouteKind::Publish(_)));
    let around = around::read(&mut section, channels);
    section.finish();
    Some(Route { path: path?, methods, host, kind: kind?, around })
}

/// The kind as given, or as the keys tell.
fn kind_of(section: &mut Section<'_>) -> Option<Named> {
    if section.has("kind") {
        let kind = section.optional("kind", one_of(KINDS));
        if kind.is_none() {
            // Without a kind nobody can say which of these belong here.
            section.ignore(&["queue", "proxy", "dir", "index", "cache", "fallback", "precompressed", "internal"]);
            section.ignore(&OF_SOME);
            section.ignore(&proxy::OWN);
        }
        return kind;
    }
    section.ignore(&["kind"]);
    let telling = [("queue", Named::Queue), ("proxy", Named::Proxy), ("dir", Named::Files)];
    let told = telling.into_iter().find(|(key, _)| section.has(key)).map(|(_, kind)| kind);
    if told.is_none() {
        section.problem("kind", "expected one of queue, subscribe, publish, files, proxy, or a queue = \"NAME\"");
        section.ignore(&OF_SOME);
        section.ignore(&proxy::OWN);
    }
    told
}

fn read_queue(section: &mut Section<'_>, body_memory: usize) -> Option<RouteKind> {
    let named = section.require("queue", queue);
    let web = QueueName::new("web").expect("`web` is a queue name");
    let usual = QueueRoute::new(named.clone().unwrap_or(web));
    let tick = Duration::from_millis(1);
    let route = QueueRoute {
        timeout: section.get("timeout", time(tick), usual.timeout),
        body_limit: section.get("body_limit", bytes(0), usual.body_limit.min(body_memory)),
        priority: section.get("priority", one_of(PRIORITIES), usual.priority),
        codec: section.get("codec", one_of(CODECS), usual.codec),
        retry: section.get("retry", one_of(RETRIES), usual.retry),
        client_gone: section.get("client_gone", one_of(CLIENT_GONE), usual.client_gone),
        when_no_worker: section.get("when_no_worker", one_of(WHEN_NO_WORKER), usual.when_no_worker),
        queue_depth: section.optional("queue_depth", count(1..=usize::MAX)).map(|depth| depth as u64),
        max_requests: section.optional("max_requests", count(1..=usize::MAX)),
        max_wait: section.optional("max_wait", time(tick)),
        session: section.get("session", boolean, usual.session),
        queue: usual.queue,
    };
    check_body_limit(section, route.body_limit, body_memory);
    named.map(|_| RouteKind::Queue(route))
}

fn names_channel(path: &PathPattern) -> bool {
    path.segments.iter().any(|segment| segment.name() == Some("channel"))
}

/// A path that names no channel takes batches, whose messages name theirs.
fn read_publish(section: &mut Section<'_>, path: Option<&PathPattern>, body_memory: usize) -> RouteKind {
    let route = PublishRoute {
        batch: path.is_some_and(|path| !names_channel(path)),
        body_limit: section.get("body_limit", bytes(1), PUBLISH_BYTES.min(body_memory)),
        timeout: section.get("timeout", time(Duration::from_millis(1)), PUBLISH_TIME),
    };
    check_body_limit(section, route.body_limit, body_memory);
    RouteKind::Publish(route)
}

fn check_body_limit(section: &Section<'_>, body_limit: usize, body_memory: usize) {
    if body_limit > body_memory {
        section.problem("body_limit", "expected at most limits.body_memory, or no such body could ever be taken");
    }
}

fn read_subscribe(section: &Section<'_>, path: Option<&PathPattern>) -> Option<RouteKind> {
    let literal = |segment: &Segment| matches!(segment, Segment::Literal(_));
    if path.is_some_and(|path| !names_channel(path) && !path.segments.iter().all(literal)) {
        section.problem(
            "path",
            "expected a part {channel} or {channel...}, which names the channel, or no such part at all",
        );
    }
    Some(RouteKind::Subscribe)
}

pub(super) fn method(value: &Value<'_>) -> Read<Method> {
    let text = string(value)?;
    let upper = !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'_');
    let method = if upper { Method::from_bytes(text.as_bytes()).ok() } else { None };
    method.ok_or_else(|| value.wrong("a method like GET, in capitals"))
}

/// A host as requests name it, without its port, in lower case.
fn host(value: &Value<'_>) -> Read<String> {
    let text = string(value)?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|v6| v6.contains(':'));
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if bare || (!text.is_empty() && text.bytes().all(name)) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(value.wrong("a host name like app.example, without scheme, port or path"))
}

fn path_pattern(value: &Value<'_>) -> Read<PathPattern> {
    let text = string(value)?;
    text.parse().map_err(|expected: String| Wrong { at: value.at, message: format!("{expected}, found {text:?}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_routes_exist() {
        assert_eq!((defaults(false).len(), defaults(true).len()), (3, 5));
    }
}
