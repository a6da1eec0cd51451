//! Channels with history: who comes late or comes back gets what was missed, once and in order, or is told what is gone.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tempest_tests::{Front, Item, Redis, Sse, World, repository, wait_until};

/// Publishes through the script of the contract; gives the id.
#[track_caller]
pub(crate) fn publish(redis: &mut Redis, channel: &str, payload: &str) -> String {
    keep(redis, channel, payload, 1000)
}

/// The same, keeping so many messages.
#[track_caller]
pub(super) fn keep(redis: &mut Redis, channel: &str, payload: &str, messages: usize) -> String {
    let script =
        std::fs::read_to_string(repository().join("worker-sdk/protocol/scripts/publish.lua")).expect("a script");
    let (log, messages) = (format!("tempest:log:{channel}"), messages.to_string());
    redis.cmd(&["EVAL", &script, "1", &log, payload, &messages, "3600000"]).list()[0].text()
}

/// A world whose channels `log.*` keep their messages.
pub(super) fn world() -> World {
    World::builder()
        .table("[[channels.rule]]\npattern = \"log.*\"\nhistory = { messages = 1000, time = \"1h\" }")
        .start()
}

/// Another front on the same Redis.
pub(super) fn second(world: &World) -> Front {
    let config = format!(
        "redis.url = \"{}\"\nfront.listen = [\"127.0.0.1:0\"]\nfront.admin = \"127.0.0.1:0\"\nchannels.public = [\"*\"]\nlog.format = \
         \"json\"\n[[channels.rule]]\npattern = \"log.*\"\nhistory = {{ messages = 1000, time = \"1h\" }}",
        world.redis.url()
    );
    let front = Front::start(&world.dir().join("second"), world.mark(), &config);
    front.wait_ready();
    front
}

#[track_caller]
fn assert_gets(stream: &mut Sse, messages: impl IntoIterator<Item = usize>) {
    for n in messages {
        assert_eq!(stream.data(), n.to_string());
    }
}

/// The next event must say that messages are gone.
#[track_caller]
fn loss(stream: &mut Sse) -> Json {
    let event = stream.event();
    assert_eq!(event.name, "$lost", "{event:?}");
    serde_json::from_str(&event.data).expect("JSON")
}

#[test]
fn events_carry_ids_and_who_comes_back_gets_what_was_missed_on_any_front() {
    let mut world = world();
    let mut other = second(&world);
    let mut stream = world.front.subscribe("log.a");
    assert_eq!(stream.head.header("tempest-last-event-id"), Some("0-0"));
    let ids: Vec<_> = (0..10).map(|n| publish(&mut world.redis, "log.a", &n.to_string())).collect();
    for (n, id) in ids.iter().enumerate() {
        let event = stream.event();
        assert_eq!((event.data, &event.id), (n.to_string(), id));
    }
    drop(stream);
    for (front, next) in [(&world.front, 10), (&other, 11)] {
        let mut back = Sse::resume(front.address(), "/sub/log.a", &ids[3]);
        assert_eq!(back.head.header("tempest-resume"), Some("complete"));
        assert_eq!(back.head.header("tempest-last-event-id"), Some(&*ids[3]));
        assert_gets(&mut back, 4..next);
        publish(&mut world.redis, "log.a", &next.to_string());
        assert_gets(&mut back, [next]);
        assert!(back.is_silent_for(Duration::from_millis(50)), "nothing comes twice");
    }
    other.terminate();
    world.finish();
}

#[test]
fn an_id_comes_in_a_header_or_in_the_query_under_three_names() {
    let mut world = world();
    let first = publish(&mut world.redis, "log.a", "0");
    publish(&mut world.redis, "log.a", "1");
    for name in ["lastEventId", "lastEventID", "last_event_id"] {
        let mut stream = world.front.subscribe(&format!("log.a?{name}={first}"));
        assert_gets(&mut stream, [1]);
    }
    // What the page put into its address is older than what its EventSource remembers.
    let mut stream = Sse::resume(world.front.address(), "/sub/log.a?lastEventId=0-0", &first);
    assert_gets(&mut stream, [1]);
    drop(stream);
    world.finish();
}

#[test]
fn a_stream_can_begin_in_the_past() {
    let mut world = world();
    let ids: Vec<_> = (0..5).map(|n| publish(&mut world.redis, "log.a", &n.to_string())).collect();
    let time = ids[2].split('-').next().expect("a time").to_owned();
    let (before, after): (Vec<_>, Vec<_>) = ids.iter().partition(|id| id.split('-').next().expect("a time") < &*time);
    for (since, first) in
        [("earliest", 0), (ids[1].as_str(), 2), (time.as_str(), before.len()), ("1970-01-01T00:00:00Z", 0)]
    {
        let mut stream = world.front.subscribe(&format!("log.a?since={since}"));
        assert!(stream.head.header("tempest-resume").is_none(), "it is no return");
        assert_gets(&mut stream, first..5);
    }
    assert_eq!(before.len() + after.len(), 5);
    let mut stream = world.front.subscribe("log.a?since=latest");
    publish(&mut world.redis, "log.a", "5");
    assert_gets(&mut stream, [5]);
    assert_eq!(world.http().get("/sub/log.a?since=yesterday").status, 400);
    assert_eq!(world.http().get("/sub/log.a?since=").status, 400);
    drop(stream);
    world.finish();
}

#[test]
fn what_is_not_kept_any_more_is_announced_with_its_number() {
    let mut world = world();
    let first = keep(&mut world.redis, "log.a", "0", 3);
    for n in 1..10 {
        keep(&mut world.redis, "log.a", &n.to_string(), 3);
    }
    let mut stream = Sse::resume(world.front.address(), "/sub/log.a", &first);
    assert_eq!(stream.head.header("tempest-resume"), Some("lost"));
    let lost = loss(&mut stream);
    assert_eq!((&lost["channel"], &lost["missed"], &lost["after"]), (&json!("log.a"), &json!(6), &json!(first)));
    assert_gets(&mut stream, 7..10);
    assert_eq!(world.count("tempest_stream_resumes_total", &["lost"]), 1);
    drop(stream);
    world.finish();
}

#[test]
fn what_is_too_old_is_not_sent_though_redis_has_it_still() {
    let mut world = world();
    // As a log looks in which nothing was published since: only a publication trims it.
    world.redis.cmd(&["XADD", "tempest:log:log.a", "1000-1", "prev", "0-0", "data", "from 1970"]);
    world.redis.cmd(&["XADD", "tempest:log:log.a", "*", "prev", "1000-1", "data", "0"]);
    for since in ["earliest", "1970-01-01T00:00:00Z"] {
        let mut stream = world.front.subscribe(&format!("log.a?since={since}"));
        assert_gets(&mut stream, [0]);
    }
    world.redis.cmd(&["DEL", "tempest:log:log.a"]);
    world.finish();
}

#[test]
fn an_id_that_cannot_be_known_is_a_loss_of_unknown_size_and_never_an_error() {
    let mut world = world();
    let last = publish(&mut world.redis, "log.a", "0");
    for foreign in ["urn:uuid:9", "1", "99999999999999-1", "5-1,6-1", "18446744073709551616-1", "ü"] {
        let mut stream = Sse::resume(world.front.address(), "/sub/log.a", foreign);
        assert_eq!(stream.head.header("tempest-resume"), Some("lost"), "{foreign}");
        assert_eq!(loss(&mut stream)["missed"], Json::Null, "{foreign}");
        assert_eq!(stream.last_id, last, "{foreign}: it goes on from the end");
    }
    world.finish();
}

#[test]
fn a_client_that_saw_nothing_yet_comes_back_to_where_it_began() {
    let mut world = world();
    publish(&mut world.redis, "log.a", "before");
    let mut stream = world.front.subscribe("log.a");
    assert!(matches!(stream.item(), Item::Retry(_)));
    let begun = stream.last_id.clone();
    drop(stream);
    publish(&mut world.redis, "log.a", "0");
    let mut back = Sse::resume(world.front.address(), "/sub/log.a", &begun);
    assert_gets(&mut back, [0]);
    drop(back);
    world.finish();
}

#[test]
fn strangers_who_write_to_a_log_or_publish_plainly_break_nothing() {
    let mut world = world();
    let mut stream = world.front.subscribe("log.a");
    let first = publish(&mut world.redis, "log.a", "0");
    assert_gets(&mut stream, [0]);
    // Kept, found by the next announcement. Plain: live only, without an id.
    world.redis.cmd(&["XADD", "tempest:log:log.a", "*", "data", "1"]);
    world.redis.cmd(&["XADD", "tempest:log:log.a", "*", "note", "no message"]);
    world.redis.publish("log.a", "plain");
    assert_eq!(stream.event().id, "");
    publish(&mut world.redis, "log.a", "2");
    assert_gets(&mut stream, [1, 2]);
    let mut back = Sse::resume(world.front.address(), "/sub/log.a", &first);
    assert_gets(&mut back, [1, 2]);
    // Words on the channel of announcements that are none.
    world.redis.publish("tempest:log:log.a", "hello");
    world.redis.publish("tempest:log:log.a", "5-5 5-4 forged");
    publish(&mut world.redis, "log.a", "3");
    for stream in [&mut stream, &mut back] {
        assert_gets(stream, [3]);
        assert!(stream.is_silent_for(Duration::from_millis(50)));
    }
    drop((stream, back));
    world.finish();
}

#[test]
fn nothing_is_missed_while_the_subscription_is_cut() {
    let mut world = world();
    let mut stream = world.front.subscribe("log.a");
    let mut sent = 0;
    for _ in 0..20 {
        world.redis.cut_clients_named("tempest:");
        world.redis.cut_subscriptions();
        for _ in 0..50 {
            publish(&mut world.redis, "log.a", &sent.to_string());
            sent += 1;
        }
    }
    assert_gets(&mut stream, 0..sent);
    drop(stream);
    world.finish();
}

#[test]
fn what_was_published_while_the_subscription_was_away_comes_by_itself() {
    let mut world = world();
    let mut stream = world.front.subscribe("log.a");
    publish(&mut world.redis, "log.a", "0");
    assert_gets(&mut stream, [0]);
    world.redis.cmd(&["ACL", "SETUSER", "default", "-subscribe"]);
    world.redis.cut_subscriptions();
    wait_until("nobody to be subscribed", || world.redis.subscribers("tempest:log:log.a") == 0);
    publish(&mut world.redis, "log.a", "1");
    world.redis.cmd(&["ACL", "SETUSER", "default", "+subscribe"]);
    // Nothing is published behind it by which a gap would be seen.
    assert_gets(&mut stream, [1]);
    drop(stream);
    world.finish();
}

#[test]
fn nothing_is_missed_through_a_restart_of_redis_that_keeps_its_data() {
    let mut world = world();
    world.redis.keep(Some("always"));
    world.restart_redis();
    let mut stream = world.front.subscribe("log.a");
    let last = publish(&mut world.redis, "log.a", "0");
    assert_gets(&mut stream, [0]);
    world.redis.kill();
    world.redis.restart();
    world.redis.renew_client();
    publish(&mut world.redis, "log.a", "1");
    assert_gets(&mut stream, [1]);
    let mut back = Sse::resume(world.front.address(), "/sub/log.a", &last);
    assert_gets(&mut back, [1]);
    drop((stream, back));
    world.finish();
}

#[test]
fn who_comes_back_is_not_sent_away_while_the_log_cannot_be_read() {
    let mut world = world();
    let mut stream = world.front.subscribe("log.a");
    let last = publish(&mut world.redis, "log.a", "0");
    publish(&mut world.redis, "log.a", "1");
    assert_gets(&mut stream, [0, 1]);
    world.redis.cmd(&["RENAME", "tempest:log:log.a", "aside"]);
    world.redis.cmd(&["SET", "tempest:log:log.a", "no log"]);
    let (address, reads) = (world.front.address(), world.front.metrics().sum("tempest_log_reads_total", &[]));
    let coming = std::thread::spawn(move || Sse::resume(address, "/sub/log.a", &last));
    wait_until("the front to try", || world.front.metrics().sum("tempest_log_reads_total", &[]) > reads);
    world.redis.cmd(&["RENAME", "aside", "tempest:log:log.a"]);
    let mut back = coming.join().expect("a stream");
    assert_gets(&mut back, [1]);
    drop((stream, back));
    world.finish();
}

#[test]
fn a_redis_that_forgot_is_told_from_one_that_had_nothing_new() {
    let mut world = world();
    let mut stream = world.front.subscribe("log.a");
    let last = publish(&mut world.redis, "log.a", "0");
    assert_gets(&mut stream, [0]);
    world.restart_redis();
    assert_eq!(loss(&mut stream)["missed"], Json::Null);
    publish(&mut world.redis, "log.a", "1");
    assert_gets(&mut stream, [1]);
    let mut back = Sse::resume(world.front.address(), "/sub/log.a", &last);
    assert_eq!(loss(&mut back)["missed"], Json::Null);
    drop((stream, back));
    world.finish();
}

#[test]
fn a_hole_behind_what_is_still_in_memory_is_told_to_who_comes_back() {
    let mut world = world();
    let mut stream = world.front.subscribe("log.a");
    let ids: Vec<_> = (0..8).map(|n| publish(&mut world.redis, "log.a", &n.to_string())).collect();
    assert_gets(&mut stream, 0..8);
    world.restart_redis();
    assert_eq!(loss(&mut stream)["missed"], Json::Null);
    // Among the newer ones that the front has in memory, so it is found there, with the hole behind it.
    let mut back = Sse::resume(world.front.address(), "/sub/log.a", &ids[7]);
    assert_eq!(back.head.header("tempest-resume"), Some("lost"));
    assert_eq!(loss(&mut back)["missed"], Json::Null);
    publish(&mut world.redis, "log.a", "8");
    for stream in [&mut stream, &mut back] {
        assert_gets(stream, [8]);
    }
    drop((stream, back));
    world.finish();
}

#[test]
fn a_resume_costs_what_was_missed_and_little_where_it_is_still_at_hand() {
    let mut world = world();
    let _reader = world.front.subscribe("log.a");
    let ids: Vec<_> = (0..400).map(|n| publish(&mut world.redis, "log.a", &n.to_string())).collect();
    wait_until("all to have come", || world.count("tempest_stream_deliveries_total", &[]) >= 400);
    let reads = |world: &World| world.count("tempest_log_reads_total", &[]);
    let before = reads(&world);
    for _ in 0..50 {
        let mut back = Sse::resume(world.front.address(), "/sub/log.a", &ids[390]);
        assert_gets(&mut back, 391..400);
    }
    assert_eq!(reads(&world), before, "they are in memory");
    // Nobody reads log.b here, so nothing of it is.
    let ids: Vec<_> = (0..900).map(|n| publish(&mut world.redis, "log.b", &n.to_string())).collect();
    world.redis.cmd(&["CONFIG", "RESETSTAT"]);
    let mut back = Sse::resume(world.front.address(), "/sub/log.b", &ids[889]);
    assert_gets(&mut back, 890..900);
    assert_eq!(world.count("tempest_stream_replayed_total", &[]), 10);
    drop(back);
    let mut back = Sse::resume(world.front.address(), "/sub/log.b", "0-0");
    assert_gets(&mut back, 0..900);
    drop((back, _reader));
    world.finish();
}

#[test]
fn readers_that_come_back_again_and_again_get_all_once_and_in_order() {
    const MESSAGES: usize = 2000;
    let mut world = world();
    let other = second(&world);
    let addresses = [world.front.address(), other.address()];
    let readers: Vec<_> = (0..20)
        .map(|reader| {
            std::thread::spawn(move || {
                let mut last = "0-0".to_owned();
                let mut next = 0;
                let mut round = reader;
                while next < MESSAGES {
                    let mut stream = Sse::resume(addresses[round % 2], "/sub/log.a", &last);
                    // Each cut comes at another message.
                    for _ in 0..1 + (round * 7) % 90 {
                        if next == MESSAGES {
                            break;
                        }
                        let event = match stream.try_item() {
                            Ok(Item::Event(event)) => event,
                            Ok(_) => continue,
                            // Redis was away in the middle of the past: it comes back like any EventSource.
                            Err(_) => break,
                        };
                        assert_eq!((event.name.as_str(), event.data), ("", next.to_string()));
                        last = event.id;
                        next += 1;
                    }
                    round += 3;
                }
            })
        })
        .collect();
    for n in 0..MESSAGES {
        keep(&mut world.redis, "log.a", &n.to_string(), MESSAGES);
        if n % 200 == 100 {
            world.redis.cut_clients_named("tempest:");
            world.redis.cut_subscriptions();
        }
    }
    for reader in readers {
        reader.join().expect("nothing was lost, doubled or out of order");
    }
    drop(other);
    world.finish();
}

#[test]
fn a_reader_that_does_not_read_what_it_missed_holds_little_of_it() {
    let mut world = world();
    let text = "x".repeat(100_000);
    for n in 0..300 {
        publish(&mut world.redis, "log.a", &format!("{n} {text}"));
    }
    let before = world.front.process.rss_bytes();
    let slow: Vec<_> = (0..20).map(|_| world.front.subscribe("log.a?since=earliest")).collect();
    let mut quick = world.front.subscribe("log.a?since=earliest");
    for n in 0..300 {
        assert!(quick.data().starts_with(&format!("{n} ")));
    }
    let grown = world.front.process.rss_bytes().saturating_sub(before);
    assert!(grown < 60_000_000, "30 MB wait for each of 20 readers, memory grew by {grown}");
    drop((slow, quick));
    world.finish();
}

#[test]
fn fronts_say_which_channels_keep_what() {
    let mut world = World::builder()
        .set("channels.prefix = \"live:\"")
        .table("[[channels.rule]]\npattern = \"a.raw\"\npayload = \"raw\"")
        .table("[[channels.rule]]\npattern = \"a.*\"\nhistory = { messages = 7, time = \"2s\" }")
        .start();
    let rules: Json = serde_json::from_str(&world.redis.cmd(&["GET", "tempest:@history"]).text()).expect("JSON");
    let expected = json!([
        {"prefix": "live:", "pattern": "a.raw", "messages": null, "ms": null},
        {"prefix": "live:", "pattern": "a.*", "messages": 7, "ms": 2000},
    ]);
    assert_eq!(rules, expected);
    // A channel with a prefix has its log under its name in Redis.
    let mut stream = world.front.subscribe("a.b");
    publish(&mut world.redis, "live:a.b", "0");
    assert_gets(&mut stream, [0]);
    drop(stream);
    world.finish();
}
