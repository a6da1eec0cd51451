//! The front as a part of an application: what its services give is what a front on its own gives, and ends with it.

mod application;

use std::time::Duration;

use application::World;
use serde_json::json;
use tempest::embed::Front;
use tempest_tests::{Chunk, Item, Redis, Sse, assert_no_process, free_port, scratch, wait_until};

/// Channels `news*` may be read, and keep what they had.
const CONFIG: &str = "channels.public = [\"news*\"]\n[[channels.rule]]\npattern = \"news.kept\"\nhistory = { messages = 100, time = \"1h\" }\n\
     [[route]]\npath = \"/elsewhere/{id}\"\nqueue = \"web\"\nbody_limit = \"64KiB\"\n";

#[test]
fn a_worker_answers_a_request_of_the_application() {
    let mut world = World::start(CONFIG);
    let mut http = world.http();
    http.request("POST", "/orders/7?a=b", &["X-One: 1"], b"body of the request");
    let job = world.take();
    assert_eq!((job.line().as_str(), job.text("query")), ("POST /orders/7", "a=b"));
    assert_eq!((job.body.as_slice(), job.header("x-one")), (b"body of the request".as_slice(), Some("1")));
    assert_eq!((job.text("peer"), job.text("server"), job.text("scheme")), ("unix:", "application:", "http"));
    world.push(&job, &job.answer(json!({"status": 201, "headers": {"x-two": "2"}}), b"answer"));
    let response = http.response();
    assert_eq!((response.status, response.text().as_str(), response.header("x-two")), (201, "answer", Some("2")));
    assert_eq!((response.header("content-length"), response.header("x-request-id")), (Some("6"), Some(job.id())));
    // The application's connection goes on, and it may know more of the client.
    http.request("GET", "/from/afar", &[], b"");
    let job = world.take();
    assert_eq!((job.text("peer"), job.text("scheme")), ("192.0.2.7:4711", "https"));
    world.push(&job, &job.answer(json!({}), b""));
    assert_eq!(http.response().status, 200);
    world.finish();
}

#[test]
fn all_routes_can_be_mounted_too() {
    let mut world = World::start(CONFIG);
    let mut http = world.http();
    http.request("GET", "/all/elsewhere/7", &[], b"");
    let job = world.take();
    assert_eq!(job.line(), "GET /elsewhere/7");
    world.push(&job, &job.answer(json!({}), b"by its route"));
    assert_eq!(http.response().text(), "by its route");
    assert_eq!(http.get("/all/nowhere").status, 404);
    world.finish();
}

#[test]
fn a_streamed_answer_comes_piece_by_piece_and_whether_it_is_whole_is_known() {
    for whole in [true, false] {
        let mut world = World::start(CONFIG);
        let mut http = world.http();
        http.request("GET", "/stream", &[], b"");
        let job = world.take();
        for (seq, text) in ["one", "two"].into_iter().enumerate() {
            let part = job.answer(json!({"n": seq, "more": true}), text.as_bytes());
            world.push(&job, &part);
            if seq == 0 {
                assert_eq!(http.read_head().expect("a head").status, 200);
            }
            assert!(matches!(http.chunk(), Chunk::Data(data) if data == text.as_bytes()));
        }
        if whole {
            world.push(&job, &job.answer(json!({"n": 2}), b"three"));
            assert!(matches!(http.chunk(), Chunk::Data(data) if data == b"three"));
            assert!(matches!(http.chunk(), Chunk::End));
        } else {
            // What comes too far ahead breaks it off.
            world.push(&job, &job.answer(json!({"n": 1_000_001}), b"lost"));
            assert!(matches!(http.chunk(), Chunk::Cut), "an answer that broke off does not look like a whole one");
        }
        world.finish();
    }
}

#[test]
fn a_body_too_large_is_refused_by_the_limit_of_the_queues_route() {
    let mut world = World::start(CONFIG);
    let mut http = world.http();
    http.request("POST", "/orders", &[], &[b'x'; 64 * 1024 + 1]);
    assert_eq!(http.response().status, 413);
    let mut http = world.http();
    http.request("POST", "/orders", &[], &[b'x'; 64 * 1024]);
    let job = world.take();
    assert_eq!(job.body.len(), 64 * 1024);
    world.push(&job, &job.answer(json!({}), b""));
    assert_eq!(http.response().status, 200);
    world.finish();
}

#[test]
fn whoever_leaves_is_waited_for_no_more() {
    let mut world = World::start(CONFIG);
    let mut http = world.http();
    http.request("GET", "/slow", &[], b"");
    let job = world.take();
    assert_eq!(world.metric("tempest_http_requests_in_flight"), 1);
    drop(http);
    wait_until("the request to be given up", || world.metric("tempest_http_requests_in_flight") == 0);
    world.push(&job, &job.answer(json!({}), b"too late"));
    wait_until("the answer to be dropped", || world.redis.llen(job.reply_to()) == 0);
    world.finish();
}

#[test]
fn a_stream_resumes_and_is_refused_as_anywhere() {
    let mut world = World::start(CONFIG);
    let mut stream = Sse::open(world.address, "/sub/news.kept");
    assert_eq!(stream.head.header("content-type"), Some("text/event-stream"));
    wait_until("the subscription", || world.redis.subscribers("news.kept") == 1);
    publish(&mut world, "news.kept", "one");
    assert_eq!(stream.event().data, "one");
    let last = stream.last_id.clone();
    drop(stream);
    wait_until("the stream to be gone", || world.metric("tempest_streams_open") == 0);
    publish(&mut world, "news.kept", "two");
    let mut stream = Sse::resume(world.address, "/sub/news.kept", &last);
    assert_eq!(stream.head.header("tempest-resume"), Some("complete"));
    publish(&mut world, "news.kept", "three");
    assert_eq!([stream.event().data, stream.event().data], ["two", "three"]);
    let mut several = Sse::open(world.address, "/sub?channel=news.a&channel=news.b&tell=channel");
    wait_until("both subscriptions", || world.redis.subscribers("news.b") == 1);
    world.redis.publish("news.b", "here");
    assert_eq!(several.event().data, r#"{"channel":"news.b","event":null,"data":"here"}"#);
    assert_eq!(world.http().get("/sub/secret").status, 403);
    assert_eq!(world.http().get("/sub/").status, 400);
    world.finish();
}

#[test]
fn the_application_may_hold_a_client_to_channels_of_its_choice() {
    let mut world = World::start(CONFIG);
    let mut stream = Sse::open(world.address, "/hold/orders.42?channel=orders.43&pattern=*");
    wait_until("the subscription", || world.redis.subscribers("orders.42") == 1);
    assert_eq!(world.redis.subscribers("orders.43"), 0, "the client chooses nothing");
    assert_eq!(world.redis.cmd(&["PUBSUB", "NUMPAT"]).int(), 0);
    world.redis.publish("orders.42", "paid");
    assert_eq!(stream.event().data, "paid");
    let mut http = world.http();
    http.request("POST", "/hold/orders.42", &[], b"");
    assert_eq!(http.response().status, 405);
    world.finish();
}

#[test]
fn a_reader_that_does_not_read_is_cut_off() {
    let mut world = World::start(&format!("limits.body_time = \"300ms\"\nlimits.answer_buffer = \"64MiB\"\n{CONFIG}"));
    let mut http = world.http();
    http.request("GET", "/stream", &[], b"");
    let job = world.take();
    // More than the buffers of a loopback connection and of the application take.
    let piece = vec![b'x'; 1_000_000];
    for n in 0..24 {
        world.push(&job, &job.answer(json!({"n": n, "more": true}), &piece));
    }
    wait_until("the reader to be given up", || {
        world.metric("tempest_connections_ended_total{reason=\"slow_reader\"}") == 1
    });
    wait_until("the request to be over", || world.metric("tempest_http_requests_in_flight") == 0);
    world.finish();
}

#[test]
fn no_more_are_handled_than_connections_may_be_open() {
    let mut world = World::start(&format!("limits.connections = 2\n{CONFIG}"));
    let mut clients = [world.http(), world.http()];
    clients.iter_mut().for_each(|http| http.request("GET", "/slow", &[], b""));
    let jobs = [world.take(), world.take()];
    let refused = world.http().get("/slow");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    for job in &jobs {
        world.push(job, &job.answer(json!({}), b""));
    }
    assert!(clients.iter_mut().all(|http| http.response().status == 200));
    wait_until("both to be over", || world.metric("tempest_connections_open") == 0);
    let mut http = world.http();
    http.request("GET", "/slow", &[], b"");
    let job = world.take();
    world.push(&job, &job.answer(json!({}), b""));
    assert_eq!(http.response().status, 200);
    world.finish();
}

#[test]
fn a_drain_answers_what_is_in_flight_and_sends_streams_away() {
    let mut world = World::start(&format!("front.grace = \"20s\"\nchannels.goodbye = \"100ms\"\n{CONFIG}"));
    let mut stream = Sse::open(world.address, "/sub/news");
    let mut http = world.http();
    http.request("GET", "/slow", &[], b"");
    let job = world.take();
    let drained = world.drain();
    let items = stream.until_end();
    assert!(items.iter().any(|item| matches!(item, Item::Retry(_))), "{items:?}");
    let refused = world.http().get("/other");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    world.push(&job, &job.answer(json!({}), b"in time"));
    assert_eq!(http.response().text(), "in time");
    drained.blocking_recv().expect("the drain ends before its grace, though the application has the services still");
    assert_eq!(world.front.view().not_ready(), Some("shutting down"));
    let again = world.drain();
    again.blocking_recv().expect("a second drain has nothing to do");
    world.finish();
}

#[test]
fn a_reload_holds_for_what_is_mounted_already() {
    let world = World::start(CONFIG);
    assert_eq!(world.http().get("/sub/more").status, 403);
    let refused = world.reload("[[channels.key]]\nname = \"a\"\nalg = \"HS256\"\nsecret_file = \"/nowhere\"");
    assert!(refused.is_err_and(|why| why.contains("/nowhere")));
    world
        .reload("channels.public = [\"more\"]\n[[route]]\npath = \"/other\"\nqueue = \"other\"\n")
        .expect("it is good");
    drop(Sse::open(world.address, "/sub/more"));
    assert_eq!(world.http().get("/orders").status, 404, "no route leads to the queue any more");
    assert!(world.front.work("other").is_ok());
    let record = String::from_utf8(world.front.view().record()).expect("JSON");
    assert!(record.contains(r#""listen":["application:"]"#), "operators see what it is: {record}");
    let error = world.front.work("web").err().expect("it is gone").to_string();
    assert!(error.contains("queue = \"web\""), "{error}");
    world.finish();
}

#[test]
fn a_front_that_is_dropped_ends_without_a_drain() {
    let (dir, mark) = scratch();
    let mut redis = Redis::start(&dir.join("redis"), &mark);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let connected = |redis: &mut Redis| redis.cmd(&["CLIENT", "LIST"]).text().matches("name=tempest:").count();
    runtime.block_on(async {
        let config = application::parse(&format!("redis.url = {:?}", redis.url()));
        let front = Front::start(config).await.unwrap_or_else(|error| panic!("{error}"));
        let service = front.sub();
        assert!(connected(&mut redis) > 0);
        drop(front);
        drop(service);
    });
    wait_until("its connections to be gone", || connected(&mut redis) == 0);
    redis.kill();
    assert_no_process(&mark);
}

fn publish(world: &mut World, channel: &str, text: &str) {
    let script = include_str!("../../../worker-sdk/protocol/scripts/publish.lua");
    world.redis.cmd(&["EVAL", script, "1", &format!("tempest:log:{channel}"), text, "100", "3600000"]);
}

#[test]
fn a_slow_start_of_redis_is_no_failure() {
    // Nobody listens there: the front starts, and says what is missing.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let port = free_port();
    runtime.block_on(async {
        let config = application::parse(&format!("redis.url = \"redis://127.0.0.1:{port}\"\nfront.grace = \"1s\""));
        let front = Front::start(config).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(front.view().not_ready(), Some("no connection to Redis"));
        tokio::time::timeout(Duration::from_secs(10), front.drain()).await.expect("it ends");
    });
}
