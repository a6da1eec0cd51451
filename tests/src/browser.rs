//! A real Chromium, driven over WebDriver: plain HTTP and JSON, the few calls that the tests need.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::base64::decode_base64;
use crate::binary::target_folder;
use crate::http::Http;
use crate::ports::free_port;
use crate::process::Process;
use crate::wait::{PATIENCE, within};

/// Flags for a machine without a display, without a user's sandbox and without a network of its own.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // Certificates here are made for one test.
    "--ignore-certificate-errors",
];

/// One browser window with a fresh profile. Dropping it ends the browser.
#[derive(Debug)]
pub struct Browser {
    driver: Process,
    address: SocketAddr,
    session: String,
    name: String,
}

impl Browser {
    /// Starts chromedriver and a browser; `name` names its screenshots.
    pub fn start(name: &str, profile: PathBuf, mark: &str) -> Self {
        let port = free_port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}"));
        let driver = Process::start("chromedriver", mark, command);
        driver.log.wait_for("started successfully");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut browser = Self { driver, address, session: String::new(), name: name.to_owned() };
        let mut flags: Vec<_> = FLAGS.iter().map(ToString::to_string).collect();
        flags.push(format!("--user-data-dir={}", profile.display()));
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": flags}}}});
        let answer = browser.call("POST", "/session", &wanted);
        browser.session = answer["sessionId"].as_str().expect("a session has an id").to_owned();
        browser
    }

    /// Loads a page and waits for its `load` event.
    pub fn open(&self, url: &str) {
        self.in_session("POST", "/url", &json!({"url": url}));
    }

    /// Runs a function body in the page and returns what it returns.
    pub fn run(&self, script: &str) -> Json {
        self.in_session("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// The visible text of the first element that a selector finds; empty where there is none.
    pub fn text(&self, selector: &str) -> String {
        let script = format!("const e = document.querySelector({}); return e ? e.innerText : ''", json!(selector));
        self.run(&script).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a function body returns something that is true; takes a screenshot and panics where it does not.
    #[track_caller]
    pub fn wait(&self, what: &str, script: &str) {
        let holds = || self.run(script).as_bool().unwrap_or_default();
        if !within(PATIENCE, holds) {
            let shot = self.screenshot("failed");
            panic!(
                "{what} did not happen within {PATIENCE:?}; see {}; the page says:\n{}",
                shot.display(),
                self.text("body")
            );
        }
    }

    /// Writes a picture of the page below `target/test-artifacts` and returns its path.
    pub fn screenshot(&self, moment: &str) -> PathBuf {
        let folder = target_folder().join("test-artifacts");
        fs::create_dir_all(&folder).expect("the target folder is writable");
        let file = folder.join(format!("{}-{moment}.png", self.name));
        let picture = self.in_session("GET", "/screenshot", &Json::Null);
        let bytes = decode_base64(picture.as_str().expect("a picture comes as text"));
        assert!(bytes.starts_with(b"\x89PNG"), "not a picture");
        fs::write(&file, bytes).expect("the target folder is writable");
        file
    }

    fn in_session(&self, method: &str, path: &str, body: &Json) -> Json {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Json) -> Json {
        let mut http = Http::connect(self.address);
        http.set_read_timeout(PATIENCE * 2);
        let text = if body.is_null() { String::new() } else { body.to_string() };
        // It serves no other host than this.
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", text.len());
        http.send(format!("{head}Content-Type: application/json\r\nConnection: close\r\n\r\n{text}"));
        let response = http.response();
        let mut answer: Json = serde_json::from_slice(&response.body).expect("chromedriver answers with JSON");
        assert_eq!(response.status, 200, "{method} {path}: {answer}");
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && self.driver.is_running() && !std::thread::panicking() {
            self.in_session("DELETE", "", &Json::Null);
        }
        self.driver.kill();
    }
}
