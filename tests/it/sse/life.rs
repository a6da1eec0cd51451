//! How streams end without anybody's fault: their time is over, the front goes, the channel is gone for good.

use std::collections::BTreeSet;

use tempest_tests::{Chunk, Http, Item, Signal, Sse, World, wait_until};

/// The last `retry:` of what came on a stream.
fn come_back(items: &[Item]) -> u64 {
    let mut times = items.iter().filter_map(|item| if let Item::Retry(ms) = item { Some(*ms) } else { None });
    times.next_back().unwrap_or_else(|| panic!("a time to come back in {items:?}"))
}

fn has_comment(items: &[Item], words: &str) -> bool {
    items.iter().any(|item| matches!(item, Item::Comment(text) if text.contains(words)))
}

#[test]
fn a_stream_lasts_its_time_and_is_told_when_to_come_back() {
    let world = World::builder().set("channels.stream_life = \"1s\"").start();
    let mut streams: Vec<_> = (0..40).map(|n| Sse::open(world.front.address(), &format!("/sub/room-{n}"))).collect();
    let mut times = BTreeSet::new();
    for stream in &mut streams {
        let items = stream.until_end();
        assert!(has_comment(&items, "lasted"), "why it ended: {items:?}");
        times.insert(come_back(&items));
    }
    assert!(times.iter().all(|ms| (1000..=2000).contains(ms)), "{times:?}");
    assert!(times.len() > 20, "not all at once: {times:?}");
    assert_eq!(world.count("tempest_stream_drops_total", &["life"]), 40);
    let mut raw = Sse::open(world.front.address(), "/sub/news");
    let ended = loop {
        match raw.http().chunk() {
            Chunk::Data(_) => {}
            other => break other,
        }
    };
    assert_eq!(ended, Chunk::End, "the response ends in order");
    world.finish();
}

#[test]
fn what_waits_for_a_reader_is_written_before_its_stream_ends() {
    // More than the sockets between can hold.
    const MESSAGES: usize = 24;
    let text = "x".repeat(1_000_000);
    let mut world =
        World::builder().set("channels.stream_life = \"2s\"").set("channels.buffer_bytes = \"64MiB\"").start();
    let whole = |n: usize| format!("{n} {text}");
    let (mut slow, mut quick) = loop {
        let (slow, mut quick) = (world.front.subscribe("news"), world.front.subscribe("news"));
        let over = world.count("tempest_stream_drops_total", &["life"]);
        for n in 0..MESSAGES {
            world.redis.publish("news", whole(n));
        }
        let came = |stream: &mut Sse| loop {
            match stream.try_item() {
                Ok(Item::Event(_)) => break true,
                Ok(_) => {}
                Err(_) => break false,
            }
        };
        let all_came = (0..MESSAGES).all(|_| came(&mut quick));
        // On a machine that is slow just now the streams may have ended before all was published: once more.
        if world.count("tempest_stream_drops_total", &["life"]) == over && all_came {
            break (slow, quick);
        }
        drop((slow, quick));
    };
    let seen = quick.until_end();
    assert!(has_comment(&seen, "lasted"), "the life of the one that reads is over, and the other's with it");
    let items = slow.until_end();
    let events: Vec<&str> = items
        .iter()
        .filter_map(|item| if let Item::Event(event) = item { Some(event.data.as_str()) } else { None })
        .collect();
    assert_eq!(events.len(), MESSAGES);
    assert!(events.iter().enumerate().all(|(n, data)| *data == whole(n)), "every one whole, in order");
    assert!(has_comment(&items[items.len() - 2..], "lasted"), "and the goodbye behind them");
    drop((slow, quick));
    world.finish();
}

#[test]
fn a_channel_that_is_gone_is_a_204_for_ever() {
    let world = World::builder()
        .set("channels.cors = [\"https://a.test\"]")
        .set("channels.public = [\"*.2025\", \"*.2026\"]")
        .table("[[channels.rule]]\npattern = \"kept.*\"\n[[channels.rule]]\npattern = \"*.2025\"\ngone = true")
        .start();
    let ask = |method: &str, target: &str| {
        let mut http = Http::connect(world.front.address());
        http.request(method, target, &["Origin: https://a.test", "Accept: text/event-stream"], b"");
        http.read_head().expect("a head")
    };
    for method in ["GET", "HEAD"] {
        let answer = ask(method, "/sub/cup.2025");
        assert_eq!((answer.status, answer.header("cache-control")), (204, Some("no-store")), "{method}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://a.test"));
        assert_eq!(answer.header("content-type"), None);
    }
    assert_eq!(ask("GET", "/sub/cup.2026").status, 200);
    assert_eq!(ask("GET", "/sub/kept.2025").status, 200, "the first rule that matches holds");
    assert_eq!(ask("GET", "/sub/secret").status, 403);
    world.finish();
}

#[test]
fn the_goodbyes_of_a_drain_are_spread() {
    let mut world = World::builder().set("channels.goodbye = \"4s\"").set("front.grace = \"20s\"").start();
    let mut streams: Vec<_> = (0..40).map(|n| world.front.subscribe(&format!("room-{}", n % 2))).collect();
    world.front.process.signal(Signal::TERM);
    wait_until("the first to be sent away", || world.gauge("tempest_streams_open") < 40);
    world.redis.publish("room-0", "meanwhile");
    world.redis.publish("room-1", "meanwhile");
    let mut times = BTreeSet::new();
    let mut reached = 0;
    for stream in &mut streams {
        let items = stream.until_end();
        assert!(has_comment(&items, "going away"), "{items:?}");
        times.insert(come_back(&items));
        reached += usize::from(items.iter().any(|item| matches!(item, Item::Event(_))));
    }
    assert!((1..40).contains(&reached), "{reached} of 40 were still there");
    assert!(times.len() > 20, "{times:?}");
    assert!(world.front.process.wait().success());
    drop(streams);
    world.finish_without_front();
}

#[test]
fn every_stream_hears_a_goodbye_within_the_grace() {
    let mut world = World::builder().set("channels.goodbye = \"1h\"").set("front.grace = \"2s\"").start();
    let mut streams: Vec<_> = (0..20).map(|_| world.front.subscribe("news")).collect();
    world.front.process.signal(Signal::TERM);
    for stream in &mut streams {
        let items = stream.until_end();
        assert!(has_comment(&items, "going away"), "{items:?}");
    }
    assert!(world.front.process.wait().success());
    drop(streams);
    world.finish_without_front();
}
