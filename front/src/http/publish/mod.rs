//! Publishing over HTTP: who may, what is refused, and what the publisher is told.
//!
//! Everything is checked before anything is published, for a batch every channel of it. Who may publish is decided in
//! `auth::rights` and nowhere else. What a body means is in [`message`], what Redis is asked in [`send`], and how the
//! other reactors are asked for their streams in [`count`].

mod count;
pub(super) mod fuzz;
mod message;
mod send;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::cors::{Allowed, preflight};
use super::subscribe::channel_name;
use super::{Body, Client, Context, Incoming, body, respond, session};
use crate::auth::Rights;
use crate::broker::{Publication, Published};
use crate::config::PublishRoute;
use crate::error::{Failure, NotPublished};
use crate::origin::FETCH_SITE;
use crate::telemetry::Sent;

use super::respond::Asker;
use count::Count;
pub use count::Counts;
use message::{Content, Form, Message, Wanted};
pub use send::Publishing;

/// The methods of a route that publishes.
const METHODS: &str = "POST, OPTIONS";

pub(super) async fn answer(
    context: &Context,
    client: &Client<'_>,
    request: Request<Incoming>,
    route: &PublishRoute,
    channel: Option<&str>,
    asker: Asker<'_>,
) -> Response<Body> {
    let cors = Allowed::of(&context.config.channels, request.headers());
    let outcome = publish(context, client, request, route, channel).await;
    let mut response = outcome.unwrap_or_else(|failure| respond::failure(&failure, asker));
    // A page of another origin that may publish has to be able to read what was wrong.
    if let Some(origin) = cors {
        origin.add_to(response.headers_mut());
    }
    response
}

async fn publish(
    context: &Context,
    client: &Client<'_>,
    mut request: Request<Incoming>,
    route: &PublishRoute,
    channel: Option<&str>,
) -> Result<Response<Body>, Failure> {
    let by = Instant::now() + route.timeout;
    let allowed = [Method::POST, Method::OPTIONS];
    if !allowed.contains(request.method()) {
        return Err(Failure::Method(allowed.to_vec()));
    }
    let limit = context.config.channels.name_bytes;
    let name = channel.map(|encoded| channel_name(encoded, limit)).transpose()?;
    if *request.method() == Method::OPTIONS {
        return Ok(preflight(Allowed::of(&context.config.channels, request.headers()).as_ref(), METHODS));
    }
    if is_foreign(context, request.headers(), client.host_of_routed(&request)) {
        return Err(Failure::Forbidden("pages of this origin may not publish here: see channels.cors"));
    }
    let session = session::voucher(context, request.headers()).await?;
    let rights =
        context.auth.rights(request.headers(), request.uri().query(), client.host_of_routed(&request), session).await?;
    if let Some(name) = &name {
        rights.may_publish(name)?;
    }
    let wanted = Wanted::read(request.uri().query())?;
    let content = Content::of(request.headers())?;
    let key = message::key_of(request.headers())?;
    let (bytes, share) = body::collect(context, &mut request, route.body_limit).await?;
    let form = |name: &str| form_of(context, name);
    let messages = match name {
        Some(name) => vec![message::one(name, content, &bytes, &wanted, key, form)?],
        None => {
            let most = context.config.channels.publish_batch;
            let messages = message::many(content, &bytes, &wanted, key.as_deref(), most, form)?;
            check_all(context, &rights, &messages)?;
            messages
        }
    };
    drop((bytes, request));
    let results = send_all(context, &messages, by).await;
    drop(share);
    let counts = count_all(context, &messages, &results, wanted.count_all).await;
    let one = channel.is_some();
    told(results, &counts, &messages, one)
}

fn check_all(context: &Context, rights: &Rights, messages: &[Message]) -> Result<(), Failure> {
    for (at, message) in messages.iter().enumerate() {
        let name = message::check_name(&message.channel, context.config.channels.name_bytes);
        name.and_then(|()| rights.may_publish(&message.channel))
            .map_err(|failure| Failure::InBatch(at, Box::new(failure)))?;
    }
    Ok(())
}

/// How a channel's payloads are read: where they are raw text, the array form would be shown to readers.
fn form_of(context: &Context, name: &str) -> Form {
    let rule = context.config.channels.rules.iter().find(|rule| rule.pattern.matches(name));
    if rule.is_none_or(|rule| rule.array_form) { Form::Array } else { Form::Raw }
}

/// A page of another origin can make its reader's browser send such a request without asking first, to a server that
/// only this browser reaches. So what says that it comes from a page has to come from one of ours.
fn is_foreign(context: &Context, headers: &HeaderMap, host: Option<&str>) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    if Allowed::of(&context.config.channels, headers).is_some() {
        return false;
    }
    // A proxy may have changed the host; what the browser says of it stands.
    if headers.get(FETCH_SITE).is_some_and(|site| site == "same-origin") {
        return false;
    }
    let place = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, place)| place);
    match (place, host) {
        (Some(place), Some(host)) => !without_port(place).eq_ignore_ascii_case(without_port(host)),
        _ => true,
    }
}

/// Without a port that a client need not name.
fn without_port(place: &str) -> &str {
    place.strip_suffix(":80").or_else(|| place.strip_suffix(":443")).unwrap_or(place)
}

type Outcome = Result<Published, NotPublished>;

async fn send_all(context: &Context, messages: &[Message], by: Instant) -> Vec<Outcome> {
    let channels = &context.config.channels;
    let rules = match context.publishing.rules(by).await {
        Ok(rules) => rules,
        Err(why) => return messages.iter().map(|_| Err(why)).collect(),
    };
    let names: Vec<String> = messages.iter().map(|one| format!("{}{}", channels.prefix, one.channel)).collect();
    let key_ms = channels.key_time.as_millis() as u64;
    let publications: Vec<Publication<'_>> = messages
        .iter()
        .zip(&names)
        .map(|(message, channel)| Publication {
            channel,
            payload: &message.payload,
            keep: rules.keep(channel),
            once: message.key.as_deref().map(|key| (key, key_ms)),
        })
        .collect();
    let outcomes = context.publishing.send(&publications, by).await;
    for (outcome, publication) in outcomes.iter().zip(&publications) {
        context.metrics.sent.inc(match outcome {
            Ok(Published { repeated: true, .. }) => Sent::Repeated,
            Ok(_) if publication.keep.is_some() => Sent::Kept,
            Ok(_) => Sent::Live,
            Err(NotPublished::Unknown) => Sent::Unknown,
            Err(_) => Sent::Failed,
        });
    }
    outcomes
}

/// The streams of each message's channel everywhere, where that was asked for.
async fn count_all(context: &Context, messages: &[Message], outcomes: &[Outcome], all: bool) -> Vec<Counted> {
    let prefix = &context.config.channels.prefix;
    let here = |message: &Message| context.hub.streams_on(&message.channel);
    let mut asked = Vec::with_capacity(messages.len());
    for (message, outcome) in messages.iter().zip(outcomes) {
        asked.push(match outcome {
            Ok(Published { repeated: false, told, .. }) if all => {
                Some(context.publishing.counts.ask(&format!("{prefix}{}", message.channel), *told))
            }
            _ => None,
        });
    }
    let mut counted = Vec::with_capacity(messages.len());
    // All were asked together, so the waits are one.
    for (message, asked) in messages.iter().zip(asked) {
        let count = match asked {
            Some(question) => question.answered().await,
            None => Count { streams: None, complete: false },
        };
        counted.push(Counted { here: here(message), all: all.then_some(count) });
    }
    counted
}

struct Counted {
    here: usize,
    all: Option<Count>,
}

impl Counted {
    fn json(&self) -> Value {
        match self.all {
            None => json!({"here": self.here}),
            Some(Count { streams, complete }) => json!({"here": self.here, "all": streams, "complete": complete}),
        }
    }
}

/// The response. Of a batch each message has an outcome of its own, also where not all of them are good.
fn told(
    outcomes: Vec<Outcome>,
    counts: &[Counted],
    messages: &[Message],
    one: bool,
) -> Result<Response<Body>, Failure> {
    let mut worst: Option<Failure> = None;
    let mut shown = Vec::with_capacity(outcomes.len());
    for ((outcome, counted), message) in outcomes.into_iter().zip(counts).zip(messages) {
        shown.push(match outcome {
            Ok(Published { id, repeated, .. }) => json!({"id": id, "repeated": repeated, "streams": counted.json()}),
            Err(why) => {
                let shown = json!({"error": why.word()});
                let failure = Failure::NotPublished { why, keyed: message.key.is_some() };
                // What may have been published decides: whoever tries all of it again has to know.
                if worst.as_ref().is_none_or(|worst| worst.retry_after().is_some()) {
                    worst = Some(failure);
                }
                shown
            }
        });
    }
    if one {
        return match worst {
            Some(failure) => Err(failure),
            None => Ok(as_json(StatusCode::OK, &shown.remove(0))),
        };
    }
    let shown = Value::Array(shown);
    let Some(failure) = worst else { return Ok(as_json(StatusCode::OK, &shown)) };
    // Its status and when to come back, with what became of each message in place of its words.
    let mut response = as_json(respond::status(&failure), &shown);
    if let Some(wait) = respond::retry_after(&failure) {
        response.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    Ok(response)
}

fn as_json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::whole(format!("{value}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
