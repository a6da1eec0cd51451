//! The private Redis.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tempest::supervisor::keep::Event;
use tempest::supervisor::redis::{PrivateRedis, Settings, StartError, find_server};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::{Folder, TEMPEST, await_gone, kill9, within};

fn settings(dir: &Path, port: Option<u16>) -> (Settings, UnboundedReceiver<Event>) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (sender, events) = unbounded_channel();
    let settings = Settings {
        server: find_server(None, dir).expect("a Redis server on PATH"),
        dir: dir.join("data"),
        socket: dir.join(format!("{}.sock", NEXT.fetch_add(1, Ordering::Relaxed))),
        port,
        verbose: false,
        lines: std::sync::Arc::new(|_, _| {}),
        events: Box::new(move |event| drop(sender.send(event))),
        guard: Some(TEMPEST.into()),
    };
    (settings, events)
}

fn redis_cli(port: u16, command: &[&str]) -> String {
    let output = Command::new("redis-cli").args(["-p", &port.to_string()]).args(command).output();
    String::from_utf8(output.expect("redis-cli runs").stdout).expect("text").trim().to_owned()
}

async fn next_start(events: &mut UnboundedReceiver<Event>) -> i32 {
    loop {
        if let Event::Started(pid) = within("a start", events.recv()).await.expect("the keeper lives") {
            return pid;
        }
    }
}

#[tokio::test]
async fn keeps_its_port_and_its_data_when_it_is_killed() {
    let folder = Folder::new();
    let (settings, mut events) = settings(folder.path(), Some(0));
    let redis = within("the start", PrivateRedis::start(settings)).await.expect("a private Redis");
    let (port, socket) = (redis.port(), redis.socket().to_owned());
    let first = next_start(&mut events).await;
    assert_eq!(redis_cli(port, &["RPUSH", "jobs", "one"]), "1");
    assert_eq!(redis_cli(port, &["CONFIG", "GET", "maxmemory-policy"]), "maxmemory-policy\nnoeviction");
    assert_eq!(redis_cli(port, &["CONFIG", "GET", "bind"]), "bind\n127.0.0.1");
    // The append-only file is written before the reply; only the machine's death loses its last second.
    kill9(first);
    let second = next_start(&mut events).await;
    assert_ne!(first, second);
    let lines = || redis_cli(port, &["LRANGE", "jobs", "0", "-1"]);
    within("the data", async {
        while lines() != "one" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within("the stop", redis.stop()).await;
    await_gone(second);
    assert!(!socket.exists());
}

#[tokio::test]
async fn takes_a_free_port_unless_it_is_told_which() {
    let folder = Folder::new();
    let taken = TcpListener::bind(("0.0.0.0", 0)).expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let (told, _events) = settings(folder.path(), Some(port));
    let error = within("the refusal", PrivateRedis::start(told)).await.expect_err("the port is taken");
    assert!(error.to_string().contains(&format!("{port} is taken")), "{error}");
    // Where the usual port is taken, by another test or another Redis of this machine, it is the next.
    let second = Folder::new();
    let (one, _events) = settings(folder.path(), None);
    let (other, _events) = settings(second.path(), None);
    let one = within("the start", PrivateRedis::start(one)).await.expect("a private Redis");
    let other = within("the start", PrivateRedis::start(other)).await.expect("another");
    assert!(one.port() != other.port() && other.port() != 6379, "{} {}", one.port(), other.port());
    assert_eq!(redis_cli(other.port(), &["PING"]), "PONG");
    within("the stop", one.stop()).await;
    within("the stop", other.stop()).await;
}

#[tokio::test]
async fn a_data_folder_has_one_user() {
    let folder = Folder::new();
    let (first, _events) = settings(folder.path(), Some(0));
    let redis = within("the start", PrivateRedis::start(first)).await.expect("a private Redis");
    let (second, _events) = settings(folder.path(), Some(0));
    let error = within("the refusal", PrivateRedis::start(second)).await.expect_err("the folder is in use");
    assert!(matches!(error, StartError::InUse { .. }));
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())) && text.contains("[redis]"), "{text}");
    within("the stop", redis.stop()).await;
    let (third, _events) = settings(folder.path(), Some(0));
    let redis = within("the start", PrivateRedis::start(third)).await.expect("the folder is free again");
    within("the stop", redis.stop()).await;
}

#[tokio::test]
async fn a_server_that_refuses_to_start_is_quoted() {
    let folder = Folder::new();
    let (settings, _events) = settings(folder.path(), Some(0));
    let log = settings.dir.join("appendonlydir");
    std::fs::create_dir_all(&log).expect("a folder");
    std::fs::write(log.join("appendonly.aof.manifest"), "this is no manifest\n").expect("a file");
    let error = within("the refusal", PrivateRedis::start(settings)).await.expect_err("unreadable data");
    assert!(matches!(error, StartError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("manifest"), "{error}");
}

#[tokio::test]
async fn a_successor_waits_for_a_server_that_is_being_ended() {
    let folder = Folder::new();
    let (first, mut events) = settings(folder.path(), Some(0));
    let redis = within("the start", PrivateRedis::start(first)).await.expect("a private Redis");
    let port = redis.port();
    let pid = next_start(&mut events).await;
    // As after the death of the supervisor: nobody waits for the old server, whose guard is ending it.
    drop(redis);
    let (second, mut events) = settings(folder.path(), Some(port));
    let redis = within("the start", PrivateRedis::start(second)).await.expect("the successor");
    await_gone(pid);
    assert_eq!(redis_cli(redis.port(), &["PING"]), "PONG");
    assert_ne!(next_start(&mut events).await, pid);
    within("the stop", redis.stop()).await;
}
