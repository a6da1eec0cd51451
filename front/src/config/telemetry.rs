//! Traces: whose are continued, which are begun, and where spans go.
//!
//! What is logged stands under `[log]`; metrics need no settings.

use std::time::Duration;

use url::Url;

use super::section::Section;
use super::value::{Kind, Read, Value, count, name, one_of, string, time};
use super::{SOME, TICK};

/// Traces.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Which requests are traced.
    pub trace: Tracing,
    /// The share of the traces begun here that are marked as sampled, from 0 to 1.
    pub trace_sample: f64,
    /// The base URL of an OpenTelemetry collector (OTLP over HTTP); None: no spans are made. Builds without
    /// the feature `otel` do not start with it.
    pub otlp: Option<String>,
    /// What this service is called there.
    pub service: String,
    /// Spans that may wait to be sent; further ones are dropped and counted.
    pub otlp_queue: usize,
    /// Spans sent at once.
    pub otlp_batch: usize,
    /// How long spans wait for others to be sent with.
    pub otlp_wait: Duration,
    /// How long the collector may take for a batch.
    pub otlp_time: Duration,
}

/// Which requests are traced (W3C Trace Context).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    /// None.
    Off,
    /// Those whose client sent a context.
    Continue,
    /// All: the client's context is continued, else one is made.
    Create,
    /// All, in contexts of our own: what clients send is not believed.
    Restart,
}

/// Reads `[telemetry]`.
pub(super) fn read(mut section: Section<'_>) -> Telemetry {
    const TRACE: &[(&str, Tracing)] = &[
        ("off", Tracing::Off),
        ("continue", Tracing::Continue),
        ("create", Tracing::Create),
        ("restart", Tracing::Restart),
    ];
    let s = &mut section;
    let otlp = s.optional("otlp", collector);
    // Whoever has a collector wants to see requests there, whether their clients trace or not.
    let usual = if otlp.is_some() { Tracing::Create } else { Tracing::Continue };
    let telemetry = Telemetry {
        trace: s.get("trace", one_of(TRACE), usual),
        trace_sample: s.get("trace_sample", share, 1.0),
        otlp,
        service: s.get("service", name, "tempest".to_owned()),
        otlp_queue: s.get("otlp_queue", count(SOME), 4096),
        otlp_batch: s.get("otlp_batch", count(1..=10_000), 512),
        otlp_wait: s.get("otlp_wait", time(TICK), Duration::from_secs(1)),
        otlp_time: s.get("otlp_time", time(TICK), Duration::from_secs(10)),
    };
    section.finish();
    telemetry
}

/// A number from 0 to 1.
fn share(value: &Value<'_>) -> Read<f64> {
    let given = match value.kind {
        Kind::Text(text) => text.parse().ok(),
        Kind::Fraction(text) => text.parse().ok(),
        Kind::Integer(whole) => Some(whole as f64),
        _ => None,
    };
    given.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| value.wrong("a number from 0 to 1, like 0.05"))
}

/// The base URL of a collector; spans go to `/v1/traces` there.
fn collector(value: &Value<'_>) -> Read<String> {
    let text = string(value)?;
    let plain = |url: &Url| url.scheme() == "http" && url.host().is_some() && url.query().is_none();
    match Url::parse(&text) {
        Ok(url) if plain(&url) => Ok(text.trim_end_matches('/').to_owned()),
        _ => {
            Err(value.wrong("the URL of a collector on this machine or a private network, like http://127.0.0.1:4318"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn read(lines: &str) -> Result<Telemetry, String> {
        let config = Config::from_toml(&format!("[telemetry]\n{lines}"), Path::new("."));
        config.map(|config| config.telemetry).map_err(|problems| problems.to_string())
    }

    #[test]
    fn clients_contexts_are_continued_and_none_is_made_unless_that_is_asked_for() {
        let usual = read("").expect("the defaults are good");
        assert_eq!((usual.trace, usual.otlp, usual.otlp_queue), (Tracing::Continue, None, 4096));
        assert_eq!(read("trace = \"restart\"").expect("good").trace, Tracing::Restart);
    }

    #[test]
    fn a_share_is_from_nothing_to_all() {
        for (text, share) in [("0", 0.0), ("1", 1.0), ("0.05", 0.05), ("\"0.5\"", 0.5)] {
            assert_eq!(read(&format!("trace_sample = {text}")).map(|t| t.trace_sample), Ok(share), "{text}");
        }
        for text in ["1.01", "-0.1", "2", "\"x\"", "nan", "true"] {
            let wrong = read(&format!("trace_sample = {text}")).expect_err(text);
            assert!(wrong.contains("expected a number from 0 to 1"), "{wrong}");
        }
    }

    #[test]
    fn a_collector_is_reached_over_plain_http() {
        let good = read("otlp = \"http://127.0.0.1:4318/\"").expect("a collector");
        assert_eq!((good.otlp.as_deref(), good.trace), (Some("http://127.0.0.1:4318"), Tracing::Create));
        for wrong in ["https://a", "127.0.0.1:4318", "http://", "http://a?b=c", "grpc://a"] {
            assert!(read(&format!("otlp = \"{wrong}\"")).is_err(), "{wrong}");
        }
    }
}
