//! Which route a request takes: the first whose host and path match and that allows the method.
//!
//! Paths are compared as sent; a literal segment also matches its percent-encoded spelling. No I/O.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use http::Method;
use percent_encoding::percent_decode_str;
use tempest_protocol::{Keys, QueueName};

use super::around::{Around, Common};
use super::cors::RouteCors;
use super::pages::Pages;
use super::proxy::Pool;
use crate::config::{Config, FilesRoute, PublishRoute, Route, RouteAround, RouteKind, Segment};
use crate::error::Failure;
use crate::listener::Mount;
use crate::places::Holder;
use crate::queue::{Lane, QueueState};
use crate::telemetry::{Metrics, RouteSeries};

/// A route, with what it needs in this reactor.
struct Served {
    route: Route,
    lane: Option<Rc<Lane>>,
    pool: Option<Rc<Pool>>,
    around: Option<Rc<Around>>,
    series: RouteSeries,
}

/// The routes of one reactor, with their queues and what is counted of each.
pub struct Router {
    routes: Vec<Served>,
    /// Those that only a worker's answer reaches.
    internal: Vec<(Vec<Segment>, FilesRoute)>,
    /// What is done around requests that no route takes.
    otherwise: Option<Rc<Around>>,
    pages: Arc<Pages>,
    /// Of requests that no route takes.
    none: RouteSeries,
}

/// What is to be done with a request, where it is counted, and what is done around it.
pub struct Found<'r> {
    /// What is to be done.
    pub target: Target<'r>,
    /// What is counted of its route.
    pub series: &'r RouteSeries,
    /// What is done around its answer; None: nothing.
    pub around: Option<&'r Around>,
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
    /// A stream of these channels, which may be read.
    Granted(Arc<[String]>),
    /// `https` has it, at this port.
    Redirect(u16),
    /// A browser asks whether a script of another origin may ask.
    #[allow(private_interfaces, reason = "only this module answers it")]
    Preflight(&'r RouteCors),
    /// Another server answers.
    #[allow(private_interfaces, reason = "only this module passes requests on")]
    Proxy(&'r Rc<Pool>),
    /// A static file.
    Files {
        /// The folder, and how its files are sent.
        route: &'r FilesRoute,
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
        let internal = routes.iter().filter(|route| route.is_internal()).filter_map(|route| match &route.kind {
            RouteKind::Files(files) => Some((route.path.segments.clone(), files.clone())),
            _ => None,
        });
        let internal = internal.collect();
        let routes = routes.iter().enumerate().filter(|(_, route)| !route.is_internal()).map(|(at, route)| {
            let lane = match &route.kind {
                RouteKind::Queue(route) => {
                    let name = &route.queue;
                    let state = queues.entry(name.to_string()).or_insert_with(|| {
                        known_as(name)
                            .unwrap_or_else(|| QueueState::new(name.clone(), keys.of_queue(name.as_str()), metrics))
                    });
                    Some(Lane::new(Rc::clone(state), route.clone(), depth_limit))
                }
                _ => None,
            };
            let pool = match &route.kind {
                RouteKind::Proxy(proxy) => Some(Pool::new(proxy)),
                _ => None,
            };
            let series = RouteSeries::of(metrics, at + 1, &route.path.text);
            Served { route: route.clone(), lane, pool, around: None, series }
        });
        let routes = routes.collect();
        let none = RouteSeries::of(metrics, 0, "");
        let router = Self { routes, internal, otherwise: None, pages: Arc::default(), none };
        (router, queues.into_values().collect())
    }

    /// Adds what is done around the routes, and the pages for failures. Apart, since a router without it is whole.
    #[must_use]
    pub fn with_around(mut self, config: &Config, pages: &Arc<Pages>) -> Self {
        let common = Common::new(config);
        self.otherwise = common.around(&RouteAround::default());
        self.pages = Arc::clone(pages);
        self.routes.iter_mut().for_each(|served| served.around = common.around(&served.route.around));
        self
    }

    pub(super) fn otherwise(&self) -> Option<&Around> {
        self.otherwise.as_deref()
    }

    pub(super) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// True where a worker's answer may name a file.
    pub(super) fn has_internal(&self) -> bool {
        !self.internal.is_empty()
    }

    /// The folder for a path that a worker named, and the rest of the path below it.
    pub(super) fn find_internal<'p>(&self, path: &'p str) -> Option<(&FilesRoute, &'p str)> {
        self.internal.iter().find_map(|(segments, route)| Some((route, match_path(segments, path)?)))
    }

    /// What is to be done with a request of an application that has mounted a part of the front. What stands around
    /// answers (headers, compression, other origins) is the application's.
    ///
    /// # Errors
    /// A reload has taken the last route to that queue away.
    pub fn mounted(&self, what: &Mount, path: &str) -> Result<Found<'_>, Failure> {
        let found = match what {
            Mount::Queue(name) => {
                let served = self.routes.iter().find_map(|served| {
                    let lane = served.lane.as_ref().filter(|lane| lane.route.queue == *name)?;
                    Some((Target::Queue(lane, holder_of(&served.route)), &served.series))
                });
                served.ok_or(Failure::NoRoute)?
            }
            Mount::Granted(names) => (Target::Granted(Arc::clone(names)), self.series_of_channels()),
            Mount::Channels | Mount::Routes => {
                let channel = path.strip_prefix('/').unwrap_or(path).to_owned();
                (Target::Subscribe { channel }, self.series_of_channels())
            }
        };
        Ok(Found { target: found.0, series: found.1, around: None })
    }

    fn series_of_channels(&self) -> &RouteSeries {
        let subscribe = self.routes.iter().find(|served| matches!(served.route.kind, RouteKind::Subscribe));
        subscribe.map_or(&self.none, |served| &served.series)
    }

    /// Where requests are counted that no route takes.
    pub fn none(&self) -> &RouteSeries {
        &self.none
    }

    /// Finds the route of a request.
    pub fn find<'r>(&'r self, method: &Method, host: Option<&str>, path: &str) -> Result<Found<'r>, Failure> {
        let mut allowed: Vec<Method> = Vec::new();
        for Served { route, lane, pool, around, series } in &self.routes {
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
                        (RouteKind::Proxy(_), _) if let Some(pool) = pool => Target::Proxy(pool),
                        (RouteKind::Files(route), _) => Target::Files { route, rest: rest.to_owned() },
                        (RouteKind::Publish(route), _) => {
                            Target::Publish { route, channel: (!route.batch).then(|| rest.to_owned()) }
                        }
                        _ => Target::Subscribe { channel: rest.to_owned() },
                    };
                    return Ok(Found { target, series, around: around.as_deref() });
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
