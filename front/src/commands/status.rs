//! `tempest status`: fronts, queues, workers and supervised processes, as they registered themselves.
//!
//! Empty parts say what to do about it. Records are read leniently: what a front or worker of another version does not
//! say is a dash.

use serde_json::Value;

use super::table::{Table, duration, printable};
use super::{CommandError, Place, channels, with_redis};
use crate::broker::control::{FrontState, QueueState, Registry};
use crate::config::Loaded;

/// What is not known.
const UNKNOWN: &str = "-";
/// Recent problems shown, the latest of all fronts.
const PROBLEMS: usize = 10;

/// What is shown, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Show {
    /// As one JSON object, not as a text for people.
    pub json: bool,
    /// The channels that are read, not who is there.
    pub channels: bool,
}

/// The picture of who is there, or of what is read.
pub fn status(loaded: &Loaded, show: Show) -> Result<String, CommandError> {
    let place = Place::find(loaded);
    let registry = with_redis(&place, async |control| control.registry(&place.keys).await)?;
    if show.json {
        let mut picture = if show.channels { channels::json(&registry) } else { serde_json::json!(registry) };
        picture["redis"] = place.redis.to_string().into();
        picture["prefix"] = place.keys.prefix().into();
        return Ok(picture.to_string());
    }
    let head = format!("Redis {}, keys under {}:", place.redis, place.keys.prefix());
    if show.channels {
        return Ok([head, channels::text(&registry)].join("\n\n"));
    }
    let [fronts, queues, workers] = [fronts(&registry), queues(&registry), workers(&registry)];
    Ok([head, fronts, queues, workers, processes(&registry), problems(&registry)].join("\n\n"))
}

fn section(title: &str, table: &Table) -> String {
    format!("{title}\n{}", table.text()).trim_end().to_owned()
}

fn fronts(registry: &Registry) -> String {
    if registry.fronts.is_empty() {
        return "Fronts\n  none runs. Start one: `tempest up`, or `tempest front --redis URL`".to_owned();
    }
    let head = ["id", "pid", "host", "up for", "listens on", "requests", "in flight", "streams", "log"];
    let mut table = Table::new(&head);
    for FrontState { id, record, .. } in &registry.fronts {
        let field = |name| text(&record[name]);
        let counter = |name| text(&record["counters"][name]);
        table.row([
            id.clone(),
            field("pid"),
            field("host"),
            age(registry.at, &record["started"]),
            field("listen"),
            counter("requests"),
            counter("in_flight"),
            counter("streams"),
            log_level(registry.at, &record["log"]),
        ]);
    }
    section("Fronts", &table)
}

/// What a front logs, and for how long it will where that is not what its configuration says.
fn log_level(now: u64, log: &Value) -> String {
    let level = text(&log["level"]);
    match log["until"].as_u64() {
        Some(until) => format!("{level}, {} left", duration(until.saturating_sub(now))),
        None if log["level"] != log["configured"] => format!("{level}, until it ends"),
        None => level,
    }
}

fn queues(registry: &Registry) -> String {
    if registry.queues.is_empty() {
        return "Queues\n  none: a front announces those of its routes when it starts".to_owned();
    }
    let mut table = Table::new(&["name", "waiting", "workers", "dead letters", "workers lost"]);
    for QueueState { name, depth, dead, reaped, workers } in &registry.queues {
        let numbers = [*depth, workers.len() as u64, *dead, *reaped].map(|number| number.to_string());
        table.row([name.clone()].into_iter().chain(numbers));
    }
    section("Queues", &table)
}

fn workers(registry: &Registry) -> String {
    if registry.queues.iter().all(|queue| queue.workers.is_empty()) {
        return "Workers\n  none has registered. Workers with an SDK and those that `tempest up` starts do;\n  \
                a script that only pops and answers works all the same and is not seen here"
            .to_owned();
    }
    let mut table = Table::new(&["queue", "id", "language", "pid", "host", "state", "done", "up for"]);
    for queue in &registry.queues {
        for record in &queue.workers {
            let field = |name| text(&record[name]);
            let up = age(registry.at, &record["started"]);
            let cells = ["id", "language", "pid", "host", "state", "done"].map(field);
            table.row([queue.name.clone()].into_iter().chain(cells).chain([up]));
        }
    }
    section("Workers", &table)
}

/// What supervisors say of their processes; one that waits to be started again has no worker of its own.
fn processes(registry: &Registry) -> String {
    if registry.supervisors.is_empty() {
        return "Processes\n  none is supervised: `tempest up` and `tempest supervise` do".to_owned();
    }
    let mut table =
        Table::new(&["place", "queue", "host", "pid", "worker", "state", "restarts", "last exit", "at (ago)"]);
    for supervisor in &registry.supervisors {
        for process in supervisor["processes"].as_array().into_iter().flatten() {
            let field = |name| text(&process[name]);
            let state = match process["until"].as_u64() {
                Some(until) => format!("waiting {} to restart", duration(until.saturating_sub(registry.at))),
                None => field("state"),
            };
            let (host, ago) = (text(&supervisor["host"]), age(registry.at, &process["last_exit_at"]));
            let [place, queue, pid, worker] = ["place", "queue", "pid", "worker"].map(field);
            let [restarts, last] = ["restarts", "last_exit"].map(field);
            table.row([place, queue, host, pid, worker, state, restarts, last, ago]);
        }
    }
    section("Processes", &table)
}

fn problems(registry: &Registry) -> String {
    let records = registry.fronts.iter().map(|front| &front.record).chain(&registry.supervisors);
    let mut all: Vec<&Value> = records.filter_map(|record| record["problems"].as_array()).flatten().collect();
    if all.is_empty() {
        return "Recent problems\n  none".to_owned();
    }
    all.sort_by_key(|problem| std::cmp::Reverse(problem["at"].as_u64()));
    let mut table = Table::new(&["ago", "what", "queue", "request", "detail"]);
    for problem in all.into_iter().take(PROBLEMS) {
        let cells = ["what", "queue", "request", "detail"].map(|name| text(&problem[name]));
        table.row([age(registry.at, &problem["at"])].into_iter().chain(cells));
    }
    section("Recent problems", &table)
}

fn age(now: u64, since: &Value) -> String {
    since.as_u64().map_or_else(|| UNKNOWN.to_owned(), |since| duration(now.saturating_sub(since)))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => UNKNOWN.to_owned(),
        Value::String(text) if text.is_empty() => UNKNOWN.to_owned(),
        Value::String(text) => printable(text),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_picture_says_what_to_do() {
        let empty = Registry::default();
        assert!(fronts(&empty).contains("tempest up"));
        assert!(workers(&empty).contains("none has registered"));
        assert!(
            queues(&empty).contains("none") && processes(&empty).contains("none") && problems(&empty).contains("none")
        );
    }

    #[test]
    fn records_of_any_shape_are_shown() {
        let record = json!({"pid": 7, "host": "h", "started": 1_000, "listen": ["127.0.0.1:1337"],
            "counters": {"requests": 12, "in_flight": 0}, "log": {"level": "debug", "configured": "info", "until": 121_000},
            "problems": [{"at": 60_000, "what": "malformed-answer", "detail": "no\nid"}]});
        let worker = json!({"id": "ruby.1", "language": "ruby", "started": "yesterday"});
        let registry = Registry {
            at: 61_000,
            fronts: vec![FrontState { id: "f".into(), reactors: 1, record }],
            queues: vec![QueueState { name: "web".into(), depth: 3, workers: vec![worker], ..QueueState::default() }],
            supervisors: vec![json!({"host": "h", "processes": [
                {"place": "web.1", "queue": "web", "pid": 7, "worker": "web.1-a", "state": "busy", "restarts": 0},
                {"place": "web.2", "queue": "web", "state": "waiting", "until": 64_000, "restarts": 3,
                 "last_exit": "SIGSEGV", "last_exit_at": 60_000}]})],
        };
        assert!(
            fronts(&registry)
                .ends_with("f   7    h     1m 0s   127.0.0.1:1337  12        0          -        debug, 1m 0s left"),
            "{}",
            fronts(&registry)
        );
        assert!(workers(&registry).contains("web    ruby.1  ruby"), "{}", workers(&registry));
        let lines: Vec<String> = processes(&registry).lines().map(str::to_owned).collect();
        assert!(lines[2].ends_with("web.1-a  busy                   0         -          -"), "{lines:?}");
        assert!(lines[3].ends_with("-        waiting 3s to restart  3         SIGSEGV    1s"), "{lines:?}");
        assert!(problems(&registry).contains("1s   malformed-answer"), "{}", problems(&registry));
        assert!(!problems(&registry).contains("no\nid"));
    }
}
