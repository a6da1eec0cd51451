//! Channels that a token opens: where it may be, what it opens, when it ends, and how its keys change.

use std::fs;
use std::path::Path;

use serde_json::{Value as Json, json};
use tempest_tests::{
    Folder, Front, Page, Response, Signer, Sse, World, WorldBuilder, free_port, in_seconds, jwks, tempest, token,
    wait_until,
};

const SECRET: &str = "the secret of a test, 32 bytes or more";

fn builder() -> WorldBuilder {
    World::builder().set("channels.public = [\"news\"]")
}

fn with_secret() -> WorldBuilder {
    builder().table(&format!("[[channels.key]]\nname = \"test\"\nalg = \"HS256\"\nsecret = \"{SECRET}\""))
}

fn key(alg: &str, source: &str) -> String {
    format!("[[channels.key]]\nname = \"test\"\nalg = \"{alg}\"\n{source}")
}

fn claims(subscribe: &[&str]) -> Json {
    json!({"sub": "ann", "exp": in_seconds(60), "tempest": {"subscribe": subscribe}})
}

fn good() -> String {
    token(SECRET, &claims(&["orders.*"]))
}

fn head(front: &Front, target: &str, headers: &[&str]) -> Response {
    let mut http = front.http();
    http.request("GET", target, headers, b"");
    http.read_head().expect("a head")
}

/// The status with a token in a header.
fn status(front: &Front, channel: &str, token: &str) -> u16 {
    head(front, &format!("/sub/{channel}"), &[&format!("Authorization: Bearer {token}")]).status
}

/// Changes a file as one should: in one step.
fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).expect("the file can be written");
    fs::rename(next, path).expect("the file can be replaced");
}

#[test]
fn a_token_opens_what_it_names_from_header_cookie_and_query() {
    let mut world = with_secret().start();
    let (token, bad) = (good(), "x.y.z");
    let bearer = format!("Authorization: Bearer {token}");
    let cookie = format!("Cookie: a=b; tempest_token={token}");
    let (bad_bearer, bad_cookie) = (format!("Authorization: Bearer {bad}"), format!("Cookie: tempest_token={bad}"));
    let query = format!("/sub/orders.1?a=b&token={token}");
    for (target, headers, expected) in [
        ("/sub/orders.1", vec![bearer.as_str()], 200),
        ("/sub/orders.1", vec![cookie.as_str()], 200),
        (query.as_str(), vec![], 200),
        ("/sub/orders.1", vec!["Authorization: Basic dTpw", cookie.as_str()], 200),
        ("/sub/orders.1", vec![bearer.as_str(), bad_cookie.as_str()], 200),
        ("/sub/orders.1", vec![bad_bearer.as_str(), cookie.as_str()], 401),
        (query.as_str(), vec![bad_cookie.as_str()], 401),
        ("/sub/orders.1", vec![], 401),
        ("/sub/secret", vec![bearer.as_str()], 403),
        ("/sub/tempest:web", vec![bearer.as_str()], 403),
        ("/sub/news", vec![], 200),
        ("/sub/news", vec![bearer.as_str()], 200),
        ("/sub/news", vec![bad_bearer.as_str()], 401),
    ] {
        assert_eq!(head(&world.front, target, &headers).status, expected, "{target:.20} {headers:?}");
    }
    let mut stream = Sse::open(world.front.address(), &query);
    stream.comment();
    assert_eq!(world.redis.publish("orders.1", "paid"), 1);
    assert_eq!(stream.data(), "paid");
    drop(stream);
    world.finish();
}

#[test]
fn a_token_opens_the_patterns_that_it_names_and_no_other() {
    let mut world = with_secret().start();
    let grants = json!({"subscribe": ["*"], "patterns": ["orders.*"]});
    let token = token(SECRET, &json!({"exp": in_seconds(60), "tempest": grants}));
    let bearer = format!("Authorization: Bearer {token}");
    for pattern in ["*", "orders.?", "orders.**", "news"] {
        let status = head(&world.front, &format!("/sub?pattern={pattern}"), &[&bearer]).status;
        assert_eq!(status, 403, "{pattern}: a pattern is granted as it is written");
    }
    let mut stream = Sse::with(world.http(), "/sub?pattern=orders.*", &[&bearer]);
    assert_eq!(stream.head.status, 200);
    world.redis.publish("orders.7", "paid");
    assert_eq!(stream.data(), "paid");
    drop(stream);
    world.finish();
}

#[test]
fn a_refusal_says_why_and_nothing_else() {
    let world = with_secret().start();
    let none = head(&world.front, "/sub/orders.1", &[]);
    assert_eq!((none.status, none.header("www-authenticate")), (401, Some("Bearer")));
    let old = token(SECRET, &json!({"exp": 1, "tempest": {"subscribe": ["*"]}}));
    let mut http = world.http();
    http.request("GET", "/sub/orders.1", &[&format!("Authorization: Bearer {old}")], b"");
    let refused = http.response();
    let challenge = "Bearer error=\"invalid_token\", error_description=\"the token has expired\"";
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some(challenge)));
    let id = refused.header("x-request-id").expect("an id");
    assert_eq!(refused.text(), format!("401 Unauthorized: the token has expired\nrequest {id}\n"));
    assert_eq!(world.count("tempest_tokens_refused_total", &["expired"]), 1);
    world.finish();
}

#[test]
fn the_cookie_has_the_name_that_is_configured() {
    let world = with_secret().set("channels.token_cookie = \"pass\"").start();
    assert_eq!(head(&world.front, "/sub/orders.1", &[&format!("Cookie: tempest_token={}", good())]).status, 401);
    assert_eq!(head(&world.front, "/sub/orders.1", &[&format!("Cookie: pass={}", good())]).status, 200);
    world.finish();
}

#[test]
fn a_listed_origin_may_send_its_cookie_and_read_why_it_was_refused() {
    let world = with_secret().set("channels.cors = [\"*\", \"https://app.test\"]").start();
    let cookie = format!("Cookie: tempest_token={}", good());
    for (origin, allowed, credentials) in
        [("https://app.test", "https://app.test", Some("true")), ("https://other.test", "*", None)]
    {
        for (target, status) in [("/sub/orders.1", 200), ("/sub/secret", 403)] {
            let head = head(&world.front, target, &[&cookie, &format!("Origin: {origin}")]);
            assert_eq!((head.status, head.header("access-control-allow-origin")), (status, Some(allowed)));
            assert_eq!(head.header("access-control-allow-credentials"), credentials, "{origin}");
        }
    }
    let mut http = world.http();
    http.request("OPTIONS", "/sub/orders.1", &["Origin: https://app.test"], b"");
    let preflight = http.response();
    let headers = preflight.header("access-control-allow-headers").expect("what may be sent");
    assert!(headers.contains("Authorization") && headers.contains("Last-Event-ID"), "{headers}");
    assert_eq!(preflight.header("access-control-allow-credentials"), Some("true"));
    world.finish();
}

#[test]
fn no_token_and_no_secret_is_ever_logged() {
    let world = with_secret().set("log.access = \"json\"").set("log.level = \"trace\"").start();
    let (good, bad) = (good(), format!("{}x", good()));
    for (text, expected) in [(&good, 200), (&bad, 401)] {
        assert_eq!(head(&world.front, &format!("/sub/orders.1?token={text}"), &[]).status, expected);
        assert_eq!(status(&world.front, "orders.1", text), expected);
        assert_eq!(head(&world.front, "/sub/orders.1", &[&format!("Cookie: tempest_token={text}")]).status, expected);
    }
    wait_until("the requests to be logged", || {
        world.front.process.log.lines().iter().filter(|line| line.contains("/sub/orders.1")).count() >= 6
    });
    let signature = good.rsplit('.').next().expect("a signature");
    for line in world.front.process.log.lines() {
        assert!(!line.contains(signature) && !line.contains(SECRET), "{line}");
    }
    assert!(world.front.process.log.lines().iter().any(|line| line.contains("token=***")));
    world.finish();
}

#[test]
fn a_key_set_in_a_file_is_read_again_when_it_changes() {
    let folder = Folder::new();
    let file = folder.join("keys.json");
    let (a, b) = (Signer::new("a"), Signer::new("b"));
    replace(&file, &jwks(&[&a]));
    let mut world = builder().table(&key("EdDSA", &format!("jwks_file = {:?}", file.display()))).start();
    let (by_a, by_b) = (a.token(&claims(&["orders.*"])), b.token(&claims(&["orders.*"])));
    let mut open = Sse::open(world.front.address(), &format!("/sub/orders.1?token={by_a}"));
    open.comment();
    assert_eq!(status(&world.front, "orders.1", &by_b), 401);

    replace(&file, &jwks(&[&b]));
    // The first such token may come right behind the look that the refused one has asked for.
    wait_until("the new key to be known", || status(&world.front, "orders.1", &by_b) == 200);
    assert_eq!(status(&world.front, "orders.1", &by_a), 401, "its key is gone");
    world.redis.publish("orders.1", "still here");
    assert_eq!(open.data(), "still here", "what is open stays so until it expires");

    for broken in ["{\"keys\":", "{}"] {
        let failures = world.count("tempest_key_set_failures_total", &[]);
        replace(&file, broken);
        let failed = || world.count("tempest_key_set_failures_total", &[]) > failures;
        wait_until("the broken file to be noticed", failed);
        assert_eq!(status(&world.front, "orders.1", &by_b), 200, "the old keys stay");
    }
    let warned = |line: &String| line.contains("its keys cannot be read") && line.contains("WARN");
    assert_eq!(world.front.process.log.lines().iter().filter(|line| warned(line)).count(), 1, "once");
    replace(&file, &jwks(&[&a]));
    // A token of a known key asks for nothing: the file is looked at by itself.
    wait_until("the file to be read", || status(&world.front, "orders.1", &by_b) == 401);
    assert_eq!(status(&world.front, "orders.1", &by_a), 200);
    drop(open);
    world.finish();
}

#[test]
fn a_key_set_at_a_url_is_fetched_again_when_a_token_names_an_unknown_key() {
    let (a, b) = (Signer::new("a"), Signer::new("b"));
    let page = Page::start(&jwks(&[&a]));
    let world = builder()
        .set("channels.jwks_pause = \"50ms\"")
        .table(&key("EdDSA", &format!("jwks_url = {:?}", page.url())))
        .start();
    let (by_a, by_b) = (a.token(&claims(&["orders.*"])), b.token(&claims(&["orders.*"])));
    assert_eq!(status(&world.front, "orders.1", &by_a), 200, "the first request waits for the first fetch");
    assert_eq!((status(&world.front, "orders.1", &by_a), page.asked()), (200, 1), "a known key asks for nothing");

    page.give("200 OK", &jwks(&[&a, &b]));
    wait_until("the new key to be known", || status(&world.front, "orders.1", &by_b) == 200);
    // A good set all the same, without any of the keys.
    let none = jwks(&[]);
    let none = none.as_str();
    let large = format!("{{\"keys\":[],\"x\":\"{}\"}}", "y".repeat(256 * 1024));
    for (answer, body) in [
        ("500 Internal Server Error", none),
        ("302 Found\r\nlocation: /elsewhere", none),
        ("200 OK", "no JSON"),
        ("200 OK", &large),
    ] {
        page.give(answer, body);
        let failures = world.count("tempest_key_set_failures_total", &[]);
        let unknown = Signer::new("c").token(&claims(&["orders.*"]));
        wait_until("a fetch to fail", || {
            assert_eq!(status(&world.front, "orders.1", &unknown), 401);
            world.count("tempest_key_set_failures_total", &[]) > failures
        });
        assert_eq!(status(&world.front, "orders.1", &by_a), 200, "the old keys stay");
    }
    page.give("200 OK", &jwks(&[&b]));
    wait_until("the failures to be over", || status(&world.front, "orders.1", &by_a) == 401);
    assert_eq!(status(&world.front, "orders.1", &by_b), 200);
    world.finish();
}

#[test]
fn a_key_set_is_fetched_now_and_then_and_not_more_often_than_it_may() {
    let (a, b) = (Signer::new("a"), Signer::new("b"));
    let page = Page::start(&jwks(&[&a]));
    let table = key("EdDSA", &format!("jwks_url = {:?}", page.url()));
    let world = builder().set("channels.jwks_refresh = \"100ms\"").table(&table).start();
    let by_a = a.token(&claims(&["orders.*"]));
    assert_eq!(status(&world.front, "orders.1", &by_a), 200);
    page.give("200 OK", &jwks(&[&b]));
    wait_until("the set to be fetched again", || status(&world.front, "orders.1", &by_a) == 401);
    world.finish();

    let page = Page::start(&jwks(&[&a]));
    let world = builder().table(&key("EdDSA", &format!("jwks_url = {:?}", page.url()))).start();
    assert_eq!(status(&world.front, "orders.1", &by_a), 200);
    for n in 0..20 {
        let unknown = Signer::new(&n.to_string()).token(&claims(&["orders.*"]));
        assert_eq!(status(&world.front, "orders.1", &unknown), 401);
    }
    assert_eq!(page.asked(), 1, "strangers cannot make it fetch");
    world.finish();
}

/// A certificate for 127.0.0.1 that signs itself, and its key: of this test, and of nothing else.
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/it/sse/keys/test_server.cert.pem");
const CERTIFICATE_KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/it/sse/keys/test_server.key.pem");

#[test]
fn a_key_set_comes_by_tls_from_whom_the_system_trusts() {
    let world = World::start();
    let a = Signer::new("a");
    let read = |path| fs::read(path).expect("the file is there");
    let page = Page::start_with_tls(&read(CERTIFICATE), &read(CERTIFICATE_KEY), &jwks(&[&a]));
    let by_a = a.token(&claims(&["orders.*"]));
    let trusting = format!("SSL_CERT_FILE={CERTIFICATE}");
    for (trust, status) in
        [(["env", trusting.as_str()].as_slice(), 200), (["env", "-u", "SSL_CERT_FILE"].as_slice(), 401)]
    {
        let config = format!(
            "redis.url = \"{}\"\nfront.listen = [\"127.0.0.1:0\"]\nfront.admin = \"127.0.0.1:0\"\nlog.format = \"json\"\n{}",
            world.redis.url(),
            key("EdDSA", &format!("jwks_url = {:?}", page.url()))
        );
        let mut front = Front::start_under(trust, &world.dir().join("other"), world.mark(), &config);
        front.wait_ready();
        assert_eq!(self::status(&front, "orders.1", &by_a), status, "{trust:?}");
        assert!(front.terminate().success());
    }
    world.finish();
}

#[test]
fn a_front_starts_without_its_key_set_and_finds_it_later() {
    let port = free_port();
    let a = Signer::new("a");
    let table = key("EdDSA", &format!("jwks_url = \"http://127.0.0.1:{port}/\""));
    let world = builder().set("channels.jwks_pause = \"50ms\"").table(&table).start();
    let by_a = a.token(&claims(&["orders.*"]));
    assert_eq!(status(&world.front, "orders.1", &by_a), 401);
    assert_eq!(status(&world.front, "news", ""), 200, "what is public needs no key");
    let _page = Page::start_on(port, &jwks(&[&a]));
    wait_until("the keys to be there", || status(&world.front, "orders.1", &by_a) == 200);
    world.finish();
}

#[test]
fn a_key_that_cannot_be_used_keeps_the_front_from_starting() {
    let folder = Folder::new();
    fs::write(folder.join("tempest.toml"), key("HS256", "secret_file = \"none\"")).expect("the file can be written");
    let ran = tempest(&folder, &["front", "--listen", "127.0.0.1:0", "--admin", "off"], &[], "");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("channels.key test: ") && ran.err.contains("cannot be read"), "{ran:?}");
}

/// Without heartbeats within a test's patience, too: they would keep one alive that waits in vain.
fn without_leeway() -> WorldBuilder {
    with_secret().set("channels.token_leeway = 0").set("channels.heartbeat = \"1h\"")
}

#[test]
fn a_stream_ends_with_its_token() {
    let mut world = without_leeway().start();
    let ends = in_seconds(3);
    let short = token(SECRET, &json!({"exp": ends, "tempest": {"subscribe": ["orders.*"]}}));
    let mut open: Vec<_> =
        [format!("orders.1?token={short}"), format!("orders.1?token={}", good()), format!("news?token={short}")]
            .iter()
            .map(|target| world.front.subscribe(target))
            .collect();
    let mut plain = world.http();
    plain.send(format!("GET /sub/orders.1?token={short} HTTP/1.0\r\n\r\n"));
    wait_until("its subscription", || world.gauge("tempest_streams_open") == 4);
    world.redis.publish("orders.1", "paid");
    assert_eq!((open[0].data(), open[1].data()), ("paid".to_owned(), "paid".to_owned()));
    let end = open[0].event();
    assert_eq!((end.name.as_str(), end.data.as_str()), ("$end", "{\"reason\":\"expired\"}"));
    assert!(in_seconds(0) >= ends, "not before its time");
    assert_eq!(open[0].until_end(), [], "nothing behind it, and a proper end");
    let mut last = Vec::new();
    while let Ok(line) = plain.line() {
        last.push(line);
    }
    assert!(last.ends_with(&["event: $end".to_owned(), "data: {\"reason\":\"expired\"}".to_owned(), String::new()]));
    assert_eq!(world.count("tempest_stream_drops_total", &["expired"]), 2);
    assert_eq!(head(&world.front, &format!("/sub/orders.1?token={short}"), &[]).status, 401, "and it opens no other");
    world.redis.publish("orders.1", "sent");
    world.redis.publish("news", "sent");
    assert_eq!((open[1].data(), open[2].data()), ("sent".to_owned(), "sent".to_owned()), "others go on");
    drop((open, plain));
    world.finish();
}

#[test]
fn a_slow_reader_gets_nothing_more_when_its_token_is_over() {
    let mut world = without_leeway().set("channels.buffer_bytes = \"64MiB\"").start();
    let short = token(SECRET, &json!({"exp": in_seconds(2), "tempest": {"subscribe": ["orders.*"]}}));
    let mut slow = world.front.subscribe(&format!("orders.1?token={short}"));
    let mut quick = world.front.subscribe(&format!("orders.2?token={short}"));
    // Far more than sockets hold: most of it is still in the front when the token ends.
    let (count, text) = (200, "x".repeat(100_000));
    for _ in 0..count {
        world.redis.publish("orders.1", &text);
    }
    assert_eq!(quick.event().name, "$end", "its time is over");
    let mut read = 0;
    let end = loop {
        match slow.event() {
            event if event.name.is_empty() => read += 1,
            event => break event,
        }
    };
    assert_eq!(end.name, "$end");
    assert!(read < count, "{read} of {count}");
    drop((slow, quick));
    world.finish();
}
