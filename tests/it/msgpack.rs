//! Queues in MessagePack, from the client to the worker and back: nothing about a request depends on how it is spelled.

use serde_json::json;
use tempest_tests::{Claimer, Http, World, wait_until};

/// A front whose every request goes to the queue `web` in MessagePack.
fn start(lines: &str) -> World {
    let route = "[[route]]\npath = \"/{rest...}\"\nqueue = \"web\"\ncodec = \"msgpack\"\n";
    World::builder().table(&format!("{route}{lines}")).start()
}

fn get(world: &World, target: &str) -> Http {
    let mut http = world.http();
    http.request("GET", target, &[], b"");
    http
}

#[test]
fn a_job_states_the_same_facts_and_its_body_is_bytes() {
    let mut world = start("");
    let body: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let mut http = world.http();
    http.send(
        b"POST /a%20b/%C3%A9?q=1 HTTP/1.1\r\nHost: Example.test:81\r\nAccept: a/b\r\nX-Latin: caf\xe9\r\nAccept: c/d\r\n\
          Cookie: a=1\r\nCookie: b=2\r\nContent-Length: 70000\r\n\r\n",
    );
    http.send(&body);
    let job = world.take();
    assert_eq!(&job.message[..9], b"\xde\x00\x13\xa1v\x01\xa2id", "its first fields stand where scripts look for them");
    for (field, value) in [
        ("v", json!(1)),
        ("attempt", json!(1)),
        ("queue", json!("web")),
        ("action", json!("http")),
        ("method", json!("POST")),
        ("path", json!("/a%20b/%C3%A9")),
        ("query", json!("q=1")),
        ("host", json!("Example.test:81")),
        ("scheme", json!("http")),
        ("http", json!("1.1")),
        ("peer", json!(http.local_address().to_string())),
        ("server", json!(world.front.address().to_string())),
    ] {
        assert_eq!(job[field], value, "{field}");
    }
    assert_eq!((job.header("accept"), job.header("cookie")), (Some("a/b, c/d"), Some("a=1; b=2")));
    assert_eq!(job.header("x-latin"), Some("caf\u{e9}"));
    assert_eq!(job["deadline"].as_u64(), job["enqueued"].as_u64().map(|at| at + 30_000));
    assert!(job.body == body, "the body, byte by byte");
    world.push(&job, job.packed_answer(json!({"status": 201, "headers": {"x-b": "1", "x-a": "caf\u{e9}"}}), &body));
    let response = http.response();
    assert_eq!((response.status, response.header("x-b")), (201, Some("1")));
    assert!(response.body == body, "the answer's body, byte by byte");
    world.finish();
}

#[test]
fn any_worker_may_answer_either_way_on_any_queue() {
    let mut world = World::builder()
        .table("[[route]]\npath = \"/packed\"\nqueue = \"web\"\ncodec = \"msgpack\"")
        .table("[[route]]\npath = \"/json\"\nqueue = \"web\"\ncodec = \"json\"")
        .start();
    for path in ["/packed", "/json"] {
        for packed in [true, false] {
            let mut http = get(&world, path);
            let job = world.take();
            assert_eq!(job.message[0] == b'{', path == "/json");
            let fields = json!({"status": 202, "headers": {"set-cookie": ["a=1", "b=2"]}});
            let answer = if packed { job.packed_answer(fields, b"ok") } else { job.answer(fields, b"ok") };
            world.push(&job, answer);
            let response = http.response();
            assert_eq!((response.status, response.text()), (202, "ok".into()), "{path} {packed}");
            assert_eq!(response.all("set-cookie"), ["a=1", "b=2"]);
        }
    }
    world.finish();
}

#[test]
fn a_stream_may_change_its_spelling_and_a_hold_is_one() {
    let mut world = start("");
    let mut http = get(&world, "/stream");
    let job = world.take();
    world.push(&job, job.packed_answer(json!({"n": 0, "more": true}), b"one "));
    world.push(&job, job.answer(json!({"n": 1, "more": true}), b"two "));
    world.push(&job, job.packed_answer(json!({"n": 2}), b"three"));
    assert_eq!(http.response().text(), "one two three");
    let mut http = get(&world, "/wait");
    let job = world.take();
    world.push(&job, job.packed_answer(json!({"hold": {"channels": ["c"], "mode": "once", "timeout": 60_000}}), b""));
    wait_until("the channel to be subscribed", || world.redis.subscribers("c") == 1);
    world.redis.publish("c", "now");
    assert_eq!(http.response().text(), "now");
    world.finish();
}

#[test]
fn a_malformed_answer_is_a_502_where_its_id_can_be_read() {
    let mut world = start("timeout = \"20s\"");
    let mut http = get(&world, "/");
    let job = world.take();
    // Bytes where a text is due: the mistake that languages with both invite.
    let mut message = job.packed_answer(json!({}), b"");
    message[0] += 1;
    message.extend_from_slice(b"\xa7headers\x81\xa1a\xc4\x01b");
    world.push(&job, message);
    assert_eq!(http.response().status, 502);
    assert_eq!(world.count("tempest_answers_total", &["outcome=\"malformed\""]), 1);
    let mut http = get(&world, "/");
    let job = world.take();
    world.push(&job, b"\xdf\xff\xff\xff\xff\xa2id");
    world.push(&job, job.packed_answer(json!({}), b"the real one"));
    assert_eq!(http.response().text(), "the real one");
    assert_eq!(world.count("tempest_answers_total", &["outcome=\"malformed\""]), 2);
    world.finish();
}

#[test]
fn a_death_is_noticed_and_the_job_is_tried_again_with_its_numbers_changed() {
    let world = start("");
    let mut first = Claimer::start(&world.redis, "first");
    let mut http = world.http();
    http.request("PUT", "/work", &[], b"\xa7attempt\x01\xff");
    let claim = first.claim(1);
    first.die();
    let mut second = Claimer::start(&world.redis, "second");
    let again = second.claim(1);
    assert_eq!((&again.job["attempt"], &again.job["id"]), (&json!(2), &claim.job["id"]));
    assert_eq!(again.job.body, b"\xa7attempt\x01\xff");
    assert!(again.job["timeout_ms"].as_u64() <= claim.job["timeout_ms"].as_u64());
    second.finish(&again, "second");
    assert_eq!(http.response().text(), "second");
    let mut third = Claimer::start(&world.redis, "third");
    let mut http = world.http();
    http.request("POST", "/work", &[], b"");
    third.claim(1);
    third.die();
    assert_eq!(http.response().status, 502, "started, and not safe to run twice");
    second.leave();
    world.finish();
}

#[test]
fn a_job_whose_client_left_is_taken_out_of_its_list() {
    let mut world = start("");
    let http = get(&world, "/");
    wait_until("the job to be there", || world.redis.llen("tempest:web") == 1);
    drop(http);
    wait_until("the job to be gone", || world.redis.llen("tempest:web") == 0);
    world.finish();
}

#[test]
fn every_priority_has_its_jobs_in_messagepack() {
    for priority in ["high", "low"] {
        let world = start(&format!("priority = \"{priority}\""));
        let mut clients: Vec<Http> = (0..3).map(|_| get(&world, "/")).collect();
        let mut worker = Claimer::start(&world.redis, "w");
        for _ in 0..3 {
            let claim = worker.claim(1);
            worker.finish(&claim, "ok");
        }
        assert!(clients.iter_mut().all(|http| http.response().status == 200), "{priority}");
        worker.leave();
        world.finish();
    }
}

#[test]
fn each_sdk_serves_a_queue_in_messagepack() {
    for language in ["rust", "python"] {
        let mut world = start("");
        world.sdk_worker(language);
        for path in ["/one", "/two%20"] {
            let response = get(&world, path).response();
            assert_eq!(response.status, 200, "{language}: {response:?}");
            assert!(response.text().contains(&format!("GET {path}")), "{language}: {}", response.text());
        }
        world.finish();
    }
}
