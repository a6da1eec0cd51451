//! Publishing with a history and with keys, as the fronts' rules say and the user's rights allow.

use std::time::Duration;

use tempest_worker::connection::Reply;
use tempest_worker::{App, Bytes, Publication, PublishError, Published, Publisher};

use crate::harness::{Front, Redis, Worker};

const RULES: &str = r#"[{"pattern":"kept.*","messages":2,"ms":60000},{"pattern":"*"}]"#;

/// A worker that runs, and its publisher.
fn start(url: &str) -> (Worker, Publisher) {
    let app = App::new().fallback(|_| async { "here" });
    let publisher = app.publisher();
    (Worker::start_at(url, app), publisher)
}

async fn set_rules(front: &mut Front, rules: &str) {
    front.command(&["SET", "tempest:@history", rules, "PX", "60000"]).await;
}

/// The ids and payloads in a log.
async fn kept(front: &mut Front, channel: &str) -> Vec<(String, String)> {
    let Reply::List(entries) = front.command(&["XRANGE", &format!("tempest:log:{channel}"), "-", "+"]).await else {
        panic!("no log")
    };
    let text = |reply: &Reply| match reply {
        Reply::Text(text) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("{other:?}"),
    };
    let entry = |entry: &Reply| match entry {
        Reply::List(parts) => match &parts[1] {
            Reply::List(fields) => (text(&parts[0]), text(&fields[3])),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    entries.iter().map(entry).collect()
}

async fn done(front: &mut Front, worker: Worker) {
    worker.stopped().await;
    front.command(&["FLUSHALL"]).await;
}

#[tokio::test]
async fn the_rules_of_the_fronts_decide_what_is_kept() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    set_rules(&mut front, RULES).await;
    let (worker, publisher) = start(&redis.url());
    assert_eq!(publisher.publish("kept.a", None, "1").await, Ok(0));
    let two = publisher.send(&Publication::new("kept.a", "2").event("e")).await.expect("published");
    let handle = publisher.clone();
    let three = tokio::task::spawn_blocking(move || handle.send_blocking(&Publication::new("kept.a", "3")));
    let three = three.await.expect("no panic").expect("published");
    let entry = |published: Published, payload: &str| (published.id.expect("it is kept"), payload.to_owned());
    assert_eq!(kept(&mut front, "kept.a").await, [entry(two, r#"["e","2"]"#), entry(three, r#"["3"]"#)]);
    let live = publisher.send(&Publication::new("live", "x")).await;
    assert_eq!(live, Ok(Published { id: None, told: 0, repeated: false }));
    done(&mut front, worker).await;
}

#[tokio::test]
async fn a_key_publishes_once_and_a_history_may_be_asked_for() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    let (worker, publisher) = start(&redis.url());
    let forced = Publication::new("any", "x").key("k").history(9, Duration::from_secs(60));
    let first = publisher.send(&forced).await.expect("published");
    front.command(&["SCRIPT", "FLUSH"]).await;
    let again = publisher.send(&forced).await.expect("published");
    assert!(first.id.is_some() && first.id == again.id && !first.repeated && again.repeated);
    let live = Publication::new("live", "x").key("k");
    assert_eq!(publisher.send(&live).await.map(|published| published.repeated), Ok(false));
    assert_eq!(publisher.send(&live).await.map(|published| published.repeated), Ok(true));
    assert_eq!(kept(&mut front, "any").await.len(), 1);
    for wrong in [live.clone().key(""), live.clone().key("k".repeat(256)), live.history(0, Duration::from_secs(1))] {
        assert!(matches!(publisher.send(&wrong).await, Err(PublishError::Invalid(_))), "{wrong:?}");
    }
    done(&mut front, worker).await;
}

#[tokio::test]
async fn a_user_without_the_rights_is_refused_where_there_is_a_history_and_warned_where_it_cannot_know() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    set_rules(&mut front, RULES).await;
    let user = ["ACL", "SETUSER", "small", "reset", "on", ">pw", "~*", "&*", "+@all", "-evalsha", "-eval"];
    front.command(&user).await;
    let url = format!("redis://small:pw@127.0.0.1:{}", redis.port);
    let (worker, publisher) = start(&url);
    let Err(PublishError::Refused(words)) = publisher.publish("kept.a", None, "x").await else { panic!("published") };
    assert!(words.contains("NOPERM") && words.contains("+evalsha"), "{words}");
    assert_eq!(publisher.publish("live", None, "x").await, Ok(0));
    worker.stopped().await;
    front.command(&[&user[..], &["-get"]].concat()).await;
    let (worker, publisher) = start(&url);
    let mut reader = redis.front().await;
    reader.command(&["SUBSCRIBE", "kept.a"]).await;
    assert_eq!(publisher.publish("kept.a", None, "as before").await, Ok(1));
    let Reply::List(parts) = reader.connection.reply().await.expect("a message") else { panic!("no message") };
    assert_eq!(parts[2], Reply::Text(Bytes::from(r#"["as before"]"#)));
    done(&mut front, worker).await;
}

#[tokio::test]
async fn rules_that_are_none_are_an_error() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    set_rules(&mut front, "{}").await;
    let (worker, publisher) = start(&redis.url());
    let Err(PublishError::Refused(words)) = publisher.publish("a", None, "x").await else { panic!("published") };
    assert!(words.contains("tempest:@history"), "{words}");
    done(&mut front, worker).await;
    assert_eq!(publisher.publish("a", None, "x").await, Err(PublishError::Stopped));
}

#[tokio::test]
async fn the_rights_that_the_manual_names_are_enough() {
    let redis = Redis::start();
    let mut front = redis.front().await;
    set_rules(&mut front, RULES).await;
    let manual = include_str!("../../README.md");
    let (_, rights) = manual.split_once("ACL SETUSER worker on >secret").expect("the manual names them");
    let rights: Vec<&str> = rights.split_once("```").expect("the end of the block").0.split_whitespace().collect();
    front.command(&[&["ACL", "SETUSER", "worker", "on", ">secret"], &rights[..]].concat()).await;
    let (worker, publisher) = start(&format!("redis://worker:secret@127.0.0.1:{}", redis.port));
    for channel in ["kept.a", "live"] {
        publisher.send(&Publication::new(channel, "x").key("k")).await.expect("published");
    }
    assert_eq!(front.command(&["ACL", "LOG"]).await, Reply::List(vec![]));
    done(&mut front, worker).await;
}
