//! Reloads under load: no request fails, no stream ends, no event is lost.

use tempest_tests::{Client, Load, Sse, TestWorker, World};

/// Streams that are open all the time.
const STREAMS: usize = 100;
/// Reloads.
const ROUNDS: usize = 6;
/// Messages before and after each.
const MESSAGES: usize = 20;

fn publish(world: &mut World, round: usize, part: &str) {
    for number in 0..MESSAGES {
        world.redis.cmd(&["PUBLISH", "news", &format!("{round} {part} {number}")]);
    }
}

#[track_caller]
fn read(streams: &mut [Sse], round: usize, part: &str) {
    for stream in streams {
        for number in 0..MESSAGES {
            assert_eq!(stream.data(), format!("{round} {part} {number}"));
        }
    }
}

/// The configuration of a round: another queue, and other limits.
fn settings(round: usize) -> String {
    let (queue, more) = if round % 2 == 1 { ("other", 1000) } else { ("web", 0) };
    format!(
        "limits.pending = {}\nlimits.idle_time = \"{}s\"\nlimits.connections = {}\nchannels.heartbeat = \"{}s\"\n\
         channels.streams = {}\nlog.level = \"{}\"\n\
         [[route]]\npath = \"/sub/{{channel...}}\"\nkind = \"subscribe\"\n\
         [[route]]\npath = \"/{{rest...}}\"\nqueue = \"{queue}\"\nqueue_depth = {}\n",
        5000 + more,
        60 + round,
        8000 + more,
        10 + round,
        1000 + more,
        if round % 2 == 1 { "debug" } else { "info" },
        9000 + more,
    )
}

#[test]
fn no_request_fails_and_no_stream_ends() {
    let mut world = World::builder().set("front.reactors = 2").table(&settings(0)).start();
    let workers = ["tempest:web", "tempest:other"].map(|queue| TestWorker::start(&world.redis, queue, Load::answer));
    let mut streams: Vec<Sse> = (0..STREAMS).map(|_| world.front.subscribe("news")).collect();
    let load = Load::start(world.front.address(), &Client::ALL);
    load.go_on(100);
    for round in 1..=ROUNDS {
        publish(&mut world, round, "before");
        let taken = workers[round % 2].taken().len();
        world.configure(|text| text.replace(&settings(round - 1), &settings(round)));
        assert!(world.hang_up());
        publish(&mut world, round, "after");
        load.go_on(100);
        assert!(workers[round % 2].taken().len() > taken + 50, "requests go to the other queue");
        read(&mut streams, round, "before");
        read(&mut streams, round, "after");
    }
    assert_eq!(load.end(), Vec::<String>::new());
    assert_eq!(world.gauge("tempest_streams_open"), i64::try_from(STREAMS).expect("few"));
    assert_eq!(world.count("tempest_stream_drops_total", &[]), 0);
    drop((streams, workers));
    world.finish();
}
