//! A door for the fuzz targets and nobody else: what is ours between a request's head and its meaning.
//!
//! Each function takes any bytes and panics where something that the rest of the code relies on does not hold.

use std::cell::OnceCell;
use std::rc::Rc;

use http::{HeaderMap, Request};
use tempest_protocol::Keys;

use super::cors::Allowed;
use super::publish::fuzz as publish;
use super::router::{Router, Target};
use super::{host_of, respond, sse, subscribe};
use crate::config::{Channels, Config};
use crate::telemetry::Metrics;

/// A front's routes and settings.
struct Front {
    router: Router,
    channels: Channels,
}

thread_local! {
    static FRONT: OnceCell<Rc<Front>> = const { OnceCell::new() };
}

/// Routes of every kind, channels with history and an origin that is let in.
const CONFIG: &str = r#"
channels.cors = ["https://app.example"]
channels.publish = ["*"]
[[channels.rule]]
pattern = "news*"
history = { messages = 10, time = "1h" }
[[route]]
path = "/sub"
kind = "subscribe"
[[route]]
path = "/sub/{channel...}"
kind = "subscribe"
[[route]]
path = "/pub"
kind = "publish"
[[route]]
path = "/pub/{channel...}"
kind = "publish"
[[route]]
path = "/only/{one}/here"
methods = ["GET", "POST"]
host = "app.example"
queue = "web"
[[route]]
path = "/files/{file...}"
dir = "files"
[[route]]
path = "/{rest...}"
queue = "web"
"#;

fn front() -> Rc<Front> {
    FRONT.with(|front| {
        let made = front.get_or_init(|| {
            let config = Config::from_toml(CONFIG, std::path::Path::new(".")).expect("the configuration above is good");
            let (keys, metrics) = (Keys::new("tempest"), Metrics::new());
            let (router, _) = Router::new(&config.routes, &keys, config.limits.queue_depth, &[], &metrics);
            Rc::new(Front { router, channels: config.channels })
        });
        Rc::clone(made)
    })
}

/// A request in lines: method and target, then headers, an empty line and a body. What the HTTP library would refuse is
/// not looked at.
pub fn request(data: &[u8]) {
    let Some((request, body)) = read(data) else { return };
    let front = front();
    let host = host_of(&request).ok().flatten();
    let (path, query) = (request.uri().path(), request.uri().query());
    respond::wants_json(request.headers());
    Allowed::of(&front.channels, request.headers());
    sse::accepts_events(request.headers());
    crate::auth::fuzz::look(request.headers(), query, host);
    match front.router.find(request.method(), host, path).map(|found| found.target) {
        Ok(Target::Subscribe { channel }) => subscription(request.headers(), query, &channel, &front.channels),
        Ok(Target::Publish { channel, .. }) => {
            publish::request(request.headers(), query, channel.as_deref(), body, &front.channels);
        }
        Ok(Target::Files { rest, .. }) => super::files::check_names(&rest),
        Ok(Target::Queue(..) | Target::Granted(_) | Target::Redirect(_) | Target::Proxy(_) | Target::Preflight(_))
        | Err(_) => {}
    }
}

fn read(data: &[u8]) -> Option<(Request<()>, &[u8])> {
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let (head, body) = data.split_at(end);
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.splitn(2, |byte| *byte == b' ');
    let mut request = Request::builder().method(words.next()?).uri(words.next()?);
    for line in lines.take(100) {
        let at = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..at], line[at + 1..].trim_ascii());
    }
    Some((request.body(()).ok()?, body.get(2..).unwrap_or_default()))
}

fn subscription(headers: &HeaderMap, query: Option<&str>, channel: &str, channels: &Channels) {
    let Ok(ask) = subscribe::of(headers, query.unwrap_or_default(), channel, channels) else { return };
    assert!((1..=channels.per_stream).contains(&ask.wanted.len()), "a stream is of some channels");
    for wanted in &ask.wanted {
        let name = &wanted.name;
        assert!(!name.is_empty() && name.len() <= channels.name_bytes && !name.chars().any(char::is_control));
    }
}
