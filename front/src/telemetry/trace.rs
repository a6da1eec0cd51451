//! Trace contexts (W3C Trace Context, level 1): read from a client, or made here, and stated in the job.
//!
//! What a client sent counts only where it is wholly right; anything else is as if it had sent nothing. Which requests are
//! traced is the configuration's to say. Nothing here sends anything.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{Telemetry, Tracing};

// Made once: a name that is a text is read anew at every look.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Bytes of a `traceparent` of version 00: `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const BYTES: usize = 55;
const TRACE_ID: std::ops::Range<usize> = 3..35;
const PARENT_ID: std::ops::Range<usize> = 36..52;
/// Bytes of a `tracestate` that is passed on; the specification asks for at least so many.
const STATE_BYTES: usize = 512;
/// The only flag that version 00 knows.
const SAMPLED: u8 = 1;

/// The trace that a request belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// As it stands in the job.
    text: [u8; BYTES],
    /// The client's span, where that in `text` is ours.
    before: Option<[u8; 16]>,
    state: Option<Box<str>>,
}

impl Trace {
    /// Reads a `traceparent`; None: it is malformed, and so says nothing. A version that came later is read as what we
    /// know, as the specification wants it.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let head = value.get(..BYTES)?;
        let hex = |range: std::ops::Range<usize>| {
            head[range].iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte))
        };
        let zero = |range: std::ops::Range<usize>| head[range].iter().all(|byte| *byte == b'0');
        let dashes = [2, 35, 52].iter().all(|at| head[*at] == b'-');
        let digits = hex(0..2) && hex(TRACE_ID) && hex(PARENT_ID) && hex(53..55);
        let length = match &head[..2] {
            b"00" => value.len() == BYTES,
            b"ff" => false,
            _ => value.len() == BYTES || value[BYTES] == b'-',
        };
        if !(dashes && digits && length) || zero(TRACE_ID) || zero(PARENT_ID) {
            return None;
        }
        let mut text: [u8; BYTES] = head.try_into().ok()?;
        text[..2].copy_from_slice(b"00");
        // Flags of versions to come mean nothing here and must not be passed on.
        let sampled = matches!(text[54], b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f');
        text[53..].copy_from_slice(if sampled { b"01" } else { b"00" });
        Some(Self { text, before: None, state: None })
    }

    /// As in a `traceparent` header.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).expect("digits and dashes")
    }

    /// The trace, 32 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.as_str()[TRACE_ID]
    }

    /// The span that what the worker does belongs to, 16 hexadecimal digits.
    pub fn span(&self) -> &str {
        &self.as_str()[PARENT_ID]
    }

    /// The client's span, where [`Trace::span`] is one of ours.
    pub fn before(&self) -> Option<&str> {
        self.before.as_ref().and_then(|digits| std::str::from_utf8(digits).ok())
    }

    /// Somebody wants to see it.
    pub fn is_sampled(&self) -> bool {
        self.text[BYTES - 1] == b'0' + SAMPLED
    }

    /// What the trace's vendors carry along.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// Decides which requests of one reactor are traced, and makes ids.
pub struct Traces {
    which: Tracing,
    /// Random numbers below this are sampled; None: all are.
    below: Option<u64>,
    /// Spans of our own are exported, so they stand between the client's and the worker's.
    spans: bool,
    numbers: Numbers,
}

/// Numbers that nobody has had before and that are not zero. Keyed with 128 random bits of the operating system's, so that
/// nobody can guess what comes next.
#[derive(Default)]
pub(super) struct Numbers {
    random: RandomState,
    count: Cell<u64>,
}

impl Numbers {
    /// The next one; `which` tells those of one purpose from those of another.
    pub(super) fn next(&self, which: u64) -> u64 {
        let count = self.count.get();
        self.count.set(count + 1);
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(count);
        hasher.write_u64(which);
        hasher.finish().max(1)
    }
}

impl Traces {
    /// As configured.
    pub fn new(config: &Telemetry) -> Self {
        // From 0 to 2^64: 1.0 has no number below which all are.
        let below = (config.trace_sample < 1.0).then_some((config.trace_sample * u64::MAX as f64) as u64);
        let (which, spans) = (config.trace, config.otlp.is_some());
        Self { which, below, spans, numbers: Numbers::default() }
    }

    /// The trace of a request with these headers; None: it is not traced.
    pub fn of(&self, headers: &HeaderMap) -> Option<Rc<Trace>> {
        match self.which {
            Tracing::Off => None,
            Tracing::Continue => self.continued(headers).map(Rc::new),
            Tracing::Create => Some(Rc::new(self.continued(headers).unwrap_or_else(|| self.fresh()))),
            Tracing::Restart => Some(Rc::new(self.fresh())),
        }
    }

    fn continued(&self, headers: &HeaderMap) -> Option<Trace> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let mut trace = Trace::parse(value.as_bytes())?;
        trace.state = state(headers);
        if self.spans && trace.is_sampled() {
            let ours = hex(self.numbers.next(0));
            let place = &mut trace.text[PARENT_ID];
            trace.before = (*place).try_into().ok();
            place.copy_from_slice(&ours);
        }
        Some(trace)
    }

    fn fresh(&self) -> Trace {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..19].copy_from_slice(&hex(self.numbers.next(1)));
        text[19..35].copy_from_slice(&hex(self.numbers.next(2)));
        text[PARENT_ID].copy_from_slice(&hex(self.numbers.next(3)));
        if self.below.is_none_or(|below| self.numbers.next(4) < below) {
            text[BYTES - 1] = b'1';
        }
        Trace { text, before: None, state: None }
    }
}

/// All `tracestate` headers as one; None where there is none, or more than is passed on.
fn state(headers: &HeaderMap) -> Option<Box<str>> {
    let values: Option<Vec<&str>> =
        headers.get_all(TRACESTATE).iter().map(|value| HeaderValue::to_str(value).ok()).collect();
    let state = values?.join(",");
    (1..=STATE_BYTES).contains(&state.len()).then(|| state.into())
}

/// A number's 16 digits.
fn hex(number: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| DIGITS[(number >> (60 - 4 * at)) as usize & 15])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn traces(change: impl FnOnce(&mut Telemetry)) -> Traces {
        let mut config = Config::from_toml("", Path::new(".")).expect("the defaults are good").telemetry;
        change(&mut config);
        Traces::new(&config)
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let one = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        };
        let mut map = HeaderMap::new();
        for (name, value) in all.iter().map(one) {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn what_is_right_is_read_and_nothing_else() {
        for (text, stated) in [
            (GOOD, GOOD),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            ),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", GOOD),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", GOOD),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", GOOD),
        ] {
            assert_eq!(Trace::parse(text.as_bytes()).as_ref().map(Trace::as_str), Some(stated), "{text}");
        }
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473\"-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\u{e9}",
        ] {
            assert_eq!(Trace::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_clients_trace_is_continued_with_its_state() {
        let traces = traces(|_| {});
        let trace = traces.of(&headers(&[("traceparent", GOOD), ("tracestate", "a=1"), ("tracestate", "b=2")]));
        let trace = trace.expect("it is right");
        assert_eq!((trace.as_str(), trace.state(), trace.before()), (GOOD, Some("a=1,b=2"), None));
        assert_eq!((trace.id(), trace.span()), (&GOOD[3..35], &GOOD[36..52]));
        for none in [
            headers(&[]),
            headers(&[("tracestate", "a=1")]),
            headers(&[("traceparent", "x"), ("tracestate", "a=1")]),
            headers(&[("traceparent", GOOD), ("traceparent", GOOD)]),
        ] {
            assert_eq!(traces.of(&none), None, "{none:?}");
        }
        let (fits, long) = ("x".repeat(STATE_BYTES), "x".repeat(STATE_BYTES + 1));
        let state = |text: &str| {
            traces.of(&headers(&[("traceparent", GOOD), ("tracestate", text)])).and_then(|t| t.state().map(str::len))
        };
        assert_eq!((state(&fits), state(&long)), (Some(STATE_BYTES), None));
    }

    #[test]
    fn a_malformed_one_is_replaced_and_its_state_dropped() {
        let traces = traces(|config| config.trace = Tracing::Create);
        let trace = traces.of(&headers(&[("traceparent", "forged"), ("tracestate", "a=1")])).expect("all are traced");
        assert_eq!((trace.state(), trace.is_sampled()), (None, true));
        assert_eq!(Trace::parse(trace.as_str().as_bytes()).as_ref().map(Trace::as_str), Some(trace.as_str()));
        let good = traces.of(&headers(&[("traceparent", GOOD)])).expect("all are traced");
        assert_eq!(good.as_str(), GOOD);
    }

    #[test]
    fn what_clients_send_may_be_ignored() {
        let client = headers(&[("traceparent", GOOD), ("tracestate", "a=1")]);
        assert_eq!(traces(|config| config.trace = Tracing::Off).of(&client), None);
        let own = traces(|config| config.trace = Tracing::Restart).of(&client).expect("all are traced");
        assert!(own.id() != &GOOD[3..35] && own.state().is_none());
    }

    #[test]
    fn ids_are_never_the_same() {
        let traces = [(); 2].map(|()| traces(|config| config.trace = Tracing::Create));
        let all = (0..10_000).flat_map(|_| traces.iter().filter_map(|traces| traces.of(&headers(&[]))));
        let ids: HashSet<String> = all.flat_map(|trace| [trace.id().to_owned(), trace.span().to_owned()]).collect();
        assert_eq!(ids.len(), 40_000);
    }

    #[test]
    fn as_many_are_sampled_as_configured() {
        for (share, least, most) in [(0.0, 0, 0), (0.25, 2_200, 2_800), (1.0, 10_000, 10_000)] {
            let traces = traces(|config| (config.trace, config.trace_sample) = (Tracing::Create, share));
            let sampled = (0..10_000).filter(|_| traces.of(&headers(&[])).is_some_and(|t| t.is_sampled())).count();
            assert!((least..=most).contains(&sampled), "{share}: {sampled}");
        }
    }

    #[test]
    fn our_span_stands_between_where_it_is_exported() {
        let traces = traces(|config| config.otlp = Some("http://127.0.0.1:4318".into()));
        let trace = traces.of(&headers(&[("traceparent", GOOD)])).expect("it is right");
        assert_eq!((trace.id(), trace.before()), (&GOOD[3..35], Some(&GOOD[36..52])));
        assert_ne!(trace.span(), &GOOD[36..52]);
        let unsampled = GOOD.replace("-01", "-00");
        let trace = traces.of(&headers(&[("traceparent", &unsampled)])).expect("it is right");
        assert_eq!((trace.as_str(), trace.before()), (&*unsampled, None));
    }
}
