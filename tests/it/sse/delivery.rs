//! From one publication to every reader: one subscription, shared, in order; a reader that does not read slows nobody.

use std::time::Duration;

use tempest_tests::{Item, World, wait_until};

#[test]
fn many_readers_share_one_subscription_and_get_everything_in_order() {
    let mut world = World::start();
    let mut streams: Vec<_> = (0..200).map(|_| world.front.subscribe("news")).collect();
    assert_eq!(world.redis.subscribers("news"), 1);
    assert_eq!(world.gauge("tempest_streams_open"), 200);
    for n in 0..20 {
        assert_eq!(world.redis.publish("news", n.to_string()), 1);
    }
    for stream in &mut streams {
        for n in 0..20 {
            assert_eq!(stream.data(), n.to_string());
        }
    }
    wait_until("deliveries to be counted", || world.count("tempest_stream_deliveries_total", &[]) >= 4_000);
    drop(streams);
    wait_until("the subscription to be given up", || world.redis.subscribers("news") == 0);
    world.finish();
}

#[test]
fn readers_come_and_go_while_messages_flow() {
    let mut world = World::start();
    let mut stays = world.front.subscribe("news");
    for n in 0..100 {
        let mut guest = world.front.subscribe("news");
        world.redis.publish("news", n.to_string());
        assert_eq!((guest.data(), stays.data()), (n.to_string(), n.to_string()));
    }
    assert_eq!(world.redis.subscribers("news"), 1);
    drop(stays);
    world.finish();
}

#[test]
fn channels_do_not_mix() {
    let mut world = World::start();
    let mut streams: Vec<_> = (0..50).map(|n| world.front.subscribe(&format!("room-{n}"))).collect();
    for n in (0..50).rev() {
        world.redis.publish(&format!("room-{n}"), format!("for {n}"));
    }
    for (n, stream) in streams.iter_mut().enumerate() {
        assert_eq!(stream.data(), format!("for {n}"));
        assert!(n > 0 || stream.is_silent_for(Duration::from_millis(50)));
    }
    assert_eq!(world.gauge("tempest_channels_subscribed"), 50);
    drop(streams);
    world.finish();
}

#[test]
fn a_quiet_stream_hears_a_comment_now_and_then() {
    let world = World::builder().set("channels.heartbeat = \"1s\"").start();
    let mut stream = world.front.subscribe("quiet");
    assert!(matches!(stream.item(), Item::Retry(_)));
    for _ in 0..3 {
        assert!(matches!(stream.item(), Item::Comment(_)));
    }
    drop(stream);
    world.finish();
}

#[test]
fn a_reader_that_does_not_read_is_cut_and_counted_and_slows_nobody() {
    let mut world = World::start();
    let slow = world.front.subscribe("news");
    let mut quick = world.front.subscribe("news");
    let text = "x".repeat(60_000);
    let before = world.front.process.rss_bytes();
    for n in 0..600 {
        world.redis.publish("news", format!("{n} {text}"));
        assert!(quick.data().starts_with(&format!("{n} ")), "the quick one misses nothing");
    }
    wait_until("the slow one to be counted", || world.count("tempest_stream_drops_total", &["slow"]) == 1);
    assert_eq!(world.gauge("tempest_streams_open"), 1);
    let grown = world.front.process.rss_bytes().saturating_sub(before);
    assert!(grown < 16_000_000, "36 MB were published, memory grew by {grown}");
    drop((slow, quick));
    world.finish();
}

#[test]
fn too_many_small_messages_count_against_a_reader_too() {
    // Bytes that are never reached: only the number can cut it.
    let mut world =
        World::builder().set("channels.buffer_messages = 8").set("channels.buffer_bytes = \"64MiB\"").start();
    let slow = world.front.subscribe("news");
    let large = "x".repeat(900_000);
    // What fits into the sockets between is not waiting; so a few large ones fill them first.
    for _ in 0..16 {
        world.redis.publish("news", &large);
    }
    for n in 0..9 {
        world.redis.publish("news", n.to_string());
    }
    wait_until("the reader to be cut", || world.count("tempest_stream_drops_total", &["slow"]) == 1);
    drop(slow);
    world.finish();
}

#[test]
fn a_reader_that_leaves_is_noticed_without_a_message() {
    let mut world = World::start();
    let stream = world.front.subscribe("news");
    drop(stream);
    wait_until("the stream to be closed", || world.gauge("tempest_streams_open") == 0);
    wait_until("the subscription to be given up", || world.redis.subscribers("news") == 0);
    assert_eq!(world.count("tempest_stream_drops_total", &["client"]), 1);
    world.finish();
}

#[test]
fn each_reactor_subscribes_for_its_own_readers() {
    let mut world = World::builder().set("front.reactors = 2").start();
    let mut streams: Vec<_> = (0..10).map(|_| world.front.subscribe("news")).collect();
    assert_eq!(world.redis.subscribers("news"), 2);
    world.redis.publish("news", "for all");
    for stream in &mut streams {
        assert_eq!(stream.data(), "for all");
    }
    drop(streams);
    world.finish();
}
