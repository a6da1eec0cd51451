//! How long a held stream lives: longer than its worker, and no longer than its client.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempest_tests::{Item, Process, Signal, Sse, World, python_with_sdk, rust_example, wait_until};

use super::{got, held, past_first_lines};

const PYTHON: &str = r#"
from tempest_worker import App, hold

app = App()


@app.get("/orders/{order}/events")
def events(request):
    return hold([f"orders.{request.params['order']}"], first="welcome")
"#;

/// With nothing but the client of Redis.
const BASH: &str = r#"
cli=(redis-cli -u "$REDIS_URL")
job='^\{"v":1,"id":"([^"]+)","attempt":[0-9]+,"deadline":[0-9]+,"timeout_ms":[0-9]+,"reply_to":"([^"]+)",'
while :; do
  { read -r list; read -r head; } < <("${cli[@]}" BLPOP "$TEMPEST_QUEUE" 5)
  if [[ $head =~ $job ]]; then
    "${cli[@]}" RPUSH "${BASH_REMATCH[2]}" '{"id":"'"${BASH_REMATCH[1]}"'","hold":{"channels":["orders.42"],"first":"welcome"}}'
  fi
done
"#;

fn worker(world: &World, language: &str) -> Process {
    let mut command = match language {
        "rust" => Command::new(rust_example("hold")),
        "python" => {
            fs::write(world.dir().join("holding.py"), PYTHON).expect("the folder of a test is writable");
            let mut command = Command::new(python_with_sdk());
            command.args(["-m", "tempest_worker", "holding:app"]);
            command
        }
        _ => {
            let mut command = Command::new("bash");
            command.args(["-c", BASH]);
            command
        }
    };
    command.current_dir(world.dir()).env("REDIS_URL", world.redis.url()).env("TEMPEST_QUEUE", "tempest:web");
    Process::start(language, world.mark(), command)
}

#[test]
fn a_worker_holds_and_is_killed_and_the_stream_lives() {
    for language in ["rust", "python", "bash"] {
        // No channel is public: the worker's answer is the permission.
        let mut world = World::builder().set("channels.public = []").start();
        let mut worker = worker(&world, language);
        let mut stream = Sse::open(world.front.address(), "/orders/42/events");
        assert_eq!(stream.data(), "welcome", "{language}");
        worker.kill();
        assert!(!worker.is_running());
        for n in 0..20 {
            assert_eq!(world.redis.publish("orders.42", n.to_string()), 1);
            assert_eq!(stream.data(), n.to_string(), "{language}");
        }
        // A request that waits has the dead worker looked for and taken out; the stream lives on behind that, too. (What
        // is left of the bash worker is a pop that would take the job.)
        if language != "bash" {
            let mut http = world.http();
            http.request("GET", "/page", &[], b"");
            wait_until("the dead worker to be taken out", || {
                world.redis.cmd(&["EXISTS", "{tempest:web}:claimers"]).int() == 0
            });
            let job = world.take();
            world.ok(&job, "a page");
            assert_eq!(http.response().text(), "a page");
        }
        world.redis.publish("orders.42", "behind its death");
        assert_eq!(stream.data(), "behind its death", "{language}");
        assert_eq!(world.count("tempest_requests_orphaned_total", &[]), 0);
        assert_eq!(world.gauge("tempest_streams_open"), 1);
        drop((stream, worker));
        world.finish();
    }
}

#[test]
fn the_request_is_over_when_it_is_held() {
    let mut world =
        World::builder().table("[[route]]\npath = \"/{rest...}\"\nqueue = \"web\"\ntimeout = \"1s\"\n").start();
    let mut http = world.http();
    http.request("GET", "/events", &[], b"");
    let job = world.take();
    world.answer(&job, json!({"hold": {"channels": ["a"]}}), "");
    let head = http.read_head().expect("a head");
    let mut stream = Sse::after(http, head);
    past_first_lines(&mut stream);
    // A second answer, a late part and the worker's death find nobody.
    world.ok(&job, "too late");
    world.answer(&job, json!({"n": 1, "more": true}), "too late");
    world.answer(&job, json!({"kind": "died", "attempt": 1, "started": true, "certain": true, "worker": "w"}), "");
    wait_until("all to be counted", || world.count("tempest_answers_total", &["late"]) == 3);
    let lasted = std::time::Instant::now();
    wait_until("the deadline to be over", || lasted.elapsed() > Duration::from_millis(1200));
    assert_eq!(world.count("tempest_request_timeouts_total", &[]), 0);
    world.redis.publish("a", "still there");
    assert_eq!(stream.data(), "still there");
    assert_eq!(world.count("tempest_answers_total", &["answered"]), 1);
    drop(stream);
    world.finish();
}

#[test]
fn a_client_that_leaves_gives_everything_back() {
    let mut world = World::start();
    for content_type in ["text/event-stream", "text/plain"] {
        for _ in 0..5 {
            let fields = json!({"headers": {"content-type": content_type}, "hold": {"channels": ["a", "b"]}});
            let (http, head) = got(&mut world, fields);
            assert_eq!(head.status, 200);
            for channel in ["a", "b"] {
                assert_eq!(world.redis.subscribers(channel), 1);
            }
            drop(http);
            wait_until("the subscriptions to be given up", || {
                world.redis.subscribers("a") + world.redis.subscribers("b") == 0
            });
        }
        wait_until("the streams to be closed", || world.gauge("tempest_streams_open") == 0);
    }
    assert_eq!(world.count("tempest_stream_drops_total", &["client"]), 10);
    assert_eq!(world.count("tempest_clients_gone_total", &[]), 0, "they left streams, and no requests");
    world.finish();
}

#[test]
fn a_stream_ends_at_its_time_and_at_unsubscribe_where_that_is_allowed() {
    let mut world = World::builder().table("[[channels.rule]]\npattern = \"jobs.*\"\ncontrol = true\n").start();
    let mut stream = held(&mut world, json!({"channels": ["news"], "timeout": 300}));
    let items = stream.until_end();
    assert!(items.iter().any(|item| matches!(item, Item::Retry(2000))), "an EventSource comes back: {items:?}");
    let mut stream = held(&mut world, json!({"channels": ["jobs.7", "news"]}));
    world.redis.publish("news", "[\"$unsubscribe\"]");
    assert_eq!(stream.data(), "$unsubscribe", "data, where it is not allowed");
    world.redis.publish("jobs.7", "[\"$unsubscribe\"]");
    assert_eq!(stream.item(), Item::Retry(2_147_483_647));
    assert_eq!(stream.event().name, "end");
    assert_eq!(stream.until_end(), []);
    world.finish();
}

#[test]
fn a_front_that_stops_says_goodbye_to_held_streams() {
    let mut world = World::start();
    let mut streams: Vec<_> = (0..5).map(|_| held(&mut world, json!({"channels": ["a", "b"]}))).collect();
    streams.iter_mut().for_each(past_first_lines);
    world.front.process.signal(Signal::TERM);
    for stream in &mut streams {
        let rest = stream.until_end();
        assert!(rest.iter().any(|item| matches!(item, Item::Retry(_))), "a time to come back: {rest:?}");
    }
    assert!(world.front.process.wait().success());
    drop(streams);
    world.finish_without_front();
}

#[test]
fn without_redis_a_held_stream_is_told_to_come_back_and_the_others_are_refused() {
    let mut world = World::builder().set("channels.subscribe_time = \"300ms\"").start();
    for (fields, status) in [
        (json!({"headers": {"access-control-allow-origin": "*"}, "hold": {"channels": ["a"]}}), 200),
        (json!({"headers": {"content-type": "text/plain"}, "hold": {"channels": ["a"]}}), 503),
        (json!({"hold": {"channels": ["a"], "mode": "once"}}), 503),
    ] {
        let mut http = world.http();
        http.request("GET", "/events", &[], b"");
        let job = world.take();
        // Redis answers the front's reads, and its subscriptions no more.
        world.redis.cmd(&["ACL", "SETUSER", "default", "-subscribe"]);
        world.answer(&job, fields, "");
        let response = http.response();
        assert_eq!(response.status, status, "{response:?}");
        if status == 200 {
            assert_eq!(response.header("access-control-allow-origin"), Some("*"));
            assert!(response.text().starts_with(':') && response.text().contains("retry: 2000"), "{response:?}");
        } else {
            assert!(response.header("retry-after").is_some());
        }
        world.redis.cmd(&["ACL", "SETUSER", "default", "+subscribe"]);
    }
    let mut back = held(&mut world, json!({"channels": ["b"]}));
    wait_until("the subscription", || world.redis.publish("b", "back") == 1);
    assert_eq!(back.data(), "back");
    drop(back);
    world.finish();
}

#[test]
fn two_fronts_hold_for_one_worker() {
    let mut world = World::start();
    let config = format!(
        "redis.url = \"{}\"\nfront.listen = [\"127.0.0.1:0\"]\nfront.admin = \"127.0.0.1:0\"\nlog.format = \"json\"\n",
        world.redis.url()
    );
    let mut other = tempest_tests::Front::start(&world.dir().join("other"), world.mark(), &config);
    other.wait_ready();
    let mut streams = Vec::new();
    for address in [world.front.address(), other.address()] {
        let mut http = tempest_tests::Http::connect(address);
        http.request("GET", "/events", &[], b"");
        let job = world.take();
        world.answer(&job, json!({"hold": {"channels": ["a", "b"]}}), "");
        let head = http.read_head().expect("a head");
        streams.push(Sse::after(http, head));
    }
    for channel in ["a", "b"] {
        assert_eq!(world.redis.publish(channel, channel), 2);
        for stream in &mut streams {
            assert_eq!(stream.data(), channel);
        }
    }
    drop(streams);
    assert!(other.terminate().success());
    world.finish();
}
