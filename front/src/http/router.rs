//! Which route a request takes: the first whose host and path match and that allows the method.
//!
//! Paths are compared as sent; a literal segment also matches its percent-encoded spelling. No I/O.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use http::Method;
use percent_encoding::percent_decode_str;
use tempest_protocol::{Keys, QueueName};

use crate::config::{PublishRoute, Route, RouteKind, Segment};
use crate::error::Failure;
use crate::places::Holder;
use crate::queue::{Lane, QueueState};
use crate::telemetry::{Metrics, RouteSeries};

/// The routes of one reactor, with their queues and what is counted of each.
pub struct Router {
    routes: Vec<(Route, Option<Rc<Lane>>, RouteSeries)>,
    /// Of requests that no route takes.
    none: RouteSeries,
}

/// What is to be done with a request.
pub enum Target<'r> {
    /// A worker answers; by what the route's requests are counted.
    Queue(&'r Rc<Lane>, Holder<'r>),
    /// A stream of this channel, still percent-encoded.
    Subscribe {
        /// As in the path.
        channel: String,
    },
    /// Messages for this channel, still percent-encoded; None: the body names the channels.
    Publish {
        /// What holds for them.
        route: &'r PublishRoute,
        /// As in the path.
        channel: Option<String>,
    },
    /// `https` has it, at this port.
    Redirect(u16),
    /// A static file.
    Files {
        /// The folder.
        dir: &'r PathBuf,
        /// The rest of the path, still percent-encoded.
        rest: String,
    },
}

impl Router {
    /// Takes the routes in their order; each queue exists once however many routes lead to it, and those that are `known`
    /// stay the ones that they are. `depth_limit` is for routes that say nothing of their queue's depth. Gives the queues
    /// that routes lead to.
    pub fn new(
        routes: &[Route],
        keys: &Keys,
        depth_limit: u64,
        known: &[Rc<QueueState>],
        metrics: &Metrics,
    ) -> (Self, Vec<Rc<QueueState>>) {
        let known_as = |name: &QueueName| known.iter().find(|queue| queue.name == *name).cloned();
        let mut queues: HashMap<String, Rc<QueueState>> = HashMap::new();
        let routes = routes.iter().enumerate().map(|(at, route)| {
            let lane = match &route.kind {
                RouteKind::Queue(route) => {
                    let name = &route.queue;
                    let state = queues.entry(name.to_string()).or_insert_with(|| {
                        known_as(name)
                            .unwrap_or_else(|| QueueState::new(name.clone(), keys.of_queue(name.as_str()), metrics))
                    });
                    Some(Lane::new(Rc::clone(state), route.clone(), depth_limit))
                }
                RouteKind::Subscribe | RouteKind::Publish(_) | RouteKind::Files { .. } => None,
            };
            (route.clone(), lane, RouteSeries::of(metrics, at + 1, &route.path.text))
        });
        let routes = routes.collect();
        (Self { routes, none: RouteSeries::of(metrics, 0, "") }, queues.into_values().collect())
    }

    /// Where requests are counted that no route takes.
    pub fn none(&self) -> &RouteSeries {
        &self.none
    }

    /// Finds the route of a request, and where it is counted.
    pub fn find<'r>(
        &'r self,
        method: &Method,
        host: Option<&str>,
        path: &str,
    ) -> Result<(Target<'r>, &'r RouteSeries), Failure> {
        let mut allowed: Vec<Method> = Vec::new();
        for (route, lane, series) in &self.routes {
            if !host_matches(route.host.as_deref(), host) {
                continue;
            }
            let Some(rest) = match_path(&route.path.segments, path) else { continue };
            match &route.methods {
                Some(methods) if !methods.contains(method) => {
                    allowed.extend(methods.iter().filter(|m| !allowed.contains(m)).cloned().collect::<Vec<_>>());
                }
                _ => {
                    let target = match (&route.kind, lane) {
                        (RouteKind::Queue(_), Some(lane)) => Target::Queue(lane, holder_of(route)),
                        (RouteKind::Files { dir }, _) => Target::Files { dir, rest: rest.to_owned() },
                        (RouteKind::Publish(route), _) => {
                            Target::Publish { route, channel: (!route.batch).then(|| rest.to_owned()) }
                        }
                        _ => Target::Subscribe { channel: rest.to_owned() },
                    };
                    return Ok((target, series));
                }
            }
        }
        Err(if allowed.is_empty() { Failure::NoRoute } else { Failure::Method(allowed) })
    }
}

/// By what a route's requests are counted, on whichever reactor they are.
fn holder_of(route: &Route) -> Holder<'_> {
    Holder::Route { path: &route.path.text, host: route.host.as_deref(), methods: route.methods.as_deref() }
}

fn host_matches(wanted: Option<&str>, host: Option<&str>) -> bool {
    let Some(wanted) = wanted else { return true };
    let Some(host) = host else { return false };
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    without_port.eq_ignore_ascii_case(wanted)
}

/// The part of the path that the last `{name}` or `{name...}` stands for, or the empty text; None: no match.
fn match_path<'p>(segments: &[Segment], path: &'p str) -> Option<&'p str> {
    let mut rest = path.strip_prefix('/')?;
    let mut part = "";
    for (at, segment) in segments.iter().enumerate() {
        if let Segment::Rest(_) = segment {
            return Some(rest);
        }
        let (here, after) = match rest.split_once('/') {
            Some((here, after)) => (here, Some(after)),
            None => (rest, None),
        };
        match segment {
            Segment::Literal(text) if !same_segment(text, here) => return None,
            Segment::One(_) if here.is_empty() => return None,
            Segment::One(_) => part = here,
            Segment::Literal(_) | Segment::Rest(_) => {}
        }
        match (after, at + 1 == segments.len()) {
            (Some(after), false) => rest = after,
            (None, true) => return Some(part),
            _ => return None,
        }
    }
    rest.is_empty().then_some("")
}

fn same_segment(wanted: &str, here: &str) -> bool {
    wanted == here || (here.contains('%') && Cow::from(percent_decode_str(here)) == wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(pattern: &str) -> Vec<Segment> {
        let path = pattern.trim_start_matches('/');
        let named = |s: &str| s.strip_prefix('{').and_then(|s| s.strip_suffix('}')).map(str::to_owned);
        let one = |s: &str| match named(s) {
            Some(name) if name.ends_with("...") => Segment::Rest(name),
            Some(name) => Segment::One(name),
            None => Segment::Literal(s.to_owned()),
        };
        if path.is_empty() { Vec::new() } else { path.split('/').map(one).collect() }
    }

    #[test]
    fn patterns_match_as_documented() {
        for (pattern, path, expected) in [
            ("/", "/", Some("")),
            ("/", "/a", None),
            ("/a", "/a", Some("")),
            ("/a", "/a/", None),
            ("/a", "/b", None),
            ("/a%b", "/a%25b", Some("")),
            ("/{x}", "/a", Some("a")),
            ("/{x}", "/", None),
            ("/{x}/b", "/a/b", Some("a")),
            ("/sub/{channel...}", "/sub/news", Some("news")),
            ("/sub/{channel...}", "/sub/a/b%2Fc", Some("a/b%2Fc")),
            ("/sub/{channel...}", "/sub/", Some("")),
            ("/sub/{channel...}", "/sub", None),
            ("/{rest...}", "/", Some("")),
            ("/{rest...}", "/x/y", Some("x/y")),
            ("/{rest...}", "*", None),
        ] {
            assert_eq!(match_path(&segments(pattern), path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn hosts_match_in_any_case_and_without_their_port() {
        assert!(host_matches(None, None));
        assert!(host_matches(Some("example.org"), Some("EXAMPLE.org:8080")));
        assert!(host_matches(Some("[::1]"), Some("[::1]:80")));
        assert!(!host_matches(Some("example.org"), None));
        assert!(!host_matches(Some("example.org"), Some("other.org")));
    }
}
