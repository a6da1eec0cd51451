//! Browser channels: who may read them, what they keep, and every limit of their streams.
//!
//! Whose tokens open them is in [`super::tokens`].

use std::path::Path;
use std::time::Duration;

use super::section::Section;
use super::tokens::{self, Tokens};
use super::value::{Read, Value, boolean, bytes, count, list, one_of, pattern, string, time};
use super::{ANY, KIB, MIB, Pattern, SOME, TICK};

/// Browser channels.
#[derive(Clone, Debug)]
pub struct Channels {
    /// Patterns (`*` any text, `?` one character) of the channels that anybody may read.
    pub public: Vec<Pattern>,
    /// Patterns of the channels that anybody who reaches the front may publish on over HTTP.
    pub publish: Vec<Pattern>,
    /// What a browser's channel name is prefixed with in Redis.
    pub prefix: String,
    /// Origins allowed to read across origins; `*` allows all.
    pub cors: Vec<String>,
    /// Rules by pattern; the first that matches wins.
    pub rules: Vec<ChannelRule>,
    /// Time between comments on a quiet stream.
    pub heartbeat: Duration,
    /// What `retry:` tells an EventSource.
    pub retry: Duration,
    /// Bytes that wait for one reader; beyond it the reader is disconnected.
    pub buffer_bytes: usize,
    /// Messages that wait for one reader; beyond it the reader is disconnected.
    pub buffer_messages: usize,
    /// Streams in one process; further ones are answered 503.
    pub streams: usize,
    /// Streams of one client address in one process, of a /64 for IPv6; 0: no limit. Further ones are answered 429.
    pub streams_per_address: usize,
    /// Streams of one user in one process; 0: no limit. Further ones are answered 429.
    pub streams_per_user: usize,
    /// A stream is ended, to come back, after 80 to 100 % of this; None: it may last for ever.
    pub stream_life: Option<Duration>,
    /// Over how long a drain spreads the ends of its streams.
    pub goodbye: Duration,
    /// Channels subscribed by one process; further ones are answered 503.
    pub channels: usize,
    /// Bytes of a channel's name.
    pub name_bytes: usize,
    /// How long a new stream waits for Redis.
    pub subscribe_time: Duration,
    /// Patterns that anybody may read as a whole, live.
    pub patterns: Vec<Pattern>,
    /// Channels and patterns that one stream may name; further ones are refused.
    pub per_stream: usize,
    /// Of these, channels with history.
    pub logs_per_stream: usize,
    /// Streams of one reactor that read what they have missed at the same time; the others wait.
    pub resuming: usize,
    /// Messages of one request that publishes.
    pub publish_batch: usize,
    /// How long a publication's own key is remembered.
    pub key_time: Duration,
    /// How long the other reactors are waited for where they are asked for their streams.
    pub count_time: Duration,
    /// Whose tokens open what is not public.
    pub tokens: Tokens,
}

impl Channels {
    /// The rule that holds for a channel, by the name that browsers use.
    pub fn rule(&self, name: &str) -> Option<&ChannelRule> {
        self.rules.iter().find(|rule| rule.pattern.matches(name))
    }

    /// True for channels that keep their messages.
    pub fn has_history(&self, name: &str) -> bool {
        self.rule(name).is_some_and(|rule| rule.history.is_some())
    }
}

/// What holds for the channels that a pattern matches.
#[derive(Clone, Debug)]
pub struct ChannelRule {
    /// Which channels.
    pub pattern: Pattern,
    /// `["$unsubscribe"]` ends the streams.
    pub control: bool,
    /// Payloads of array form are read as events; false: everything is text.
    pub array_form: bool,
    /// What is kept of what was published; None: nothing.
    pub history: Option<History>,
    /// There is nothing to read any more: answered 204, after which an EventSource does not come back.
    pub gone: bool,
}

/// What a channel keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Messages; the oldest go.
    pub messages: usize,
    /// For how long.
    pub time: Duration,
}

/// Reads `[channels]`.
pub(super) fn read(mut section: Section<'_>, base: &Path) -> Channels {
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
pub(super) fn origin(value: &Value<'_>) -> Read<String> {
    let text = string(value)?;
    let place = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let fit = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '@' | ',') && !c.is_ascii_uppercase();
    if text == "*" || place.is_some_and(|place| !place.is_empty() && place.chars().all(fit)) {
        return Ok(text);
    }
    Err(value.wrong("* or an origin like https://app.example, in lower case and without a path"))
}
