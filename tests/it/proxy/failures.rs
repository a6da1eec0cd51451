//! A server that is away, silent, full, or breaks off: what the client gets, and what is sent a second time.

use std::sync::Mutex;
use std::sync::mpsc;

use tempest_tests::{Chunk, Http, Response, World, free_port, wait_until};

use super::upstream::Upstream;
use super::{front, to};

fn ask(world: &World, method: &str, headers: &[&str], body: &[u8]) -> Response {
    let mut http = world.http();
    http.request(method, "/old/", headers, body);
    http.response()
}

fn counted(world: &World, outcome: &str) -> f64 {
    world.metrics().sum("tempest_proxy_requests_total", &[&format!("\"{outcome}\"")])
}

#[test]
fn a_server_that_is_away_is_a_502_and_noted() {
    let world = front(&format!("http://127.0.0.1:{}", free_port()), "");
    let response = ask(&world, "GET", &[], b"");
    assert_eq!((response.status, response.header("content-type")), (502, Some("text/plain; charset=utf-8")));
    let json = ask(&world, "POST", &["Accept: application/json"], b"x");
    assert_eq!((json.status, json.header("content-type")), (502, Some("application/problem+json")));
    assert!(!json.text().contains("127.0.0.1"), "{}", json.text());
    assert_eq!(counted(&world, "unreachable"), 2.0);
    wait_until("the problem", || world.front.admin().get("/status").text().contains("Connection refused"));
    world.finish();
}

#[test]
fn a_server_that_does_not_answer_in_time_is_a_504() {
    let (_hold, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let upstream = Upstream::start(move |_, _| held.lock().expect("no holder panics").recv().is_ok());
    let world = to(&upstream, "timeout = \"200ms\"");
    assert_eq!(ask(&world, "GET", &[], b"").status, 504);
    assert_eq!(counted(&world, "late"), 1.0);
    world.finish();
}

#[test]
fn what_is_no_answer_is_a_502() {
    for answer in ["", "HTTP/1.1 200", "SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\r\nbad header\r\n\r\n"] {
        let upstream = Upstream::start(move |_, out| out.write_all(answer.as_bytes()).is_err());
        let world = to(&upstream, "");
        assert_eq!(ask(&world, "GET", &[], b"").status, 502, "{answer:?}");
        assert_eq!(
            (counted(&world, "broken"), upstream.asked().len()),
            (1.0, 1),
            "a fresh connection is not tried again"
        );
        world.finish();
    }
}

#[test]
fn an_answer_that_breaks_off_or_falls_silent_is_cut() {
    for (answer, settings) in [("4\r\npart\r\n", ""), ("4\r\npart\r\n", "quiet_time = \"200ms\"")] {
        let (_hold, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let silent = !settings.is_empty();
        let upstream = Upstream::start(move |_, out| {
            let _ = write!(out, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{answer}");
            silent && held.lock().expect("no holder panics").recv().is_ok()
        });
        let world = to(&upstream, settings);
        let mut http = world.http();
        http.request("GET", "/old/", &[], b"");
        assert_eq!(http.read_head().expect("a head").status, 200);
        assert_eq!((http.chunk(), http.chunk()), (Chunk::Data(b"part".to_vec()), Chunk::Cut), "{settings}");
        world.finish();
    }
}

#[test]
fn a_closed_connection_costs_no_request_that_may_run_twice() {
    // Each connection answers one request and closes without a word when the second comes.
    let upstream = Upstream::start(|asked, out| {
        asked.header("x-second").is_none() && out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
            || asked.connection > 0 && out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nagain").is_err()
    });
    let world = to(&upstream, "");
    assert_eq!(ask(&world, "GET", &[], b"").text(), "ok");
    let second = ask(&world, "GET", &["X-Second: 1"], b"");
    assert_eq!((second.status, second.text().as_str()), (200, "again"));
    let connections: Vec<_> = upstream.asked().iter().map(|asked| asked.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
    world.finish();
    let upstream = Upstream::start(|asked, out| {
        asked.header("x-second").is_none() && out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let world = to(&upstream, "");
    assert_eq!(ask(&world, "POST", &[], b"x").text(), "ok");
    assert_eq!(ask(&world, "POST", &["X-Second: 1"], b"x").status, 502);
    assert_eq!(upstream.asked().len(), 2, "it may have run: not sent again");
    world.finish();
}

#[test]
fn a_full_server_is_a_503() {
    let (hold, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let upstream = Upstream::start(move |_, out| {
        let _ = held.lock().expect("no holder panics").recv();
        out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let world = to(&upstream, "connections = 1\nconnect_time = \"200ms\"");
    let mut first: Http = world.http();
    first.request("GET", "/old/", &[], b"");
    wait_until("the first request", || upstream.asked().len() == 1);
    let second = ask(&world, "GET", &[], b"");
    assert_eq!((second.status, second.header("retry-after")), (503, Some("1")));
    assert_eq!(counted(&world, "full"), 1.0);
    hold.send(()).expect("the server waits");
    assert_eq!(first.response().text(), "ok");
    drop(hold);
    world.finish();
}

#[test]
fn bodies_keep_their_limit_and_their_time() {
    let upstream = Upstream::saying("ok");
    let server = format!("http://{}", upstream.address);
    let table = format!("[[route]]\npath = \"/old/{{rest...}}\"\nproxy = \"{server}\"\nbody_limit = 10");
    let world = World::builder().set("limits.body_time = \"300ms\"").table(&table).start();
    assert_eq!(ask(&world, "POST", &[], b"0123456789").status, 200, "at the edge");
    assert_eq!(ask(&world, "POST", &[], b"0123456789x").status, 413, "announced");
    let chunked = ["Transfer-Encoding: chunked"];
    let mut http = world.http();
    http.request("POST", "/old/", &chunked, b"");
    http.send(b"6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n");
    assert_eq!(http.response().status, 413, "in chunks");
    let mut http = world.http();
    http.request("POST", "/old/", &chunked, b"");
    http.send(b"3\r\n012\r\n");
    assert_eq!(http.response().status, 408, "it stopped coming");
    assert_eq!(counted(&world, "client"), 2.0);
    world.finish();
}

#[test]
fn an_upgrade_is_refused_and_one_to_http_2_passed_over() {
    let upstream = Upstream::saying("ok");
    let world = to(&upstream, "");
    let response = ask(&world, "GET", &["Connection: Upgrade", "Upgrade: websocket"], b"");
    assert!(response.status == 501 && response.text().contains("WebSocket"), "{}", response.text());
    let response =
        ask(&world, "GET", &["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"], b"");
    assert_eq!(response.text(), "ok");
    assert_eq!(upstream.asked()[0].header("upgrade"), None);
    world.finish();
}

#[test]
fn a_client_that_leaves_ends_its_request_at_the_server() {
    let (tell, left) = mpsc::channel();
    let tell = Mutex::new(tell);
    let upstream = Upstream::start(move |_, out| {
        let mut sent = out.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while sent.is_ok() {
            sent = out.write_all(b"4\r\ntick\r\n");
        }
        tell.lock().expect("no holder panics").send(()).is_err()
    });
    let world = to(&upstream, "");
    let mut http = world.http();
    http.request("GET", "/old/", &[], b"");
    assert_eq!(http.read_head().expect("a head").status, 200);
    drop(http);
    left.recv().expect("the server notices");
    world.finish();
}
