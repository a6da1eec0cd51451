//! `tempest publish`: ids, keys, histories by the rules of the fronts and by hand.

use tempest_tests::{Ran, World, tempest};

use super::{forge_rules, kept, kept_ids, with_history};

fn run(world: &World, args: &[&str]) -> Ran {
    let url = world.redis.url();
    tempest(world.dir(), &[&["publish"], args, &["--redis", &url]].concat(), &[], "")
}

#[test]
fn the_rules_of_the_fronts_decide_what_is_kept_and_the_id_is_said() {
    let mut world = with_history();
    let said = run(&world, &["kept.a", "hello", "--event", "e"]).ok();
    let id = said.lines().next().expect("the id").to_owned();
    assert_eq!(kept_ids(&mut world.redis, "kept.a"), [id]);
    assert_eq!(kept(&mut world.redis, "kept.a"), ["[\"e\",\"hello\"]"]);
    assert!(said.contains("kept; no front has a reader"), "{said}");
    let mut stream = world.front.subscribe("live");
    assert_eq!(run(&world, &["live", "hello"]).ok(), "1 subscriber (front)\n");
    assert_eq!(stream.data(), "hello");
    drop(stream);
    world.finish();
}

#[test]
fn a_history_may_be_asked_for() {
    let mut world = World::start();
    for text in ["1", "2", "3"] {
        run(&world, &["any", text, "--history", "2,1h"]).ok();
    }
    assert_eq!(kept(&mut world.redis, "any"), ["[\"2\"]", "[\"3\"]"]);
    let wrong = run(&world, &["any", "x", "--history", "2"]);
    assert!(wrong.code == 2 && wrong.err.contains("1000,1h"), "{wrong:?}");
    world.finish();
}

#[test]
fn a_key_publishes_once() {
    let mut world = with_history();
    for channel in ["kept.a", "live"] {
        let first = run(&world, &[channel, "x", "--key", "k"]).ok();
        let again = run(&world, &[channel, "x", "--key", "k"]).ok();
        assert!(!first.contains("before") && again.contains("published before"), "{first} {again}");
        assert_eq!(first.lines().next() == again.lines().next(), channel == "kept.a", "the same id");
    }
    assert_eq!(kept(&mut world.redis, "kept.a").len(), 1);
    assert_eq!(run(&world, &["live", "x", "--key", "a\nb"]).code, 1);
    world.finish();
}

#[test]
fn what_redis_refuses_is_said_with_what_to_do() {
    let mut world = with_history();
    world.redis.cmd(&["ACL", "SETUSER", "small", "on", ">pw", "~*", "&*", "+@all", "-eval"]);
    let url = world.redis.url().replace("redis://", "redis://small:pw@");
    let ran = tempest(world.dir(), &["publish", "kept.a", "x", "--redis", &url], &[], "");
    assert!(ran.code == 1 && ran.err.contains("NOPERM") && ran.err.contains("+evalsha"), "{ran:?}");
    tempest(world.dir(), &["publish", "live", "x", "--redis", &url], &[], "").ok();
    world.redis.cmd(&["ACL", "SETUSER", "small", "-get"]);
    let ran = tempest(world.dir(), &["publish", "kept.a", "x", "--redis", &url], &[], "").ok();
    assert!(ran.contains("0 subscribers") && ran.contains("not kept") && ran.contains("+get"), "{ran}");
    forge_rules(&mut world.redis, "{}");
    let ran = run(&world, &["live", "x"]);
    assert!(ran.code == 1 && ran.err.contains("tempest:@history"), "{ran:?}");
    assert_eq!(kept(&mut world.redis, "kept.a").len(), 0);
    world.finish();
}
