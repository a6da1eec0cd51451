//! The ways to reach Redis.

use tempest_worker::connection::{Connection, ConnectionError, Reply};
use tempest_worker::{Address, App, Bytes};

use crate::harness::{Redis, Worker, get};

async fn open(url: &str) -> Result<Connection, ConnectionError> {
    Connection::open(&Address::parse(url).expect("a good URL"), "test").await
}

#[tokio::test]
async fn by_unix_socket_and_database() {
    let redis = Redis::start();
    let socket = redis.folder.join("redis.sock");
    let mut connection = open(&format!("unix://{}?db=3", socket.display())).await.expect("a connection");
    connection.command(&[b"SET", b"a", b"1"]).await.expect("a reply");
    let mut other = open(&format!("{}/3", redis.url())).await.expect("a connection");
    assert_eq!(other.command(&[b"GET", b"a"]).await.expect("a reply"), Reply::Text(Bytes::from("1")));
    let mut third = open(&redis.url()).await.expect("a connection");
    assert_eq!(third.command(&[b"GET", b"a"]).await.expect("a reply"), Reply::Nil);
}

#[tokio::test]
async fn by_name_and_password() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    front.command(&["ACL", "SETUSER", "ann", "on", ">p@ss", "~*", "&*", "+@all"]).await;
    assert!(open(&format!("redis://ann:p%40ss@127.0.0.1:{}", redis.port)).await.is_ok());
    let refused = open(&format!("redis://ann:wrong@127.0.0.1:{}", redis.port)).await.expect_err("a refusal");
    assert!(matches!(refused, ConnectionError::Refused { command: "AUTH", .. }), "{refused}");
    assert!(!refused.to_string().contains("wrong@"), "{refused}");
}

/// As the manual writes them.
fn rights() -> Vec<&'static str> {
    let manual = include_str!("../../README.md");
    let (_, from_rights) = manual.split_once("ACL SETUSER worker on >secret").expect("the manual names them");
    from_rights.split_once("```").expect("the end of the block").0.split_whitespace().collect()
}

/// Answers one job as a user with these rights, and stops.
async fn work_with(rights: &[&str], redis: &Redis) {
    let mut front = redis.front().await;
    let command = [&["ACL", "SETUSER", "worker", "on", ">secret"], rights].concat();
    assert_eq!(front.command(&command).await, Reply::Text(Bytes::from("OK")));
    let app = App::new().fallback(|_| async { "here" }).claim_wait(std::time::Duration::from_millis(500));
    let worker = Worker::start_at(&format!("redis://worker:secret@127.0.0.1:{}", redis.port), app);
    front.push(&get("r-1", "/"), b"").await;
    assert_eq!(front.answer().await.text(), "here");
    if rights.contains(&"+set") {
        front.record(|record| record["done"] == 1).await;
    }
    worker.stopped().await;
    assert_eq!(front.keys().await, [""; 0]);
}

#[tokio::test]
async fn with_the_rights_that_the_manual_names() {
    let redis = Redis::start();
    work_with(&rights(), &redis).await;
    // Redis logs what it refuses.
    assert_eq!(redis.front().await.command(&["ACL", "LOG"]).await, Reply::List(vec![]));
}

#[tokio::test]
async fn with_hardly_any_rights() {
    let redis = Redis::start();
    work_with(&["~tempest:*", "+blpop", "+lpop", "+rpush", "+time"], &redis).await;
}

#[tokio::test]
async fn a_closed_port_is_an_error_at_once() {
    let mut redis = Redis::start();
    redis.kill();
    assert!(matches!(open(&redis.url()).await, Err(ConnectionError::Io(_))));
}

#[tokio::test]
async fn replies_split_anywhere_are_read_whole() {
    let redis = Redis::start();
    let mut connection = open(&redis.url()).await.expect("a connection");
    let large = vec![b'z'; 3_000_000];
    for at in 0..50 {
        connection.out.command(&[b"RPUSH", b"list", b"", b"a\r\nb", &large[..at * 1000]]);
        connection.out.command(&[b"LRANGE", b"list", b"-3", b"-1"]);
    }
    connection.out.command(&[b"ECHO", &large]);
    connection.flush().await.expect("written");
    for at in 0..50 {
        assert_eq!(connection.reply().await.expect("a reply"), Reply::Int(3 * (at + 1)));
        let Reply::List(parts) = connection.reply().await.expect("a reply") else { panic!("no list") };
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[1], Reply::Text(Bytes::from("a\r\nb")));
    }
    assert_eq!(connection.reply().await.expect("a reply"), Reply::Text(Bytes::from(large)));
    assert_eq!(connection.buffered_reply().expect("nothing wrong"), None);
}
