//! Clients that people use: a browser's EventSource, the npm package, a Python library, curl. Each reads through a proxy
//! that sends one byte at a time, so every character arrives in pieces, and comes back after the front was killed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

use serde_json::{Value as Json, json};
use tempest_tests::browser::Browser;
use tempest_tests::{Front, Process, Redis, free_port, repository, scratch, wait_until};

use super::history::publish;

/// What is published before, while the front is dead, and after: payload and the event that a client shows.
const BEFORE: [(&str, &str, &str); 3] = [
    ("plain", "message", "plain"),
    (r#"["tick","häß → 日本 🎉"]"#, "tick", "häß → 日本 🎉"),
    (r#"["two\nlines\r\nand a third"]"#, "message", "two\nlines\nand a third"),
];
const MEANWHILE: [(&str, &str, &str); 2] =
    [("missed 🎉", "message", "missed 🎉"), (r#"["tick","missed, too"]"#, "tick", "missed, too")];
const AFTER: [(&str, &str, &str); 1] = [("日本 again", "message", "日本 again")];

/// Passes everything on, what comes from the front byte by byte.
fn one_byte_at_a_time(front: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || drop(pass(client, front)));
        }
    });
    port
}

fn pass(mut client: TcpStream, front: u16) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", front))?;
    let (mut up, mut to_front) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut up, &mut to_front);
        let _ = to_front.shutdown(std::net::Shutdown::Both);
    });
    client.set_nodelay(true)?;
    let mut bytes = [0; 4096];
    loop {
        let read = server.read(&mut bytes)?;
        if read == 0 {
            return client.shutdown(std::net::Shutdown::Both);
        }
        bytes[..read].iter().try_for_each(|byte| client.write_all(&[*byte]))?;
    }
}

/// A front on a port of its own that can be killed and started again.
struct Stage {
    redis: Redis,
    front: Option<Front>,
    port: u16,
    proxy: u16,
    dir: std::path::PathBuf,
    mark: String,
}

impl Stage {
    fn start() -> Self {
        let (dir, mark) = scratch();
        let redis = Redis::start(&dir.join("redis"), &mark);
        let port = free_port();
        let mut stage = Self { redis, front: None, port, proxy: one_byte_at_a_time(port), dir, mark };
        stage.start_front();
        stage
    }

    fn start_front(&mut self) {
        let config = format!(
            "redis.url = \"{}\"\nfront.listen = \"127.0.0.1:{}\"\nfront.admin = \"127.0.0.1:0\"\nchannels.public = [\"*\"]\nchannels.cors = \
             [\"*\"]\nchannels.retry = \"100ms\"\nchannels.stream_life = \"1s\"\nlog.format = \"json\"\n[[channels.rule]]\npattern = \"gone\"\ngone = true\n[[channels.rule]]\npattern = \"log.*\"\nhistory = {{}}\n{PAGE}",
            self.redis.url(),
            self.port
        );
        write_page(&self.dir.join("front"));
        let front = Front::start(&self.dir.join("front"), &self.mark, &config);
        front.wait_ready();
        self.front = Some(front);
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/sub/log.clients", self.proxy)
    }

    fn publish(&mut self, messages: &[(&str, &str, &str)]) {
        for (payload, _, _) in messages {
            publish(&mut self.redis, "log.clients", payload);
        }
    }

    fn wait_for_reader(&mut self) {
        let front = self.front.as_ref().expect("a front");
        wait_until("a stream to be open", || front.metrics().sum("tempest_streams_open", &[]) >= 1.0);
    }

    /// Publishes, kills the front, publishes, starts it again, publishes; `seen` gives what the client has shown.
    #[track_caller]
    fn play(&mut self, seen: impl Fn() -> Vec<Json>) {
        self.wait_for_reader();
        self.publish(&BEFORE);
        wait_until("the first events", || seen().len() >= BEFORE.len());
        self.front.take().expect("a front").process.kill();
        self.publish(&MEANWHILE);
        self.start_front();
        wait_until("what was missed", || seen().len() >= BEFORE.len() + MEANWHILE.len());
        self.wait_for_reader();
        self.publish(&AFTER);
        let all: Vec<Json> =
            [&BEFORE[..], &MEANWHILE, &AFTER].concat().iter().map(|(_, name, data)| json!([name, data])).collect();
        wait_until("the last event", || seen().len() >= all.len());
        assert_eq!(seen(), all, "everything once and in order");
    }

    fn finish(mut self) {
        self.front.take().expect("a front").terminate();
        self.redis.kill();
        tempest_tests::assert_no_process(&self.mark);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The folder of the clients, with what they need.
fn clients() -> std::path::PathBuf {
    static READY: OnceLock<()> = OnceLock::new();
    let folder = repository().join("tests/clients");
    READY.get_or_init(|| {
        let status = Command::new(folder.join("prepare")).status().expect("bash");
        assert!(status.success(), "tests/clients/prepare failed");
    });
    folder
}

/// A page on the front itself, from which a browser may read its streams.
const PAGE: &str = "[[route]]\npath = \"/page/{file...}\"\nkind = \"files\"\ndir = \"page\"\n[[route]]\npath = \
                    \"/sub/{channel...}\"\nkind = \"subscribe\"";

fn write_page(dir: &Path) {
    std::fs::create_dir_all(dir.join("page")).expect("a folder");
    std::fs::write(dir.join("page/index.html"), "<!doctype html><title>reads</title>").expect("a page");
}

/// What a client has printed: [name, data] a line.
fn printed(client: &Process) -> Vec<Json> {
    let event = |line: &String| serde_json::from_str::<Vec<Json>>(line).ok().map(|event| json!([event[0], event[1]]));
    client.log.lines().iter().filter_map(event).collect()
}

#[track_caller]
fn plays_with(name: &str, mut command: Command) {
    let mut stage = Stage::start();
    command.arg(stage.url()).stdin(Stdio::null());
    let mut client = Process::start(name, &stage.mark, command);
    stage.play(|| printed(&client));
    client.kill();
    stage.finish();
}

#[test]
fn the_npm_package_reads_and_comes_back() {
    let mut command = Command::new("node");
    command.arg(clients().join("eventsource.mjs"));
    plays_with("eventsource", command);
}

#[test]
fn a_python_library_reads_and_comes_back() {
    let folder = clients();
    let mut command = Command::new(folder.join(".venv/bin/python"));
    command.arg(folder.join("httpx_sse_reader.py"));
    plays_with("httpx-sse", command);
}

#[test]
fn a_browser_reads_and_comes_back() {
    let mut stage = Stage::start();
    let browser = Browser::start("sse-client", stage.dir.join("profile"), &stage.mark);
    browser.open(&format!("http://127.0.0.1:{}/page/", stage.proxy));
    browser.run(
        "window.seen = []; window.source = new EventSource('/sub/log.clients'); for (const name of ['message', 'tick', '$lost']) \
         source.addEventListener(name, event => seen.push([name, event.data]))",
    );
    let browser = Mutex::new(browser);
    let seen = || match browser.lock().expect("one thread").run("return window.seen") {
        Json::Array(events) => events,
        other => panic!("{other:?}"),
    };
    stage.play(seen);
    drop(browser);
    stage.finish();
}

#[test]
fn curl_shows_the_stream_and_what_was_missed() {
    let mut world = super::history::world();
    let first = publish(&mut world.redis, "log.a", "0");
    publish(&mut world.redis, "log.a", r#"["tick","🎉"]"#);
    let url = format!("http://{}/sub/log.a", world.front.address());
    let mut curl = Command::new("curl");
    curl.args(["-sN", "-H", &format!("Last-Event-ID: {first}"), &url]);
    let mut client = Process::start("curl", world.mark(), curl);
    client.log.wait_for("data: 🎉");
    let lines = client.log.lines();
    let at = |text: &str| lines.iter().position(|line| line == text);
    assert!(at("event: tick") < at("data: 🎉") && at(&format!("id: {first}")) < at("event: tick"), "{lines:?}");
    publish(&mut world.redis, "log.a", "live");
    client.log.wait_for("data: live");
    client.kill();
    world.finish();
}

/// An EventSource that is told so does not come back; one whose stream has lasted long enough does, and misses nothing.
#[test]
fn a_browser_stays_away_after_204_and_comes_back_after_the_end_of_a_life() {
    let mut stage = Stage::start();
    let browser = Browser::start("sse-life", stage.dir.join("profile"), &stage.mark);
    browser.open(&format!("http://127.0.0.1:{}/page/", stage.port));
    browser.run(
        "window.seen = []; window.gone = new EventSource('/sub/gone'); window.source = new EventSource('/sub/log.clients'); \
         source.onmessage = event => seen.push(event.data)",
    );
    browser.wait("204 to have ended it", "return window.gone.readyState === 2");
    browser.wait("the stream to be open", "return window.source.readyState === 1");
    let metrics = |stage: &Stage| stage.front.as_ref().expect("a front").metrics();
    let mut sent = 0;
    wait_until("three lives", || {
        publish(&mut stage.redis, "log.clients", &sent.to_string());
        sent += 1;
        metrics(&stage).sum("tempest_streams_opened_total", &[]) >= 3.0
    });
    browser.wait("everything", &format!("return window.seen.length >= {sent}"));
    let expected: Vec<Json> = (0..sent).map(|n| json!(n.to_string())).collect();
    assert_eq!(browser.run("return window.seen"), Json::Array(expected), "everything once and in order");
    assert_eq!(metrics(&stage).sum("tempest_http_requests_total", &["204"]), 1.0, "it did not come again");
    drop(browser);
    stage.finish();
}
