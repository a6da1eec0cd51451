//! Sessions that are in Redis: larger, changed by several at a time, and ended for all.

use serde_json::{Value, json};
use tempest_tests::{Front, Http, Item, Resp, Sse, World, wait_until};

use super::{Client, KEYS, patch};

fn world(settings: &str) -> World {
    super::world(&format!("store = \"redis\"\n{settings}"))
}

fn keys(world: &mut World) -> Vec<String> {
    let found = world.redis.cmd(&["KEYS", "tempest:@session:*"]);
    let mut keys: Vec<String> = found.list().iter().map(tempest_tests::Value::text).collect();
    keys.sort();
    keys
}

#[test]
fn what_one_answer_leaves_the_next_job_finds() {
    let mut world = world("");
    let mut client = Client::default();
    let value =
        json!({"profile": {"name": "\u{fc}", "roles": ["a", {"b": []}], "none": {}}, "x/y~z": {"": 1.5}, "": true});
    let (job, response) = client.visit(&mut world, patch(value.clone()));
    assert_eq!((&job["session"], &job["session_max"]), (&json!({}), &json!(65_536)));
    assert!(response.header("set-cookie").expect("a cookie").len() < 300, "it only names the session");
    assert_eq!(client.session(&mut world), value);
    let (_, response) = client.visit(&mut world, patch(json!({"profile": {"roles": null, "age": 9}, "": null})));
    assert!(response.all("set-cookie").is_empty(), "the name stays");
    assert_eq!(
        client.session(&mut world),
        json!({"profile": {"name": "\u{fc}", "none": {}, "age": 9}, "x/y~z": {"": 1.5}})
    );
    let [key] = &keys(&mut world)[..] else { panic!("one session") };
    let left = world.redis.cmd(&["PTTL", key]).int();
    assert!((1_209_000_000..=1_209_600_000).contains(&left), "{left}");
    world.finish();
}

#[test]
fn a_thousand_patches_at_once_lose_nothing() {
    const ALL: usize = 1000;
    // A thousand at once may wait for their only worker for longer than a route expects.
    let route = "[[route]]\npath = \"/{rest...}\"\nqueue = \"web\"\ntimeout = \"5m\"\n";
    let mut world = world(route);
    let config = format!(
        "redis.url = {:?}\nfront.listen = [\"127.0.0.1:0\"]\nfront.admin = \"127.0.0.1:0\"\n[session]\n{KEYS}\nstore = \"redis\"\n{route}",
        world.redis.url()
    );
    let mut second = Front::start(&world.dir().join("second"), world.mark(), &config);
    second.wait_ready();
    let mut client = Client::default();
    client.visit(&mut world, patch(json!({"begun": 1})));
    // A worker that puts what the path says beneath one and the same member.
    world.worker(|job| {
        let n = job["path"].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
        vec![job.answer(json!({"session": {"all": {n: 1}}}), b"ok")]
    });
    let cookie = client.header().expect("a cookie");
    let addresses = [world.front.address(), second.address()];
    // All are asked before any is read, so all are under way together.
    let mut asked: Vec<Http> = (0..ALL)
        .map(|n| {
            let mut http = Http::connect(addresses[n % 2]);
            http.request("GET", &format!("/{n}"), &[&cookie], b"");
            http
        })
        .collect();
    asked.iter_mut().for_each(|http| assert_eq!(http.response().text(), "ok"));
    world.stop_workers();
    let session = client.session(&mut world);
    assert_eq!(session["all"].as_object().expect("an object").len(), ALL);
    assert_eq!(session["begun"], 1);
    assert!(second.terminate().success());
    world.finish();
}

#[test]
fn a_login_gives_another_name_and_the_old_one_opens_nothing() {
    let mut world = world("");
    let mut client = Client::default();
    client.visit(&mut world, patch(json!({"cart": [1]})));
    let mut thief = Client { cookies: client.cookies.clone() };
    let mut under_way = Client { cookies: client.cookies.clone() };
    let (_, response) = client.visit(&mut world, patch(json!({"user": 7})));
    assert_eq!(response.all("set-cookie").len(), 1);
    assert_ne!(client.cookies, thief.cookies);
    assert_eq!(client.session(&mut world), json!({"cart": [1], "user": 7}));
    assert_eq!(thief.session(&mut world), json!({}), "whoever knew the name before");
    // An answer to a request that was on its way then must not take the new name away from the browser.
    let (_, response) = under_way.visit(&mut world, patch(json!({"b": 1})));
    assert!(response.all("set-cookie").is_empty(), "{response:?}");
    assert_eq!(client.session(&mut world), json!({"cart": [1], "user": 7}));
    let (_, response) = client.visit(&mut world, patch(json!({"user": 7})));
    assert!(response.all("set-cookie").is_empty(), "the same user");
    assert!(client.visit(&mut world, patch(json!({"user": 8}))).1.all("set-cookie").len() == 1, "another one");
    world.finish();
}

#[test]
fn an_end_is_one_for_every_copy_of_the_cookie() {
    let mut world = world("");
    let mut client = Client::default();
    client.visit(&mut world, patch(json!({"user": 7})));
    let mut copy = Client { cookies: client.cookies.clone() };
    let (_, response) = client.visit(&mut world, patch(json!(null)));
    assert!(response.all("set-cookie")[0].contains("Max-Age=0"));
    let (job, response) = copy.visit(&mut world, patch(json!({"user": 7})));
    assert_eq!(job["session"], json!({}));
    assert!(response.all("set-cookie").is_empty(), "its name cannot begin it anew");
    assert_eq!(world.count("tempest_session_cookies_refused_total", &["superseded"]), 1);
    let (_, response) = client.visit(&mut world, patch(json!({"user": 7})));
    assert_eq!(response.all("set-cookie").len(), 1, "without the cookie a new one begins");
    world.finish();
}

#[test]
fn an_operator_can_end_a_session() {
    let mut world = world("");
    let mut client = Client::default();
    client.visit(&mut world, patch(json!({"user": 7})));
    let key = keys(&mut world).remove(0);
    world.redis.cmd(&["DEL", &key]);
    assert_eq!(client.session(&mut world), json!({}));
    assert_eq!(world.count("tempest_session_cookies_refused_total", &["unknown"]), 1);
    world.finish();
}

#[test]
fn a_session_that_ends_while_a_worker_has_its_job_stays_ended() {
    let mut world = world("");
    let mut client = Client::default();
    client.visit(&mut world, patch(json!({"user": 7})));
    let mut connection = Some(world.redis.connect());
    let key = keys(&mut world).remove(0);
    let (_, response) = client.visit(&mut world, move |_| {
        let connection: &mut Resp = connection.as_mut().expect("a connection");
        connection.cmd(&["DEL", &key]);
        json!({"session": {"late": true}})
    });
    assert_eq!((response.status, response.all("set-cookie").len()), (200, 0));
    assert_eq!(world.count("tempest_sessions_total", &["gone"]), 1);
    assert!(keys(&mut world).is_empty());
    world.finish();
}

#[test]
fn while_redis_is_away_nobody_is_logged_out() {
    let mut world = world("");
    let mut client = Client::default();
    client.visit(&mut world, patch(json!({"user": 7})));
    world.redis.kill();
    let cookie = client.header().expect("a cookie");
    let mut http = world.http();
    http.request("GET", "/", &[&cookie], b"");
    let response = http.response();
    assert_eq!(response.status, 503);
    assert!(response.all("set-cookie").is_empty(), "{response:?}");
    // An EventSource never comes back after an error, so it is told when to.
    let mut stream = Sse::with(world.http(), "/sub/x", &[&cookie]);
    assert_eq!(stream.head.status, 200);
    assert!((0..2).any(|_| matches!(stream.item(), Item::Retry(_))));
    drop(stream);
    world.restart_redis();
    wait_until("Redis to be back", || world.front.is_ready());
    world.finish();
}

#[test]
fn strange_things_under_its_key_do_no_harm() {
    let mut world = world("");
    let mut client = Client::default();
    client.visit(&mut world, patch(json!({"user": 7})));
    let key = keys(&mut world).remove(0);
    world.redis.cmd(&["HSET", &key, "list", "[1,", "user/x", "1", "good", "[1]"]);
    assert_eq!(client.session(&mut world), json!({"user": 7, "good": [1]}));
    world.redis.cmd(&["DEL", &key]);
    world.redis.cmd(&["SET", &key, "no hash"]);
    let mut http = world.http();
    http.request("GET", "/", &[&client.header().expect("a cookie")], b"");
    assert_eq!(http.response().status, 503);
    world.redis.cmd(&["DEL", &key]);
    world.finish();
}

#[test]
fn a_worker_with_a_redis_client_can_read_it() {
    let mut world = world("");
    Client::default().visit(&mut world, patch(json!({"user": {"name": "ann"}, "n": [1, 2]})));
    let key = keys(&mut world).remove(0);
    let get = |world: &mut World, field: &str| -> Value {
        serde_json::from_str(&world.redis.cmd(&["HGET", &key, field]).text()).expect("JSON")
    };
    assert_eq!((get(&mut world, "user/name"), get(&mut world, "n")), (json!("ann"), json!([1, 2])));
    world.finish();
}
