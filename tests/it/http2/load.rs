//! HTTP/2 as it is used: h2load with many requests at the same time, and a browser page with fifty EventSources.

use std::process::Command;

use serde_json::json;
use tempest_tests::browser::Browser;
use tempest_tests::{Certificate, World, wait_until};

fn world(certificate: &Certificate) -> World {
    let (dir, _) = tempest_tests::scratch();
    let (cert, key) = certificate.write(&dir, "shop");
    std::fs::write(dir.join("index.html"), "<!doctype html><title>reads</title>").expect("a page");
    let pair = format!("{{ cert = \"{}\", key = \"{}\" }}", cert.display(), key.display());
    let tables = format!(
        "[[front.tls]]\nlisten = \"127.0.0.1:0\"\ncertificates = [{pair}]\n\
         [[route]]\npath = \"/sub/{{channel...}}\"\nkind = \"subscribe\"\n\
         [[route]]\npath = \"/page/{{file...}}\"\nkind = \"files\"\ndir = \"{}\"\n\
         [[route]]\npath = \"/{{rest...}}\"\nqueue = \"web\"",
        dir.display()
    );
    World::builder().table(&tables).start()
}

#[test]
fn h2load_gets_every_answer_by_tls() {
    let mut world = world(&Certificate::of(&["127.0.0.1"]));
    world.worker(|job| vec![job.answer(json!({"status": 200}), b"hello")]);
    let url = format!("https://{}/", world.front.tls_address());
    let ran = Command::new("h2load").args(["-n", "3000", "-c", "4", "-m", "50", &url]).output();
    let ran = ran.expect("h2load is installed (nghttp2-client)");
    let out = String::from_utf8_lossy(&ran.stdout);
    let all = "requests: 3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(out.contains(all) && out.contains("Application protocol: h2"), "{out}");
    assert_eq!(world.count("tempest_http_requests_total", &["200"]), 3000);
    wait_until("their ends", || world.count("tempest_http2_connections_ended_total", &["client"]) == 4);
    world.finish();
}

#[test]
fn fifty_event_sources_of_one_page_read_on_one_connection() {
    let mut world = world(&Certificate::of(&["127.0.0.1"]));
    let browser = Browser::start("h2-sources", world.dir().join("profile"), world.mark());
    browser.open(&format!("https://{}/page/", world.front.tls_address()));
    browser.run(
        "window.seen = []; window.all = Array.from({length: 50}, (_, n) => { const source = new EventSource('/sub/news.' + n); \
         source.onmessage = event => seen.push(n + ' ' + event.data); return source })",
    );
    browser.wait("all of them to be open", "return window.all.every(source => source.readyState === 1)");
    for n in 0..50 {
        world.redis.cmd(&["PUBLISH", &format!("news.{n}"), "hello"]);
    }
    browser.wait("a message for each", "return new Set(window.seen).size === 50");
    assert_eq!(browser.run("return window.seen.length"), json!(50));
    let protocol = "return performance.getEntriesByType('navigation')[0].nextHopProtocol";
    assert_eq!(browser.run(protocol), json!("h2"));
    assert_eq!(world.gauge("tempest_streams_open"), 50);
    browser.run("window.all.forEach(source => source.close())");
    wait_until("all of them to be gone", || world.gauge("tempest_streams_open") == 0);
    drop(browser);
    world.finish();
}
