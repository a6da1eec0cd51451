//! What a request for a stream asks for: which channels, and where to begin in them.
//!
//! Only the words of the request; whether they may be read is decided elsewhere. A client that comes back is never sent
//! away for what it remembers: an EventSource that is answered with an error does not come again.

use http::{HeaderMap, Request};
use percent_encoding::percent_decode_str;
use tempest_protocol::LogId;

use super::Incoming;
use crate::config::Channels;
use crate::error::Failure;
use crate::hub::{Start, Wanted};

/// Names under which clients send the id of the last event in the query.
const LAST_IDS: [&str; 3] = ["lastEventId", "lastEventID", "last_event_id"];

/// What a stream is to be of.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) wanted: Vec<Wanted>,
    /// Each event is to be told its channel.
    pub(super) tell: bool,
    /// The client had a stream before.
    pub(super) resumes: bool,
}

/// Reads the request. `in_path`: the channel that the path names, percent-encoded, or nothing.
pub(super) fn read(request: &Request<Incoming>, in_path: &str, channels: &Channels) -> Result<Ask, Failure> {
    of(request.headers(), request.uri().query().unwrap_or_default(), in_path, channels)
}

pub(super) fn of(headers: &HeaderMap, query: &str, in_path: &str, channels: &Channels) -> Result<Ask, Failure> {
    let mut wanted = Vec::new();
    if !in_path.is_empty() {
        wanted.push((channel_name(in_path, channels.name_bytes)?, false));
    }
    ask(headers, query, (wanted, true), channels)
}

/// Reads a request for channels that the application has chosen: what it says of them beside their names.
pub(super) fn granted(request: &Request<Incoming>, names: &[String], channels: &Channels) -> Result<Ask, Failure> {
    for name in names {
        check_name(name, channels.name_bytes)?;
    }
    let wanted = names.iter().map(|name| (name.clone(), false)).collect();
    ask(request.headers(), request.uri().query().unwrap_or_default(), (wanted, false), channels)
}

/// `named`: whether the query may name channels, too.
fn ask(
    headers: &HeaderMap,
    query: &str,
    (mut wanted, named): (Vec<(String, bool)>, bool),
    channels: &Channels,
) -> Result<Ask, Failure> {
    let limit = channels.name_bytes;
    let (mut tell, mut since, mut last) = (false, Start::Latest, None);
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match key {
            "channel" | "pattern" if !named => {}
            "channel" => wanted.push((channel_name(value, limit)?, false)),
            "pattern" => wanted.push((channel_name(value, limit)?, true)),
            "tell" if value == "channel" => tell = true,
            "tell" => return Err(Failure::BadRequest("tell is channel, or left out")),
            "since" => since = start(&decoded(value)),
            _ if LAST_IDS.contains(&key) => last = Some(decoded(value)),
            _ => {}
        }
    }
    if wanted.is_empty() {
        return Err(Failure::BadRequest("neither the path nor the query names a channel"));
    }
    if wanted.len() > channels.per_stream {
        return Err(Failure::BadRequest("the query names more channels than one stream may have"));
    }
    if (1..wanted.len()).any(|at| wanted[..at].contains(&wanted[at])) {
        return Err(Failure::BadRequest("a channel is named twice"));
    }
    if since == Start::Unknown {
        return Err(Failure::BadRequest(
            "since is latest, earliest, an id, or a time: ms since 1970 or as in RFC 3339",
        ));
    }
    let logged = |name: &str, pattern: bool| !pattern && channels.has_history(name);
    let logs = wanted.iter().filter(|(name, pattern)| logged(name, *pattern)).count();
    if logs > channels.logs_per_stream {
        return Err(Failure::BadRequest("the query names more channels with history than one stream may have"));
    }
    // The header is what an EventSource sends by itself, and newer than what its page once put into the address.
    let header = headers.get("last-event-id").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let last = header.or(last).filter(|id| !id.is_empty());
    let mut starts = starts(last.as_deref(), since, logs).into_iter();
    let wanted = wanted.into_iter().map(|(name, pattern)| {
        let start = if logged(&name, pattern) { starts.next().unwrap_or(Start::Unknown) } else { Start::Latest };
        Wanted { name, pattern, start }
    });
    Ok(Ask { wanted: wanted.collect(), tell, resumes: last.is_some() })
}

/// What an answer holds; `seen` is the client's `Last-Event-ID`, which goes before the worker's `history`.
pub(super) fn held(channels: &Channels, names: Vec<String>, history: Option<&str>, seen: Option<&str>) -> Ask {
    let logs = names.iter().filter(|name| channels.has_history(name)).count();
    let seen = seen.filter(|seen| !seen.is_empty());
    let since = history.map_or(Start::Latest, start);
    // What is no start point may have come from the client; an EventSource that gets an error never comes back.
    let last = seen.or(history.filter(|_| matches!(since, Start::After(_) | Start::Unknown)));
    let mut starts = starts(last, since, logs).into_iter();
    let wanted = names.into_iter().map(|name| {
        let start = if channels.has_history(&name) { starts.next().unwrap_or(Start::Unknown) } else { Start::Latest };
        Wanted { name, pattern: false, start }
    });
    Ask { wanted: wanted.collect(), tell: false, resumes: last.is_some() }
}

/// Where to begin in each channel with history.
fn starts(last: Option<&str>, since: Start, logs: usize) -> Vec<Start> {
    let Some(last) = last else { return vec![since; logs] };
    let ids: Option<Vec<LogId>> = last.split(',').map(|id| id.parse().ok()).collect();
    match ids {
        Some(ids) if ids.len() == logs => ids.into_iter().map(Start::After).collect(),
        // Of another stream, or of a publisher's own making.
        _ => vec![Start::Unknown; logs],
    }
}

fn start(since: &str) -> Start {
    match since {
        "latest" => Start::Latest,
        "earliest" => Start::Earliest,
        _ => match (since.parse(), since.parse()) {
            (Ok(id), _) => Start::After(id),
            (_, Ok(ms)) => Start::Time(ms),
            _ => time(since).map_or(Start::Unknown, Start::Time),
        },
    }
}

/// A time as in RFC 3339, in ms since 1970.
fn time(text: &str) -> Option<u64> {
    let (date, rest) = (text.get(..10)?, text.get(11..)?);
    if !matches!(text.as_bytes()[10], b'T' | b't' | b' ') {
        return None;
    }
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten();
    let parts = |text: &str, mark| text.split(mark).map(number).collect::<Option<Vec<_>>>();
    let [year, month, day] = parts(date, '-')?.try_into().ok()?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = parts(clock, ':')?.try_into().ok()?;
    let ranges = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    let offset = match zone.as_bytes()[0] {
        b'Z' | b'z' if zone.len() == 1 => 0,
        sign @ (b'+' | b'-') => {
            let [hours, minutes] = parts(&zone[1..], ':')?.try_into().ok()?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    // Before anything is reckoned with them: any of these may have as many digits as a number takes.
    if !ranges {
        return None;
    }
    number(fraction)?;
    let fraction = format!("0.{fraction}").parse::<f64>().ok()?;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset * 60;
    u64::try_from(seconds * 1000 + (fraction * 1000.0) as i64).ok()
}

/// Days from 1970 to a date (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn decoded(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

/// A channel's name, decoded; a message about it never repeats it.
pub(super) fn channel_name(encoded: &str, limit: usize) -> Result<String, Failure> {
    if has_broken_percent(encoded) {
        return Err(Failure::BadRequest("the channel's name has a broken percent-encoding"));
    }
    let name = percent_decode_str(encoded)
        .decode_utf8()
        .map_err(|_| Failure::BadRequest("the channel's name is not UTF-8"))?;
    check_name(&name, limit)?;
    Ok(name.into_owned())
}

fn check_name(name: &str, limit: usize) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(Failure::BadRequest("the path names no channel"));
    }
    if name.len() > limit {
        return Err(Failure::BadRequest("the channel's name is too long"));
    }
    if name.chars().any(char::is_control) {
        return Err(Failure::BadRequest("the channel's name has a control character"));
    }
    Ok(())
}

fn has_broken_percent(encoded: &str) -> bool {
    let mut rest = encoded.as_bytes();
    while let Some(at) = memchr::memchr(b'%', rest) {
        match rest.get(at + 1..at + 3) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => rest = &rest[at + 3..],
            _ => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> LogId {
        text.parse().expect("an id")
    }

    #[test]
    fn a_vector_has_an_id_for_each_channel_with_history() {
        assert_eq!(starts(Some("5-1"), Start::Latest, 1), [Start::After(id("5-1"))]);
        assert_eq!(starts(Some("5-1,0-0"), Start::Latest, 2), [Start::After(id("5-1")), Start::After(LogId::ZERO)]);
        for foreign in ["5-1", "5-1,6-2,7-3", "x,5-1", "urn:uuid:1", ","] {
            assert_eq!(starts(Some(foreign), Start::Earliest, 2), [Start::Unknown; 2], "{foreign}");
        }
        assert_eq!(starts(None, Start::Earliest, 2), [Start::Earliest; 2]);
        assert!(starts(Some("5-1"), Start::Latest, 0).is_empty());
    }

    #[test]
    fn a_start_is_a_word_an_id_or_a_time() {
        assert_eq!((start("latest"), start("earliest")), (Start::Latest, Start::Earliest));
        assert_eq!((start("5-1"), start("1795000000002")), (Start::After(id("5-1")), Start::Time(1_795_000_000_002)));
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-18T11:06:40Z", 1_795_000_000_000),
            ("2026-11-18t13:06:40.002+02:00", 1_795_000_000_002),
            ("2024-02-29 23:59:60Z", 1_709_251_200_000),
        ] {
            assert_eq!(start(text), Start::Time(ms), "{text}");
        }
        for bad in [
            "",
            "now",
            "2026-11-18",
            "2026-13-18T00:00:00Z",
            "2026-11-18T00:00:00",
            "2026-11-18T00:00Z",
            "ü026-11-18T00:00:00Z",
            "1969-01-01T00:00:00Z",
            "2026-11-18T9223372036854775807:00:00Z",
            "2026-11-18T00:00:00+9223372036854775807:00",
            "2026-11-18T00:00:00+24:00",
        ] {
            assert_eq!(start(bad), Start::Unknown, "{bad}");
        }
    }

    /// As few as a client may encode.
    const FEW: &AsciiSet = &CONTROLS.add(b'%').add(b'&').add(b'#').add(b'?');

    proptest! {
        #[test]
        fn a_name_comes_out_as_it_was_encoded(name in "[^\u{0}-\u{1f}\u{7f}-\u{9f}]{1,40}", all in any::<bool>()) {
            let set = if all { NON_ALPHANUMERIC } else { FEW };
            let encoded = utf8_percent_encode(&name, set).to_string();
            let read = channel_name(&encoded, 1024);
            prop_assert_eq!(read.as_deref(), Ok(&*name));
        }

        #[test]
        fn a_list_of_ids_comes_back_as_it_was_sent(ids in vec((any::<u64>(), any::<u64>()), 1..16)) {
            let ids: Vec<LogId> = ids.into_iter().map(|(ms, number)| LogId { ms, number }).collect();
            let text = ids.iter().map(LogId::to_string).collect::<Vec<_>>().join(",");
            let expected: Vec<Start> = ids.iter().copied().map(Start::After).collect();
            prop_assert_eq!(starts(Some(&text), Start::Latest, ids.len()), expected);
            prop_assert_eq!(starts(Some(&text), Start::Latest, ids.len() + 1), vec![Start::Unknown; ids.len() + 1]);
        }

        #[test]
        fn no_text_breaks_the_reader_of_times(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.Zz+-]{0,40}") {
            start(&text);
        }
    }

    #[test]
    fn names_are_decoded_once_and_checked() {
        assert_eq!(channel_name("a%2Fb%20c", 64).as_deref(), Ok("a/b c"));
        assert_eq!(channel_name("%C3%BC*", 64).as_deref(), Ok("ü*"));
        assert_eq!(channel_name("%2525", 64).as_deref(), Ok("%25"));
        for bad in ["", "%", "%zz", "%ff", "a%0Ab", "%00", &"a".repeat(65)] {
            assert!(channel_name(bad, 64).is_err(), "{bad}");
        }
        assert!(channel_name(&"a".repeat(64), 64).is_ok());
    }
}
