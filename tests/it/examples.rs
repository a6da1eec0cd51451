//! Every example is complete: a README that names only what is there, a configuration without faults.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempest_tests::{
    Folder, Http, Item, Process, Redis, Signal, Sse, Up, assert_no_process, free_port, prepare_raw_workers, raw_worker,
    repository, rust_binary, scratch, tempest, wait_until,
};

fn examples() -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join("examples")).expect("there are examples").flatten();
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

#[test]
fn each_has_a_readme_whose_links_lead_somewhere() {
    for folder in examples() {
        let readme = folder.join("README.md");
        let text = fs::read_to_string(&readme).unwrap_or_else(|error| panic!("{}: {error}", readme.display()));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let outside = link.starts_with("http") || file.is_empty();
            assert!(outside || folder.join(file).exists(), "{}: {link}", readme.display());
        }
    }
}

#[test]
fn each_configuration_is_without_fault() {
    let dir = Folder::new();
    let mut checked = 0;
    for file in examples().iter().map(|folder| folder.join("tempest.toml")).filter(|file| file.exists()) {
        tempest(&dir, &["config", "check", file.to_str().expect("text")], &[], "").ok();
        checked += 1;
    }
    assert!(checked >= 2, "hello and clock at least");
}

#[test]
fn the_counter_is_one_session_for_two_languages() {
    prepare_raw_workers();
    let up = Up::example("counter", &[]);
    let (mut cookie, mut seen) = (String::new(), std::collections::BTreeMap::<String, u64>::new());
    let ask = |method: &str, target: &str, cookie: &mut String| {
        let mut http = up.front.http();
        let headers = if cookie.is_empty() { Vec::new() } else { vec![cookie.as_str()] };
        http.request(method, target, &headers, b"");
        let response = http.response();
        assert_eq!(response.status, 200, "{response:?}");
        if let Some(value) = response.header("set-cookie") {
            *cookie = format!("cookie: {}", value.split(';').next().expect("a pair"));
        }
        serde_json::from_slice::<serde_json::Value>(&response.body).expect("JSON")
    };
    let mut visits = 0;
    // Whoever waits longest gets the next job, so both have had some as soon as both are there.
    wait_until("both to have answered", || {
        let told = ask("GET", "/count", &mut cookie);
        visits += 1;
        *seen.entry(told["worker"].as_str().expect("a name").to_owned()).or_default() += 1;
        assert_eq!(told["session"], serde_json::json!({"visits": visits, "by": seen}));
        seen.len() == 2 && visits > 5
    });
    ask("POST", "/forget", &mut cookie);
    assert_eq!(ask("GET", "/count", &mut cookie)["session"]["visits"], 1);
    up.finish();
}

#[test]
fn the_front_is_a_part_of_an_axum_application() {
    prepare_raw_workers();
    let (dir, mark) = scratch();
    let mut redis = Redis::start(&dir.join("redis"), &mark);
    let mut command = Command::new(rust_binary("tempest-example-embed"));
    command.current_dir(repository().join("examples/embed")).env("TEMPEST_REDIS", redis.url());
    let port = free_port();
    command.env("TEMPEST_LISTEN", format!("127.0.0.1:{port}"));
    let mut application = Process::start("embed", &mark, command);
    let address = ([127, 0, 0, 1], port).into();
    wait_until("the application to listen", || Http::try_connect(address).is_ok());
    let mut http = Http::connect(address);
    assert!(http.get("/").text().contains("EventSource"), "its own page");
    assert_eq!(http.get("/nowhere").status, 404);
    let mut worker = raw_worker("python", "tempest:web", &redis, &mark);
    http.request("GET", "/hello/there?a=b", &[], b"");
    assert!(http.response().text().starts_with("hello from python, GET /there"), "without the prefix");
    let mut news = Sse::open(address, "/sub/news");
    wait_until("the subscription", || redis.subscribers("news") == 1);
    redis.publish("news", "good morning");
    assert_eq!(news.event().data, "good morning");
    assert_eq!(http.get("/sub/other").status, 403);
    application.signal(Signal::INT);
    let items = news.until_end();
    assert!(items.iter().any(|item| matches!(item, Item::Retry(_))), "sent away in order: {items:?}");
    drop((http, news));
    assert!(application.wait().success());
    worker.kill();
    redis.kill();
    assert_no_process(&mark);
    let _ = fs::remove_dir_all(dir);
}

#[test]
fn preparing_twice_does_nothing_the_second_time() {
    prepare_raw_workers();
    let output = Command::new(repository().join("examples/raw/prepare")).output().expect("it runs");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}
