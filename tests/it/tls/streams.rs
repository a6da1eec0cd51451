//! Streams by TLS: they leave hyper as others do, resume, and are sent away when the front goes.

use serde_json::json;
use tempest_tests::h2::{GO_AWAY, H2, WINDOW_UPDATE};
use tempest_tests::{Http, Signal, Sse, Trust, wait_until};

use super::Names;
use crate::sse::history::publish;

fn subscribe(names: &Names, address: std::net::SocketAddr, target: &str, headers: &[&str]) -> Sse {
    let http = Http::connect_tls(address, "shop.test", &names.trust());
    let mut stream = Sse::with(http, target, headers);
    assert_eq!(stream.head.status, 200);
    stream.comment();
    stream
}

#[test]
fn a_stream_leaves_http_with_its_session() {
    let names = Names::new();
    let mut world = names.world().start();
    let mut stream = subscribe(&names, world.front.tls_address(), "/sub/news", &[]);
    // It is counted when it is over, or has left HTTP.
    assert_eq!(world.count("tempest_connections_served_total", &["http/1.1+tls"]), 1);
    // What it says from here on is read and forgotten.
    stream.http().request("GET", "/sub/", &[], b"");
    let large = "x".repeat(100_000);
    for text in ["one", "häß → 日本", &large] {
        world.redis.cmd(&["PUBLISH", "news", text]);
        assert_eq!(stream.data(), text);
    }
    drop(stream);
    wait_until("it to be gone", || world.gauge("tempest_streams_open") == 0);
    world.finish();
}

#[test]
fn a_stream_by_tls_resumes_where_it_was() {
    let names = Names::new();
    let mut world = names.world().table("[[channels.rule]]\npattern = \"log.*\"\nhistory = {}").start();
    let ids: Vec<String> = (0..200).map(|n| publish(&mut world.redis, "log.a", &n.to_string())).collect();
    let address = world.front.tls_address();
    let mut stream = subscribe(&names, address, "/sub/log.a", &[&format!("Last-Event-ID: {}", ids[9])]);
    for n in 10..200 {
        assert_eq!(stream.data(), n.to_string());
    }
    publish(&mut world.redis, "log.a", "live");
    assert_eq!(stream.data(), "live");
    // The same by HTTP/2.
    let mut h2 = H2::connect_tls(address, "shop.test", &Trust::with_h2(&[&names.shop]));
    let head =
        [tempest_tests::h2::head("GET", "/sub/log.a"), tempest_tests::h2::literals(&[("last-event-id", &ids[197])])];
    h2.frame(tempest_tests::h2::HEADERS, 5, 1, &head.concat());
    let text = h2.data_until(1, "data: live\n");
    assert!(text.contains(&format!("id: {}\ndata: 198\n", ids[198])) && text.contains("data: 199\n"), "{text}");
    assert!(!text.contains("data: 197\n"), "{text}");
    drop((stream, h2));
    world.finish();
}

#[test]
fn readers_that_do_not_read_are_cut_off_by_tls_too() {
    let names = Names::new();
    let mut world = names.world().set("channels.buffer_bytes = \"64KiB\"").start();
    let stream = subscribe(&names, world.front.tls_address(), "/sub/news", &[]);
    let mut h2 = H2::connect_tls(world.front.tls_address(), "shop.test", &Trust::with_h2(&[&names.shop]));
    h2.request(1, "GET", "/sub/news");
    h2.data_until(1, ": tempest");
    let text = "x".repeat(32_000);
    wait_until("both to be cut off", || {
        world.redis.cmd(&["PUBLISH", "news", &text]);
        world.count("tempest_stream_drops_total", &["slow"]) == 2
    });
    // The connection of the second one is not at fault.
    h2.frame(WINDOW_UPDATE, 0, 0, &1_000_000u32.to_be_bytes());
    h2.request(3, "GET", "/sub/");
    assert_eq!(h2.response(3).0, 400);
    drop((stream, h2));
    world.finish();
}

#[test]
fn a_drain_sends_streams_away_and_answers_what_is_asked() {
    let names = Names::new();
    let mut world = names.world().start();
    let address = world.front.tls_address();
    let mut stream = subscribe(&names, address, "/sub/news", &[]);
    let mut h2 = H2::connect_tls(address, "shop.test", &Trust::with_h2(&[&names.shop]));
    h2.request(1, "GET", "/sub/news");
    h2.data_until(1, ": tempest");
    h2.request(3, "GET", "/slow");
    let job = world.take();
    world.front.process.signal(Signal::TERM);
    assert_ne!(h2.next(GO_AWAY).payload, [0; 8], "it is said before anything ends");
    assert!(h2.data_until(1, "going away").contains("retry: "));
    let left = stream.until_end();
    assert!(format!("{left:?}").contains("going away"), "{left:?}");
    world.answer(&job, json!({"status": 200}), "in time");
    assert_eq!(h2.response(3), (200, "in time".to_owned()));
    assert_eq!(h2.until_end(), Some(0), "the last stream is named");
    assert!(world.front.process.wait().success());
    world.finish_without_front();
}
