//! The PROXY protocol: who is behind a connection, and what is closed without a word.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::json;
use tempest_tests::{Certificate, Folder, Http, Trust, World, WorldBuilder, free_port, wait_until};

use super::{facts, job_of};

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 61000 443\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\x00\r\nQUIT\n";

fn required() -> WorldBuilder {
    World::builder().set("front.trusted_proxies = [\"127.0.0.1\"]").set("front.proxy_protocol = \"required\"")
}

/// Version 2 for 203.0.113.8:61001, which has reached 192.0.2.1:443, with these bytes behind the addresses.
fn v2(command: u8, tlvs: &[u8]) -> Vec<u8> {
    let addresses = [203, 0, 113, 8, 192, 0, 2, 1, 0xee, 0x49, 0x01, 0xbb];
    let length = u16::try_from(addresses.len() + tlvs.len()).expect("short").to_be_bytes();
    [SIGNATURE, &[command, 0x11], &length, &addresses, tlvs].concat()
}

/// Version 2 for a client in 2001:db8:0:`net`::/64.
fn v6(net: u8, host: u8) -> Vec<u8> {
    let source = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, net, 0, 0, 0, 0, 0, 0, 0, host];
    let server = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    [SIGNATURE, &[0x21, 0x21, 0, 36], &source, &server, &[0xee, 0x49, 0x01, 0xbb]].concat()
}

fn with(world: &World, header: &[u8]) -> Http {
    let mut http = world.http();
    http.send(header);
    http
}

fn ended(world: &World, reason: &str) -> i64 {
    world.count("tempest_connections_ended_total", &[&format!("reason=\"{reason}\"")])
}

#[test]
fn both_versions_name_the_client_and_what_it_has_reached() {
    let mut world = required().start();
    for (header, peer, server) in [
        (V1.to_vec(), "203.0.113.7:61000", "192.0.2.1:443"),
        (v2(0x21, b""), "203.0.113.8:61001", "192.0.2.1:443"),
        (v2(0x21, b"\x03\x00\x04abcd\xee\x00\x00"), "203.0.113.8:61001", "192.0.2.1:443"),
        (v6(1, 7), "[2001:db8:0:1::7]:61001", "[::1]:443"),
    ] {
        let mut http = with(&world, &header);
        for _ in 0..2 {
            let job = job_of(&mut world, &mut http, &["X-Forwarded-For: 198.51.100.1"]);
            assert_eq!((facts(&job)[0], job["server"].as_str()), (peer, Some(server)));
        }
    }
    world.finish();
}

#[test]
fn a_proxy_that_speaks_for_itself_is_the_client() {
    let mut world = required().start();
    for header in [v2(0x20, b""), b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut http = with(&world, &header);
        let job = job_of(&mut world, &mut http, &[]);
        assert_eq!(job["peer"], http.local_address().to_string());
        assert_eq!(job["server"], world.front.address().to_string());
    }
    world.finish();
}

#[test]
fn it_may_come_byte_by_byte_with_the_request_right_behind_it() {
    let mut world = required().start();
    for header in [V1.to_vec(), v2(0x21, b"\x03\x00\x04abcd")] {
        let mut http = world.http();
        let request = b"GET /who HTTP/1.1\r\nHost: test\r\n\r\n";
        for byte in header.iter().chain(request) {
            http.send([*byte]);
        }
        let job = world.take();
        assert!(facts(&job)[0].starts_with("203.0.113."), "{}", job["peer"]);
        world.ok(&job, "you");
        assert_eq!(http.response().text(), "you");
    }
    world.finish();
}

#[test]
fn what_is_no_header_or_comes_too_late_or_from_elsewhere_is_closed_and_counted() {
    let world = required().set("limits.head_time = \"500ms\"").start();
    let bad: [&[u8]; 3] =
        [b"GET /who HTTP/1.1\r\nHost: test\r\n\r\n", b"PROXY TCP4 a b 1 2\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x31\x11\0\0"];
    for (nth, header) in (1..).zip(bad) {
        assert_eq!(with(&world, header).rest(), b"", "no answer");
        wait_until("it to be counted", || ended(&world, "proxy_header") == nth);
    }
    assert_eq!(with(&world, &V1[..20]).rest(), b"");
    wait_until("the late one to be counted", || ended(&world, "proxy_header") == 4);
    world.finish();

    let world = World::builder()
        .set("front.trusted_proxies = [\"10.0.0.0/8\"]")
        .set("front.proxy_protocol = \"required\"")
        .start();
    assert_eq!(with(&world, V1).rest(), b"");
    wait_until("it to be counted", || ended(&world, "proxy_untrusted") == 1);
    world.finish();
}

#[test]
fn it_may_be_required_on_one_listener_only() {
    let (open, behind) = (free_port(), free_port());
    let mut world = World::builder()
        .set(&format!("front.listen = [\"127.0.0.1:{open}\", \"127.0.0.1:{behind}\"]"))
        .set("front.trusted_proxies = [\"127.0.0.1\"]")
        .set(&format!("front.proxy_protocol = [\"127.0.0.1:{behind}\"]"))
        .start();
    let mut http = Http::connect(([127, 0, 0, 1], behind).into());
    http.send(V1);
    assert_eq!(job_of(&mut world, &mut http, &[])["peer"], "203.0.113.7:61000");
    let mut plain = Http::connect(([127, 0, 0, 1], open).into());
    assert_eq!(job_of(&mut world, &mut plain, &[])["peer"], plain.local_address().to_string());
    world.finish();
}

/// Asks once over what is connected, and gives the body of the answer.
fn ask(mut connection: impl Read + Write) -> String {
    connection.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("it takes a request");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("it answers and says goodbye");
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or(answer)
}

#[test]
fn it_stands_before_the_greeting_of_tls_and_on_unix_sockets() {
    let dir = Folder::new();
    let certificate = Certificate::of(&["shop.test"]);
    let (cert, key) = certificate.write(&dir, "shop");
    let socket = dir.join("front.sock");
    let (cert, key) = (cert.display(), key.display());
    let mut world = World::builder()
        .set(&format!("front.listen = [\"127.0.0.1:0\", \"unix:{}\"]", socket.display()))
        .set("front.trusted_proxies = [\"127.0.0.1\", \"unix\"]")
        .set("front.proxy_protocol = \"required\"")
        .table(&format!(
            "[[front.tls]]\nlisten = \"127.0.0.1:0\"\ncertificates = [{{ cert = \"{cert}\", key = \"{key}\" }}]"
        ))
        .start();
    world.worker(|job| {
        let words = ["scheme", "peer", "server"].map(|name| job.text(name).to_owned());
        vec![job.answer(json!({"status": 200}), words.join(" ").as_bytes())]
    });
    let tls = |header: &[u8]| {
        let mut tcp = TcpStream::connect(world.front.tls_address()).expect("it listens");
        tcp.write_all(header).expect("it takes a header");
        Trust::of(&[&certificate]).greet(tcp, "shop.test")
    };
    assert_eq!(ask(tls(V1).expect("a greeting")), "https 203.0.113.7:61000 192.0.2.1:443");
    assert_eq!(ask(tls(&v2(0x21, b"")).expect("a greeting")), "https 203.0.113.8:61001 192.0.2.1:443");
    // A greeting where the header belongs.
    assert!(tls(b"").is_err());
    let unix = |header: &[u8]| {
        let mut unix = UnixStream::connect(&socket).expect("it listens");
        unix.write_all(header).expect("it takes a header");
        unix
    };
    assert_eq!(ask(unix(V1)), "http 203.0.113.7:61000 192.0.2.1:443");
    assert_eq!(ask(unix(&v2(0x21, b""))), "http 203.0.113.8:61001 192.0.2.1:443");
    // Without a header there is no word, whether the request is read before the end or not.
    let mut said = Vec::new();
    let mut silent = unix(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    let _ = silent.read_to_end(&mut said);
    assert_eq!(said, b"");
    wait_until("both to be counted", || ended(&world, "proxy_header") == 2);
    world.finish();
}

#[test]
fn connections_are_counted_by_the_address_that_is_named() {
    let mut world = required().set("limits.connections_per_address = 2").start();
    let mut held = [with(&world, V1), with(&world, V1)];
    for http in &mut held {
        job_of(&mut world, http, &[]);
    }
    let third = with(&world, V1).response();
    assert_eq!((third.status, third.header("retry-after")), (429, Some("10")));
    let mut nets = [with(&world, &v6(1, 1)), with(&world, &v6(1, 2)), with(&world, &v6(2, 1))];
    for http in &mut nets {
        job_of(&mut world, http, &[]);
    }
    assert_eq!(with(&world, &v6(1, 3)).response().status, 429, "a /64 is one client");
    assert_eq!(world.count("tempest_requests_refused_total", &["reason=\"connections_per_address\""]), 2);
    // A proxy that looks whether we are there is not counted.
    let mut checks: Vec<_> = (0..4).map(|_| with(&world, &v2(0x20, b""))).collect();
    for http in &mut checks {
        job_of(&mut world, http, &[]);
    }
    drop((held, nets, checks));
    assert!(tempest_tests::within(Duration::from_secs(5), || { world.gauge("tempest_connections_open") == 0 }));
    let mut again = with(&world, V1);
    job_of(&mut world, &mut again, &[]);
    world.finish();
}
