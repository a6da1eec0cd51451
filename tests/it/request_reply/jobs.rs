//! What a worker is told about a request.

use serde_json::json;
use tempest_tests::World;

/// All bytes there are, line feeds and NUL among them.
fn binary(length: usize) -> Vec<u8> {
    (0..=255).cycle().take(length).collect()
}

#[test]
fn a_job_states_every_fact_of_the_request() {
    let mut world = World::start();
    let mut http = world.http();
    http.send(
        "POST /a%20b/%C3%A9//x?q=1&r=%2F HTTP/1.1\r\nHost: Example.test:81\r\nAccept: text/html\r\nX-One: a\r\n\
         Accept: text/plain\r\nCookie: a=1\r\nCookie: b=2\r\nContent-Length: 4\r\n\r\n\n\0\n\n",
    );
    let job = world.take();
    let now = world.redis.cmd(&["TIME"]).list()[0].text().parse::<u64>().expect("seconds") * 1000;
    assert_eq!(
        (&job["v"], &job["attempt"], &job["action"], &job["queue"]),
        (&json!(1), &json!(1), &json!("http"), &json!("web"))
    );
    assert_eq!((&job["method"], &job["path"]), (&json!("POST"), &json!("/a%20b/%C3%A9//x")));
    assert_eq!((&job["query"], &job["host"]), (&json!("q=1&r=%2F"), &json!("Example.test:81")));
    assert_eq!((&job["scheme"], &job["http"]), (&json!("http"), &json!("1.1")));
    assert_eq!(job["peer"], json!(http.local_address().to_string()));
    assert_eq!(job["server"], json!(world.front.address().to_string()));
    assert_eq!(job.header("accept"), Some("text/html, text/plain"));
    assert_eq!(job.header("cookie"), Some("a=1; b=2"));
    assert_eq!(job.header("x-one"), Some("a"));
    assert_eq!(job.body, b"\n\0\n\n");
    assert!(job.reply_to().starts_with("tempest:@"), "{}", job.reply_to());
    assert!(job["headers"].as_object().expect("an object").keys().all(|name| *name == name.to_lowercase()));
    let (deadline, enqueued) = (job["deadline"].as_u64().expect("ms"), job["enqueued"].as_u64().expect("ms"));
    let left = job["timeout_ms"].as_u64().expect("ms");
    assert!(deadline.abs_diff(enqueued + left) < 1_000, "{}", job.head);
    assert!(enqueued.abs_diff(now) < 20_000, "the clock of Redis: {enqueued} and {now}");
    world.ok(&job, "done");
    assert_eq!(http.response().text(), "done");
    world.finish();
}

#[test]
fn the_first_six_fields_come_in_the_promised_order_and_cannot_be_forged() {
    let mut world = World::start();
    let mut http = world.http();
    http.request("GET", "/\",\"id\":\"fake\",\"x\":\"?%22id%22", &["X-A: \",\"id\":\"fake\",\""], b"");
    let job = world.take();
    let text = String::from_utf8_lossy(&job.message).into_owned();
    let order = ["{\"v\":1,\"id\":\"", "\"attempt\":1", "\"deadline\":", "\"timeout_ms\":", "\"reply_to\":\"tempest:@"];
    let places: Vec<_> =
        order.iter().map(|part| text.find(part).unwrap_or_else(|| panic!("{part} in {text}"))).collect();
    assert!(places.is_sorted() && places[0] == 0, "{text}");
    assert_eq!(job.header("x-a"), Some("\",\"id\":\"fake\",\""));
    world.ok(&job, "");
    assert_eq!(http.response().status, 200);
    world.finish();
}

#[test]
fn no_query_a_bare_one_and_one_with_text_are_told_apart() {
    let mut world = World::start();
    let mut http = world.http();
    for (target, path, query) in [
        ("/p", "/p", json!(null)),
        ("/p?", "/p", json!("")),
        ("/p??a=b?c", "/p", json!("?a=b?c")),
        ("/%zz%", "/%zz%", json!(null)),
        ("/a/../b/./c", "/a/../b/./c", json!(null)),
    ] {
        http.request("GET", target, &[], b"");
        let job = world.take();
        assert_eq!((job["path"].as_str(), &job["query"]), (Some(path), &query), "{target}");
        world.ok(&job, "");
        assert_eq!(http.response().status, 200);
    }
    world.finish();
}

#[test]
fn http_1_0_may_leave_out_the_host() {
    let mut world = World::start();
    let mut http = world.http();
    http.send("GET /old HTTP/1.0\r\n\r\n");
    let job = world.take();
    assert_eq!((&job["host"], &job["http"]), (&json!(null), &json!("1.0")));
    world.ok(&job, "old");
    assert_eq!(http.response().text(), "old");
    assert_eq!(http.rest(), b"", "an HTTP/1.0 connection ends after its response");
    world.finish();
}

#[test]
fn headers_of_the_hop_stay_behind() {
    let mut world = World::start();
    let mut http = world.http();
    let headers = [
        "Connection: keep-alive, X-Private",
        "Keep-Alive: timeout=5",
        "X-Private: secret",
        "TE: trailers",
        "Proxy-Authorization: Basic x",
        "Proxy-Connection: keep-alive",
        "Upgrade: h2c",
        "X-Public: yes",
    ];
    http.request("GET", "/", &headers, b"");
    let job = world.take();
    for name in ["connection", "keep-alive", "x-private", "te", "proxy-authorization", "proxy-connection", "upgrade"] {
        assert_eq!(job.header(name), None, "{name}");
    }
    assert_eq!(job.header("x-public"), Some("yes"));
    world.ok(&job, "");
    assert_eq!(http.response().status, 200);
    world.finish();
}

#[test]
fn bytes_above_ascii_in_a_header_arrive_as_latin_1_code_points() {
    let mut world = World::start();
    let mut http = world.http();
    http.send(b"GET / HTTP/1.1\r\nHost: test\r\nX-Name: caf\xe9 \xff\xc3\xa9\r\n\r\n");
    let job = world.take();
    assert_eq!(job.header("x-name"), Some("caf\u{e9} \u{ff}\u{c3}\u{a9}"));
    world.ok(&job, "");
    assert_eq!(http.response().status, 200);
    world.finish();
}

#[test]
fn a_body_arrives_unharmed_by_length_and_in_chunks() {
    let mut world = World::start();
    let mut http = world.http();
    let body = binary(300_000);
    http.request("PUT", "/length", &[], &body);
    let job = world.take();
    assert!(job.body == body, "{} bytes of {}", job.body.len(), body.len());
    world.ok(&job, "");
    assert_eq!(http.response().status, 200);

    http.send("PUT /chunks HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
    for part in body.chunks(70_001) {
        http.send(format!("{:X};ext=\"a b\"\r\n", part.len()));
        http.send(part);
        http.send("\r\n");
    }
    http.send("0\r\nX-Sum: 1\r\n\r\n");
    let job = world.take();
    assert!(job.body == body, "{} bytes of {}", job.body.len(), body.len());
    assert_eq!((job.header("transfer-encoding"), job.header("trailer")), (None, None));
    world.ok(&job, "");
    assert_eq!(http.response().status, 200);
    world.finish();
}

#[test]
fn a_large_body_goes_to_a_worker_and_back() {
    let mut world = World::builder().set("limits.answer_bytes = \"4MiB\"").start();
    let mut http = world.http();
    let body = binary(900_000);
    http.request("POST", "/echo", &["Content-Type: application/octet-stream"], &body);
    let job = world.take();
    let echoed = job.body.clone();
    world.answer(&job, json!({"status": 200}), &echoed);
    assert!(http.response().body == body);
    world.finish();
}

#[test]
fn who_expects_100_continue_is_told_to_go_on() {
    let mut world = World::start();
    let mut http = world.http();
    http.send("POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(http.response().status, 100);
    http.send("hello");
    let job = world.take();
    assert_eq!((job.body.as_slice(), job.header("expect")), (b"hello".as_slice(), None));
    world.ok(&job, "");
    assert_eq!(http.response().status, 200);
    world.finish();
}

#[test]
fn every_method_goes_to_the_worker() {
    let mut world = World::start();
    let mut http = world.http();
    for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PURGE", "M-SEARCH"] {
        http.request(method, "/m", &[], b"");
        let job = world.take();
        assert_eq!(job["method"], json!(method));
        world.answer(&job, json!({"status": 200, "headers": {"allow": "GET"}}), method);
        let response = http.response();
        assert_eq!((response.text().as_str(), response.header("allow")), (method, Some("GET")));
    }
    world.finish();
}

#[test]
fn ids_are_unique_and_a_response_names_its_own() {
    let mut world = World::start();
    let mut http = world.http();
    let mut seen = Vec::new();
    for _ in 0..5 {
        http.request("GET", "/", &[], b"");
        let job = world.take();
        world.ok(&job, "");
        let response = http.response();
        let id = response.header("x-request-id").expect("a response names its request").to_owned();
        assert_eq!(id, job.id());
        assert!(!seen.contains(&id), "{id} twice");
        seen.push(id);
    }
    world.finish();
}
