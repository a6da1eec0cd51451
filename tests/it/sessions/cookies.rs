//! Sessions that are in a cookie.

use serde_json::json;
use tempest_tests::World;

use super::{Client, KEYS, patch, world};

const NAME: &str = "tempest_session";

#[test]
fn what_one_answer_leaves_the_next_job_finds() {
    let mut world = world("");
    let (mut client, mut other) = (Client::default(), Client::default());
    let (job, response) = client.visit(&mut world, patch(json!({"user": "ann", "cart": {"a": 1, "b": [2]}})));
    assert_eq!((&job["session"], &job["session_max"]), (&json!({}), &json!(3000)));
    let [cookie] = response.all("set-cookie")[..] else { panic!("one cookie: {response:?}") };
    assert!(cookie.starts_with("tempest_session="), "{cookie}");
    for attribute in ["; HttpOnly", "; SameSite=Lax", "; Path=/", "; Max-Age=1209600"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains("ann"), "{cookie}");
    assert_eq!(response.header("cache-control"), Some("private"));
    let (job, response) = client.visit(&mut world, patch(json!({"cart": {"a": null, "c": "\n"}})));
    assert_eq!(job["session"], json!({"user": "ann", "cart": {"a": 1, "b": [2]}}));
    assert_eq!(response.all("set-cookie").len(), 1);
    assert_eq!(client.session(&mut world), json!({"user": "ann", "cart": {"b": [2], "c": "\n"}}));
    assert_eq!(other.session(&mut world), json!({}), "another client's is another");
    world.finish();
}

#[test]
fn an_answer_that_says_nothing_changes_nothing() {
    let mut world = world("");
    let mut client = Client::default();
    let (_, response) = client.visit(&mut world, |_| json!({}));
    assert!(response.all("set-cookie").is_empty(), "no session is made of nothing");
    client.visit(&mut world, patch(json!({"a": 1})));
    for same in [json!({}), json!({"session": {}}), json!({"session": {"a": 1}}), json!({"session": {"b": null}})] {
        let (_, response) = client.visit(&mut world, |_| same.clone());
        assert!(response.all("set-cookie").is_empty(), "{same}: {response:?}");
    }
    world.finish();
}

#[test]
fn null_ends_it_and_so_does_the_last_member_that_goes() {
    let mut world = world("");
    for end in [json!(null), json!({"a": null})] {
        let mut client = Client::default();
        client.visit(&mut world, patch(json!({"a": 1})));
        let (_, response) = client.visit(&mut world, patch(end));
        assert!(response.all("set-cookie")[0].contains("Max-Age=0"), "{response:?}");
        assert!(client.cookies.is_empty());
        assert_eq!(client.session(&mut world), json!({}));
        let (_, response) = client.visit(&mut world, patch(json!(null)));
        assert!(response.all("set-cookie").is_empty(), "there is nothing to end");
    }
    world.finish();
}

#[test]
fn a_cookie_that_is_no_good_is_an_empty_session_and_a_count() {
    let mut world = world("lifetime = \"1s\"");
    let mut client = Client::default();
    client.visit(&mut world, patch(json!({"a": 1})));
    let good = client.cookies[0].1.clone();
    let refused = |world: &World, reason| world.count("tempest_session_cookies_refused_total", &[reason]);
    let mut tampered = good.clone().into_bytes();
    tampered[20] = if tampered[20] == b'A' { b'B' } else { b'A' };
    let tampered = String::from_utf8(tampered).expect("text");
    for bad in [tampered.as_str(), "", "x", "{\"a\":1}", "1795000000.{\"a\":1}"] {
        let mut forger = Client { cookies: vec![(NAME.to_owned(), bad.to_owned())] };
        let (job, response) = forger.visit(&mut world, patch(json!({"b": 1})));
        assert_eq!((&job["session"], response.status), (&json!({}), 200), "{bad}");
        assert_eq!(forger.session(&mut world), json!({"b": 1}), "a new one begins");
    }
    assert_eq!(refused(&world, "unreadable"), 5);
    // What the browser still sends when its time is over.
    tempest_tests::wait_until("the session to be over", || client.session(&mut world) == json!({}));
    assert!(refused(&world, "expired") > 0);
    world.finish();
}

#[test]
fn workers_neither_see_the_cookie_nor_set_it() {
    let mut world = world("");
    let mut client = Client { cookies: vec![("theme".to_owned(), "dark".to_owned())] };
    let (_, response) = client.visit(
        &mut world,
        |_| json!({"headers": {"set-cookie": ["tempest_session=forged; Path=/", "lang=de"]}, "session": {"a": 1}}),
    );
    let set = response.all("set-cookie");
    assert_eq!(set.len(), 2, "{set:?}");
    assert!(set.contains(&"lang=de") && !set.iter().any(|value| value.contains("forged")), "{set:?}");
    let job = client.job(&mut world);
    assert_eq!(job.header("cookie"), Some("theme=dark; lang=de"));
    assert_eq!(job["session"], json!({"a": 1}));
    client.cookies.retain(|(name, _)| name == NAME);
    assert_eq!(client.job(&mut world).header("cookie"), None, "nothing is left of it");
    world.finish();
}

#[test]
fn keys_change_without_anybody_losing_a_session() {
    let start = |keys: &str| World::builder().table(&format!("[session]\nkeys = [{keys}]")).start();
    let (old, new) = ("\"old-old-old-old-old-old-old-old-1\"", "\"new-new-new-new-new-new-new-new-2\"");
    let mut world = start(old);
    let mut client = Client::default();
    client.visit(&mut world, patch(json!({"n": 1})));
    world.finish();
    let mut world = start(&format!("{new}, {old}"));
    assert_eq!(client.session(&mut world), json!({"n": 1}), "the old one still opens");
    let before = client.cookies[0].1.clone();
    client.visit(&mut world, patch(json!({"n": 2})));
    world.finish();
    let mut world = start(new);
    assert_eq!(client.session(&mut world), json!({"n": 2}), "it is sealed with the new one");
    let mut late = Client { cookies: vec![(NAME.to_owned(), before)] };
    assert_eq!(late.session(&mut world), json!({}), "the old key is gone");
    world.finish();
}

#[test]
fn without_a_key_one_is_made_and_kept() {
    let mut world = World::builder().table("[session]").start();
    let file = world.dir().join("front/.tempest-session.key");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).expect("a key file"));
    assert_eq!(mode & 0o777, 0o600);
    let key = std::fs::read_to_string(&file).expect("a key");
    let mut client = Client::default();
    client.visit(&mut world, patch(json!({"n": 1})));
    assert_eq!(client.session(&mut world), json!({"n": 1}));
    world.finish();
    let mut world = World::builder().table(&format!("[session]\nkeys = [{:?}]", key.trim())).start();
    assert_eq!(client.session(&mut world), json!({"n": 1}), "the file's line is the key");
    world.finish();
}

#[test]
fn a_cookie_can_be_for_tls_alone_and_for_more_hosts() {
    let settings =
        "secure = \"always\"\ndomain = \"a.test\"\nsame_site = \"strict\"\ncookie = \"s\"\nlifetime = \"1d\"";
    let mut world = world(settings);
    let (_, response) = Client::default().visit(&mut world, patch(json!({"a": 1})));
    let cookie = response.header("set-cookie").expect("a cookie");
    for part in ["s=", "; Secure", "; Domain=a.test", "; SameSite=Strict", "; Max-Age=86400"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    world.finish();
}

#[test]
fn a_route_may_do_without_and_its_workers_do_not_see_the_cookie_either() {
    let route = "[[route]]\npath = \"/{rest...}\"\nqueue = \"web\"\nsession = false";
    let mut world = World::builder().table(&format!("[session]\n{KEYS}")).table(route).start();
    let mut client = Client { cookies: vec![(NAME.to_owned(), "x".to_owned()), ("a".to_owned(), "b".to_owned())] };
    let (job, response) = client.visit(&mut world, patch(json!({"a": 1})));
    assert_eq!((job.head.get("session"), job.head.get("session_max")), (None, None));
    assert_eq!(job.header("cookie"), Some("a=b"));
    assert!(response.all("set-cookie").is_empty());
    world.finish();
}

#[test]
fn without_sessions_a_change_is_told_to_the_operator() {
    let mut world = World::start();
    let (job, response) = Client::default().visit(&mut world, patch(json!({"a": 1})));
    assert_eq!((job.head.get("session"), response.status), (None, 200));
    let record = world.front.admin().get("/status").text();
    assert!(record.contains("no [session]"), "{record}");
    world.finish();
}
