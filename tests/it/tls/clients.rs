//! curl and clients of other kinds at a listener with TLS: protocols, names, and greetings that fail.

use serde_json::json;
use tempest_tests::{Certificate, Http, Response, Trust, wait_until};

use super::{Names, curl};

#[test]
fn each_name_is_shown_its_certificate_in_both_protocols() {
    let names = Names::new();
    let mut world = names.world().start();
    world.worker(|job| {
        let (scheme, http) = (job.text("scheme").to_owned(), job.text("http").to_owned());
        let host = job.head["headers"]["host"].as_str().unwrap_or_default().to_owned();
        vec![job.answer(json!({"status": 200}), format!("{scheme} {http} {} {host}", job.text("host")).as_bytes())]
    });
    let port = world.front.tls_address().port();
    let cases = [
        ("shop.test", "shop.pem", "--http2", "2"),
        ("www.shop.test", "shop.pem", "--http1.1", "1.1"),
        ("blog.test", "blog.pem", "--http2", "2"),
        ("blog.test", "blog.pem", "--http1.1", "1.1"),
    ];
    for (name, cert, protocol, version) in cases {
        let cert = names.dir.join(cert);
        let to = format!("{name}:{port}:127.0.0.1");
        let url = format!("https://{name}:{port}/x");
        // curl verifies that the certificate is for the name.
        let seen = curl(world.dir(), &[protocol, "--cacert", &cert.display().to_string(), "--resolve", &to, &url]);
        assert_eq!(seen, format!("https {version} {name}:{port} {name}:{port}"), "{name} {protocol}");
    }
    // Who names no host, or another one, gets the first.
    let cert = names.dir.join("shop.pem").display().to_string();
    let url = format!("https://127.0.0.1:{port}/x");
    assert_eq!(curl(world.dir(), &["--cacert", &cert, &url]), format!("https 2 127.0.0.1:{port} 127.0.0.1:{port}"));
    let url = format!("http://127.0.0.1:{}/x", world.front.address().port());
    assert!(curl(world.dir(), &[&url]).starts_with("http 1.1 "));
    assert!(curl(world.dir(), &["--http2-prior-knowledge", &url]).starts_with("http 2 "));
    for (protocol, count) in [("h2", 3), ("http/1.1+tls", 2), ("http/1.1", 1), ("h2c", 1)] {
        let label = format!("protocol=\"{protocol}\"");
        wait_until("all of them to be counted", || world.count("tempest_connections_served_total", &[&label]) == count);
    }
    world.finish();
}

#[test]
fn plain_http_is_told_that_this_is_https_and_redirected_where_that_is_wanted() {
    let names = Names::new();
    let world = names.world().start();
    let mut lost = Http::connect(world.front.tls_address());
    let response = lost.get("/x");
    assert_eq!(response.status, 400);
    assert!(response.text().contains("https"), "{response:?}");
    assert_eq!(lost.rest(), b"");
    let mut sent = Http::connect(world.front.redirect_address());
    sent.send("POST /a%2Fb?c=d HTTP/1.1\r\nHost: shop.test:80\r\nContent-Length: 2\r\n\r\nab");
    let response = sent.response();
    let port = world.front.tls_address().port();
    assert_eq!(response.status, 308);
    assert_eq!(response.header("location"), Some(format!("https://shop.test:{port}/a%2Fb?c=d").as_str()));
    assert_eq!(sent.get("/sub/news").status, 308, "nothing else is served there");
    sent.send("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n");
    assert_eq!(sent.response().status, 400);
    assert_eq!(world.count("tempest_tls_handshake_failures_total", &["plain_http"]), 1);
    world.finish();
}

#[test]
fn a_greeting_that_fails_is_counted_by_its_reason_and_holds_up_nobody() {
    let names = Names::new();
    let world = names.world().set("limits.handshake_time = \"1s\"").set("limits.connections = 3").start();
    let address = world.front.tls_address();
    let failures = |reason: &str| world.count("tempest_tls_handshake_failures_total", &[reason]);
    // A byte of a greeting and no more; it counts among the connections meanwhile.
    let mut silent = [Http::connect(address), Http::connect(address), Http::connect(address)];
    silent[1].send([22]);
    wait_until("three connections", || world.gauge("tempest_connections_open") == 3);
    let refused = Http::try_connect_tls(address, "shop.test", &names.trust());
    assert!(refused.is_err(), "there is no room, and no words without TLS");
    assert_eq!(world.count("tempest_requests_refused_total", &["connections"]), 1);
    silent.iter_mut().for_each(|connection| assert_eq!(connection.rest(), b""));
    assert_eq!(failures("timeout"), 3);
    let mut garbage = Http::connect(address);
    garbage.send([&[22, 3, 1, 0, 5][..], &[255; 5]].concat());
    garbage.rest();
    assert_eq!(failures("malformed"), 1);
    let strangers = Trust::of(&[&Certificate::of(&["shop.test"])]);
    assert!(Http::try_connect_tls(address, "shop.test", &strangers).is_err());
    wait_until("the refusal to be counted", || failures("refused") == 1);
    let mut left = Http::connect(address);
    left.shutdown_write();
    left.rest();
    wait_until("the one that left to be counted", || failures("left") == 1);
    assert_eq!(Http::connect_tls(address, "shop.test", &names.trust()).get("/sub/").status, 400);
    world.finish();
}

#[test]
fn a_session_is_taken_up_again() {
    let names = Names::new();
    let world = names.world().start();
    let trust = names.trust().resuming();
    let address = world.front.tls_address();
    let mut first = Http::connect_tls(address, "shop.test", &trust);
    first.get("/sub/");
    assert!(!first.tls_is_resumed());
    drop(first);
    assert!(Http::connect_tls(address, "shop.test", &trust).tls_is_resumed());
    world.finish();
}

#[test]
fn a_session_cookie_is_for_tls_where_it_came_by_it() {
    let names = Names::new();
    let mut world = names.world().table("[session]").start();
    world.worker(|job| vec![job.answer(json!({"status": 200, "session": {"n": 1}}), b"")]);
    let secure = Http::connect_tls(world.front.tls_address(), "shop.test", &names.trust()).get("/");
    let plain = world.http().get("/");
    let cookie = |response: &Response| response.header("set-cookie").expect("a cookie").to_owned();
    assert!(cookie(&secure).contains("; Secure") && !cookie(&plain).contains("; Secure"));
    world.finish();
}
