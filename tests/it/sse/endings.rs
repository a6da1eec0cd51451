//! Redis goes and returns, the front goes: what readers of streams are told.

use tempest_tests::{Item, Signal, World, wait_until};

#[test]
fn streams_stay_open_without_redis_and_go_on_after_its_return() {
    let mut world = World::start();
    let mut streams: Vec<_> = (0..10).map(|n| world.front.subscribe(&format!("room-{}", n % 3))).collect();
    for round in 0..3 {
        world.redis.kill();
        for stream in &mut streams {
            let words = stream.comment();
            assert!(!words.is_empty(), "a comment says what happened");
        }
        world.redis.restart();
        for n in 0..3 {
            let channel = format!("room-{n}");
            wait_until("the channel to be subscribed again", || world.redis.subscribers(&channel) == 1);
            world.redis.publish(&channel, format!("round {round}"));
        }
        for stream in &mut streams {
            assert_eq!(stream.data(), format!("round {round}"));
        }
    }
    drop(streams);
    world.finish();
}

#[test]
fn a_cut_subscription_is_restored() {
    let mut world = World::start();
    let mut stream = world.front.subscribe("news");
    for n in 0..10 {
        assert_eq!(world.redis.cmd(&["CLIENT", "KILL", "TYPE", "pubsub"]).int(), 1);
        wait_until("the channel to be subscribed again", || world.redis.subscribers("news") == 1);
        world.redis.publish("news", n.to_string());
        assert_eq!(stream.data(), n.to_string());
    }
    drop(stream);
    world.finish();
}

#[test]
fn a_front_that_stops_says_goodbye() {
    let mut world = World::start();
    let mut streams: Vec<_> = (0..20).map(|_| world.front.subscribe("news")).collect();
    world.redis.publish("news", "last");
    for stream in &mut streams {
        assert_eq!(stream.data(), "last");
    }
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
fn a_front_that_is_killed_frees_its_subscriptions_and_its_list() {
    let mut world = World::start();
    let stream = world.front.subscribe("news");
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.front.process.kill();
    world.ok(&job, "for a dead front");
    wait_until("Redis to drop the subscription", || world.redis.subscribers("news") == 0);
    assert_eq!(world.redis.llen(job.reply_to()), 1);
    let config = format!(
        "redis.url = \"{}\"\nfront.listen = [\"127.0.0.1:0\"]\nfront.admin = \"127.0.0.1:0\"\n",
        world.redis.url()
    );
    let mut other = tempest_tests::Front::start(&world.dir().join("other"), world.mark(), &config);
    wait_until("a live front to remove the list of the dead one", || world.redis.llen(job.reply_to()) == 0);
    assert!(other.terminate().success());
    drop((stream, http));
    world.finish_after_crash();
}
