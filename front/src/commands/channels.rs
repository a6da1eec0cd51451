//! `tempest status --channels`: which channels are read, and by how many, over all fronts.
//!
//! Each front tells of its busiest in its record. Names come from whoever opened a stream: they are shown without
//! anything that speaks to a terminal.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::table::Table;
use crate::broker::control::Registry;

/// One channel, over all fronts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Channel {
    channel: String,
    streams: u64,
    fronts: u64,
    published: u64,
}

/// All channels that fronts tell of, most streams first.
pub(super) fn channels(registry: &Registry) -> Vec<Channel> {
    let mut all: BTreeMap<&str, Channel> = BTreeMap::new();
    let lists = registry.fronts.iter().filter_map(|front| front.record["channels"].as_array());
    for told in lists.flatten() {
        let Some(name) = told["name"].as_str() else { continue };
        let number = |field: &str| told[field].as_u64().unwrap_or_default();
        let sum = all.entry(name).or_insert_with(|| Channel {
            channel: name.to_owned(),
            streams: 0,
            fronts: 0,
            published: 0,
        });
        sum.streams = sum.streams.saturating_add(number("streams"));
        sum.fronts += 1;
        // Every front receives every publication: the one that has the channel for longest has received most.
        sum.published = sum.published.max(number("published"));
    }
    let mut all: Vec<Channel> = all.into_values().collect();
    all.sort_by_key(|channel| std::cmp::Reverse(channel.streams));
    all
}

/// The table for people.
pub(super) fn text(registry: &Registry) -> String {
    let all = channels(registry);
    if all.is_empty() {
        return format!("Channels\n  nobody reads any. {}", advice(registry));
    }
    let mut table = Table::new(&["channel", "streams", "fronts", "published"]);
    for Channel { channel, streams, fronts, published } in all {
        table.row([channel, streams.to_string(), fronts.to_string(), published.to_string()]);
    }
    format!("Channels, the 50 of each front with most streams\n{}", table.text().trim_end())
}

/// How to get a stream, for whoever expected one.
fn advice(registry: &Registry) -> String {
    let address = registry.fronts.iter().find_map(|front| front.record["listen"][0].as_str());
    match address {
        Some(address) => format!(
            "Open a stream: `curl -N http://{}/sub/news`,\n  where channels.public or --public-channels names it",
            super::table::printable(address)
        ),
        None if registry.fronts.is_empty() => {
            "No front runs, either. Start one: `tempest up`, or `tempest front --redis URL`".to_owned()
        }
        None => "Look again in a second: no front has told of itself yet".to_owned(),
    }
}

/// One JSON object.
pub(super) fn json(registry: &Registry) -> Value {
    serde_json::json!({ "at": registry.at, "channels": channels(registry) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::broker::control::FrontState;

    fn registry(records: &[Value]) -> Registry {
        let front = |record: &Value| FrontState { id: "f".into(), reactors: 1, record: record.clone() };
        Registry { fronts: records.iter().map(front).collect(), ..Registry::default() }
    }

    #[test]
    fn streams_are_added_up_over_fronts_and_publications_are_not() {
        let told = |name: &str, streams: u64, published: u64| json!({"name": name, "streams": streams, "published": published});
        let registry = registry(&[
            json!({"channels": [told("news", 2, 9), told("a", 1, 0)]}),
            json!({"channels": [told("news", 3, 7), {"streams": 1}, {"name": "odd", "streams": "many"}, 7]}),
            json!({"channels": "none"}),
            Value::Null,
        ]);
        let channel =
            |name: &str, streams, fronts, published| Channel { channel: name.to_owned(), streams, fronts, published };
        assert_eq!(channels(&registry), [channel("news", 5, 2, 9), channel("a", 1, 1, 0), channel("odd", 0, 1, 0)]);
        let lines: Vec<String> = text(&registry).lines().map(str::to_owned).collect();
        assert_eq!(lines[1..3], ["  channel  streams  fronts  published", "  news     5        2       9"]);
        assert_eq!(json(&registry)["channels"][0]["streams"], 5);
    }

    #[test]
    fn an_empty_picture_says_what_to_do() {
        assert!(text(&registry(&[])).contains("tempest up"));
        assert!(text(&registry(&[Value::Null])).contains("Look again"));
        let listens = json!({"listen": ["127.0.0.1:1337"], "channels": []});
        assert!(text(&registry(&[listens])).contains("curl -N http://127.0.0.1:1337/sub/news"));
    }

    #[test]
    fn no_name_speaks_to_the_terminal() {
        let registry = registry(&[json!({"channels": [{"name": "a\u{1b}[2J\u{202e}b\n", "streams": 1}]})]);
        assert!(text(&registry).contains("  a\u{fffd}[2J\u{fffd}b\u{fffd}  1"), "{}", text(&registry));
    }
}
