//! What a reload changes, and what goes on as it had begun.

use std::fs;

use serde_json::json;
use tempest_tests::{World, in_seconds, tempest, token, wait_until};

const ROUTES: &str = "[[route]]\npath = \"/sub/{channel...}\"\nkind = \"subscribe\"\n\
                      [[route]]\npath = \"/{rest...}\"\nqueue = \"web\"\n";

#[test]
fn the_report_says_what_has_changed() {
    let world = World::builder().table(ROUTES).start();
    world.configure(|text| {
        let text = text.replace("queue = \"web\"", "queue = \"api\"\ntimeout = \"5s\"");
        format!("limits.pending = 8\nlimits.body_memory = \"268435456\"\n{text}[[route]]\npath = \"/never\"\nqueue = \"web\"\n")
    });
    let expected = "reloaded; 4 settings have changed\n\
                    limits.pending: 16384 -> 8\n\
                    route \"/{rest...}\" queue: \"web\" -> \"api\"\n\
                    route \"/{rest...}\" timeout: \"30s\" -> \"5s\"\n\
                    route \"/never\": added\n";
    assert_eq!(world.reload().ok(), expected);
    world.front.process.log.wait_for("limits.pending: 16384 -> 8");
    world.configure(|text| {
        text.replace("limits.pending = 8\n", "").replace("[[route]]\npath = \"/never\"\nqueue = \"web\"\n", "")
    });
    let report = world.reload().ok();
    assert!(report.ends_with("limits.pending: 8 -> 16384\nroute \"/never\": removed\n"), "{report}");
    world.finish();
}

#[test]
fn what_has_begun_ends_as_it_had_begun() {
    let mut world = World::builder().table(ROUTES).start();
    let mut waiting = world.http();
    waiting.request("GET", "/waiting", &[], b"");
    let job = world.take();
    // Its head is there, and its body is not.
    let mut half = world.http();
    half.send("POST /half HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbo");
    wait_until("both to be taken", || world.gauge("tempest_http_requests_in_flight") == 2);
    world.configure(|text| text.replace("queue = \"web\"", "queue = \"api\""));
    assert!(world.hang_up());
    world.ok(&job, "waited");
    assert_eq!(waiting.response().text(), "waited");
    half.send("dy");
    let job = world.take();
    world.ok(&job, "whole");
    assert_eq!(half.response().text(), "whole");
    // The next on the same connection goes the new way.
    half.request("GET", "/next", &[], b"");
    let job = world.take_from("tempest:api");
    world.ok(&job, "next");
    assert_eq!(half.response().text(), "next");
    // And back: to the queue as it was known.
    world.configure(|text| text.replace("queue = \"api\"", "queue = \"web\""));
    assert!(world.hang_up());
    waiting.request("GET", "/again", &[], b"");
    let job = world.take();
    world.ok(&job, "again");
    assert_eq!(waiting.response().text(), "again");
    drop((waiting, half));
    world.finish();
}

#[test]
fn a_queue_that_no_route_leads_to_is_let_go_when_nothing_waits() {
    let mut world = World::builder().set("log.level = \"debug\"").table(ROUTES).start();
    let mut http = world.http();
    http.request("GET", "/", &[], b"");
    let job = world.take();
    world.configure(|text| text.replace("queue = \"web\"", "queue = \"api\""));
    let from = world.front.process.log.len();
    assert!(world.hang_up());
    let gone = |line: &str| line.contains("no route leads to it any more").then_some(());
    // It is looked after as long as somebody waits: a death would be noticed.
    world.ok(&job, "late");
    assert_eq!(http.response().text(), "late");
    world.front.process.log.wait_from(from, "the queue to be let go", gone);
    drop(http);
    world.finish();
}

#[test]
fn limits_hold_from_the_next_request_on() {
    let mut world = World::builder().table(ROUTES).start();
    let mut first = world.http();
    first.request("GET", "/", &[], b"");
    let job = world.take();
    world.configure(|text| format!("limits.pending = 1\n{text}"));
    assert!(world.hang_up());
    assert_eq!(world.http().get("/").status, 503, "one waits already");
    world.configure(|text| text.replace("limits.pending = 1\n", "limits.answer_bytes = \"1KiB\"\n"));
    assert!(world.hang_up());
    world.answer(&job, json!({"status": 200}), [b'x'; 2000]);
    assert_eq!(first.response().status, 502, "too long by now");
    world.configure(|text| format!("limits.connections = 1\n{text}"));
    assert!(world.hang_up());
    let mut refused = world.http();
    assert_eq!(refused.response().status, 503);
    drop((first, refused));
    world.finish();
}

#[test]
fn the_access_log_and_the_level_change() {
    let mut world = World::builder().table(ROUTES).start();
    let mut http = world.http();
    let mut ask = |world: &mut World, target: &str| {
        http.request("GET", target, &[], b"");
        let job = world.take();
        world.ok(&job, "");
        http.response();
    };
    ask(&mut world, "/silent");
    world.configure(|text| format!("log.access = \"json\"\nlog.level = \"debug\"\n{text}"));
    assert!(world.hang_up());
    ask(&mut world, "/told");
    world.front.process.log.wait_for("\"path\":\"/told\"");
    world.configure(|text| text.replace("\"json\"\nlog.level = \"debug\"", "\"combined\""));
    assert!(world.hang_up());
    ask(&mut world, "/combined");
    world.front.process.log.wait_for("\"GET /combined HTTP/1.1\" 200");
    let lines = world.front.process.log.lines();
    assert!(!lines.iter().any(|line| line.contains("/silent")));
    drop(http);
    world.finish();
}

#[test]
fn keys_of_tokens_change_and_one_that_cannot_be_read_refuses_all() {
    let [old, new] = ["old", "new"].map(|word| word.repeat(20));
    let table = |secret: &str| format!("[[channels.key]]\nname = \"a\"\nalg = \"HS256\"\nsecret = \"{secret}\"\n");
    let mut world = World::builder().set("channels.public = []").table(&table(&old)).start();
    let claims = || json!({"exp": in_seconds(600), "tempest": {"subscribe": ["news"]}});
    let opens = |world: &World, secret: &str| {
        let target = format!("/sub/news?token={}", token(secret, &claims()));
        let mut http = world.http();
        http.request("GET", &target, &["Accept: text/event-stream"], b"");
        http.read_head().expect("a head").status
    };
    assert_eq!((opens(&world, &old), opens(&world, &new)), (200, 401));
    let before = fs::read_to_string(world.config_file()).expect("the configuration");
    world.configure(|text| text.replace(&old, &new));
    let ran = world.reload();
    assert_eq!(ran.ok(), "reloaded; one setting has changed\nchannels.key \"a\" secret: \u{2026}changed\n");
    assert_eq!((opens(&world, &old), opens(&world, &new)), (401, 200));
    world.configure(|text| {
        text.replace(&table(&new), "[[channels.key]]\nname = \"a\"\nalg = \"HS256\"\nsecret_file = \"nowhere\"\n")
    });
    let ran = world.reload();
    assert!(ran.code == 1 && ran.err.contains("nowhere"), "{ran:?}");
    assert_eq!(opens(&world, &new), 200);
    fs::write(world.config_file(), before).expect("written");
    assert!(world.hang_up());
    assert_eq!((opens(&world, &old), opens(&world, &new)), (200, 401));
    let status = tempest(world.dir(), &["status", "--redis", &world.redis.url()], &[], "").ok();
    assert!(status.contains("Fronts"), "{status}");
    world.finish();
}
